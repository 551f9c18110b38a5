// Vectors made by the stock JavaScript peers, printed as JSON on stdout. Deterministic: no randomness, no time.
// usage: node vectors.mjs [SALT] ; SALT (0..255, default 0) varies every key and block.
// The checked-in file: node vectors.mjs > ../edge/hypercore/vectors.json
import { createRequire } from 'node:module'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const require = createRequire(import.meta.url)
const Hypercore = require('hypercore')
const Verifier = require('hypercore/lib/verifier')
const crypto = require('hypercore-crypto')
const c = require('compact-encoding')
const flat = require('flat-tree')

const hex = (buffer) => (buffer ? Buffer.from(buffer).toString('hex') : null)
const salt = Number(process.argv[2] ?? 0)
const seed = (n) => Buffer.alloc(32, n ^ salt)
const keyPair = (n) => crypto.keyPair(seed(n))
// Block i of the test log: 7 i bytes, wrapping at 200, each telling its place.
const block = (i) => Buffer.from(Array.from({ length: (i * 7) % 200 }, (_, j) => (i + 3 * j + salt) & 0xff))
const LENGTHS = [1, 2, 3, 4, 5, 7, 8, 16, 21, 33, 64, 100]

const folder = await mkdtemp(join(tmpdir(), 'pomona-vectors-'))
let opened = 0
const open = async (key, options) => {
  const core = new Hypercore(join(folder, String(opened++)), key, options)
  await core.ready()
  return core
}

async function state(core) {
  return {
    length: core.length,
    fork: core.fork,
    tree_hash: hex(await core.treeHash()),
    signature: hex(core.core.state.signature)
  }
}

async function stored(core, indexes) {
  const blocks = {}
  for (const index of indexes) blocks[index] = hex(await core.get(index, { raw: true }))
  return blocks
}

// Appends up to each length in turn; each state is a signature of its own.
async function grow(core) {
  const states = []
  for (const length of LENGTHS) {
    const batch = []
    for (let i = core.length; i < length; i++) batch.push(block(i))
    await core.append(batch)
    states.push(await state(core))
  }
  return states
}

async function describe(core, extra) {
  return {
    key: hex(core.key),
    discovery_key: hex(core.discoveryKey),
    manifest: core.core.compat ? null : hex(Verifier.encodeManifest(core.manifest)),
    ...extra
  }
}

async function singleCore(options, { truncations = [], raw = [] } = {}) {
  const core = await open(null, { keyPair: keyPair(1), ...options })
  const states = await grow(core)
  const encrypted = raw.length ? { raw: await stored(core, raw) } : {}
  const after = []
  for (const { to, then } of truncations) {
    await core.truncate(to)
    const truncated = await state(core)
    await core.append(Array.from({ length: then }, (_, i) => block(50 + i)))
    const index = core.length - 1
    after.push({ to, then, truncated, appended: await state(core), raw: await stored(core, [index]) })
  }
  const result = await describe(core, { states, ...encrypted, truncations: after })
  await core.close()
  return result
}

// Several signers: each signs the same state on a core of its own kind; a stock verifier puts the parts together.
async function multiCore(count, quorum, chosen, extra = {}) {
  const pairs = Array.from({ length: count }, (_, i) => keyPair(10 + i))
  const manifest = Verifier.createManifest({
    quorum,
    signers: pairs.map((pair) => ({ publicKey: pair.publicKey })),
    ...extra
  })
  const key = Verifier.manifestHash(manifest)
  const verifier = new Verifier(key, manifest)
  const source = await open(null, { keyPair: keyPair(1) })
  const states = []
  for (const length of [1, 3, 8, 21]) {
    const batch = []
    for (let i = source.length; i < length; i++) batch.push(block(i))
    await source.append(batch)
    const tree = source.core.state.createTreeBatch()
    const signables = manifest.signers.map((s, i) => hex(tree.signable(manifest.version === 0 ? s.namespace : key)))
    const parts = chosen.map((i) => ({ signer: i, signature: verifier.sign(tree, pairs[i]), patch: 0, nodes: null }))
    const signature = verifier.assemble(parts)
    if (!verifier.verify(tree, signature)) throw new Error('the stock verifier refuses its own signature')
    states.push({
      length,
      fork: 0,
      tree_hash: hex(tree.hash()),
      signable: signables[0],
      parts: parts.map((p) => ({ signer: p.signer, signature: hex(p.signature) })),
      signature: hex(signature)
    })
  }
  // A stock core with this manifest takes the signature, and another one accepts it as its own state.
  const core = await open(null, { manifest, keyPair: pairs[0], compat: false })
  const batch = []
  for (let i = 0; i < 21; i++) batch.push(block(i))
  await core.append(batch, { signature: Buffer.from(states.at(-1).signature, 'hex') })
  const kept = await state(core)
  if (kept.signature !== states.at(-1).signature) throw new Error('the stock core kept another signature')
  await core.close()
  await source.close()
  return { key: hex(key), discovery_key: hex(crypto.discoveryKey(key)), manifest: hex(Verifier.encodeManifest(manifest)), signers: count, quorum: manifest.quorum, chosen, states }
}

