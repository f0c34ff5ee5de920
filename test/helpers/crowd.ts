// A crowd of connections in a process of its own, so that it has its own file descriptors and its memory is not the broker's. Each does
// the little that it is told, and stays until the other side ends it.

import { type ChildProcess, fork } from 'node:child_process'
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { until } from './until.js'

export interface CrowdOptions {
  readonly port: number
  readonly count: number
  /** In hex, sent at once; empty: nothing. */
  readonly bytes?: string
  /** A whole TLS handshake. */
  readonly handshake?: boolean
  /** The address it comes from. */
  readonly from?: string
}

export interface Crowd {
  /** Did all it is to do. */
  opened(): number
  ended(): number
}

interface Report {
  readonly opened: number
  readonly ended: number
}

interface TestScope {
  teardown(close: () => unknown): void
}

/** So many at a time are on their way in. */
const atOnce = 50

export async function startCrowd(t: TestScope, options: CrowdOptions): Promise<Crowd> {
  let report: Report = { opened: 0, ended: 0 }
  const { NODE_OPTIONS: _, ...env } = process.env
  const child: ChildProcess = fork(fileURLToPath(import.meta.url), [JSON.stringify(options)], { env, execArgv: [] })
  child.on('message', (message: Report) => {
    report = message
  })
  t.teardown(() => child.kill('SIGKILL'))
  await until(() => report.opened > 0)
  return { opened: () => report.opened, ended: () => report.ended }
}

function run({ port, count, bytes = '', handshake = false, from = '127.0.0.1' }: CrowdOptions): void {
  let [begun, opened, ended] = [0, 0, 0]
  const open = (): void => {
    if (begun === count) return
    begun += 1
    let isOpen = false
    const options = { port, host: '127.0.0.1', localAddress: from }
    const done = (): void => {
      isOpen = true
      if (bytes !== '') socket.write(Buffer.from(bytes, 'hex'))
      opened += 1
      open()
    }
    const socket: Socket = handshake ? connectTls({ ...options, rejectUnauthorized: false }, done) : connectTcp(options, done)
    socket.resume()
    socket.on('error', () => {})
    socket.once('close', () => {
      ended += 1
      if (!isOpen) open()
    })
  }
  for (let i = 0; i < atOnce; i++) open()
  const reporting = setInterval(() => process.send?.({ opened, ended }), 20)
  process.once('disconnect', () => {
    clearInterval(reporting)
    process.exit()
  })
}

const [, file, options] = process.argv
if (file === fileURLToPath(import.meta.url) && options !== undefined) run(JSON.parse(options))
