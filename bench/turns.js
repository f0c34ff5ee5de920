// For `node --import`: how long the turns of the event loop are in the process it is loaded into, told to the process that started it. What
// the collector took is left out, and what the machine gave to other processes or other threads of this one: the clock is that of this thread
// alone, where the kernel tells it. `monitorEventLoopDelay` says what the longest was on the wall.

import { openSync, readSync } from 'node:fs'
import { monitorEventLoopDelay, PerformanceObserver, performance } from 'node:perf_hooks'
import { heapAfterCollection } from './heap.js'

const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()

let turns = []
let pauses = []
let start = performance.now()
const cpuTime = threadClock()
let used = cpuTime()

new PerformanceObserver(list => {
  for (const { startTime, duration } of list.getEntries()) pauses.push({ start: startTime, end: startTime + duration })
}).observe({ entryTypes: ['gc'] })

// Called once in a turn, as soon as there is one.
setInterval(() => {
  const now = performance.now()
  const usedNow = cpuTime()
  if (now - start > 3) turns.push({ start, end: now, spent: usedNow - used })
  start = now
  used = usedNow
}, 1).unref()

process.on('message', question => {
  if (question === 'begin') {
    turns = []
    pauses = []
    delay.reset()
    // What was asked before is no part of it.
    start = performance.now()
    used = cpuTime()
    process.send({})
  } else if (question === 'end') {
    // The observer is told of the last ones a little later.
    setTimeout(() => {
      process.send({
        longest: Math.max(0, ...turns.map(ownTime)),
        longestPause: Math.max(0, ...pauses.map(pause => pause.end - pause.start)),
        wall: delay.max / 1e6
      })
    }, 20)
  } else if (question === 'memory') {
    process.send(heapAfterCollection())
  }
})
process.channel?.unref()

function ownTime({ start, end, spent }) {
  let collected = 0
  for (const pause of pauses) collected += Math.max(0, Math.min(end, pause.end) - Math.max(start, pause.start))
  return Math.max(0, Math.min(end - start, spent) - collected)
}

/** Milliseconds of the processor that the main thread has used; elsewhere than on Linux, all threads. */
function threadClock() {
  const text = Buffer.alloc(128)
  try {
    const file = openSync(`/proc/self/task/${process.pid}/schedstat`, 'r')
    const nanoseconds = () => Number(text.latin1Slice(0, readSync(file, text, 0, text.length, 0)).split(' ')[0])
    if (nanoseconds() > 0) return () => nanoseconds() / 1e6
  } catch {
    // Not there.
  }
  return () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1000
  }
}
