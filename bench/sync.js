// What one synced write of 100 bytes costs in a folder: through the LevelDB that the store uses (`level`), and as a plain append with fdatasync
// (`plain`). Its argument is the folder. It prints an empty line when it is warm; from then on each line of standard input is for how many seconds
// it is to go on, and is answered by the medians, milliseconds, as JSON. It ends with its input.

import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { ClassicLevel } from 'classic-level'
import { median } from './figures.js'

const folder = process.argv[2]
const warmUp = 0.5
const value = Buffer.alloc(100, 'x')

const level = new ClassicLevel(join(folder, 'sync-level'), { keyEncoding: 'buffer', valueEncoding: 'buffer' })
await level.open()
const key = Buffer.alloc(13)
let count = 0
const throughLevel = () => {
  key.writeUInt32BE(count++, 0)
  return level.batch().put(key, value).write({ sync: true })
}

const file = await open(join(folder, 'sync-file'), 'a')
const plain = async () => {
  await file.write(value)
  await file.datasync()
}

/** Half of the time for each. */
async function measure(seconds) {
  return { level: await timeOf(throughLevel, seconds / 2), plain: await timeOf(plain, seconds / 2) }
}

async function timeOf(write, seconds) {
  const times = []
  const end = performance.now() + 1000 * seconds
  for (let last = performance.now(); last < end; ) {
    await write()
    const now = performance.now()
    times.push(now - last)
    last = now
  }
  return median(times)
}

await measure(warmUp)
process.stdout.write('\n')
for await (const line of createInterface({ input: process.stdin })) process.stdout.write(`${JSON.stringify(await measure(Number(line)))}\n`)
await level.close()
await file.close()
