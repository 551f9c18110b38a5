// Stock Hyperdrive, for the comparison with ours. Deterministic: no randomness, no time.
// usage: node hyperdrive.mjs vectors [SALT]          prints vectors as JSON; the checked-in file has salt 0:
//                                                    node hyperdrive.mjs vectors > ../edge/hyperdrive/vectors.json
//        node hyperdrive.mjs run FOLDER              reads FOLDER/plan.json, and FOLDER/{db,blobs}.in if they are there;
//                                                    writes FOLDER/{db,blobs}.out and FOLDER/report.json
// A file of blocks is, for each block, its length (32 bits, little endian) and its bytes.
import { createRequire } from 'node:module'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const require = createRequire(import.meta.url)
const Corestore = require('corestore')
const Hyperbee = require('hyperbee')
const Hyperdrive = require('hyperdrive')
const Hypercore = require('hypercore')
const Verifier = require('hypercore/lib/verifier')
const crypto = require('hypercore-crypto')
const SubEncoder = require('sub-encoder')
const resolve = require('unix-path-resolve')

const hex = (buffer) => (buffer ? Buffer.from(buffer).toString('hex') : null)
const sha256 = (buffer) => createHash('sha256').update(buffer).digest('hex')

// `size` bytes: a pattern of 65,537, so that every block of a file is another one.
function content(number, size, salt) {
  const pattern = Buffer.alloc(65537)
  for (let j = 0; j < pattern.length; j++) pattern[j] = (j * 7 + (j >> 8) * 13 + number * 31 + salt) & 0xff
  const bytes = Buffer.alloc(size)
  for (let at = 0; at < size; at += pattern.length) pattern.copy(bytes, at, 0, Math.min(pattern.length, size - at))
  return bytes
}

async function apply(drive, ops, salt) {
  for (const [op, path, value = {}] of ops) {
    const { file, size, executable = false, metadata = null } = value
    if (op === 'put') await drive.put(path, content(file, size, salt), { executable, metadata })
    else if (op === 'link') await drive.symlink(path, value.target, { metadata })
    else if (op === 'delete') await drive.del(path)
    else if (op === 'flags') {
      const entry = await drive.entry(path)
      await drive.putEntry(path, { ...entry.value, executable, metadata })
    } else if (op === 'batch') {
      const batch = drive.batch()
      await apply(batch, path, salt)
      await batch.flush()
    } else if (op === 'stream') {
      // in pieces of a block, as fs streams come
      const stream = drive.createWriteStream(path, { executable, metadata, dedup: !!value.dedup })
      const bytes = content(file, size, salt)
      for (let at = 0; at < size; at += 65536) {
        if (!stream.write(bytes.subarray(at, at + 65536))) await new Promise((done) => stream.once('drain', done))
      }
      await new Promise((done, fail) => stream.on('error', fail).on('close', done).end())
    } else throw new Error('unknown op ' + op)
  }
}

async function* blocks(core) {
  for (let i = 0; i < core.length; i++) yield await core.get(i)
}

async function state(core) {
  const hashes = []
  for await (const block of blocks(core)) hashes.push(sha256(block))
  return {
    key: hex(core.key),
    manifest: core.core.compat ? null : hex(Verifier.encodeManifest(core.manifest)),
    length: core.length,
    byte_length: core.byteLength,
    tree_hash: hex(await core.treeHash()),
    signature: hex(core.core.state.signature),
    blocks: hashes
  }
}

// Everything that a reader sees.
async function view(drive) {
  const files = []
  for await (const entry of drive.list('/')) {
    const bytes = entry.value.linkname === null ? await drive.get(entry) : null
    files.push({ key: entry.key, seq: entry.seq, value: entry.value, sha256: bytes && sha256(bytes) })
  }
  return files
}

async function folders(drive, paths) {
  const found = {}
  for (const path of paths) {
    const names = []
    for await (const name of drive.readdir(path)) names.push(name)
    const shallow = []
    for await (const entry of drive.list(path, { recursive: false })) shallow.push(entry.key)
    found[path] = { names, shallow }
  }
  return found
}

async function diffs(drive, from, folder) {
  const found = []
  for await (const { left, right } of drive.diff(from, folder)) {
    found.push([(left || right).key, left && left.seq, right && right.seq])
  }
  return found.sort((a, b) => (a[0] < b[0] ? -1 : 1))
}

