// For `node --import`: how late the event loop is in the process it is loaded into, and its heap after a collection, told to the process that
// started it. Beside turns.js it costs next to nothing and keeps nothing, so that it may run for hours.

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { heapAfterCollection } from './heap.js'

/** Milliseconds between two looks. */
const resolution = 10
const [whole, interval] = [0, 0].map(() => monitorEventLoopDelay({ resolution }))
for (const each of [whole, interval]) each.enable()

process.on('message', question => {
  if (question === 'begin') {
    for (const each of [whole, interval]) each.reset()
    process.send({})
  } else if (question === 'delay') {
    // Since `begin`, and since it was last asked.
    process.send({ whole: figuresOf(whole), interval: figuresOf(interval) })
    interval.reset()
  } else if (question === 'memory') process.send(heapAfterCollection())
})
process.channel?.unref()

/** Milliseconds. The monitor measures from one look to the next. */
function figuresOf(delay) {
  const late = nanoseconds => Math.max(0, nanoseconds / 1e6 - resolution)
  return { p50: late(delay.percentile(50)), p99: late(delay.percentile(99)), max: late(delay.max) }
}
