// What the stock benchmarks share. Each prints one JSON object on one line, on stdout.
//
// Durability of stock storage, from its source and from strace: hypercore-storage writes each flush as one RocksDB write
// batch with the default write options (rocksdb-native 3 offers no other): the write-ahead log is written, not synced.
// Opening and closing a fresh store costs 5 fsync and 6 fdatasync, the same for 10 appends and for 1000 between them. An
// append that has resolved therefore survives the end of the process, not a power cut. Each append also writes its page of
// the bitfield (4 KiB), so single appends of small blocks write about 4.5 KB each to the log.
import { createRequire } from 'node:module'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { once } from 'node:events'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export { generated } from '../../interop/generated.mjs'

const packages = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'interop')
if (!existsSync(join(packages, 'node_modules'))) {
  process.stderr.write('the stock packages are not installed: run `make interop` once\n')
  process.exit(1)
}
export const require = createRequire(join(packages, 'package.json'))
export const versions = Object.fromEntries(
  ['hypercore', 'hypercore-storage', 'hyperbee', 'rocksdb-native'].map((name) => [
    name,
    JSON.parse(readFileSync(join(packages, 'node_modules', name, 'package.json'))).version
  ])
)

// --count 1000 and the like; a flag's default says what it may be.
export function options(defaults) {
  const found = { ...defaults }
  const given = process.argv.slice(2)
  for (let i = 0; i < given.length; i += 2) {
    const name = given[i].replace(/^--/, '')
    if (!(name in defaults) || given[i + 1] === undefined) {
      process.stderr.write(`usage: ${Object.entries(defaults).map(([k, v]) => `[--${k} ${v}]`).join(' ')}\n`)
      process.exit(2)
    }
    found[name] = typeof defaults[name] === 'number' ? Number(given[i + 1]) : given[i + 1]
  }
  return found
}

// Wall and CPU seconds (user and system, all threads of this process) of one piece of work.
export async function measured(work) {
  const cpu = process.cpuUsage()
  const wall = performance.now()
  const value = await work()
  const wall_s = (performance.now() - wall) / 1000
  const { user, system } = process.cpuUsage(cpu)
  return { wall_s, user_s: user / 1e6, system_s: system / 1e6, value }
}

export function sizeOf(folder) {
  let bytes = 0
  let files = 0
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    bytes += statSync(join(entry.parentPath ?? entry.path, entry.name)).size
    files++
  }
  return { disk_bytes: bytes, files }
}

export async function withFolder(work) {
  const folder = await mkdtemp(join(tmpdir(), 'pomona-bench-stock-'))
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

export function print(row) {
  const round = (value) => (typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value)
  process.stdout.write(JSON.stringify(Object.fromEntries(Object.entries(row).map(([k, v]) => [k, round(v)]))) + '\n')
}

// The same pseudo-random walk every time.
export function* random(seed, below) {
  let state = seed >>> 0
  for (;;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    yield Math.floor((state / 2 ** 32) * below)
  }
}

// One replication stream of a whole store over a TCP socket.
export function replicate(store, socket, isInitiator) {
  const stream = store.replicate(isInitiator)
  stream.on('error', () => {})
  socket.on('error', () => {})
  socket.setNoDelay(true)
  socket.pipe(stream).pipe(socket)
  return stream
}

export async function dial(host, port) {
  const socket = net.connect(port, host)
  await once(socket, 'connect')
  return socket
}
