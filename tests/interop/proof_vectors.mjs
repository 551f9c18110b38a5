// Messages, proofs and patched signatures made by the stock JavaScript packages, as JSON on stdout. Deterministic.
// usage: node proof_vectors.mjs [SALT] ; SALT (0..255, default 0) varies every key, block and request.
// The checked-in file: node proof_vectors.mjs > ../edge/hypercore/proof_vectors.json
// A request and its answer are wire messages in hex; of answers only the BLAKE2b-256 is kept ("error": refused).
import { createRequire } from 'node:module'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const require = createRequire(import.meta.url)
const Hypercore = require('hypercore')
const Verifier = require('hypercore/lib/verifier')
const { wire } = require('hypercore/lib/messages')
const { MerkleTree } = require('hypercore/lib/merkle-tree')
const multisig = require('hypercore/lib/multisig')
const caps = require('hypercore/lib/caps')
const crypto = require('hypercore-crypto')
const c = require('compact-encoding')
const flat = require('flat-tree')

const hex = (buffer) => Buffer.from(buffer).toString('hex')
const salt = Number(process.argv[2] ?? 0)
const seed = (n) => Buffer.alloc(32, n ^ salt)
const keyPair = (n) => crypto.keyPair(seed(n))
const block = (i) => Buffer.from(Array.from({ length: (i * 7) % 50 }, (_, j) => (i + 3 * j + salt) & 0xff))
let state = 12345 + salt
const random = (n) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return Math.floor((state / 2 ** 32) * n)
}

const folder = await mkdtemp(join(tmpdir(), 'proof-vectors-'))
const opened = []
const open = async (key, options) => {
  const core = new Hypercore(join(folder, String(opened.length)), key, options)
  opened.push(core)
  await core.ready()
  return core
}

// --- messages ----------------------------------------------------------------------------------------------------

function messages() {
  const numbers = [0, 1, 252, 253, 65535, 65536, 4294967295, 4294967296, 2 ** 51]
  const number = () => numbers[random(numbers.length)]
  const bytes = (n) => Buffer.from(Array.from({ length: n }, () => random(256)))
  const node = () => ({ index: number(), size: number(), hash: bytes(32) })
  const nodes = () => Array.from({ length: random(4) }, node)
  const bit = () => random(2) === 1
  const ref = () => ({ index: number(), nodes: number() })
  const manifest = Verifier.createManifest({ quorum: 1, signers: [{ publicKey: keyPair(1).publicKey }] })
  const sync = (f) => ({
    fork: number(), length: number(), remoteLength: number(),
    canUpgrade: !!(f & 1), uploading: !!(f & 2), downloading: !!(f & 4), hasManifest: !!(f & 8), allowPush: !!(f & 16)
  })
  const request = (f) => ({
    id: number(), fork: number(),
    block: f & 1 ? ref() : null,
    hash: f & 2 ? ref() : null,
    seek: f & 4 ? { bytes: number(), padding: number() } : null,
    upgrade: f & 8 ? { start: number(), length: number() } : null,
    manifest: !!(f & 16),
    priority: f & 32 ? 1 + random(300) : 0
  })
  const data = (f) => ({
    request: number(), fork: number(),
    block: f & 1 ? { index: number(), value: bytes([0, 1, 150, 252, 253, 700][random(6)]), nodes: nodes() } : null,
    hash: f & 2 ? { index: number(), nodes: nodes() } : null,
    seek: f & 4 ? { bytes: number(), nodes: nodes() } : null,
    upgrade: f & 8
      ? { start: number(), length: number(), nodes: nodes(), additionalNodes: nodes(), signature: f & 1 ? bytes(68) : null }
      : null,
    manifest: f & 16 ? manifest : null
  })
  const found = []
  const add = (name, message) => found.push({
    name,
    message: JSON.parse(JSON.stringify(message, (key, value) =>
      value && value.type === 'Buffer' ? hex(value.data) : key === 'manifest' && value && value.signers ? hex(c.encode(require('hypercore/lib/messages').manifest, manifest)) : value)),
    bytes: hex(c.encode(wire[name], message))
  })
  for (let f = 0; f < 32; f++) add('sync', sync(f))
  for (let f = 0; f < 64; f++) add('request', request(f))
  for (let i = 0; i < 20; i++) add('request', request(1))
  for (let f = 0; f < 32; f++) add('data', data(f))
  for (let i = 0; i < 30; i++) add('data', data(1))
  for (const request of numbers) add('cancel', { request })
  for (const reason of [0, 1, 2]) add('noData', { request: number(), reason })
  for (const any of [false, true]) for (const name of ['want', 'unwant']) add(name, { start: number(), length: number(), any })
  for (const drop of [false, true]) for (const length of [0, 1, 2, 2 ** 40]) add('range', { drop, start: number(), length })
  for (const words of [0, 1, 5, 260]) {
    const bitfield = new Uint32Array(words).map(() => random(2 ** 32))
    found.push({
      name: 'bitfield',
      message: { start: 32 * words, bitfield: hex(new Uint8Array(bitfield.buffer)) },
      bytes: hex(c.encode(wire.bitfield, { start: 32 * words, bitfield }))
    })
  }
  for (const name of ['', 'hyperbee', 'ümlaut']) add('extension', { name, message: bytes(random(20)) })
  for (const seeks of [false, true]) add('handshake', { seeks, capability: bytes(32) })
  return found
}

