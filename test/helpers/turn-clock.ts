// How long the turns of this process's event loop are, as far as its own code makes them so: what the machine gave to other processes and what
// the collector took are not counted, so that a bound can be a sharp one on a busy machine.

import { closeSync, openSync, readSync } from 'node:fs'
import { PerformanceObserver, performance } from 'node:perf_hooks'

interface Turn {
  readonly start: number
  readonly end: number
  /** Of the processor, by this thread. */
  readonly spent: number
}

export interface TurnTimes {
  /** Milliseconds of the longest turns, the longest first. */
  readonly longest: readonly number[]
  /** What the longest one lasted on the wall. */
  readonly wall: number
}

interface Pause {
  readonly start: number
  readonly end: number
}

/** Runs while the work goes on; what is shorter than a millisecond is not kept. */
export async function timeTurns(work: () => Promise<void>): Promise<TurnTimes> {
  const turns: Turn[] = []
  const pauses: Pause[] = []
  const observer = new PerformanceObserver(list => {
    for (const { startTime, duration } of list.getEntries()) pauses.push({ start: startTime, end: startTime + duration })
  })
  observer.observe({ entryTypes: ['gc'] })
  let isOn = true
  let start = performance.now()
  const clock = openCpuClock()
  let used = clock.now()
  const look = () => {
    const now = performance.now()
    const usedNow = clock.now()
    if (now - start > 1) turns.push({ start, end: now, spent: usedNow - used })
    start = now
    used = usedNow
    if (isOn) setImmediate(look)
    else clock.close()
  }
  setImmediate(look)
  try {
    await work()
  } finally {
    isOn = false
  }
  // The observer is told of the last ones a little later.
  await new Promise(resolve => setTimeout(resolve, 20))
  observer.disconnect()
  const longest = turns.map(turn => ownTime(turn, pauses)).sort((a, b) => b - a)
  return { longest: longest.slice(0, 5), wall: Math.max(0, ...turns.map(({ start, end }) => end - start)) }
}

function ownTime({ start, end, spent }: Turn, pauses: readonly Pause[]): number {
  let collected = 0
  for (const pause of pauses) collected += Math.max(0, Math.min(end, pause.end) - Math.max(start, pause.start))
  return Math.max(0, Math.min(end - start, spent) - collected)
}

/** Of the processor, milliseconds: by this thread alone where Linux tells it, since another one may be at work meanwhile. */
interface CpuClock {
  now(): number
  close(): void
}

function openCpuClock(): CpuClock {
  try {
    // Nanoseconds on the processor come first [proc(5)]. Opened once: this is asked in every turn.
    const file = openSync(`/proc/self/task/${process.pid}/schedstat`, 'r')
    const text = Buffer.alloc(64)
    const now = (): number => Number(text.toString('latin1', 0, readSync(file, text, 0, text.length, 0)).split(' ')[0]) / 1_000_000
    if (now() > 0) return { now, close: () => closeSync(file) }
    closeSync(file)
  } catch {
    // Another system.
  }
  const now = (): number => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1000
  }
  return { now, close: () => {} }
}
