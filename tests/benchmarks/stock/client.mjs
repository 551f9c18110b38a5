// Fetches a whole core from HOST:PORT by its key into a fresh store: from dialling until every block is in the storage.
import { join } from 'node:path'
import { dial, measured, options, print, replicate, require, sizeOf, versions, withFolder } from './common.mjs'

const Corestore = require('corestore')
const { host, port, key } = options({ host: '127.0.0.1', port: 0, key: 'HEX' })

await withFolder(async (folder) => {
  const path = join(folder, 'store')
  const store = new Corestore(path)
  const core = store.get({ key: Buffer.from(key, 'hex') })
  await core.ready()
  let stream = null
  const { value, ...cost } = await measured(async () => {
    stream = replicate(store, await dial(host, port), true)
    if (core.length === 0) await core.update({ wait: true })
    if (core.length === 0) await new Promise((resolve) => core.once('append', resolve))
    await core.download({ start: 0, end: core.length }).done()
  })
  const held = core.contiguousLength
  if (held !== core.length) throw new Error(`only ${held} of ${core.length} blocks came`)
  const tree_hash = (await core.treeHash()).toString('hex')
  stream.destroy()
  await store.close()
  print({ name: 'client', count: held, bytes: core.byteLength, tree_hash, ...cost, per_second: held / cost.wall_s, ...sizeOf(path), ...versions })
})
process.exit(0)
