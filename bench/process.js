// What a process has used, from outside of it. Linux tells.

import { readdirSync, readFileSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'

/** Seconds of the processor that it has used, in all its threads, to the nanosecond. */
export function processorTime(pid) {
  const tasks = `/proc/${pid}/task`
  let sum = 0
  for (const task of readdirSync(tasks)) {
    try {
      sum += Number(readFileSync(`${tasks}/${task}/schedstat`, 'utf8').split(' ')[0])
    } catch {
      // It has ended meanwhile.
    }
  }
  return sum / 1e9
}

/** Bytes that it has in memory (RSS). */
export function memoryOf(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024
}

/**
 * Begins to measure; the function that it returns says what has been done since, as `count` counts it, and how long the broker and this process
 * were on the processor for it.
 */
export function startMeasuring(brokerPid, count) {
  const before = { at: performance.now(), done: count(), broker: processorTime(brokerPid), own: process.cpuUsage() }
  return () => {
    const elapsed = (performance.now() - before.at) / 1000
    const done = count() - before.done
    const broker = processorTime(brokerPid) - before.broker
    const { user, system } = process.cpuUsage(before.own)
    // Microseconds each are seconds for a million.
    const each = microseconds => (done === 0 ? 0 : microseconds / done)
    return {
      perSecond: done / elapsed,
      cpuPerMillion: each(broker * 1e6),
      brokerLoad: broker / elapsed,
      generatorCpuPerMillion: each(user + system),
      generatorLoad: (user + system) / 1e6 / elapsed
    }
  }
}

/**
 * Megabytes of the heap after a collection, and of buffers outside of it, of a broker that has loaded delay.js. The least of a few looks: under
 * load some messages are on their way at each.
 */
export async function heapOf(broker) {
  const found = []
  for (let i = 0; i < 4; i++) {
    found.push(await broker.ask('memory'))
    await sleep(250)
  }
  const least = name => Math.min(...found.map(each => each[name])) / 2 ** 20
  return { heap: least('heapUsed'), outside: least('external') }
}

/** What figures depend on. `pinned`: broker and load have a core each. */
export function machine(pinned) {
  const [{ model } = {}] = cpus()
  return { processor: model ?? 'unknown processor', cores: cpus().length, kernel: release(), node: process.version, pinned }
}

export function describeMachine({ processor, cores, kernel, node, pinned }) {
  return `${processor}, ${cores} cores, Linux ${kernel}, Node ${node}, ${pinned ? 'broker and load pinned to a core each' : 'not pinned'}`
}

/** Bytes that the kernel holds of a connection within this machine: what one side has written and the other has not read. */
export function unsentTo(fromPort, toPort) {
  const [from, to] = [fromPort, toPort].map(port => `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`)
  let sum = 0
  for (const line of readFileSync('/proc/net/tcp', 'utf8').split('\n')) {
    const [, local, remote, , queues] = line.trim().split(/\s+/)
    const [sending, receiving] = queues?.split(':').map(bytes => Number.parseInt(bytes, 16)) ?? []
    if (local === from && remote === to) sum += sending
    else if (local === to && remote === from) sum += receiving
  }
  return sum
}