// --- proofs ------------------------------------------------------------------------------------------------------

function someRequest(length, byteLength, padding) {
  const shape = random(12)
  const start = random(length + 1)
  const upgrade = () => ({ start, length: 1 + random(length - start + (random(20) === 0 ? 2 : 0)) })
  const below = () => {
    const index = random(Math.max(start, 1))
    return { index, nodes: MerkleTree.maxMissingNodes(2 * index, Math.max(start, 1)) }
  }
  const anyBlock = () => {
    const index = random(length)
    const most = MerkleTree.maxMissingNodes(2 * index, length)
    return { index, nodes: random(most + 1 + (random(10) === 0 ? 2 : 0)) }
  }
  const anyHash = () => {
    let index = 2 * random(length)
    for (let up = random(4); up > 0; up--) index = flat.parent(index)
    return { index, nodes: random(3) }
  }
  const seek = () => ({ bytes: random(byteLength - (padding ? length * padding : 0) + 3), padding })
  const request = { id: 1 + random(300), fork: 0, block: null, hash: null, seek: null, upgrade: null, manifest: random(4) === 0, priority: 0 }
  if (shape === 0) request.block = anyBlock()
  if (shape === 1) request.hash = anyHash()
  if (shape === 2) request.upgrade = upgrade()
  if (shape === 3) Object.assign(request, { block: below(), upgrade: upgrade() })
  if (shape === 4) {
    const to = upgrade()
    Object.assign(request, { block: { index: start + random(to.length), nodes: 0 }, upgrade: to })
  }
  if (shape === 5) Object.assign(request, { hash: anyHash(), upgrade: upgrade() })
  if (shape === 6 || shape === 7) Object.assign(request, { hash: anyHash(), seek: seek() })
  if (shape === 8) Object.assign(request, { block: { index: random(length), nodes: random(7) }, seek: seek() })
  if (shape === 9) Object.assign(request, { seek: seek(), upgrade: upgrade() })
  if (shape === 10) Object.assign(request, { block: below(), seek: seek(), upgrade: upgrade() })
  if (shape === 11) { // what a stock seek() asks for: everything above a block, and the offset
    const index = 2 * random(length)
    Object.assign(request, { hash: { index, nodes: MerkleTree.maxMissingNodes(index, length) }, seek: seek() })
  }
  return request
}

async function answers(core, raw, count, padding) {
  const found = []
  const tree = core.core.state
  while (found.length < count) {
    const message = someRequest(tree.length, tree.byteLength, padding)
    if (message.seek && !message.upgrade && !message.block && !message.hash) continue
    message.fork = tree.fork
    const request = hex(c.encode(wire.request, message))
    let digest = 'error'
    const rx = tree.storage.read()
    try {
      const pending = MerkleTree.proof(tree, rx, message)
      pending.catch(() => {})
      const proof = await pending.then((p) => { rx.tryFlush(); return p.settle() })
      if (proof.block) proof.block.value = raw[proof.block.index]
      const manifest = message.manifest && !core.core.compat ? core.core.header.manifest : null
      digest = hex(crypto.hash(c.encode(wire.data, { request: message.id, ...proof, manifest })))
    } catch {
      rx.destroy() // or the core never closes
    }
    found.push([request, digest])
  }
  return found
}

async function proofs(name, core, lengths, count, padding = 0, before = 0) {
  const raw = []
  const found = []
  for (let i = 0; i < core.length; i++) raw.push(await core.get(i, { raw: true }))
  for (const length of lengths) {
    while (core.length < length) {
      await core.append(block(core.length))
      raw.push(await core.get(core.length - 1, { raw: true }))
    }
    found.push({
      length,
      tree_hash: hex(await core.treeHash()),
      signature: core.core.state.signature ? hex(core.core.state.signature) : '',
      answers: await answers(core, raw, count, padding)
    })
  }
  return {
    name,
    key: hex(core.key),
    manifest: hex(Verifier.encodeManifest(core.core.header.manifest)),
    compat: core.core.compat,
    fork: core.fork,
    held: null,
    blocks: raw.map(hex),
    states: found
  }
}

