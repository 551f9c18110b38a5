// A stock peer that is told what to do: JSON lines on stdin, one answer per line on stdout, in any order.
// usage: node peer.mjs current|oldest [STORE]       oldest: the packages of ./oldest; STORE: a folder, else a fresh one
//
//   {"id": 1, "op": "append", ...}  ->  {"id": 1, "ok": ...}  or  {"id": 1, "error": "...", "code": "..."}
//   unasked: {"event": "append", "core": "a", "length": 3, "fork": 0}
//
// Bytes are {"b": "<base64>"} both ways. `core`, `bee` and `drive` are names that the caller gives to what it opens.
// Block i of a generated series is known to both languages: see generated.mjs and support_stock.py.
import { createRequire } from 'node:module'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readFile, readdir, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { generated } from './generated.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const packages = process.argv[2] === 'oldest' ? join(here, 'oldest') : here
const require = createRequire(join(packages, 'package.json'))
const Corestore = require('corestore')
const Hypercore = require('hypercore')
const crypto = require('hypercore-crypto')

// Stock packages print to stdout when they find a conflict; that line is ours.
console.log = (...args) => console.error(...args)

const fresh = process.argv[3] === undefined
const folder = fresh ? await mkdtemp(join(tmpdir(), 'pomona-stock-')) : process.argv[3]
const store = new Corestore(folder, { allowBackup: true })
await store.ready()

const cores = new Map()
const signers = new Map() // core name -> key pairs of a core with several signers
const bees = new Map()
const drives = new Map()
const downloads = new Map()
const streams = new Map()
let server = null
let counter = 0

function named(map, name, kind) {
  const found = map.get(name)
  if (!found) throw new Error(`no ${kind} is called ${JSON.stringify(name)}`)
  return found
}

const coreOf = (m) => named(cores, m.core, 'core')

async function describe(core) {
  const hash = core.length > 0 ? await hashOr(core) : null
  return {
    key: core.key,
    discovery_key: core.discoveryKey,
    length: core.length,
    byte_length: core.byteLength,
    fork: core.fork,
    writable: core.writable,
    contiguous: core.contiguousLength,
    tree_hash: hash,
    manifest: core.manifest ? { version: core.manifest.version, quorum: core.manifest.quorum } : null,
    frozen: core.core.header.frozen === true,
    closed: core.closed
  }
}

// The tree hash needs no block, only the roots; `treeHash` of the package would fetch the last block first.
async function hashOr(core, length = core.length) {
  if (Hypercore.treeHashFromStorage) return Hypercore.treeHashFromStorage(core, length)
  return core.treeHash(length)
}

async function opened(name, core, pairs) {
  await core.ready()
  cores.set(name, core)
  if (pairs) signers.set(name, pairs)
  core.on('append', () => tell({ event: 'append', core: name, length: core.length, fork: core.fork }))
  core.on('truncate', (length, fork) => tell({ event: 'truncate', core: name, length, fork }))
  core.on('conflict', (length, fork) => tell({ event: 'conflict', core: name, length, fork }))
  core.on('close', () => tell({ event: 'close', core: name }))
  return describe(core)
}

function blocksOf(m, from) {
  if (m.blocks) return m.blocks
  const out = []
  for (let i = 0; i < m.count; i++) out.push(generated(m.seed, from + i, m.size ?? 150, m.vary === true))
  return out
}

// Every signer signs the state that appending `blocks` leads to; the package wants the proofs put together.
async function sharedSignature(core, pairs, blocks) {
  const multisig = require('hypercore/lib/multisig')
  const caps = require('hypercore/lib/caps')
  const draft = core.session({ name: `draft-${counter++}` })
  await draft.ready()
  await draft.append(blocks)
  const signable = caps.treeSignable(core.key, await draft.treeHash(), draft.length, core.fork)
  await draft.close()
  return multisig.assemble(
    pairs.map(({ signer, keyPair }) => ({ signer, signature: crypto.sign(signable, keyPair.secretKey), patch: 0, nodes: null }))
  )
}

function attach(raw, isInitiator) {
  const stream = store.replicate(isInitiator)
  const id = ++counter
  streams.set(id, { stream, raw })
  let failure = null
  const ended = () => {
    if (!streams.delete(id)) return
    tell({ event: 'disconnected', connection: id, error: failure })
  }
  stream.on('error', (error) => (failure ??= error.message))
  raw.on('error', (error) => (failure ??= error.message))
  stream.on('close', ended)
  stream.noiseStream.opened.then((ok) => {
    if (ok !== false && streams.has(id)) {
      const { remotePublicKey, handshakeHash } = stream.noiseStream
      tell({ event: 'connected', connection: id, remote_public_key: remotePublicKey, handshake_hash: handshakeHash })
    }
  })
  raw.setNoDelay(true)
  raw.pipe(stream).pipe(raw)
  return id
}

