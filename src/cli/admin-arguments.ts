// The command lines that ask a running broker: which there are, what they take, what is wrong with one.

import { parseArgs } from 'node:util'
import { wrongUsageWords } from './wrong-usage.js'

export const adminUsage = `Usage: mosquitero clients [PATTERN] [--username U] [--address A] [--listener L] [--connected | --away]
       mosquitero kick ID [--forget]
       mosquitero subscriptions [ID] [--topic TOPIC]
       mosquitero queue ID [--payload]
       mosquitero retained list [FILTER]
       mosquitero retained clear FILTER
       mosquitero reload

Ask the running broker over its admin socket, which only the account it runs as can open.

  -c FILE        the broker's mosquitto.conf, which says where the socket is
  --socket PATH  where it is
  --json         one JSON object per line instead of text

  clients        sessions, connected or not. In PATTERN, U, A and L \`*\` is anything, \`?\` one character; without either: what has it
                 anywhere. L is a port or the path of a socket, too.
  kick           ends a client's connection; with --forget its session too, and all that waits for it
  subscriptions  of all clients, or of one; with --topic those that a message to the topic would match, and whether the client may read it
  queue          what a client is still to get; with --payload also the payloads, as base64
  retained list  retained messages that the filter matches, by default all but $SYS
  retained clear removes them; subscribers are not told
  reload         reads the configuration and its files again, as SIGHUP; 1 when the broker refuses them

An identifier that begins with a dash goes behind \`--\`. Exit status: 0 done, 1 the answer is no or nobody answers, 2 wrong usage.

Example:
  mosquitero clients 'press-*' -c /etc/mosquitto/mosquitto.conf
`

export interface AdminArguments {
  readonly command: AdminCommand
  readonly config?: string
  readonly socket?: string
  readonly json: boolean
}

export type AdminCommand =
  | {
      readonly name: 'clients'
      readonly match?: string
      readonly username?: string
      readonly address?: string
      readonly listener?: string
      readonly connected?: boolean
    }
  | { readonly name: 'kick'; readonly id: string; readonly forget: boolean }
  | { readonly name: 'subscriptions'; readonly id?: string; readonly topic?: string }
  | { readonly name: 'queue'; readonly id: string; readonly payload: boolean }
  | { readonly name: 'retained list'; readonly filter?: string }
  | { readonly name: 'retained clear'; readonly filter: string }
  | { readonly name: 'reload' }

export type AdminCommandName = 'clients' | 'kick' | 'subscriptions' | 'queue' | 'retained' | 'reload'

const options = {
  config: { type: 'string', short: 'c' },
  socket: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  username: { type: 'string' },
  address: { type: 'string' },
  listener: { type: 'string' },
  connected: { type: 'boolean' },
  away: { type: 'boolean' },
  forget: { type: 'boolean' },
  topic: { type: 'string' },
  payload: { type: 'boolean' }
} as const

const takenByAll = ['config', 'socket', 'json', 'help']
/** Options beside these, and how many words. */
const takes: Readonly<Record<AdminCommandName, { readonly options: readonly string[]; readonly words: number }>> = {
  clients: { options: ['username', 'address', 'listener', 'connected', 'away'], words: 1 },
  kick: { options: ['forget'], words: 1 },
  subscriptions: { options: ['topic'], words: 1 },
  queue: { options: ['payload'], words: 1 },
  retained: { options: [], words: 2 },
  reload: { options: [], words: 0 }
}

/** `help`: that is what was asked for. A text: what is wrong. */
export function parseAdminArguments(name: AdminCommandName, argv: readonly string[]): AdminArguments | 'help' | { readonly wrong: string } {
  try {
    const { values: given, positionals } = parseArgs({ args: [...argv], allowPositionals: true, options })
    const foreign = Object.keys(given).find(option => !takenByAll.includes(option) && !takes[name].options.includes(option))
    if (foreign !== undefined) return { wrong: `${name} has no option --${foreign}` }
    if (given.help) return 'help'
    if (given.config !== undefined && given.socket !== undefined)
      return { wrong: 'Name the broker by -c FILE or by --socket PATH, not both' }
    const command = commandOf(name, given, positionals)
    if (typeof command === 'string') return { wrong: command }
    return {
      command,
      json: given.json ?? false,
      ...(given.config !== undefined && { config: given.config }),
      ...(given.socket !== undefined && { socket: given.socket })
    }
  } catch (error) {
    return { wrong: wrongUsageWords(error) }
  }
}

interface Given {
  readonly config?: string | undefined
  readonly socket?: string | undefined
  readonly json?: boolean | undefined
  readonly help?: boolean | undefined
  readonly username?: string | undefined
  readonly address?: string | undefined
  readonly listener?: string | undefined
  readonly connected?: boolean | undefined
  readonly away?: boolean | undefined
  readonly forget?: boolean | undefined
  readonly topic?: string | undefined
  readonly payload?: boolean | undefined
}

function commandOf(name: AdminCommandName, given: Given, positionals: readonly string[]): AdminCommand | string {
  const [first, second] = positionals
  const surplus = positionals[takes[name].words]
  if (surplus !== undefined) return `'${surplus}' is one argument too many`
  switch (name) {
    case 'clients':
      return clientsOf(given, first)
    case 'kick':
      return first === undefined ? 'Whom? Name a client identifier' : { name, id: first, forget: given.forget ?? false }
    case 'subscriptions':
      return { name, ...(first !== undefined && { id: first }), ...(given.topic !== undefined && { topic: given.topic }) }
    case 'queue':
      return first === undefined ? 'Whose? Name a client identifier' : { name, id: first, payload: given.payload ?? false }
    case 'retained':
      if (first === 'list') return { name: 'retained list', ...(second !== undefined && { filter: second }) }
      if (first !== 'clear') return 'retained list or retained clear'
      return second === undefined ? "Which? Name a topic filter; '#' is everything" : { name: 'retained clear', filter: second }
    case 'reload':
      return { name }
  }
}

function clientsOf({ username, address, listener, connected, away }: Given, match: string | undefined): AdminCommand | string {
  if (connected && away) return '--connected and --away leave nobody'
  return {
    name: 'clients',
    ...(match !== undefined && { match }),
    ...(username !== undefined && { username }),
    ...(address !== undefined && { address }),
    ...(listener !== undefined && { listener }),
    ...((connected || away) && { connected: connected === true })
  }
}
