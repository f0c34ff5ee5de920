// `mosquitero acl`: what the broker would do with a request of a client and why, one or a table of them, by the broker's own decision.

import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { type AclCase, meets, parseAclCases } from '../auth/acl-cases.js'
import { clientCertificate } from '../auth/certificate.js'
import { type AclQuestion, explain, type Rights } from '../auth/explanation.js'
import type { ClientCertificate } from '../auth/identity.js'
import { formatProblem, systemReason } from '../errors.js'
import { isTopicFilter, isTopicName, parseFilter } from '../topic.js'
import { listenersNamed, nameOfRights, readRightsOf } from './acl-rights.js'
import { type Answer, explanationJson, explanationText, failureJson, failureText } from './acl-text.js'
import { isParseFault, wrongUsageWords } from './wrong-usage.js'

/** What a command has of the world; `process` fits. */
interface AclIo {
  readonly stdout: { write(text: string): unknown }
  readonly stderr: { write(text: string): unknown }
  readonly env: Readonly<Record<string, string | undefined>>
}

const usage = `Usage: mosquitero acl explain -c FILE [--listener PORT] [--username NAME] [--cert CERTIFICATE] --clientid ID [--json]
                              read|write|subscribe TOPIC
       mosquitero acl test [--listener PORT] [--json] FILE CASES

What the broker would do with a request, and the line that says so. \`explain\` answers one: allow or deny, the reason, the rule with its file and
line, and what would have been decided without it; of a subscription also what of it is delivered. \`test\` holds a table of expectations, one a
line, against the ACL. FILE is a mosquitto.conf, or an ACL file alone; its keys and certificates are not read.

  -c, --config FILE    the same for explain
  -u, --username NAME  the client's username; without one it is anonymous
  -i, --clientid ID    its client id
  --cert CERTIFICATE   the certificate that it shows: what the listener and the ACL take from it is read there
  --listener PORT      of several listeners the one that the client comes by: its port, "PORT ADDRESS", or its socket
  --json               an object instead of words

Ends with 0: allowed, or all as expected; 1: denied, not all as expected, or a file or topic is wrong; 2: wrong usage.

Examples:
  mosquitero acl explain -c mosquitto.conf --username ann --clientid panel-1 write plant/press/reset
  mosquitero acl test mosquitto.conf acl.cases

A case is a line of: USER [CLIENTID] read|write|subscribe TOPIC allow|deny [FILE:LINE]   # - is no username, cert:FILE a certificate
`

const wrongUsage = 2

class UsageError extends Error {}

/** What a person wrote is wrong, in lines that say so by themselves. */
class WrongInput extends Error {
  readonly status: number

  constructor(lines: readonly string[], status = 1) {
    super(lines.join('\n'))
    this.status = status
  }
}

const options = {
  config: { type: 'string', short: 'c' },
  username: { type: 'string', short: 'u' },
  clientid: { type: 'string', short: 'i' },
  listener: { type: 'string' },
  cert: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' }
} as const

/** Runs `acl ARGV`. */
export async function runAcl(argv: readonly string[], io: AclIo): Promise<number> {
  const [command, ...rest] = argv
  try {
    const { values, positionals } = parseArgs({ args: rest, allowPositionals: true, options })
    if (command === '-h' || command === '--help' || values.help) {
      io.stdout.write(usage)
      return 0
    }
    if (command === 'explain') return await runExplain(values, positionals, io)
    if (command === 'test') return await runTest(values, positionals, io)
    throw new UsageError(command === undefined ? 'A command is missing' : `There is no command '${command}'`)
  } catch (error) {
    if (error instanceof WrongInput) {
      io.stderr.write(`${error.message}\n`)
      return error.status
    }
    if (!(error instanceof UsageError) && !isParseFault(error)) throw error
    io.stderr.write(`Error: ${wrongUsageWords(error)}.\n\n${usage}`)
    return wrongUsage
  }
}

interface Values {
  readonly config?: string | undefined
  readonly username?: string | undefined
  readonly clientid?: string | undefined
  readonly listener?: string | undefined
  readonly cert?: string | undefined
  readonly json?: boolean | undefined
}

async function runExplain(values: Values, positionals: readonly string[], io: AclIo): Promise<number> {
  const { config, username, clientid: clientId } = values
  const [access, topic, ...surplus] = positionals
  if (config === undefined) throw new UsageError('Name the mosquitto.conf by -c FILE')
  if (!clientId) throw new UsageError('Name the client by --clientid ID')
  if (access !== 'read' && access !== 'write' && access !== 'subscribe')
    throw new UsageError('Say read, write or subscribe, and then the topic')
  if (topic === undefined || surplus.length > 0) throw new UsageError('Say one topic')
  checkTopic(access, topic)
  const certificate = values.cert === undefined ? undefined : await readShown(values.cert)
  const identity = { clientId, ...(username !== undefined && { username }) }
  const question: AclQuestion = { identity, access, topic, ...(certificate && { certificate }) }
  const answers = answersTo(question, await rightsFor(config, values, io.env))
  const [answer, another] = answers
  if (answer === undefined) throw new TypeError('a configuration without a listener')
  if (another !== undefined) {
    for (const each of answers) io.stderr.write(explanationText(question, each))
    throw new WrongInput(['Error: The listeners answer differently: name the one that is meant by --listener PORT.'], wrongUsage)
  }
  if (values.json) writeJson(io, explanationJson(question, answer))
  else io.stdout.write(explanationText(question, answer))
  return answer.explanation.allowed ? 0 : 1
}

