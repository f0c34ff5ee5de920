// What a broker answered, as lines for people: columns, dates, and nothing that a terminal would obey.

import type { Row } from './admin-client.js'
import { isRow } from './admin-client.js'

/** A column: its title, and what it shows of a row. */
export type Column = readonly [title: string, value: (row: Row) => unknown]

/** Rows that are looked at before the first is printed: as wide as they are the columns will be. */
const measured = 200

export const clientColumns: readonly Column[] = [
  ['ID', row => row.clientId],
  ['USERNAME', row => row.username],
  ['STATE', row => (row.connected === true ? 'connected' : 'away')],
  ['ADDRESS', row => (row.address === undefined ? undefined : `${row.address}:${row.port}`)],
  ['LISTENER', row => row.listener],
  ['MQTT', row => protocols[String(row.protocolVersion)]],
  ['TLS', row => (isRow(row.tls) ? row.tls.version : undefined)],
  ['QUEUED', row => row.queued],
  ['IN FLIGHT', row => row.inflight],
  ['CERTIFICATE', row => (isRow(row.certificate) ? row.certificate.subject : undefined)],
  ['UNTIL', row => (isRow(row.certificate) ? day(row.certificate.notAfter) : undefined)]
]

export const subscriptionColumns: readonly Column[] = [
  ['ID', row => row.clientId],
  ['STATE', row => (row.connected === true ? 'connected' : 'away')],
  ['QOS', row => row.qos],
  ['FILTER', row => (row.group === undefined ? row.filter : `$share/${row.group}/${row.filter}`)]
]

export const matchColumns: readonly Column[] = [
  ...subscriptionColumns.slice(0, 3),
  ['MAY READ', row => (row.mayRead === true ? 'yes' : 'no')],
  ...subscriptionColumns.slice(3)
]

export const queueColumns: readonly Column[] = [
  ['STATE', row => row.state],
  ['QOS', row => row.qos],
  ['RETAIN', row => (row.retain === true ? 'yes' : 'no')],
  ['BYTES', row => row.bytes],
  ['EXPIRES', row => row.expiresAt],
  ['FROM', row => row.from],
  ['TOPIC', row => row.topic]
]

export const payloadColumns: readonly Column[] = [...queueColumns, ['PAYLOAD', row => row.payload]]

export const retainedColumns: readonly Column[] = [
  ['QOS', row => row.qos],
  ['BYTES', row => row.bytes],
  ['EXPIRES', row => row.expiresAt],
  ['FROM', row => row.from],
  ['TOPIC', row => row.topic]
]

const protocols: Readonly<Record<string, string>> = { 3: '3.1', 4: '3.1.1', 5: '5.0' }

const day = (time: unknown): unknown => (typeof time === 'string' ? time.slice(0, 10) : undefined)

/** The rows as lines, under a line of titles. */
export async function* tableLines(rows: AsyncIterable<Row>, columns: readonly Column[]): AsyncGenerator<string, void> {
  const widths = columns.map(() => 0)
  let first: string[][] | undefined = [columns.map(([title]) => title)]
  for await (const row of rows) {
    const cells = columns.map(([, value]) => cell(value(row)))
    if (first === undefined) {
      yield lineOf(cells, widths)
      continue
    }
    first.push(cells)
    if (first.length <= measured) continue
    yield* flush(first, widths)
    first = undefined
  }
  if (first !== undefined) yield* flush(first, widths)
}

/** One JSON object per line. What a terminal would obey is written as an escape here too. */
export async function* jsonLines(rows: AsyncIterable<Row>): AsyncGenerator<string, void> {
  for await (const row of rows) yield jsonLine(row)
}

export const jsonLine = (value: unknown): string => visible(JSON.stringify(value))

// Control characters, and those that turn the direction of what follows: clients choose their identifiers and topics.
const obeyed = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** With escapes for what would not be seen. */
export function visible(text: string): string {
  return text.replace(obeyed, character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

function* flush(rows: readonly string[][], widths: number[]): Generator<string, void> {
  for (const cells of rows) {
    cells.forEach((text, i) => {
      widths[i] = Math.max(widths[i] ?? 0, text.length)
    })
  }
  for (const cells of rows) yield lineOf(cells, widths)
}

function lineOf(cells: readonly string[], widths: readonly number[]): string {
  return cells
    .map((text, i) => text.padEnd(widths[i] ?? 0))
    .join('  ')
    .trimEnd()
}

function cell(value: unknown): string {
  return value === undefined || value === '' ? '-' : visible(String(value))
}
