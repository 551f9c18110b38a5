// Serves a core of COUNT blocks of SIZE bytes on a port; first line on stdout: {"port", "key", "length", "tree_hash"}.
// Ends when stdin does, and then prints what serving cost: CPU from the first connection to the last disconnection.
import { once } from 'node:events'
import { join } from 'node:path'
import net from 'node:net'
import { generated, options, print, replicate, require, sizeOf, versions, withFolder } from './common.mjs'

const Corestore = require('corestore')
const { count, size, port, host } = options({ count: 100000, size: 150, port: 0, host: '127.0.0.1' })

await withFolder(async (folder) => {
  const path = join(folder, 'store')
  const store = new Corestore(path)
  const core = store.get({ name: 'bench' })
  await core.ready()
  for (let at = 0; at < count; at += 1000) {
    await core.append(Array.from({ length: Math.min(1000, count - at) }, (_, i) => generated(1, at + i, size)))
  }
  let began = null
  let cost = { wall_s: 0, user_s: 0, system_s: 0 }
  const server = net.createServer((socket) => {
    began ??= { wall: performance.now(), cpu: process.cpuUsage() }
    replicate(store, socket, false).once('close', () => {
      const { user, system } = process.cpuUsage(began.cpu)
      cost = { wall_s: (performance.now() - began.wall) / 1000, user_s: user / 1e6, system_s: system / 1e6 }
    })
  })
  server.listen(port, host)
  await once(server, 'listening')
  print({ port: server.address().port, key: core.key.toString('hex'), length: core.length, tree_hash: (await core.treeHash()).toString('hex') })
  process.stdin.resume()
  await once(process.stdin, 'end')
  server.close()
  await store.close()
  print({ name: 'serve', count, size, ...cost, ...sizeOf(path), ...versions })
})
process.exit(0)
