// The broker's command line: Mosquitto's options, its words for what is wrong, its exit status.

import { parseArgs } from 'node:util'

export interface RunArguments {
  readonly config?: string
  /** `-p`: up to ten; only used when the configuration names no listener. */
  readonly ports: readonly number[]
  readonly daemon: boolean
  readonly verbose: boolean
  readonly quiet: boolean
  readonly testConfig: boolean
  readonly tlsKeylog?: string
}

export type ParsedArguments =
  | { readonly kind: 'run'; readonly arguments: RunArguments }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' }
  /** `usage`: an option that does not exist, so what exists is printed too. */
  | { readonly kind: 'error'; readonly message: string; readonly usage: boolean }

const options = {
  config: { type: 'string', short: 'c' },
  port: { type: 'string', short: 'p', multiple: true },
  daemon: { type: 'boolean', short: 'd' },
  verbose: { type: 'boolean', short: 'v' },
  quiet: { type: 'boolean', short: 'q' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
  'test-config': { type: 'boolean' },
  'tls-keylog': { type: 'string' }
} as const

const portLimit = 10

/** Long names that Mosquitto spells otherwise. */
const aliases: Readonly<Record<string, string>> = { '--config-file': '--config' }

/** Reads the arguments in order, as Mosquitto does: the first that is wrong is named, and a later `-c` replaces an earlier one. */
export function parseArguments(argv: readonly string[]): ParsedArguments {
  const args = argv.map(argument => aliases[argument] ?? argument)
  const { tokens } = parseArgs({ args, options, strict: false, allowPositionals: true, tokens: true })
  let config: string | undefined
  let tlsKeylog: string | undefined
  const ports: number[] = []
  const flags = new Set<string>()
  for (const token of tokens) {
    if (token.kind === 'option-terminator') continue
    if (token.kind === 'positional') return unknown(token.value)
    switch (token.name) {
      case 'config':
        // Without `=`, parseArgs takes whatever follows as the value, so `-c -v` would open a file called -v.
        if (!hasValue(token.value)) return error('-c argument given, but no config file specified.')
        config = token.value
        break
      case 'port': {
        if (!hasValue(token.value)) return error('-p argument given, but no port specified.')
        const port = parsePort(token.value)
        if (port === undefined) return error(`Invalid port specified (${token.value}).`)
        if (ports.length === portLimit) return error(`Only ${portLimit} ports can be specified.`)
        ports.push(port)
        break
      }
      case 'tls-keylog':
        if (!hasValue(token.value)) return error('--tls-keylog argument given, but no file specified.')
        tlsKeylog = token.value
        break
      case 'help':
        return { kind: 'help' }
      case 'version':
        return { kind: 'version' }
      case 'daemon':
      case 'verbose':
      case 'quiet':
      case 'test-config':
        if (token.value !== undefined) return unknown(`${token.rawName}=${token.value}`)
        flags.add(token.name)
        break
      default:
        return unknown(token.rawName)
    }
  }
  return {
    kind: 'run',
    arguments: {
      ports,
      daemon: flags.has('daemon'),
      verbose: flags.has('verbose'),
      quiet: flags.has('quiet'),
      testConfig: flags.has('test-config'),
      ...(config !== undefined && { config }),
      ...(tlsKeylog !== undefined && { tlsKeylog })
    }
  }
}

function hasValue(value: string | undefined): value is string {
  return value !== undefined && value !== '' && !value.startsWith('-')
}

/** 1 to 65535 in decimal digits. */
function parsePort(text: string): number | undefined {
  if (!/^\d{1,5}$/.test(text)) return undefined
  const port = Number(text)
  return port >= 1 && port <= 65535 ? port : undefined
}

const error = (message: string): ParsedArguments => ({ kind: 'error', message: `Error: ${message}`, usage: false })
const unknown = (argument: string): ParsedArguments => ({ kind: 'error', message: `Error: Unknown option '${argument}'.`, usage: true })

/** The text of `-h`, for a command called `name`. */
export function usage(name: string, version: string): string {
  return `${name} version ${version}

${name} is an MQTT v5.0/v3.1.1/v3.1 broker.

Usage: ${name} [-c config_file] [-d] [-h] [-p port] [-q] [-v]
       ${name} acl explain|test …
       ${name} check -c config_file [--json]
       ${name} certs init|server|client|sign|renew|revoke|crl|list|expiring|show …
       ${name} clients|kick|subscriptions|queue|retained|reload …
       ${name} doctor -c config_file …
       ${name} passwd [-c | -D] file user
       ${name} store export|import|check …

 -c : specify the broker config file (--config-file).
 -d : put the broker into the background after starting (--daemon).
 -h : display this help (--help).
 -p : start the broker listening on the specified port, on this machine
      only; up to ten times (--port). Not used when the config file
      defines a listener.
 -q : quiet mode - disable all logging. This overrides -v and any logging
      options given in the config file (--quiet).
 -v : verbose mode - enable all logging types. This overrides any logging
      options given in the config file (--verbose).
 --test-config : check the config file and every file it names, then exit.
 --tls-keylog : write TLS keys of this session to the file, for decrypting
      a capture. Whoever reads it reads the traffic.
 --version : display the version.

For example: ${name} -c /etc/mosquitto/mosquitto.conf -v
`
}