const PATHS = [
  '/a', 'a', 'a/b', '/a/./b//c/', '/a/../b', 'a\\b', '\\a', '/a/b/../..', '..', '/..', '/a/../..', '/', '', '.', './',
  'C:/x/y', 'C:\\x', 'c:', 'file:/x/y', 'file:///x', 'http://host/p/q', 'ab:/x/y/z', '/C:/x', 'ä/ö', '/a b', '/...', '/a/...',
  '/😀/x', '/.hidden', '//a', '/a:', 'a:/'
]
const RESOLVED = [
  ['/a/link', 'x'], ['/a/link', '../x'], ['/a/link', '/x'], ['/a', '../../x'], ['/', 'a/..'], ['a', 'b'], ['a', '/b'], ['/a/b', ''], ['C:/q', 'r']
]
const METADATA = [
  null, true, 0, -1, 1.5, 1e21, 1e-7, 0.1, 123456789012345680000, 9007199254740991, '', 'text', 'ä😀\u2028"\\\n\t\b\f\r\u0001\u007f/',
  [], {}, [1, [2, [null]]], { b: 1, a: { z: [], 10: 'ten', 9: 'nine', '01': 'text' } }, { 4294967294: 1, 4294967295: 2, x: 3, 1: 4 }
]
const OPS = [
  ['put', '/empty', { file: 1, size: 0 }],
  ['put', '/one', { file: 2, size: 1 }],
  ['put', 'folder/exact', { file: 3, size: 65536 }],
  ['put', '/folder/over', { file: 4, size: 65537, executable: true }],
  ['put', '/folder/deeper/many', { file: 5, size: 1310721, metadata: { kind: 'dated', at: [1, 2.5, null] } }],
  ['link', '/folder/link', { target: '../one' }],
  ['link', '/absolute', { target: '/folder/exact', metadata: 'why' }],
  ['put', '/one', { file: 6, size: 70000 }],
  ['flags', '/folder/exact', { executable: true, metadata: { seen: true } }],
  ['delete', '/folder/over'],
  ['delete', '/not/there'],
  ['link', '/folder/link', { target: '../one' }],
  ['batch', [
    ['put', '/batch/a', { file: 7, size: 10 }],
    ['put', '/batch/b', { file: 8, size: 0 }],
    ['delete', '/empty'],
    ['put', '/batch/a', { file: 9, size: 20 }]
  ]],
  ...Array.from({ length: 30 }, (_, n) => ['put', `/list/${n % 3}/${n}.txt`, { file: 10 + n, size: n * 100 }]),
  ['put', '/list/0-1', { file: 41, size: 3 }],
  ['put', '/ünïcode/😀', { file: 42, size: 3 }],
  ['stream', '/streamed', { file: 43, size: 200000 }]
]
const FOLDERS = ['/', '/folder', 'list', '/list/1', '/nothing']

const attempt = (f) => {
  try {
    return f()
  } catch {
    return null
  }
}

// A drive in a store of its own. `compat`: as older stores made it, with a database whose key is the signer's public key.
async function withDrive(primaryKey, f, { compat = false } = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'pomona-drive-'))
  const store = new Corestore(join(folder, 'store'), { primaryKey, unsafe: true })
  try {
    const options = {}
    if (compat) {
      const core = new Hypercore(join(folder, 'db'), { keyPair: await store.createKeyPair('db'), compat: true })
      options._db = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'json', metadata: { contentFeed: null } })
    }
    const drive = new Hyperdrive(store, options)
    await drive.ready()
    return await f(drive, store)
  } finally {
    await store.close()
    await rm(folder, { recursive: true })
  }
}

async function recorded(primaryKey, salt, ops, options) {
  return withDrive(
    primaryKey,
    async (drive) => {
      await apply(drive, ops, salt)
      const blobs = await drive.getBlobs()
      const middle = Math.floor(drive.version / 2)
      return {
        primary_key: hex(primaryKey),
        ops,
        db: await state(drive.core),
        blobs: await state(blobs.core),
        view: await view(drive),
        folders: await folders(drive, FOLDERS),
        blobs_length: await drive.getBlobsLength(),
        middle: { version: middle, view: await view(drive.checkout(middle)), diff: await diffs(drive, middle, '/') }
      }
    },
    options
  )
}

