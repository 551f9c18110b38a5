import { createHash } from 'node:crypto'

// Block `index` of the series `seed`: BLAKE2b-512 of "seed:index" repeated to its size. `vary`: 0 to 2 × size bytes.
export function generated(seed, index, size, vary) {
  const digest = createHash('blake2b512').update(`${seed}:${index}`).digest()
  const length = vary ? digest.readUInt32LE(0) % (2 * size + 1) : size
  const out = Buffer.allocUnsafe(length)
  for (let at = 0; at < length; at += 64) digest.copy(out, at, 0, Math.min(64, length - at))
  return out
}
