// `mosquitero clients`, `kick`, `subscriptions`, `queue`, `retained`, `reload`: ask the running broker and print what it says.

import { readReason } from '../account.js'
import { formatProblem, type Problem, systemCode } from '../errors.js'
import { isPathTooLong } from '../net/unix-socket.js'
import { readAdminSocket } from '../snapshot.js'
import { type AdminArguments, type AdminCommand, type AdminCommandName, adminUsage, parseAdminArguments } from './admin-arguments.js'
import { AdminClient, AdminError, isRow, type Parameters, type Row } from './admin-client.js'
import {
  type Column,
  clientColumns,
  jsonLine,
  jsonLines,
  matchColumns,
  payloadColumns,
  queueColumns,
  retainedColumns,
  subscriptionColumns,
  tableLines,
  visible
} from './admin-text.js'

/** What a command has of the world; `process` fits. */
export interface AdminIo {
  readonly stdout: NodeJS.WritableStream
  readonly stderr: { write(text: string): unknown }
  readonly env: Readonly<Record<string, string | undefined>>
}

const wrongUsage = 2
/** Characters that are written at a time. */
const chunkSize = 65_536

/** Resolves with the exit status: 0 done, 1 the answer is no or nobody answers, 2 wrong usage. */
export async function runAdmin(name: AdminCommandName, argv: readonly string[], io: AdminIo): Promise<number> {
  // Whoever reads it may have enough: the write says so.
  io.stdout.on('error', () => {})
  let client: AdminClient | undefined
  try {
    const args = parseAdminArguments(name, argv)
    if (args === 'help') {
      await write(io, adminUsage)
      return 0
    }
    if ('wrong' in args) return refuseUsage(args.wrong, io)
    const socket = args.socket ?? (await findSocket(args, io))
    if (socket === undefined) return refuseUsage('Name the broker by -c FILE, its mosquitto.conf, or by --socket PATH', io)
    if (isPathTooLong(socket)) throw new AdminError(`The path ${socket} is too long for a socket, 107 bytes at most.`)
    client = new AdminClient(socket)
    return await perform(args.command, args.json, client, io)
  } catch (error) {
    if (systemCode(error) === 'EPIPE') return 1
    if (!(error instanceof AdminError)) throw error
    io.stderr.write(`Error: ${visible(error.message)}\n`)
    return 1
  } finally {
    client?.close()
  }
}

function refuseUsage(wrong: string, { stderr }: AdminIo): number {
  stderr.write(`Error: ${wrong}.\n\n${adminUsage}`)
  return wrongUsage
}

/** As the broker itself finds it; undefined: nothing names one. */
async function findSocket({ config }: AdminArguments, { env }: AdminIo): Promise<string | undefined> {
  const found = await readAdminSocket(config, env).catch((error: unknown) => {
    throw new AdminError(`Unable to open config file '${config}'. ${readReason(error)}.`)
  })
  if (found.path !== undefined) return found.path
  if (found.written !== undefined) throw new AdminError('The broker has no admin socket: #!admin_socket none switches it off.')
  if (config === undefined) return undefined
  throw new AdminError(`A broker of ${config} has no admin socket: pid_file, persistence true or #!admin_socket PATH would give it one.`)
}

function perform(command: AdminCommand, json: boolean, client: AdminClient, io: AdminIo): Promise<number> {
  switch (command.name) {
    case 'clients': {
      const { name, ...query } = command
      return printList(client.list(name, query), clientColumns, json, io)
    }
    case 'subscriptions': {
      const { name, ...query } = command
      return printList(client.list(name, query), query.topic === undefined ? subscriptionColumns : matchColumns, json, io)
    }
    case 'queue': {
      const { name, ...query } = command
      return printList(client.list(name, query), query.payload ? payloadColumns : queueColumns, json, io)
    }
    case 'retained list': {
      const { name: _, ...query } = command
      return printList(client.list('retained', query), retainedColumns, json, io)
    }
    case 'retained clear':
      return clear(command.filter, json, client, io)
    case 'kick':
      return kick(command, json, client, io)
    case 'reload':
      return reload(json, client, io)
  }
}

async function printList(rows: AsyncGenerator<Row, void>, columns: readonly Column[], json: boolean, io: AdminIo): Promise<number> {
  let chunk = ''
  for await (const line of json ? jsonLines(rows) : tableLines(rows, columns)) {
    chunk += `${line}\n`
    if (chunk.length < chunkSize) continue
    await write(io, chunk)
    chunk = ''
  }
  await write(io, chunk)
  return 0
}

async function clear(filter: string, json: boolean, client: AdminClient, io: AdminIo): Promise<number> {
  const report = await client.post('/v1/retained/clear', { filter })
  const { cleared } = report
  await write(io, json ? `${jsonLine(report)}\n` : `Cleared ${cleared} retained message${cleared === 1 ? '' : 's'}.\n`)
  return 0
}

async function kick({ id, forget }: { id: string; forget: boolean }, json: boolean, client: AdminClient, io: AdminIo): Promise<number> {
  const parameters: Parameters = forget ? { id, forget } : { id }
  const report = await client.post('/v1/kick', parameters)
  const isDone = report.disconnected === true || report.forgotten === true
  if (json) await write(io, `${jsonLine(report)}\n`)
  else if (isDone) await write(io, `${kicked(report, visible(id))}\n`)
  else io.stderr.write(`${visible(id)} is not connected; --forget ends its session.\n`)
  return isDone ? 0 : 1
}

function kicked({ disconnected, forgotten }: Row, id: string): string {
  if (!forgotten) return `Disconnected ${id}.`
  return disconnected ? `Disconnected ${id}, and ended its session.` : `Ended the session of ${id}.`
}

async function reload(json: boolean, client: AdminClient, io: AdminIo): Promise<number> {
  const report = await client.post('/v1/reload', {})
  const applied = report.applied === true
  if (json) {
    await write(io, `${jsonLine(report)}\n`)
    return applied ? 0 : 1
  }
  const problems = Array.isArray(report.problems) ? report.problems.filter(isRow) : []
  for (const problem of problems) for (const line of formatProblem(problemOf(problem))) io.stderr.write(`${visible(line)}\n`)
  if (applied) await write(io, visible(`Config reloaded: ${report.summary}`).concat('.\n'))
  else io.stderr.write('Reload refused, the previous configuration stays in force.\n')
  return applied ? 0 : 1
}

function problemOf({ severity, message, file, line }: Row): Omit<Problem, 'code'> {
  return {
    severity: severity === 'warning' || severity === 'notice' ? severity : 'error',
    message: String(message),
    ...(typeof file === 'string' && { at: { file, ...(typeof line === 'number' && { line }) } })
  }
}

function write({ stdout }: AdminIo, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stdout.write(text, error => (error ? reject(error) : resolve()))
  })
}
