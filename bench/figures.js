// What is made of measured numbers.

export function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Of numbers in ascending order. */
export function percentile(sorted, part) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0
}

/** By how much `y` grows for each of `x`, by the straight line that is nearest to all points. */
export function slope(points) {
  const mean = list => list.reduce((sum, value) => sum + value, 0) / list.length
  const [x, y] = [mean(points.map(point => point.x)), mean(points.map(point => point.y))]
  const spread = points.reduce((sum, point) => sum + (point.x - x) ** 2, 0)
  return spread === 0 ? 0 : points.reduce((sum, point) => sum + (point.x - x) * (point.y - y), 0) / spread
}

/** Markdown: the first column to the left, all others to the right. */
export function table(head, rows) {
  const lines = [head, head.map((_, i) => (i === 0 ? '---' : '---:')), ...rows]
  return lines.map(row => `| ${row.join(' | ')} |\n`).join('')
}

/** What was expected and what was found, one line each. `verdicts`: `{ what, expected, found, holds }`. */
export function verdictLines(verdicts) {
  return verdicts
    .map(({ what, expected, found, holds }) => `${holds ? 'ok    ' : 'FAILED'} ${what}: ${found} (expected: ${expected})\n`)
    .join('')
}
