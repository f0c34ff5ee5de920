// docs/errors.md as data: its rows, and which of them a message is.

import { readFileSync } from 'node:fs'

export interface ErrorRow {
  readonly section: string
  /** Absent on the command line. */
  readonly code?: string
  /** As printed, `{…}` for what is filled in. */
  readonly message: string
  /** What it may point to: `conf line`, `acl_file line`, `-` … */
  readonly places: readonly string[]
  /** Exit status, or how grave it is where it has none. */
  readonly status: number | 'warning' | 'notice' | 'error'
}

export const document = readFileSync('docs/errors.md', 'utf8')

const cell = / *((?:`[^`]*`|[^|`])*?) *\|/g
const span = /^`([^`]*)`$/

/** Every row of a table that has a message. */
export function readErrorTable(): readonly ErrorRow[] {
  const rows: ErrorRow[] = []
  let section = ''
  let columns: readonly string[] = []
  for (const line of document.split('\n')) {
    if (line.startsWith('## ')) section = line.slice(3)
    if (!line.startsWith('|')) {
      columns = []
      continue
    }
    const cells = [...line.slice(1).matchAll(cell)].map(([, text = '']) => text)
    if (columns.length === 0) columns = cells
    else if (columns.includes('message') && columns.includes('points to') && !line.startsWith('|--'))
      rows.push(rowOf(section, columns, cells))
  }
  return rows
}

function rowOf(section: string, columns: readonly string[], cells: readonly string[]): ErrorRow {
  const text = (column: string): string => cells[columns.indexOf(column)] ?? ''
  const [code, message] = [span.exec(text('code'))?.[1], span.exec(text('message'))?.[1]]
  const status = columns.includes('status') ? Number(text('status')) : text('severity')
  if (message === undefined || !isStatus(status)) throw new Error(`docs/errors.md: a row that is none: ${cells.join(' | ')}`)
  const places = text('points to').split(/, or |, /)
  return { section, ...(code !== undefined && { code }), message, places, status }
}

function isStatus(status: number | string): status is ErrorRow['status'] {
  return typeof status === 'number' ? Number.isInteger(status) : ['warning', 'notice', 'error'].includes(status)
}

/** The row that says most of this message. */
export function rowOfMessage(rows: readonly ErrorRow[], message: string, code?: string): ErrorRow | undefined {
  const fitting = rows.filter(row => row.code === code && shapeOf(row.message).test(message))
  return fitting.toSorted((a, b) => fixedText(b).length - fixedText(a).length)[0]
}

const fixedText = ({ message }: ErrorRow): string => message.replaceAll(/\{\w[\w ]*\}/g, '')

export function shapeOf(message: string): RegExp {
  const parts = message.split(/\{\w[\w ]*\}/).map(part => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
  return new RegExp(`^${parts.join('(.*)')}$`, 's')
}