async function* filesUnder(root, at = '') {
  for (const entry of (await readdir(join(root, at), { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = `${at}/${entry.name}`
    if (entry.isDirectory()) yield* filesUnder(root, path)
    else yield { path, link: entry.isSymbolicLink() }
  }
}

async function collect(stream, shape) {
  const out = []
  for await (const item of stream) out.push(shape(item))
  return out
}

const entryOf = (e) => e && { seq: e.seq, key: e.key, value: e.value }
const beeOf = (m) => {
  let bee = named(bees, m.bee, 'bee')
  if (m.version !== undefined) bee = bee.checkout(m.version)
  for (const name of m.sub ?? []) bee = bee.sub(name)
  return bee
}

const ops = {
  async hello() {
    const version = (name) => {
      try {
        return JSON.parse(require('node:fs').readFileSync(join(packages, 'node_modules', name, 'package.json'))).version
      } catch {
        return null
      }
    }
    const names = ['hypercore', 'hypercore-storage', 'corestore', 'hyperbee', 'hyperdrive', 'protomux', '@hyperswarm/secret-stream']
    return { folder, versions: Object.fromEntries(names.map((name) => [name, version(name)])) }
  },

  // -- cores --
  // name: made from the store's own key. key: somebody's. seed: a key pair of ours, `compat` or not. signers: several.
  open(m) {
    const options = {}
    if (m.encryption_key) options.encryptionKey = m.encryption_key
    if (m.key) options.key = m.key
    if (m.name) options.name = m.name
    if (m.seed) {
      options.keyPair = crypto.keyPair(m.seed)
      if (m.compat) options.key = options.keyPair.publicKey
    }
    let pairs = null
    if (m.signers) {
      const all = m.signers.map((seed) => crypto.keyPair(seed))
      options.manifest = {
        version: 1,
        quorum: m.quorum,
        signers: all.map((pair, i) => ({ publicKey: pair.publicKey, namespace: crypto.hash(Buffer.from(`signer ${i}`)) }))
      }
      pairs = all.slice(0, m.quorum).map((keyPair, signer) => ({ signer, keyPair }))
    }
    return opened(m.core, store.get(options), pairs)
  },

  async close_core(m) {
    const core = coreOf(m)
    cores.delete(m.core)
    await core.close()
  },

  info: (m) => describe(coreOf(m)),
  tree_hash: (m) => hashOr(coreOf(m), m.length),
  signature: (m) => coreOf(m).core.state?.signature ?? coreOf(m).core.tree?.signature,

  async append(m) {
    const core = coreOf(m)
    const from = m.from ?? core.length
    const blocks = blocksOf(m, from)
    const batch = m.batch ?? blocks.length
    const pairs = signers.get(m.core)
    for (let at = 0; at < blocks.length; at += batch) {
      const some = blocks.slice(at, at + batch)
      const options = pairs ? { signature: await sharedSignature(core, pairs, some) } : {}
      await core.append(some, options)
    }
    return describe(core)
  },

  async get(m) {
    return coreOf(m).get(m.index, { wait: m.wait !== false, timeout: m.timeout_ms ?? 0 })
  },

  // Fetches a stretch block by block: 11.0.0 does not find the holes of a range behind its first 32,768 blocks.
  async fetch(m) {
    const core = coreOf(m)
    for (let at = m.start; at < m.end; at += 1000) {
      await Promise.all(Array.from({ length: Math.min(1000, m.end - at) }, (_, i) => core.get(at + i)))
    }
  },

  async has(m) {
    return coreOf(m).has(m.start, m.end ?? m.start + 1)
  },

  // Compares held blocks with their series; answers how many are right and the first that is not.
  async check(m) {
    const core = coreOf(m)
    const start = m.start ?? 0
    const end = m.end ?? core.length
    const shift = m.shift ?? 0
    for (let i = start; i < end; i++) {
      const block = await core.get(i, { wait: false })
      if (block === null) return { right: i - start, wrong: i, why: 'not held' }
      if (!generated(m.seed, i + shift, m.size ?? 150, m.vary === true).equals(block)) return { right: i - start, wrong: i, why: 'differs' }
    }
    return { right: end - start, wrong: null, why: null }
  },

  seek: (m) => coreOf(m).seek(m.bytes, { wait: m.wait !== false, timeout: m.timeout_ms ?? 0 }),

  async truncate(m) {
    const core = coreOf(m)
    await core.truncate(m.length, m.fork === undefined ? {} : { fork: m.fork })
    return describe(core)
  },

  async clear(m) {
    await coreOf(m).clear(m.start, m.end)
    return describe(coreOf(m))
  },

  // A range is fetched in the background; `downloaded` waits for it. end -1: for ever.
  download(m) {
    const id = ++counter
    const range = coreOf(m).download(m.blocks ? { blocks: m.blocks } : { start: m.start ?? 0, end: m.end ?? -1, linear: !!m.linear })
    const ready = range.ready ? range.ready() : Promise.resolve()
    return ready.then(() => {
      downloads.set(id, range)
      return id
    })
  },
  downloaded: (m) => named(downloads, m.download, 'download').done(),
  undownload(m) {
    named(downloads, m.download, 'download').destroy()
    downloads.delete(m.download)
  },

  update: (m) => coreOf(m).update({ wait: m.wait !== false }),

  // Answers once the core has this length (and fork); nothing is asked for.
  async until(m) {
    const core = coreOf(m)
    const reached = () =>
      (m.length === undefined || core.length === m.length) &&
      (m.fork === undefined || core.fork === m.fork) &&
      (m.contiguous === undefined || core.contiguousLength >= m.contiguous)
    while (!reached()) await new Promise((resolve) => setTimeout(resolve, 5))
    return describe(core)
  },

  // -- connections: one replication stream carries every core of the store --
  async listen(m) {
    server = net.createServer((raw) => attach(raw, false))
    server.listen(m.port ?? 0, m.host ?? '127.0.0.1')
    await once(server, 'listening')
    return server.address().port
  },
  async connect(m) {
    const raw = net.connect(m.port, m.host ?? '127.0.0.1')
    await once(raw, 'connect')
    return attach(raw, true)
  },
  async disconnect(m) {
    const some = m.connection === undefined ? [...streams.values()] : [named(streams, m.connection, 'connection')]
    await Promise.all(
      some.map(({ stream, raw }) => {
        const closed = new Promise((resolve) => stream.once('close', resolve))
        stream.destroy()
        raw.destroy()
        return closed
      })
    )
  },
  connections: () => streams.size,

  // -- Hyperbee; keys and values are bytes --
  async bee_open(m) {
    const Hyperbee = require('hyperbee')
    const [keyEncoding, valueEncoding] = m.encodings ?? ['binary', 'binary']
    const bee = new Hyperbee(coreOf(m), { keyEncoding, valueEncoding, metadata: m.metadata ?? null })
    await bee.ready()
    bees.set(m.bee, bee)
    return { version: bee.version }
  },
  bee_version: (m) => beeOf(m).version,
  async bee_put(m) {
    await beeOf(m).put(m.key, m.value)
    return named(bees, m.bee, 'bee').version
  },
  async bee_del(m) {
    await beeOf(m).del(m.key)
    return named(bees, m.bee, 'bee').version
  },
  // puts: [[key, value], ...], dels: [key, ...], in this order, appended at once
  async bee_batch(m) {
    const batch = beeOf(m).batch()
    for (const [key, value] of m.puts ?? []) await batch.put(key, value)
    for (const key of m.dels ?? []) await batch.del(key)
    await batch.flush()
    return named(bees, m.bee, 'bee').version
  },
  bee_get: async (m) => entryOf(await beeOf(m).get(m.key)),
  bee_range: (m) => collect(beeOf(m).createReadStream(m.range ?? {}, { reverse: !!m.reverse, limit: m.limit ?? -1 }), entryOf),
  bee_history: (m) =>
    collect(beeOf(m).createHistoryStream({ ...(m.range ?? {}), reverse: !!m.reverse, limit: m.limit ?? -1 }), (e) => ({ type: e.type, ...entryOf(e) })),
  bee_diff: (m) =>
    collect(beeOf(m).createDiffStream(m.other, m.range ?? {}), ({ left, right }) => ({ left: entryOf(left), right: entryOf(right) })),

  // -- Hyperdrive --
  async drive_open(m) {
    const Hyperdrive = require('hyperdrive')
    const drive = new Hyperdrive(m.namespace ? store.namespace(m.namespace) : store.session(), m.key ?? null)
    await drive.ready()
    drives.set(m.drive, drive)
    return ops.drive_info(m)
  },
  async drive_info(m) {
    const drive = named(drives, m.drive, 'drive')
    const blobs = drive.blobs ? drive.blobs.core : null
    return { key: drive.key, version: drive.version, content_key: drive.contentKey, blobs_length: blobs ? blobs.length : null, writable: drive.writable }
  },
  async drive_put(m) {
    await named(drives, m.drive, 'drive').put(m.path, m.content, { executable: !!m.executable, metadata: m.metadata ?? null })
    return ops.drive_info(m)
  },
  async drive_symlink(m) {
    await named(drives, m.drive, 'drive').symlink(m.path, m.target)
    return ops.drive_info(m)
  },
  async drive_del(m) {
    await named(drives, m.drive, 'drive').del(m.path)
    return ops.drive_info(m)
  },
  drive_get: (m) => checkedOut(m).get(m.path, { follow: m.follow === true }),
  drive_entry: async (m) => fileOf(await checkedOut(m).entry(m.path)),
  drive_list: (m) => collect(checkedOut(m).list(m.folder ?? '/'), fileOf),
  drive_diff: (m) =>
    collect(named(drives, m.drive, 'drive').diff(m.version, m.folder ?? '/'), ({ left, right }) => ({ left: fileOf(left), right: fileOf(right) })),
  drive_update: async (m) => {
    await named(drives, m.drive, 'drive').update({ wait: true })
    return ops.drive_info(m)
  },
  async drive_download(m) {
    const range = named(drives, m.drive, 'drive').download(m.folder ?? '/')
    if (range.done) await range.done()
    else await (await range).done()
    return ops.drive_info(m)
  },
  async drive_from_folder(m) {
    const drive = named(drives, m.drive, 'drive')
    for await (const { path, link } of filesUnder(m.folder)) {
      const from = join(m.folder, path)
      if (link) await drive.symlink(path, await readlink(from))
      else await drive.put(path, await readFile(from), { executable: ((await stat(from)).mode & 0o100) !== 0 })
    }
    return ops.drive_info(m)
  },
  async drive_to_folder(m) {
    const drive = checkedOut(m)
    for await (const { key, value } of drive.list('/')) {
      const to = join(m.folder, key)
      await mkdir(dirname(to), { recursive: true })
      if (value.linkname) await symlink(value.linkname, to)
      else {
        await writeFile(to, await drive.get(key))
        if (value.executable) await chmod(to, 0o755)
      }
    }
  },

  stats() {
    const { user, system } = process.cpuUsage()
    return { user_s: user / 1e6, system_s: system / 1e6, rss: process.memoryUsage().rss, connections: streams.size, cores: cores.size }
  },

  async close() {
    if (server) server.close()
    for (const { stream, raw } of streams.values()) {
      stream.destroy()
      raw.destroy()
    }
    for (const drive of drives.values()) await drive.close() // the oldest stores refuse to close before their sessions
    await store.close()
  }
}

function checkedOut(m) {
  const drive = named(drives, m.drive, 'drive')
  return m.version === undefined ? drive : drive.checkout(m.version)
}

function fileOf(entry) {
  if (!entry) return null
  const { executable, linkname, blob, metadata } = entry.value
  return { path: entry.key, seq: entry.seq, executable, linkname, blob, metadata }
}

function revive(_key, value) {
  return value && typeof value === 'object' && typeof value.b === 'string' && Object.keys(value).length === 1 ? Buffer.from(value.b, 'base64') : value
}

function plain(value) {
  if (value instanceof Uint8Array) return { b: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64') }
  if (Array.isArray(value)) return value.map(plain)
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]))
  return value
}

function tell(message) {
  process.stdout.write(JSON.stringify(plain(message)) + '\n')
}

process.on('unhandledRejection', (error) => {
  process.stderr.write(`unhandled: ${error?.stack ?? error}\n`)
  process.exit(3)
})

async function leave() {
  if (fresh) await rm(folder, { recursive: true, force: true })
  process.exit(0)
}

async function serve(m) {
  try {
    if (!Object.hasOwn(ops, m.op)) throw new Error(`no such operation: ${m.op}`)
    tell({ id: m.id, ok: (await ops[m.op](m)) ?? null })
  } catch (error) {
    tell({ id: m.id, error: error.message, code: error.code ?? null })
  }
  if (m.op === 'close') await leave()
}

const lines = createInterface({ input: process.stdin, crlfDelay: Infinity })
lines.on('line', (line) => serve(JSON.parse(line, revive)))
// Whoever drove this peer is gone: so is the peer.
lines.on('close', () => ops.close().catch(() => {}).then(leave))