// What stock mirror-drive does from one drive to another, and what it leaves there.
const MIRROR_SOURCE = [
  ['put', '/same', { file: 1, size: 100 }],
  ['put', '/large', { file: 2, size: 200000, executable: true }],
  ['put', '/flags', { file: 3, size: 10, executable: true }],
  ['put', '/metadata', { file: 4, size: 10, metadata: { a: [1, 2] } }],
  ['put', '/same-metadata', { file: 4, size: 10, metadata: { b: 1, a: 2 } }],
  ['put', '/other-bytes', { file: 5, size: 70000 }],
  ['put', '/other-size', { file: 6, size: 70001 }],
  ['put', '/empty', { file: 6, size: 0 }],
  ['link', '/link', { target: 'same' }],
  ['link', '/other-link', { target: 'same' }],
  ['link', '/file-to-link', { target: 'same' }],
  ['put', '/link-to-file', { file: 7, size: 7 }],
  ['put', '/folder/new', { file: 8, size: 8 }]
]
const MIRROR_DESTINATION = [
  ['put', '/same', { file: 1, size: 100 }],
  ['put', '/flags', { file: 3, size: 10 }],
  ['put', '/metadata', { file: 4, size: 10 }],
  ['put', '/same-metadata', { file: 4, size: 10, metadata: { a: 2, b: 1 } }],
  ['put', '/other-bytes', { file: 9, size: 70000 }],
  ['put', '/other-size', { file: 6, size: 70000 }],
  ['link', '/link', { target: 'same' }],
  ['link', '/other-link', { target: 'flags' }],
  ['put', '/file-to-link', { file: 7, size: 7 }],
  ['link', '/link-to-file', { target: 'same' }],
  ['put', '/gone/1', { file: 10, size: 70000 }],
  ['put', '/gone/2', { file: 11, size: 0 }],
  ['link', '/gone/3', { target: 'same' }]
]
const MIRROR_OPTIONS = [
  {},
  { dryRun: true },
  { prune: false, includeEquals: true },
  { batch: true },
  { prefix: '/folder' },
  { prefix: ['/gone', '/same', '/large'] },
  { ignore: ['/gone', 'same'] }
]

async function mirrors(salt) {
  const results = []
  for (const options of MIRROR_OPTIONS) {
    await withDrive(Buffer.alloc(32, 53 ^ salt), (source) =>
      withDrive(Buffer.alloc(32, 54 ^ salt), async (destination) => {
        await apply(source, MIRROR_SOURCE, salt)
        await apply(destination, MIRROR_DESTINATION, salt)
        const mirror = source.mirror(destination, options)
        const changes = []
        for await (const { op, key, bytesAdded, bytesRemoved } of mirror) changes.push([op, key, bytesAdded, bytesRemoved])
        const blobs = await destination.getBlobs()
        results.push({
          options,
          changes,
          count: mirror.count,
          bytes: [mirror.bytesAdded, mirror.bytesRemoved],
          db: await state(destination.core),
          blobs: await state(blobs.core)
        })
      })
    )
  }
  return { source: MIRROR_SOURCE, destination: MIRROR_DESTINATION, primary_key: hex(Buffer.alloc(32, 54 ^ salt)), results }
}

function manifests(salt) {
  const signer = (n) => ({ publicKey: crypto.keyPair(Buffer.alloc(32, n ^ salt)).publicKey })
  const inputs = [
    { version: 0, quorum: 1, signers: [signer(1)] },
    { version: 1, signers: [signer(1)] },
    { version: 1, quorum: 2, allowPatch: true, signers: [signer(1), signer(2), signer(3)] },
    { version: 1, quorum: 1, signers: [signer(1)], prologue: { hash: Buffer.alloc(32, 7), length: 5 } },
    { version: 2, signers: [signer(1), signer(2)], userData: Buffer.from('pomona') },
    { version: 3, signers: [signer(4)] }
  ]
  return inputs.map((input) => {
    const manifest = Verifier.createManifest(input)
    const content = Hyperdrive.getContentManifest(manifest, null)
    return {
      manifest: hex(Verifier.encodeManifest(manifest)),
      key: hex(Verifier.manifestHash(manifest)),
      content: content && hex(Verifier.encodeManifest(Verifier.createManifest(content))),
      content_key: content && hex(Hypercore.key(content))
    }
  })
}

