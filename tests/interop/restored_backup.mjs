// What stock peers do when a writer comes back from a backup: the figures of docs/restored-backup.md.
// usage: node restored_backup.mjs [--wire]      one JSON object on stdout; --wire adds every message that a side received.
//
// A writer signs 60 blocks, its folder is copied, it signs 40 more, a reader holds all 100. The writer's disk is lost and
// the copy comes back. Each case starts from there, over TCP on the loopback, with corestore and hypercore as published.
import { createRequire } from 'node:module'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { once } from 'node:events'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const require = createRequire(import.meta.url)
const Corestore = require('corestore')
const { Peer } = require('hypercore/lib/replicator')

const BACKED_UP = 60
const SIGNED = 100
const QUIET_MS = 400 // no message for so long: both sides have said what they have to say
const folder = await mkdtemp(join(tmpdir(), 'pomona-restored-'))
const withWire = process.argv.includes('--wire')
const stores = new Map() // a core's replicator -> the name of the side it belongs to
let wire = []
let lastMessage = 0

// Listens at the seam where hypercore hands a decoded message to its peer object; nothing is changed.
const KINDS = ['sync', 'request', 'cancel', 'data', 'nodata', 'want', 'unwant', 'bitfield', 'range']
for (const kind of KINDS) {
  const original = Peer.prototype['on' + kind]
  Peer.prototype['on' + kind] = function (message) {
    if (!this.answersItself) {
      lastMessage = Date.now()
      wire.push({ to: stores.get(this.replicator) ?? '?', kind, ...brief(kind, message) })
    }
    return original.call(this, message)
  }
}
// A side that found a conflict asks itself for its proof before it closes the channel: that request is not on the wire.
const onconflict = Peer.prototype._onconflict
Peer.prototype._onconflict = function () {
  this.answersItself = true
  const done = onconflict.call(this)
  this.answersItself = false
  return done
}

function brief(kind, m) {
  if (kind === 'sync') return { fork: m.fork, length: m.length, canUpgrade: m.canUpgrade }
  if (kind === 'range') return { drop: m.drop, start: m.start, length: m.length }
  if (kind === 'want') return { start: m.start, length: m.length }
  if (kind === 'bitfield') return { start: m.start }
  if (kind === 'nodata') return { id: m.request, reason: m.reason }
  if (kind === 'cancel') return { id: m.request }
  const out = { id: kind === 'data' ? m.request : m.id, fork: m.fork }
  if (m.block) out.block = m.block.index
  if (m.hash) out.hash = m.hash.index
  if (m.upgrade) out.upgrade = [m.upgrade.start, m.upgrade.length]
  return out
}

let opened = 0
const place = () => join(folder, String(opened++))
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function quiet() {
  lastMessage = Date.now()
  while (Date.now() - lastMessage < QUIET_MS) await wait(20)
}

class Side {
  static async open(name, path, key = null, { allowBackup = true } = {}) {
    const side = new Side()
    side.name = name
    side.path = path
    side.events = []
    // A stock store refuses a copied folder (see `refused`); this option is how a restore gets past it.
    side.store = new Corestore(path, { allowBackup })
    side.core = key ? side.store.get({ key }) : side.store.get({ name: 'till' })
    await side.core.ready()
    stores.set(side.core.core.replicator, name)
    for (const event of ['append', 'truncate', 'conflict', 'close']) {
      side.core.on(event, (...args) => {
        side.events.push(args.length ? `${event}(${args.filter((a) => typeof a === 'number').join(', ')})` : event)
      })
    }
    return side
  }

  async append(from, count, tag) {
    await this.core.append(Array.from({ length: count }, (_, i) => Buffer.from(`${tag} ${from + i}`)))
  }

  async look() {
    const core = this.core
    const inside = core.core
    const held = []
    for (let i = 0; i < inside.state.length; i++) if (inside.bitfield.get(i)) held.push(i)
    const last = inside.state.length - 1
    return {
      length: inside.state.length,
      fork: inside.state.fork,
      held: held.length,
      last_block: core.closed || last < 0 || !inside.bitfield.get(last) ? null : String(await core.get(last)),
      frozen: inside.header.frozen === true,
      session_closed: core.closed,
      writable: core.writable,
      events: this.events.splice(0)
    }
  }

  // Ends the process's hold on the folder and opens it again, as a restart does.
  async restart() {
    await this.store.close()
    const key = this.name === 'reader' ? this.core.key : null
    return Side.open(this.name, this.path, key)
  }
}

// Joins two sides over TCP until nothing more is said; answers what was said.
async function meet(a, b, { download = [] } = {}) {
  wire = []
  let server = null
  const accepted = new Promise((resolve) => (server = net.createServer(resolve)))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = net.connect(server.address().port, '127.0.0.1')
  const socket = await accepted
  const streams = [a.store.replicate(true), b.store.replicate(false)]
  const errors = []
  for (const [stream, raw] of [[streams[0], client], [streams[1], socket]]) {
    stream.on('error', (error) => errors.push(error.message))
    raw.on('error', () => {})
    raw.pipe(stream).pipe(raw)
  }
  for (const side of [a, b]) if (!side.core.closed) side.core.update({ wait: true }).catch(() => {})
  for (const side of download) if (!side.core.closed) side.core.download({ start: 0, end: -1 })
  await quiet()
  for (const stream of streams) stream.destroy()
  client.destroy()
  socket.destroy()
  server.close()
  await wait(50)
  return { errors, wire, zero: wire.filter((m) => m.id === 0) }
}