async function sparse(source, described) {
  const copy = await open(source.key, {})
  const a = source.replicate(true)
  const b = copy.replicate(false)
  a.on('error', () => {}).pipe(b.on('error', () => {})).pipe(a)
  for (const index of [3, 20, 36]) await copy.get(index)
  a.destroy()
  b.destroy()
  const held = []
  for (let i = 0; i < 2 * copy.length; i++) if (await MerkleTree.get(copy.core.state, i)) held.push(i)
  const raw = described.blocks.map((value) => Buffer.from(value, 'hex'))
  return {
    ...described,
    name: 'sparse',
    held,
    states: [{
      length: copy.length,
      tree_hash: hex(await copy.treeHash()),
      signature: hex(copy.core.state.signature),
      answers: await answers(copy, raw, 150, 0)
    }]
  }
}

// --- signatures over different lengths ----------------------------------------------------------------------------

async function patched() {
  const core = await open(null, { keyPair: keyPair(1) })
  await core.append(Array.from({ length: 40 }, (_, i) => block(i)))
  const state = core.core.state
  const found = []
  for (const version of [0, 1]) {
    const manifest = Verifier.createManifest({
      version, allowPatch: true, quorum: 2, signers: [1, 2, 3].map((n) => ({ publicKey: keyPair(n).publicKey }))
    })
    const verifier = Verifier.fromManifest(manifest)
    const key = Verifier.manifestHash(manifest)
    const at = async (length) => {
      const batch = state.createTreeBatch()
      batch.roots = await MerkleTree.getRoots(state, length)
      batch.length = length
      batch.hashCached = null
      return batch
    }
    for (const [length, ...signed] of [[5, [0, 5], [1, 9]], [7, [0, 16], [2, 7]], [12, [1, 31], [2, 40]], [1, [0, 2], [1, 2]],
      [32, [0, 33], [1, 40]], [13, [0, 14], [1, 13]], [6, [0, 6], [2, 6]]]) {
      const parts = []
      for (const [signer, to] of signed) {
        const signature = verifier.signers[signer].sign(await at(to), keyPair(signer + 1))
        parts.push(await multisig.partialSignature(core, signer, length, to, signature))
      }
      const blob = verifier.assemble(parts)
      if (!verifier.verify(await at(length), blob)) throw new Error('stock refuses its own blob')
      found.push({ version, key: hex(key), manifest: hex(Verifier.encodeManifest(manifest)), length, signed, blob: hex(blob) })
    }
  }
  return { blocks: Array.from({ length: 40 }, (_, i) => hex(block(i))), cases: found }
}

const some = [1, 2, 3, 5, 8, 13, 21, 37, 64, 70]
const cores = []
cores.push(await proofs('default', await open(null, { keyPair: keyPair(1) }), Array.from({ length: 70 }, (_, i) => i + 1), 8))
const forked = await open(null, { keyPair: keyPair(1) })
await forked.append(Array.from({ length: 30 }, (_, i) => block(i + 5)))
await forked.truncate(11)
cores.push(await proofs('fork', forked, [11, 12, 16, 21, 37, 64, 70], 25))
cores.push(await proofs('compat', await open(null, { keyPair: keyPair(2), compat: true }), some, 20))
cores.push(await proofs('encrypted', await open(null, { keyPair: keyPair(3), encryption: { key: seed(9) } }), some, 30, 8))
const whole = await open(null, { keyPair: keyPair(4) })
cores.push(await sparse(whole, await proofs('sparse', whole, [37], 0)))
const prologue = await open(null, { keyPair: keyPair(5) })
await prologue.append(Array.from({ length: 5 }, (_, i) => block(i)))
const continued = await open(null, {
  keyPair: keyPair(6),
  manifest: { version: 1, prologue: { hash: await prologue.treeHash(), length: 5 }, signers: [{ publicKey: keyPair(6).publicKey }] }
})
await continued.core.copyPrologue(prologue.core.state)
cores.push(await proofs('prologue', continued, [5, 6, 9, 16], 25))

const version = (name) => require(`${name}/package.json`).version
process.stdout.write(JSON.stringify({
  source: 'tests/interop/proof_vectors.mjs',
  versions: Object.fromEntries(['hypercore', 'hypercore-crypto', 'compact-encoding', 'flat-tree'].map((n) => [n, version(n)])),
  salt,
  messages: messages(),
  cores,
  patched: await patched()
}, null, 0).replace(/\{"(name|length|version)"/g, '\n{"$1"') + '\n')
for (const core of opened.reverse()) await core.close()
await rm(folder, { recursive: true })