async function vectors(salt) {
  const named = ['corestore', 'hyperbee', 'hyperblobs', 'hypercore', 'hyperdrive', 'unix-path-resolve']
  const versions = Object.fromEntries(named.map((name) => [name, require(name + '/package.json').version]))
  const metadata = await withDrive(Buffer.alloc(32, 50 ^ salt), async (drive) => {
    const found = []
    for (const value of METADATA) {
      await drive.symlink('/m', 'x', { metadata: value })
      const node = await drive.db.get('/m', { keyEncoding: new SubEncoder('files', 'utf-8'), valueEncoding: 'binary' })
      found.push([value, hex(node.value)])
    }
    return found
  })
  return {
    salt,
    versions,
    normalised: PATHS.map((path) => [path, attempt(() => Hyperdrive.normalizePath(path))]),
    resolved: RESOLVED.map(([base, path]) => [base, path, attempt(() => resolve(base, path))]),
    manifests: manifests(salt),
    metadata,
    drive: await recorded(Buffer.alloc(32, 51 ^ salt), salt, OPS),
    mirror: await mirrors(salt),
    compat: await recorded(Buffer.alloc(32, 52 ^ salt), salt, OPS.slice(0, 8), { compat: true })
  }
}

async function* loaded(path) {
  const file = await open(path)
  try {
    for (;;) {
      const head = Buffer.alloc(4)
      if ((await file.read(head, 0, 4)).bytesRead === 0) return
      const block = Buffer.alloc(head.readUInt32LE())
      if (block.length) await file.read(block, 0, block.length)
      yield block
    }
  } finally {
    await file.close()
  }
}

async function dump(core, path) {
  const file = await open(path, 'w')
  try {
    for await (const block of blocks(core)) {
      const head = Buffer.alloc(4)
      head.writeUInt32LE(block.length)
      await file.write(head)
      if (block.length) await file.write(block)
    }
  } finally {
    await file.close()
  }
}

// Goes on with a drive whose blocks somebody else wrote, or begins one.
async function run(folder) {
  const plan = JSON.parse(await readFile(join(folder, 'plan.json')))
  const primaryKey = Buffer.from(plan.primary_key, 'hex')
  const options = { encryptionKey: plan.encryption_key ? Buffer.from(plan.encryption_key, 'hex') : null }
  const home = await mkdtemp(join(tmpdir(), 'pomona-drive-'))
  const store = new Corestore(home, { primaryKey, unsafe: true })
  try {
    let drive = new Hyperdrive(store.session(), options)
    await drive.ready()
    if (existsSync(join(folder, 'db.in'))) {
      const blobs = await drive.getBlobs()
      for await (const block of loaded(join(folder, 'db.in'))) await drive.core.append(block)
      for await (const block of loaded(join(folder, 'blobs.in'))) await blobs.core.append(block)
      await drive.close()
      drive = new Hyperdrive(store.session(), options)
      await drive.ready()
    }
    const before = await view(drive)
    await apply(drive, plan.ops, plan.salt)
    const blobs = await drive.getBlobs()
    const ranges = []
    for (const [path, start, length] of plan.ranges || []) {
      ranges.push(sha256(await drive.get(path, { start, length })))
    }
    const report = {
      before,
      view: await view(drive),
      folders: await folders(drive, FOLDERS),
      db: await state(drive.core),
      blobs: await state(blobs.core),
      blobs_length: await drive.getBlobsLength(),
      diff: await diffs(drive, plan.diff_from || 1, '/'),
      ranges
    }
    await dump(drive.core, join(folder, 'db.out'))
    await dump(blobs.core, join(folder, 'blobs.out'))
    await writeFile(join(folder, 'report.json'), JSON.stringify(report))
    await drive.close()
  } finally {
    await store.close()
    await rm(home, { recursive: true })
  }
}

const [mode, argument] = process.argv.slice(2)
if (mode === 'vectors') console.log(JSON.stringify(await vectors(Number(argument ?? 0)), null, 1))
else if (mode === 'run') await run(argument)
else throw new Error('vectors or run?')
