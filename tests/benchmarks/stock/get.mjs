// Reads GETS random blocks of a core of COUNT, one after the other, from a store opened anew (page cache warm).
import { join } from 'node:path'
import { generated, measured, options, print, random, require, sizeOf, versions, withFolder } from './common.mjs'

const Corestore = require('corestore')
const { count, size, gets } = options({ count: 100000, size: 150, gets: 20000 })

await withFolder(async (folder) => {
  const path = join(folder, 'store')
  let store = new Corestore(path)
  let core = store.get({ name: 'bench' })
  await core.ready()
  for (let at = 0; at < count; at += 1000) {
    await core.append(Array.from({ length: Math.min(1000, count - at) }, (_, i) => generated(1, at + i, size)))
  }
  await store.close()
  store = new Corestore(path)
  core = store.get({ name: 'bench' })
  await core.ready()
  const walk = random(7, count)
  let last = 0
  let block = null
  const { value, ...cost } = await measured(async () => {
    for (let i = 0; i < gets; i++) block = await core.get((last = walk.next().value))
  })
  if (!generated(1, last, size).equals(block)) throw new Error('a block is not what was written')
  await store.close()
  print({ name: 'get', count, size, gets, ...cost, per_second: gets / cost.wall_s, ...sizeOf(path), ...versions })
})
