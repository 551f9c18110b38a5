// A stock peer over TCP: @hyperswarm/secret-stream and protomux, unmodified. Prints one JSON object a line on stdout.
// usage: node swarm_peer.mjs listen | node swarm_peer.mjs connect PORT
// Commands come as words, one a line, on stdin; see the switch below.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import net from 'node:net'

const require = createRequire(import.meta.url)
const SecretStream = require('@hyperswarm/secret-stream')
const Protomux = require('protomux')
const c = require('compact-encoding')

const say = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + '\n')
const hex = (buffer) => (buffer ? Buffer.from(buffer).toString('hex') : null)
const [role, port] = process.argv.slice(2)
const keyPair = SecretStream.keyPair(Buffer.alloc(32, 7))
const channels = new Map()
let stream = null
let mux = null

function channel (name, id) {
  const key = name + (id ?? '')
  const state = { got: 0, sum: 0, replies: 0 }
  const made = mux.createChannel({
    protocol: name,
    aliases: name === 'main' ? ['main-old'] : [],
    id: id ? Buffer.from(id) : null,
    handshake: c.string,
    messages: [
      { encoding: c.uint, onmessage (n) { state.got++; state.sum += n; if (n === 9999) say('all', { key, ...state }) } },
      { encoding: c.string, onmessage (text) { echo(text) } },
      { encoding: c.raw, onmessage (raw) { say('raw', { key, bytes: raw.byteLength, first: raw[0], last: raw[raw.byteLength - 1] }) } }
    ],
    onopen (handshake) { say('open', { key, handshake }) },
    onclose (remote) { say('close', { key, remote: !!remote }); if (channels.get(key) === made) channels.delete(key) }
  })
  if (made === null) { say('refused', { key }); return }
  const echo = (text) => { if (text.startsWith('echo ')) made.messages[1].send(text.slice(5)); else say('text', { key, text }) }
  channels.set(key, made)
  made.open('node ' + key)
  say('opening', { key })
}

function start (socket) {
  socket.setNoDelay(true)
  stream = new SecretStream(role === 'connect', socket, { keyPair })
  stream.setKeepAlive(200)
  stream.on('error', (error) => say('error', { message: error.message }))
  stream.on('close', () => { say('closed'); process.exit(0) })
  stream.on('connect', () => say('connect', { hash: hex(stream.handshakeHash), remote: hex(stream.remotePublicKey) }))
  mux = new Protomux(stream)
  mux.pair({ protocol: 'served' }, (id) => channel('served', id ? Buffer.from(id).toString() : undefined))
}

if (role === 'listen') {
  const server = net.createServer((socket) => { server.close(); start(socket) })
  server.listen(0, '127.0.0.1', () => say('listening', { port: server.address().port }))
} else {
  start(net.connect(Number(port), '127.0.0.1'))
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const [command, name, id, count] = line.split(' ')
  const made = channels.get(name + (id && id !== '-' ? id : ''))
  switch (command) {
    case 'open': channel(name, id === '-' ? undefined : id); break
    case 'close': made.close(); break
    case 'send': for (let n = 0; n < Number(count); n++) made.messages[0].send(n); break
    case 'batch':
      for (let n = 0; n < Number(count); n += 64) {
        mux.cork()
        for (let m = n; m < Math.min(n + 64, Number(count)); m++) made.messages[0].send(m)
        mux.uncork()
      }
      break
    case 'reopen': mux.cork(); made.close(); channel(name, id === '-' ? undefined : id); mux.uncork(); break
    case 'raw': made.messages[2].send(Buffer.alloc(Number(count), 5)); break
    case 'huge': // one batch past 8 MiB, as a server of many blocks makes it
      mux.cork()
      for (let n = 0; n < Number(count); n++) made.messages[2].send(Buffer.alloc(1024 * 1024, n))
      mux.uncork()
      break
    case 'text': made.messages[1].send('from node'); break
    case 'end': stream.end(); break
    default: say('unknown', { line })
  }
})
