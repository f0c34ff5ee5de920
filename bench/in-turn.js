// What is measured in turn, for half a second each, so that what slows the machine down meets all of it: brokers under their loads, above all.

import { median } from './figures.js'

/** Seconds that one is measured before the next is. */
export const slice = 0.5

/**
 * A list of slices, what was measured of each contestant by its name. `contestants`: each its name, how to `start` what measures it (`startLoad`),
 * and its broker, if it is one, which runs and is stopped in the end.
 */
export async function measureInTurn(contestants, seconds) {
  const running = []
  for (const { name, broker, start } of contestants) running.push({ name, broker, meter: await start() })
  const slices = []
  for (let i = 0; i < Math.max(1, Math.round(seconds / slice)); i++) {
    const one = {}
    // Each is the first and the last equally often.
    for (const { name, meter } of i % 2 === 0 ? running : running.toReversed()) one[name] = await meter.measure(slice)
    slices.push(one)
  }
  for (const { meter, broker } of running) {
    await meter.stop()
    await broker?.stop()
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

/** The median of the ratios of slices that follow one another; `otherFigure`: what the other's is called, if not the same. */
export function ratioOf(slices, name, other, figure, otherFigure = figure) {
  return median(slices.map(one => one[name][figure] / one[other][otherFigure]))
}
