// What can be asked over the admin socket: paths, parameters, answers. Documented in docs/admin.md; what is there stays under `/v1`.

import type { Administration } from '../admin/report.js'
import type { Problem } from '../errors.js'
import { describeReload, type ReloadReport } from '../reload-report.js'
import { AdminWalks } from './admin-walks.js'

/** What the socket serves. */
export interface AdminService {
  readonly administration: Administration
  readonly name: string
  readonly version: string
  /** Reads the configuration again; an `error` among the problems: everything stays as it was. */
  reload(): Promise<ReloadReport>
}

export interface AdminAnswer {
  readonly status: number
  /** JSON. */
  readonly body: string
  readonly allow?: string
}

/** Items of a page when nobody says, and at most. */
const usualPage = 1000
const largestPage = 10_000
/** Characters of a page. */
const pageSize = 1_048_576

type Handler = (parameters: Parameters) => Promise<AdminAnswer> | AdminAnswer

/** A request that makes no sense. */
class BadRequest extends Error {}

export class AdminRoutes {
  readonly #service: AdminService
  readonly #walks = new AdminWalks()
  readonly #routes: ReadonlyMap<string, readonly [method: 'GET' | 'POST', handler: Handler]>

  constructor(service: AdminService) {
    this.#service = service
    this.#routes = new Map([
      ['/v1', ['GET', parameters => this.#about(parameters)]],
      ['/v1/clients', ['GET', parameters => this.#clients(parameters)]],
      ['/v1/subscriptions', ['GET', parameters => this.#subscriptions(parameters)]],
      ['/v1/queue', ['GET', parameters => this.#queue(parameters)]],
      ['/v1/retained', ['GET', parameters => this.#retained(parameters)]],
      ['/v1/retained/clear', ['POST', parameters => this.#clear(parameters)]],
      ['/v1/kick', ['POST', parameters => this.#kick(parameters)]],
      ['/v1/reload', ['POST', parameters => this.#reload(parameters)]]
    ])
  }

  /** Never rejects for what was asked. */
  async answer(method: string, target: string): Promise<AdminAnswer> {
    const question = target.indexOf('?')
    const path = question < 0 ? target : target.slice(0, question)
    const route = this.#routes.get(path)
    if (route === undefined) return refuse(404, `there is no ${path}; docs/admin.md lists what there is`)
    const [wanted, handler] = route
    if (method !== wanted) return { ...refuse(405, `${path} takes ${wanted}`), allow: wanted }
    try {
      return await handler(new Parameters(question < 0 ? '' : target.slice(question + 1)))
    } catch (error) {
      // Of the administration a TypeError is what was asked, and everything else ours.
      if (error instanceof BadRequest || error instanceof TypeError) return refuse(400, error.message)
      throw error
    }
  }

  close(): void {
    this.#walks.close()
  }

  #about(parameters: Parameters): AdminAnswer {
    parameters.end()
    const { name, version } = this.#service
    return give({ name, version, pid: process.pid })
  }

  #clients(parameters: Parameters): Promise<AdminAnswer> {
    const query = {
      match: parameters.text('match'),
      username: parameters.text('username'),
      address: parameters.text('address'),
      listener: parameters.text('listener'),
      connected: parameters.flag('connected')
    }
    return this.#list('clients', parameters, () => this.#service.administration.clients(query))
  }

  #subscriptions(parameters: Parameters): Promise<AdminAnswer> {
    const query = { clientId: parameters.text('id'), topic: parameters.text('topic') }
    return this.#list('subscriptions', parameters, () => this.#service.administration.subscriptions(query))
  }

  async #queue(parameters: Parameters): Promise<AdminAnswer> {
    const { administration } = this.#service
    const next = parameters.text('next')
    const id = next === undefined ? parameters.needed('id') : (parameters.text('id') ?? '')
    const payload = parameters.flag('payload') ?? false
    const items = next === undefined ? await administration.queue(id, { payload }) : undefined
    if (next === undefined && items === undefined) return noSession(id)
    return this.#list('queue', parameters, () => items ?? administration.queue(id), next)
  }

  #retained(parameters: Parameters): Promise<AdminAnswer> {
    const filter = parameters.text('filter') ?? '#'
    return this.#list('retained', parameters, () => this.#service.administration.retained(filter))
  }

  async #clear(parameters: Parameters): Promise<AdminAnswer> {
    const filter = parameters.needed('filter')
    parameters.end()
    return give({ cleared: await this.#service.administration.clearRetained(filter) })
  }

  async #kick(parameters: Parameters): Promise<AdminAnswer> {
    const id = parameters.needed('id')
    const forget = parameters.flag('forget') ?? false
    parameters.end()
    const report = await this.#service.administration.kick(id, { forget })
    return report === undefined ? noSession(id) : give(report)
  }

  async #reload(parameters: Parameters): Promise<AdminAnswer> {
    parameters.end()
    const { problems, ...report } = await this.#service.reload()
    return give({ ...report, summary: describeReload(report), problems: problems.map(plainProblem) })
  }

  async #list(
    name: string,
    parameters: Parameters,
    begin: () => AsyncGenerator<unknown, void> | Promise<AsyncGenerator<unknown, void> | undefined>,
    next = parameters.text('next')
  ): Promise<AdminAnswer> {
    const limit = parameters.count('limit') ?? usualPage
    parameters.end()
    const items = next === undefined ? await begin() : this.#walks.take(next)
    if (items === undefined) return refuse(410, 'this list is no longer there: it was left for two minutes, or many others were begun')
    const page = await this.#walks.page(items, Math.min(limit, largestPage), pageSize)
    const rest = page.next === undefined ? '' : `,"next":${JSON.stringify(page.next)}`
    return { status: 200, body: `{${JSON.stringify(name)}:[${page.items.join(',')}]${rest}}` }
  }
}

/** The query of a URL: each parameter once, and none that nobody asks for. */
class Parameters {
  readonly #given: URLSearchParams
  readonly #known = new Set<string>()

  constructor(query: string) {
    this.#given = new URLSearchParams(query)
  }

  text(name: string): string | undefined {
    this.#known.add(name)
    const [value, ...more] = this.#given.getAll(name)
    if (more.length > 0) throw new BadRequest(`'${name}' is given twice`)
    return value
  }

  needed(name: string): string {
    const value = this.text(name)
    if (value === undefined || value === '') throw new BadRequest(`'${name}' is missing`)
    return value
  }

  flag(name: string): boolean | undefined {
    const value = this.text(name)
    if (value === undefined) return undefined
    if (value !== 'true' && value !== 'false') throw new BadRequest(`'${name}' is true or false`)
    return value === 'true'
  }

  count(name: string): number | undefined {
    const value = this.text(name)
    if (value === undefined) return undefined
    if (!/^[1-9]\d{0,8}$/.test(value)) throw new BadRequest(`'${name}' is a number from 1 on`)
    return Number(value)
  }

  /** Everything that is asked for was. */
  end(): void {
    for (const name of this.#given.keys()) if (!this.#known.has(name)) throw new BadRequest(`there is no parameter '${name}'`)
  }
}

function plainProblem({ severity, code, message, at }: Problem): object {
  return { severity, code, message, ...(at && { file: at.file, ...(at.line !== undefined && { line: at.line }) }) }
}

const give = (value: unknown): AdminAnswer => ({ status: 200, body: JSON.stringify(value) })
export const refuse = (status: number, error: string): AdminAnswer => ({ status, body: JSON.stringify({ error }) })
const noSession = (id: string): AdminAnswer => refuse(404, `there is no session '${id}'`)
