// Handshake vectors made by the stock noise-handshake and noise-curve-ed with fixed keys, printed as JSON on stdout.
// usage: node noise_vectors.mjs > ../edge/hyperswarm/noise_vectors.json
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const Noise = require('noise-handshake')
const curve = require('noise-curve-ed')

const seed = (n) => Buffer.alloc(32, n)
const hex = (buffer) => Buffer.from(buffer).toString('hex')

function run (n, prologue, payloads) {
  const a = new Noise('XX', true, curve.generateKeyPair(seed(n)), { curve })
  const b = new Noise('XX', false, curve.generateKeyPair(seed(n + 1)), { curve })
  a.e = curve.generateKeyPair(seed(n + 2))
  b.e = curve.generateKeyPair(seed(n + 3))
  a.initialise(prologue)
  b.initialise(prologue)
  const messages = []
  for (const [index, [from, to]] of [[a, b], [b, a], [a, b]].entries()) {
    const message = from.send(payloads[index])
    messages.push(hex(message)) // before the receiver clears the key in it
    to.recv(message)
  }
  if (hex(a.tx) !== hex(b.rx) || hex(a.hash) !== hex(b.hash)) throw new Error('the stock sides disagree')
  return {
    seeds: { initiator: n, responder: n + 1, initiator_ephemeral: n + 2, responder_ephemeral: n + 3 },
    prologue: hex(prologue),
    payloads: payloads.map(hex),
    messages,
    handshake_hash: hex(a.hash),
    initiator_send: hex(a.tx),
    initiator_receive: hex(a.rx)
  }
}

const none = Buffer.alloc(0)
console.log(JSON.stringify({
  source: 'tests/interop/noise_vectors.mjs: noise-handshake ' + require('noise-handshake/package.json').version +
    ', noise-curve-ed ' + require('noise-curve-ed/package.json').version,
  vectors: [
    run(1, none, [none, none, none]),
    run(50, none, [none, none, none]),
    run(100, Buffer.from('prologue'), [Buffer.from('one'), Buffer.from('two'), Buffer.from('three')])
  ]
}, null, 1))
