// Stock to stock: serve.mjs and client.mjs as two processes over TCP on the loopback; the CPU of each.
import { once } from 'node:events'
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { options, print, versions } from './common.mjs'

const { count, size } = options({ count: 100000, size: 150 })
const here = dirname(fileURLToPath(import.meta.url))

function start(script, args) {
  const child = spawn(process.execPath, [join(here, script), ...args.map(String)], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return { child, next: async () => JSON.parse((await lines.next()).value) }
}

const server = start('serve.mjs', ['--count', count, '--size', size])
try {
  const { port, key, tree_hash } = await server.next()
  const client = start('client.mjs', ['--port', port, '--key', key])
  const fetched = await client.next()
  if (fetched.tree_hash !== tree_hash) throw new Error('the client ended with another tree')
  const ended = once(server.child, 'exit')
  server.child.stdin.end()
  const served = await server.next()
  await ended
  print({
    name: 'replicate', count, size, wall_s: fetched.wall_s, per_second: fetched.per_second,
    client_user_s: fetched.user_s, client_system_s: fetched.system_s, server_user_s: served.user_s, server_system_s: served.system_s,
    client_disk_bytes: fetched.disk_bytes, ...versions
  })
} finally {
  server.child.kill()
}