function manifests() {
  const signer = (n, namespace) => ({ publicKey: keyPair(n).publicKey, ...(namespace ? { namespace } : {}) })
  const prologue = { hash: seed(0xaa), length: 5 }
  const cases = {
    v0_single: { version: 0, quorum: 1, signers: [signer(1)] },
    v0_single_patch: { version: 0, quorum: 1, allowPatch: true, signers: [signer(1)] },
    v0_multi: { version: 0, quorum: 2, signers: [signer(1), signer(2, seed(9)), signer(3)] },
    v0_static: { version: 0, quorum: 0, signers: [], prologue: { hash: seed(0xaa), length: 0 } },
    v1_single: { version: 1, signers: [signer(1)] },
    v1_namespace: { version: 1, signers: [signer(1, seed(7))] },
    v1_multi_default_quorum: { version: 1, signers: [signer(1), signer(2), signer(3), signer(4)] },
    v1_multi_patch: { version: 1, quorum: 1, allowPatch: true, signers: [signer(1), signer(2)] },
    v1_prologue: { version: 1, quorum: 1, signers: [signer(1)], prologue },
    v1_static: { version: 1, quorum: 0, signers: [], prologue: { hash: seed(0xaa), length: 70000 } },
    v2_user_data: { version: 2, signers: [signer(1)], userData: Buffer.from('pomona') },
    v2_linked: { version: 2, signers: [signer(1)], linked: [seed(5), seed(6)] },
    v2_everything: { version: 2, quorum: 2, allowPatch: true, signers: [signer(1), signer(2)], prologue, linked: [seed(5)], userData: Buffer.alloc(300, 1) },
    v3_single: { version: 3, signers: [signer(1)] }
  }
  const result = {}
  for (const [name, input] of Object.entries(cases)) {
    const manifest = Verifier.createManifest(input)
    const encoded = Verifier.encodeManifest(manifest)
    const again = Verifier.encodeManifest(Verifier.decodeManifest(encoded))
    if (!encoded.equals(again)) throw new Error(`${name} does not survive the stock decoder`)
    result[name] = { manifest: hex(encoded), key: hex(Verifier.manifestHash(manifest)), quorum: manifest.quorum }
  }
  return result
}

function compact() {
  const numbers = [0, 1, 0xfb, 0xfc, 0xfd, 0xff, 0x100, 0xffff, 0x10000, 0xffffffff, 0x100000000, Number.MAX_SAFE_INTEGER]
  const strings = ['', 'hypercore', 'Ärger', '🍎'.repeat(70)]
  const buffers = [Buffer.alloc(0), Buffer.from('abc'), Buffer.alloc(300, 7)]
  return {
    uint: numbers.map((n) => [n, hex(c.encode(c.uint, n))]),
    uint64: numbers.map((n) => [n, hex(c.encode(c.uint64, n))]),
    string: strings.map((s) => [s, hex(c.encode(c.string, s))]),
    buffer: buffers.map((b) => [hex(b), hex(c.encode(c.buffer, b))]),
    uint_array: [[], [1, 253, 70000]].map((a) => [a, hex(c.encode(c.array(c.uint), a))])
  }
}

function flatTree() {
  const nodes = []
  for (let i = 0; i < 64; i++) {
    nodes.push([i, flat.depth(i), flat.offset(i), flat.parent(i), flat.sibling(i), flat.leftSpan(i), flat.rightSpan(i)])
  }
  return { nodes, full_roots: LENGTHS.map((length) => [length, flat.fullRoots(2 * length)]) }
}

const raw = [0, 1, 2, 31, 32, 63, 99]
const twice = [{ to: 60, then: 5 }, { to: 3, then: 9 }, { to: 0, then: 2 }]
const version = (name) => require(`${name}/package.json`).version
const vectors = {
  source: 'tests/interop/vectors.mjs: stock JavaScript peers',
  salt,
  versions: Object.fromEntries(
    ['hypercore', 'hypercore-storage', 'hypercore-crypto', 'compact-encoding', 'flat-tree', 'sodium-native'].map((n) => [n, version(n)])
  ),
  compact: compact(),
  flat_tree: flatTree(),
  manifests: manifests(),
  cores: {
    default: await singleCore({}, { truncations: twice }),
    compat: await singleCore({ compat: true }, { truncations: twice }),
    encrypted: await singleCore({ encryption: { key: seed(77) } }, { raw, truncations: twice }),
    encrypted_compat: await singleCore({ compat: true, encryption: { key: seed(77) } }, { raw, truncations: twice }),
    block_key: await singleCore({ encryption: { key: seed(78), block: true } }, { raw })
  },
  multi: {
    two_of_three: await multiCore(3, 2, [0, 2]),
    three_of_four: await multiCore(4, undefined, [1, 2, 3]),
    one_of_two: await multiCore(2, 1, [1]),
    user_data: await multiCore(2, 2, [0, 1], { userData: Buffer.from('roster 1') }),
    version_0: await multiCore(3, 2, [0, 1], { version: 0 })
  }
}
await rm(folder, { recursive: true })
process.stdout.write(JSON.stringify(vectors, null, 1) + '\n')
