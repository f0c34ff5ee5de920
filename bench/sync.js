// What one synced write of 100 bytes costs in a folder: through the LevelDB that the store uses, and as a plain append with fdatasync.
// Milliseconds, the median of many, as JSON. Its argument is the folder.

import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { ClassicLevel } from 'classic-level'

const folder = process.argv[2]
const rounds = 1000
const warmUp = 100
const value = Buffer.alloc(100, 'x')

async function median(write) {
  const times = []
  for (let i = 0; i < warmUp + rounds; i++) {
    const start = performance.now()
    await write(i)
    if (i >= warmUp) times.push(performance.now() - start)
  }
  return times.sort((a, b) => a - b)[rounds >> 1]
}

const level = new ClassicLevel(join(folder, 'sync-level'), { keyEncoding: 'buffer', valueEncoding: 'buffer' })
await level.open()
const key = Buffer.alloc(13)
const throughLevel = await median(i => {
  key.writeUInt32BE(i, 0)
  return level.batch().put(key, value).write({ sync: true })
})
await level.close()

const file = await open(join(folder, 'sync-file'), 'a')
const plain = await median(async () => {
  await file.write(value)
  await file.datasync()
})
await file.close()

process.stdout.write(JSON.stringify({ level: throughLevel, plain }))
