// A Hyperbee of COUNT entries put in batches of BATCH, then GETS random gets and one scan of everything, from a store
// opened anew. Keys "key-%09d" and values of SIZE bytes, keys in the order of a fixed shuffle.
import { join } from 'node:path'
import { generated, measured, options, print, random, require, sizeOf, versions, withFolder } from './common.mjs'

const Corestore = require('corestore')
const Hyperbee = require('hyperbee')
const { count, size, batch, gets } = options({ count: 100000, size: 100, batch: 100, gets: 20000 })
const keyOf = (i) => Buffer.from(`key-${String(i).padStart(9, '0')}`)
const encodings = { keyEncoding: 'binary', valueEncoding: 'binary' }

await withFolder(async (folder) => {
  const path = join(folder, 'store')
  let store = new Corestore(path)
  let bee = new Hyperbee(store.get({ name: 'bee' }), encodings)
  await bee.ready()
  const order = Array.from({ length: count }, (_, i) => i)
  const swap = random(5, 2 ** 31)
  for (let i = count - 1; i > 0; i--) {
    const j = swap.next().value % (i + 1)
    ;[order[i], order[j]] = [order[j], order[i]]
  }
  const put = await measured(async () => {
    for (let at = 0; at < count; at += batch) {
      const some = bee.batch()
      for (const i of order.slice(at, at + batch)) await some.put(keyOf(i), generated(9, i, size))
      await some.flush()
    }
  })
  const core_bytes = bee.core.byteLength
  await store.close()
  store = new Corestore(path)
  bee = new Hyperbee(store.get({ name: 'bee' }), encodings)
  await bee.ready()
  const walk = random(11, count)
  const got = await measured(async () => {
    for (let i = 0; i < gets; i++) if ((await bee.get(keyOf(walk.next().value))) === null) throw new Error('an entry is missing')
  })
  let scanned = 0
  const scan = await measured(async () => {
    for await (const entry of bee.createReadStream()) scanned += entry.value.byteLength === size ? 1 : 0
  })
  if (scanned !== count) throw new Error(`the scan saw ${scanned} of ${count}`)
  await store.close()
  const named = (prefix, { value, ...cost }) => Object.fromEntries(Object.entries(cost).map(([k, v]) => [`${prefix}_${k}`, v]))
  print({ name: 'bee', count, size, batch, gets, ...named('put', put), ...named('get', got), ...named('scan', scan), core_bytes, ...sizeOf(path), sync: 'none', ...versions })
})
