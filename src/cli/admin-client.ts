// Asks a running broker over its admin socket (docs/admin.md).

import { execFileSync } from 'node:child_process'
import { statSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { isAbsolute } from 'node:path'
import { accountName } from '../account.js'
import { systemCode, systemReason } from '../errors.js'

/** An object of JSON, whatever is in it. */
export type Row = Readonly<Record<string, unknown>>
export type Parameters = Readonly<Record<string, string | boolean | undefined>>

/** A sentence for whoever asked. */
export class AdminError extends Error {}

export class AdminClient {
  readonly #path: string
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })

  constructor(path: string) {
    this.#path = path
  }

  get(path: string, parameters: Parameters): Promise<Row> {
    return this.#ask('GET', path, parameters)
  }

  post(path: string, parameters: Parameters): Promise<Row> {
    return this.#ask('POST', path, parameters)
  }

  /** A list of that name, which is asked for page by page. */
  async *list(name: string, parameters: Parameters): AsyncGenerator<Row, void> {
    let next: string | undefined
    do {
      const page = await this.get(`/v1/${name}`, next === undefined ? parameters : { next })
      const items = page[name]
      if (!Array.isArray(items)) throw this.#stranger()
      for (const item of items) if (isRow(item)) yield item
      next = typeof page.next === 'string' ? page.next : undefined
    } while (next !== undefined)
  }

  close(): void {
    this.#agent.destroy()
  }

  async #ask(method: 'GET' | 'POST', path: string, parameters: Parameters): Promise<Row> {
    const { status, body } = await this.#send(method, path, parameters)
    const answer = parseRow(body)
    if (answer === undefined) throw this.#stranger()
    if (status === 200) return answer
    const { error } = answer
    throw typeof error === 'string' ? new AdminError(sentence(error)) : this.#stranger()
  }

  #send(method: string, path: string, parameters: Parameters): Promise<{ status: number | undefined; body: string }> {
    const query = new URLSearchParams()
    for (const [name, value] of Object.entries(parameters)) if (value !== undefined) query.set(name, String(value))
    const target = query.size === 0 ? path : `${path}?${query}`
    return new Promise((resolve, reject) => {
      const fail = (error: unknown) => reject(new AdminError(this.#explain(error)))
      request({ socketPath: this.#path, agent: this.#agent, method, path: target }, response => {
        let body = ''
        response.setEncoding('utf8').on('data', (text: string) => {
          body += text
        })
        response.once('error', fail).once('end', () => resolve({ status: response.statusCode, body }))
      })
        .once('error', fail)
        .end()
    })
  }

  #stranger(): AdminError {
    return new AdminError(`What answers on ${this.#path} is no broker of this version.`)
  }

  #explain(error: unknown): string {
    const path = this.#path
    switch (systemCode(error)) {
      case 'ENOENT':
      case 'ENOTDIR':
        return `There is no socket ${path}: the broker is not running, or could not make it, which its log says.${relativeHint(path)}`
      case 'ECONNREFUSED':
        // Linux says so of whatever nobody listens on, files and folders too.
        return isSocket(path) ? `Nobody answers on ${path}: the broker that made it is gone.` : noSocket(path)
      case 'EACCES':
      case 'EPERM':
        return `Permission denied on ${path} for user ${accountName()}: only the account that the broker runs as may use it${ownerHint(path)}.`
      case 'ENOTSOCK':
        return noSocket(path)
      case 'ECONNRESET':
      case 'EPIPE':
        return `The broker closed the connection on ${path}: it is stopping, or too many ask it at once.`
      default:
        return systemCode(error)?.startsWith('HPE_') ? this.#stranger().message : `Unable to ask ${path}: ${systemReason(error)}.`
    }
  }
}

export function isRow(value: unknown): value is Row {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function parseRow(body: string): Row | undefined {
  try {
    const value: unknown = JSON.parse(body)
    return isRow(value) ? value : undefined
  } catch {
    return undefined
  }
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`
}

const noSocket = (path: string): string => `${path} is no socket.`

function isSocket(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isSocket() ?? true
}

function relativeHint(path: string): string {
  return isAbsolute(path) ? '' : ' Its path is relative to the folder that the broker was started in.'
}

function ownerHint(path: string): string {
  try {
    const { uid } = statSync(path)
    return `, ${execFileSync('id', ['-un', '--', String(uid)], { stdio: ['ignore', 'pipe', 'ignore'] })
      .toString()
      .trim()}`
  } catch {
    // Its folder is closed to us, or the account has no name.
    return ''
  }
}