async function runTest(values: Values, positionals: readonly string[], io: AclIo): Promise<number> {
  const [file, casesFile, ...surplus] = values.config === undefined ? positionals : [values.config, ...positionals]
  if (values.username !== undefined || values.clientid !== undefined || values.cert !== undefined)
    throw new UsageError('Whom a case is about is said in its line')
  if (file === undefined || casesFile === undefined || surplus.length > 0)
    throw new UsageError('Name the mosquitto.conf or ACL file, and then the cases')
  const cases = await readCases(casesFile)
  const rights = await rightsFor(file, values, io.env)
  const failures = cases.flatMap(expectation =>
    answersTo(expectation, rights)
      .filter(({ explanation }) => !meets(expectation, explanation))
      .map(answer => ({ expectation, answer }))
  )
  if (values.json) {
    writeJson(io, { cases: cases.length, failed: failures.map(failureJson) })
  } else {
    for (const failure of failures) io.stdout.write(failureText(failure))
    const failed = new Set(failures.map(({ expectation }) => expectation)).size
    io.stdout.write(
      `${cases.length} ${cases.length === 1 ? 'case' : 'cases'}, ${failed === 0 ? 'all' : cases.length - failed} as expected.\n`
    )
  }
  return failures.length === 0 ? 0 : 1
}

/** What each listener answers; those that answer alike are one. */
function answersTo(question: AclQuestion, all: readonly Rights[]): readonly Answer[] {
  const answers = new Map<string, Answer>()
  for (const rights of all) {
    const explanation = explain(rights, question)
    const name = nameOfRights(rights)
    const key = JSON.stringify(explanation)
    const known = answers.get(key)
    answers.set(key, { explanation, rights, ...(name !== undefined && { place: known ? `${known.place} and ${name}` : name }) })
  }
  return [...answers.values()]
}

async function rightsFor(file: string, { listener }: Values, env: AclIo['env']): Promise<readonly Rights[]> {
  const { rights, problems } = await readRightsOf(file, env)
  if (problems.length > 0) throw new WrongInput(problems.flatMap(formatProblem))
  if (listener === undefined) return rights
  const named = listenersNamed(rights, listener)
  if (named.length > 0) return named
  const names = rights.flatMap(each => nameOfRights(each) ?? [])
  const found = names.length === 0 ? 'is an ACL file and has none' : `has ${names.join(', ')}`
  throw new WrongInput([`Error: There is no listener '${listener}': ${file} ${found}.`])
}

async function readCases(file: string): Promise<readonly (AclCase & AclQuestion)[]> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    throw new WrongInput([`Error: Unable to open "${file}". ${systemReason(error)}.`])
  }
  const { cases, problems } = parseAclCases(text, file)
  if (problems.length > 0) throw new WrongInput(problems.flatMap(formatProblem))
  if (cases.length === 0) throw new WrongInput([`Error: There is no case in ${file}.`])
  const shown = new Map<string, ClientCertificate>()
  for (const { certificateFile } of cases) {
    // Found from where the table lies, so that the two go together.
    if (certificateFile !== undefined && !shown.has(certificateFile)) {
      shown.set(certificateFile, await readShown(resolve(dirname(file), certificateFile)))
    }
  }
  return cases.map(each => {
    const certificate = each.certificateFile === undefined ? undefined : shown.get(each.certificateFile)
    return { ...each, ...(certificate && { certificate }) }
  })
}

async function readShown(file: string): Promise<ClientCertificate> {
  let content: Buffer
  try {
    content = await readFile(file)
  } catch (error) {
    throw new WrongInput([`Error: Unable to open "${file}". ${systemReason(error)}.`])
  }
  try {
    return clientCertificate(new X509Certificate(content).raw)
  } catch {
    throw new WrongInput([`Error: There is no certificate in "${file}" that can be read.`])
  }
}

function checkTopic(access: AclQuestion['access'], topic: string): void {
  if (access === 'subscribe') {
    if (typeof parseFilter(topic) === 'string') throw new WrongInput([`Error: '${topic}' is no topic filter.`])
  } else if (!isTopicName(topic)) {
    const hint = isTopicFilter(topic) ? ': ask what comes of subscribing to it, or about one topic' : ''
    throw new WrongInput([`Error: '${topic}' is no topic name${hint}.`])
  }
}

function writeJson({ stdout }: AclIo, value: object): void {
  stdout.write(`${JSON.stringify(value, undefined, 2)}\n`)
}