// A reader with everything, and as many restored copies of the writer as asked for.
async function restored(copies = 1, laggard = null) {
  let writer = await Side.open('writer', place(), null, { allowBackup: false })
  await writer.append(0, BACKED_UP, 'sale')
  await writer.store.close()
  const backup = place()
  await cp(writer.path, backup, { recursive: true })
  writer = await Side.open('writer', writer.path, null, { allowBackup: false })
  let behind = null
  if (laggard !== null) {
    await writer.append(BACKED_UP, laggard - BACKED_UP, 'sale')
    behind = await Side.open('laggard', place(), writer.core.key)
    await meet(writer, behind, { download: [behind] })
    behind.events.splice(0)
  }
  await writer.append(writer.core.length, SIGNED - writer.core.length, 'sale')
  const reader = await Side.open('reader', place(), writer.core.key)
  await meet(writer, reader, { download: [reader] })
  await writer.store.close()
  const sides = []
  for (let i = 0; i < copies; i++) {
    const path = place()
    await cp(backup, path, { recursive: true })
    sides.push(await Side.open(copies === 1 ? 'restored' : `copy ${i + 1}`, path))
  }
  reader.events.splice(0)
  return { reader, sides, behind }
}

async function afterMeeting(a, b, options) {
  const said = await meet(a, b, options)
  const out = { [a.name]: await a.look(), [b.name]: await b.look(), id_0: said.zero, errors: said.errors }
  if (withWire) out.wire = said.wire
  return out
}

async function close(...sides) {
  for (const side of sides) await side.store.close()
}

const cases = {
  // A folder that was copied, opened as it comes.
  async refused() {
    const { reader, sides } = await restored()
    await close(reader, ...sides)
    const store = new Corestore(sides[0].path) // without `allowBackup`
    try {
      await store.ready()
      return { opened: true }
    } catch (error) {
      return { opened: false, error: error.message, code: error.code ?? null }
    } finally {
      await store.close().catch(() => {})
    }
  },

  // (a) connects before it appends.
  async connects_first() {
    const { reader, sides: [writer] } = await restored()
    const before = await writer.look()
    const eager = await afterMeeting(writer, reader)
    const fetched = await afterMeeting(writer, reader, { download: [writer] })
    await writer.append(SIGNED, 1, 'new')
    const grown = await afterMeeting(writer, reader, { download: [reader] })
    await close(reader, writer)
    return { before, eager, fetched, grown }
  },

  // (a) connects before it appends, but to a reader that has not seen everything.
  async connects_to_a_laggard() {
    const { reader, sides: [writer], behind } = await restored(1, 80)
    const first = await afterMeeting(writer, behind, { download: [writer] })
    await writer.append(80, 1, 'different')
    const then = await afterMeeting(writer, reader, { download: [reader] })
    await close(reader, writer, behind)
    return { first, then }
  },

  // (b) appends fewer blocks than were lost, offline, then connects.
  appends_10: () => diverges(10),
  // (b) appends more blocks than were lost.
  appends_50: () => diverges(50),
  // (b) appends exactly to the length that the reader holds.
  appends_40: () => diverges(SIGNED - BACKED_UP),

  // (c) truncates first: a higher fork with fewer blocks.
  async truncates() {
    const { reader, sides: [writer] } = await restored()
    await writer.core.truncate(BACKED_UP)
    const cut = await writer.look()
    const met = await afterMeeting(writer, reader, { download: [reader] })
    await writer.append(BACKED_UP, 10, 'different')
    const grown = await afterMeeting(writer, reader, { download: [reader] })
    await close(reader, writer)
    return { cut, met, grown }
  },

  // (c) truncates twice in two copies: the same fork number with different blocks.
  async truncates_twice() {
    const { reader, sides: [first, second] } = await restored(2)
    for (const [side, tag] of [[first, 'first'], [second, 'second']]) {
      await side.core.truncate(BACKED_UP)
      await side.append(BACKED_UP, 10, tag)
    }
    const one = await afterMeeting(first, reader, { download: [reader] })
    const two = await afterMeeting(second, reader, { download: [reader] })
    await second.append(BACKED_UP + 10, 1, 'second')
    const three = await afterMeeting(second, reader, { download: [reader] })
    await close(reader, first, second)
    return { one, two, three }
  },

  // (d) two copies run at once and sign to the same length.
  async clones() {
    const { reader, sides: [first, second] } = await restored(2)
    await first.append(BACKED_UP, 10, 'first')
    await second.append(BACKED_UP, 10, 'second')
    const same_length = await afterMeeting(first, second)
    await second.append(BACKED_UP + 10, 1, 'second')
    const longer = await afterMeeting(first, second)
    await close(reader, first, second)
    return { same_length, longer }
  }
}

async function diverges(count) {
  let { reader, sides: [writer] } = await restored()
  await writer.append(BACKED_UP, count, 'different')
  const met = await afterMeeting(writer, reader, { download: [reader] })
  const append_after = await writer.core.append(Buffer.from('after')).then(
    (result) => `appended: length ${result.length}`,
    (error) => error.message
  )
  writer = await writer.restart()
  reader = await reader.restart()
  const restart = { restored: await writer.look(), reader: await reader.look() }
  await writer.append(BACKED_UP + count + 1, 1, 'after the restart')
  const appended = await writer.look()
  const again = await afterMeeting(writer, reader, { download: [reader] })
  await close(reader, writer)
  return { met, append_after, restart, appended, again }
}

// Stock hypercore prints a line of its own when it finds a conflict; stdout is for the answer.
console.log = (...args) => console.error(...args)
const facts = {}
for (const [name, run] of Object.entries(cases)) facts[name] = await run()
await rm(folder, { recursive: true, force: true })
process.stdout.write(JSON.stringify(facts, null, 1) + '\n')
process.exit(0)
