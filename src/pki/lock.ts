// One at a time, among processes and inside this one: a file that only its holder has made. What a process left behind when it died is
// taken away after a while.

import { randomBytes } from 'node:crypto'
import { open, readFile, stat, unlink } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { BrokerError, systemCode, systemReason } from '../errors.js'

export const lockTimes = {
  /** What is done under a lock takes milliseconds: whoever holds it so long is gone. Milliseconds, as the others. */
  stale: 30_000,
  /** Longer than `stale`, so that waiting once is enough. */
  patience: 40_000,
  poll: 25
}

/** What is done under the lock asks before it changes anything whether it still has it: a process that slept may have lost it. */
export type Held = () => Promise<void>

const waiting = new Map<string, Promise<unknown>>()

/** Runs `action` while nobody else runs one under the same file. */
export async function withLock<Value>(file: string, action: (held: Held) => Promise<Value>): Promise<Value> {
  const before = waiting.get(file) ?? Promise.resolve()
  const turn = before.then(() => lockAndRun(file, action))
  const settled = turn.catch(() => undefined)
  waiting.set(file, settled)
  try {
    return await turn
  } finally {
    if (waiting.get(file) === settled) waiting.delete(file)
  }
}

async function lockAndRun<Value>(file: string, action: (held: Held) => Promise<Value>): Promise<Value> {
  const mark = `${process.pid} ${randomBytes(8).toString('hex')}\n`
  await acquire(file, mark)
  const isOurs = async () => (await readFile(file, 'latin1').catch(() => '')) === mark
  try {
    return await action(async () => {
      if (!(await isOurs())) throw new BrokerError('ERR_PKI_FILE', `${file} was taken over by another process. Try again.`, { file })
    })
  } finally {
    if (await isOurs()) await unlink(file).catch(() => undefined)
  }
}

async function acquire(file: string, mark: string): Promise<void> {
  const end = performance.now() + lockTimes.patience
  while (!(await create(file, mark))) {
    if (await isStale(file)) await unlink(file).catch(() => undefined)
    else if (performance.now() > end) {
      throw new BrokerError('ERR_PKI_FILE', `${file} is held by another process. If none is at work, remove it.`, { file })
    } else await sleep(lockTimes.poll)
  }
}

async function create(file: string, mark: string): Promise<boolean> {
  try {
    const handle = await open(file, 'wx', 0o600)
    try {
      await handle.writeFile(mark)
    } finally {
      await handle.close()
    }
    return true
  } catch (cause) {
    if (systemCode(cause) === 'EEXIST') return false
    throw new BrokerError('ERR_PKI_FILE', `Unable to write ${file}: ${systemReason(cause)}.`, { file }, { cause })
  }
}

async function isStale(file: string): Promise<boolean> {
  try {
    // One of the future was made before the clock was set.
    return Math.abs(Date.now() - (await stat(file)).mtimeMs) > lockTimes.stale
  } catch {
    return false // It is gone: the next try may get it.
  }
}
