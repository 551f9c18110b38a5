// Appends COUNT blocks of SIZE bytes to a fresh core, BATCH blocks at once; each append is awaited.
import { join } from 'node:path'
import { generated, measured, options, print, require, sizeOf, versions, withFolder } from './common.mjs'

const Corestore = require('corestore')
const { count, size, batch } = options({ count: 10000, size: 150, batch: 1 })

await withFolder(async (folder) => {
  const path = join(folder, 'store')
  const store = new Corestore(path)
  const core = store.get({ name: 'bench' })
  await core.ready()
  const blocks = Array.from({ length: count }, (_, i) => generated(1, i, size))
  const { value, ...cost } = await measured(async () => {
    for (let at = 0; at < count; at += batch) await core.append(batch === 1 ? blocks[at] : blocks.slice(at, at + batch))
  })
  const open = sizeOf(path) // before the memtable is written out and the log is dropped
  await store.close()
  print({ name: 'append', count, size, batch, ...cost, per_second: count / cost.wall_s, ...open, closed_bytes: sizeOf(path).disk_bytes, sync: 'none', ...versions })
})
