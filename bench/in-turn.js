// Brokers that have their load in turn, for half a second each, so that what slows the machine down meets all of them.

import { startLoad } from './brokers.js'
import { median } from './figures.js'

/** Seconds that one has its load before the next has. */
export const slice = 0.5

/**
 * A list of slices, what was measured of each contestant by its name. `contestants`: each its name, its broker, which runs and is stopped in the
 * end, and the load for it.
 */
export async function measureInTurn(contestants, seconds) {
  const running = []
  for (const { name, broker, load } of contestants) running.push({ name, broker, load: await startLoad(load) })
  const slices = []
  for (let i = 0; i < Math.max(1, Math.round(seconds / slice)); i++) {
    const one = {}
    // Each is the first and the last equally often.
    for (const { name, load } of i % 2 === 0 ? running : running.toReversed()) one[name] = await load.measure(slice)
    slices.push(one)
  }
  for (const { load, broker } of running) {
    await load.stop()
    await broker.stop()
  }
  return slices
}

/** Of each contestant the median of each figure by itself. */
export function mediansOf(slices) {
  const middle = name => {
    const figures = Object.keys(slices[0][name]).filter(figure => typeof slices[0][name][figure] === 'number')
    return Object.fromEntries(figures.map(figure => [figure, median(slices.map(one => one[name][figure]))]))
  }
  return Object.fromEntries(Object.keys(slices[0]).map(name => [name, middle(name)]))
}

/** The median of the ratios of slices that follow one another. */
export function ratioOf(slices, name, other, figure) {
  return median(slices.map(one => one[name][figure] / one[other][figure]))
}
