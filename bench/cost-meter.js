// A process of `cost.js`: measures stages one after the other, and tells what it found as JSON. Its first argument is what is to be measured,
// `work` or `bytes`, the others are names of stages.

import { Session } from 'node:inspector'
import { PerformanceObserver, performance } from 'node:perf_hooks'

/** The middle one counts: now and then a page of the heap is taken as used before it is, or after. */
const rounds = 3

const [kind, ...names] = process.argv.slice(2)

// The clock stands still and nothing comes by time: what is done in slices, on a machine that has other things to do, is done in one.
Object.defineProperty(performance, 'now', { value: () => 1000 })
globalThis.setInterval = () => ({ unref() {}, ref() {} })

// Before the broker is loaded: what is compiled without it has no counters of blocks.
const take = kind === 'work' ? startCoverage() : undefined
const { stages } = await import('./cost-stages.js')

const figures = {}
for (const stage of stages) {
  if (!names.includes(stage.name)) continue
  const { run, close } = await stage.make()
  await run(stage.count / 2)
  figures[stage.name] = await (take === undefined ? bytesOf : workOf)(run, stage.count)
  await close?.()
}
process.stdout.write(JSON.stringify(figures), () => process.exit(0))

/** Of one, to the hundredth: more would be the same in no two runs. */
function each(sum, count) {
  return Math.round((sum / count) * 100) / 100
}

async function workOf(run, count) {
  take()
  await run(count)
  const { calls, blocks } = take()
  return { calls: each(calls, count), blocks: each(blocks, count) }
}

/** Counts what our own code does until it is asked again. */
function startCoverage() {
  const session = new Session()
  session.connect()
  const ask = (method, parameters) => {
    let answer
    session.post(method, parameters, (error, result) => {
      if (error !== null) throw new Error(error.message)
      answer = result
    })
    return answer
  }
  ask('Profiler.enable')
  ask('Profiler.startPreciseCoverage', { callCount: true, detailed: true })
  const own = new URL('../dist/', import.meta.url).href
  return () => {
    let calls = 0
    let blocks = 0
    for (const { url, functions } of ask('Profiler.takePreciseCoverage').result) {
      if (!url.startsWith(own)) continue
      for (const { ranges } of functions) {
        const [whole, ...parts] = ranges
        calls += whole.count
        for (const { count } of parts) blocks += count
      }
    }
    return { calls, blocks }
  }
}

async function bytesOf(run, count) {
  const found = []
  for (let round = 0; round < rounds; round++) found.push(await bytesOnce(run, count))
  const median = name => found.map(each => each[name]).sort((a, b) => a - b)[(rounds - 1) / 2]
  return { heap: each(median('heap'), count), buffers: each(median('buffers'), count) }
}

async function bytesOnce(run, count) {
  let collections = 0
  const observer = new PerformanceObserver(list => {
    collections += list.getEntries().length
  })
  globalThis.gc()
  await new Promise(resolve => setTimeout(resolve, 1))
  observer.observe({ entryTypes: ['gc'] })
  // What a collection leaves half full is filled first: else it would count as allocated, or not, as it comes.
  await run(count / 2)
  const before = process.memoryUsage()
  await run(count)
  const after = process.memoryUsage()
  await new Promise(resolve => setTimeout(resolve, 1))
  observer.disconnect()
  if (collections > 0) throw new Error('the heap was collected meanwhile')
  return { heap: after.heapUsed - before.heapUsed, buffers: after.arrayBuffers - before.arrayBuffers }
}
