// A stock Hyperbee at work: node hyperbee.mjs FOLDER < work.json > result.json
// work: { blocks: [hex] to begin with, alwaysDuplicate, groups: [{ batch, sub: [name], ops: [[put|del, key, value, cas]] }], reads }
// result: { versions, blocks: [hex] of the whole log, reads: [...] }. Keys and values are hex; null is no value.
import fs from 'fs'
import Hypercore from 'hypercore'
import Hyperbee from 'hyperbee'

const work = JSON.parse(fs.readFileSync(0))
const bytes = (hex) => hex === null ? null : Buffer.from(hex, 'hex')
const hex = (data) => data === null ? null : data.toString('hex')
const entry = (node) => node && [node.seq, hex(node.key), hex(node.value)]

const core = new Hypercore(process.argv[2])
await core.ready()
if (work.blocks.length) await core.append(work.blocks.map(bytes))
const bee = new Hyperbee(core, { alwaysDuplicate: work.alwaysDuplicate })
await bee.ready()

const sub = (names) => names.reduce((tree, name) => tree.sub(name), bee)
for (const group of work.groups) {
  const tree = group.sub.length ? sub(group.sub) : bee
  const target = group.batch ? tree.batch() : tree
  for (const [op, key, value, cas] of group.ops) {
    const options = cas === null ? {} : { cas: () => cas }
    if (op === 'put') await target.put(bytes(key), bytes(value), options)
    else await target.del(bytes(key), options)
  }
  if (group.batch) await target.flush()
}

const range = (read) => {
  const options = {}
  for (const [name, value] of Object.entries(read.bounds ?? {})) options[name] = typeof value === 'number' ? value : bytes(value)
  if (read.reverse) options.reverse = true
  if (read.limit !== undefined) options.limit = read.limit
  return options
}
const all = async (stream, map) => { const found = []; for await (const item of stream) found.push(map(item)); return found }
const reads = []
for (const read of work.reads) {
  const tree = read.version ? bee.checkout(read.version) : sub(read.sub ?? [])
  if (read.kind === 'range') reads.push(await all(tree.createReadStream(range(read)), entry))
  if (read.kind === 'get') reads.push(entry(await tree.get(bytes(read.key))))
  if (read.kind === 'history') reads.push(await all(tree.createHistoryStream(range(read)), (node) => [node.type === 'del', ...entry(node)]))
  if (read.kind === 'diff') reads.push(await all(tree.createDiffStream(read.other, range(read)), (d) => [entry(d.left), entry(d.right)]))
}

const blocks = []
for (let i = 0; i < core.length; i++) blocks.push(hex(await core.get(i)))
const version = (name) => JSON.parse(fs.readFileSync(new URL(`./node_modules/${name}/package.json`, import.meta.url))).version
fs.writeSync(1, JSON.stringify({ versions: { hyperbee: version('hyperbee'), hypercore: version('hypercore') }, blocks, reads }))
await bee.close()
