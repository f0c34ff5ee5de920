// Looks for what keeps a device out, or would: in the configuration and its files, in the device's files, and by trying to come in as the
// device. The judgements are the broker's own.

import { randomBytes } from 'node:crypto'
import type { SecureVersion } from 'node:tls'
import { clientCertificate } from '../auth/certificate.js'
import type { Certificate } from '../auth/chain.js'
import { type Explanation, explain, type Rights } from '../auth/explanation.js'
import type { ClientCertificate } from '../auth/identity.js'
import { foresee, nameInCertificate } from '../auth/policy.js'
import type { Bind, ListenerConfig } from '../config/types.js'
import { formatLocation, type Location, type Problem } from '../errors.js'
import { FileReader } from '../files.js'
import { nameSources } from '../log-events.js'
import type { Version } from '../protocol/packets.js'
import { isListenerNamed, listenerName } from '../reload.js'
import { type ListenerSnapshot, readConfig, readSnapshot } from '../snapshot.js'
import { type Attempt, attempt, type Target } from './attempt.js'
import { judgeBrokerCertificate } from './broker-certificate.js'
import { describeCertificate } from './certificate-words.js'
import { type Device, type DeviceFiles, readDevice } from './device.js'
import { judgeDeviceCertificate } from './device-certificate.js'
import { judgeDeviceKey } from './device-key.js'
import { type Finding, odd, wrong } from './finding.js'
import { explainEnding, tlsAlert } from './remedies.js'

export interface Question {
  /** A mosquitto.conf. */
  readonly file: string
  readonly env?: Readonly<Record<string, string | undefined>>
  /** One of its listeners, by port, port and address, or socket; absent: all. */
  readonly listener?: string | undefined
  /** By which name the device reaches the broker; absent: this machine, and no name is checked. */
  readonly host?: string | undefined
  readonly device: DeviceFiles
  /** Absent: one that nobody has. */
  readonly clientId?: string | undefined
  readonly username?: string | undefined
  readonly password?: string | undefined
  readonly version: Version
  /** What TLS the device speaks at best; absent: all that this Node does. */
  readonly tlsVersion?: SecureVersion | undefined
  readonly ciphers?: string | undefined
  readonly publish: readonly string[]
  readonly subscribe: readonly string[]
  /** Nothing is connected to. */
  readonly offline?: boolean | undefined
  readonly now?: Date
  /** How long to wait for the broker, milliseconds. */
  readonly patience?: number
}

/** Documented in docs/doctor.md. */
export interface Diagnosis {
  readonly file: string
  /** Of the configuration as a whole, and of the device's files. */
  readonly findings: readonly Finding[]
  readonly listeners: readonly ListenerDiagnosis[]
  /** Nothing that is an error was found. */
  readonly isWell: boolean
}

export interface ListenerDiagnosis {
  /** `port 8883`. */
  readonly listener: string
  readonly at?: Location
  /** What was seen: name and words. */
  readonly facts: readonly (readonly [name: string, words: string])[]
  readonly findings: readonly Finding[]
}

const usualPatience = 10_000

/** Rejects with a RangeError when no listener is called so; never because of what a person wrote into a file. */
export async function diagnose(question: Question): Promise<Diagnosis> {
  const { file, env = {}, now = new Date() } = question
  const files = new FileReader()
  const { config, problems } = await readConfig({ file, ports: undefined, verbosity: undefined, env }, files)
  const { device, findings: found } = await readDevice(question.device, files)
  const { read, problems: more } = config ? await readSnapshot(config, files) : { read: [], problems: [] }
  const general = [...[...problems, ...more].filter(isError).map(ofProblem), ...found]
  const asked = read.filter(({ config: each }) => question.listener === undefined || isListenerNamed(each, question.listener))
  if (asked.length === 0 && read.length > 0) {
    throw new RangeError(
      `There is no listener '${question.listener}': ${file} has ${read.map(each => listenerName(each.config)).join(', ')}`
    )
  }
  const listeners: ListenerDiagnosis[] = []
  for (const each of asked) {
    const subscribeCheck = config?.delivery.aclSubscribeCheck ?? 'warn'
    listeners.push(await diagnoseListener({ question, listener: each, device, isDeviceSound: !found.some(isSerious), subscribeCheck, now }))
  }
  const all = [...general, ...listeners.flatMap(({ findings }) => findings)]
  return { file, findings: general, listeners, isWell: !all.some(isSerious) }
}

const isSerious = ({ severity }: Finding): boolean => severity === 'error'

const isError = ({ severity }: Problem): boolean => severity === 'error'

function ofProblem({ code, message, at }: Problem): Finding {
  return wrong('configuration', message, `See ${code} in docs/errors.md; mosquitero check says all that is wrong.`, at)
}

interface Case {
  readonly question: Question
  readonly listener: ListenerSnapshot
  readonly device: Device
  /** All of its files can be used. */
  readonly isDeviceSound: boolean
  readonly subscribeCheck: Rights['subscribeCheck']
  readonly now: Date
}

async function diagnoseListener(given: Case): Promise<ListenerDiagnosis> {
  const { question, listener, device, now } = given
  const { config, tls } = listener
  const facts: (readonly [string, string])[] = []
  const others = [...device.chain, ...(device.trust?.certificates ?? []), ...(tls?.trust.certificates ?? []), ...(tls?.chain ?? [])]
  const ofDevice = judgeDevice(given, others)
  const [own] = device.chain
  if (own !== undefined) facts.push(['device', describeCertificate(own)])
  const clientId = question.clientId ?? `doctor-${randomBytes(6).toString('hex')}`
  const { username, why, nameless } = nameOf(given, clientId)
  const findings = [...ofDevice, ...nameless]

  const tried = question.offline ? undefined : await tryDevice(given, clientId)
  const shown = tried?.shown.length ? tried.shown : (tls?.chain ?? [])
  if (shown[0] !== undefined) facts.push(['broker', describeCertificate(shown[0])])
  const ofBroker = judgeBroker(given, shown, others)
  findings.push(...stale(shown, tls?.chain ?? [], config), ...ofBroker)
  if (tried !== undefined) {
    if (tried.tls) facts.push(['TLS', `${tried.tls.version}, ${tried.tls.cipher}`])
    if (tried.tls && device.trust && !tried.tls.isAccepted && !ofBroker.some(isSerious)) findings.push(notAccepted(tried.tls.problem))
    const place = placeOf(config, question.host)
    const ending = explainEnding({ end: tried.end, listener: config, place, version: question.version, why })
    // What the broker refused has its reason in what was found before.
    const isRefusal = tried.end.kind === 'closed' || tried.end.kind === 'connack' || (config.psk && tried.end.kind === 'handshake')
    const isKnown = !given.isDeviceSound || ofDevice.some(isSerious) || nameless.length > 0
    if (ending !== undefined && !(isRefusal && isKnown)) findings.push(ending)
    if (tried.end.kind === 'connack' && tried.end.connack.code === 0) {
      facts.push([
        'CONNECT',
        `accepted at ${place}, client id '${clientId}', ${username === undefined ? 'no username' : `username '${username}'`}`
      ])
    }
  }
  if (tried?.end.kind === 'withheld') facts.push(['CONNECT', 'not tried: the password is only for a broker that the device trusts'])
  for (const [topic, explanation] of judgeTopics(given, clientId, username)) {
    const finding = ofTopic(topic, explanation)
    if (finding) findings.push(finding)
    else if (explanation.allowed) facts.push([explanation.reach ? 'subscribe' : 'publish', `'${topic}': ${explanation.why}`])
  }
  return { listener: listenerName(config), ...(config.at && { at: config.at }), facts, findings: withClock(findings, now) }
}

function judgeDevice({ listener: { config, tls }, device, isDeviceSound, now }: Case, others: readonly Certificate[]): readonly Finding[] {
  if (config.psk && tls?.psk) return judgeDeviceKey(config.psk, tls.psk, device.psk)
  if (device.psk !== undefined) {
    const mend = "Name the listener with 'psk_hint' by --listener."
    return [odd('not-asked', 'The listener takes no pre-shared keys: that of the device is not used.', mend, config.at)]
  }
  if (config.tls && tls) {
    // Of a file that can't be used it is said already.
    if (device.chain.length === 0 && !isDeviceSound) return []
    return judgeDeviceCertificate({ config: config.tls, material: tls, chain: device.chain, others, now })
  }
  if (config.tls || device.chain.length === 0) return []
  const mend = "Name the TLS listener by --listener, or give this one 'certfile' and 'keyfile'."
  return [odd('not-asked', 'The listener speaks plain text: what the device has of certificates is not used.', mend, config.at)]
}

function judgeBroker(
  { question, listener: { config }, device, now }: Case,
  shown: readonly Certificate[],
  others: readonly Certificate[]
): readonly Finding[] {
  return judgeBrokerCertificate({ shown, at: config.tls?.certfile.at, trust: device.trust, others, host: question.host, now })
}

/** What is shown is not what the file holds. */
function stale([shown]: readonly Certificate[], [own]: readonly Certificate[], { tls }: ListenerConfig): readonly Finding[] {
  if (shown === undefined || own === undefined || shown.x509.raw.equals(own.x509.raw)) return []
  const mend = 'Have the broker read its files again: mosquitero reload, or SIGHUP; or it is another broker.'
  return [
    odd('broker-stale', `The broker shows another certificate than certfile holds: ${describeCertificate(shown)}.`, mend, tls?.certfile.at)
  ]
}

function notAccepted(problem = 'UNSPECIFIED'): Finding {
  const mend = 'Have it made anew: EC P-256 or RSA of 2048 bits at least, signed with SHA-256.'
  return wrong('broker-not-accepted', `OpenSSL does not accept the broker's certificate (${problem}).`, mend)
}

interface Naming {
  readonly username?: string | undefined
  /** Why the listener would not let in who is called so. */
  readonly why?: string | undefined
  readonly nameless: readonly Finding[]
}

function nameOf({ question, listener, device }: Case, clientId: string): Naming {
  const { config } = listener
  const certificate = certificateOf(device)
  const named = config.username === 'from-psk-identity' ? device.psk?.identity : nameInCertificate(config, certificate)
  const username = config.username === 'from-connect' ? question.username : named
  if (config.username !== 'from-connect' && certificate !== undefined && (username === undefined || username === '')) {
    const mend = /^from-(common-name|subject)$/.test(config.username)
      ? 'Have one made that has it: mosquitero certs client NAME makes one with a common name.'
      : "Have one made with it as subjectAltName, or let '#!identity_source' take a name that it has."
    const what = `The listener takes the ${nameSources[config.username]}, and the device's has none.`
    return { nameless: [wrong('device-no-name', what, mend, config.at)] }
  }
  const foreseen = foresee(
    { ...listener, listener: config, shadow: listener.shadow?.acl },
    { clientId, ...(username !== undefined && { username }) },
    certificate
  )
  if ('refusal' in foreseen) return { username, why: foreseen.why, nameless: [] }
  const why =
    foreseen.hasEntry === false
      ? 'password_file has no such user'
      : foreseen.hasEntry
        ? 'the password is not the one in password_file'
        : undefined
  return { username, why, nameless: [] }
}

function certificateOf({ chain: [own] }: Device): ClientCertificate | undefined {
  return own && clientCertificate(own.x509.raw, [], own.fields)
}

async function tryDevice({ question, listener: { config }, device }: Case, clientId: string): Promise<Attempt> {
  const { host, version, username, password, tlsVersion, ciphers, patience = usualPatience } = question
  const target = targetOf(config, host)
  const isSecured = config.tls !== undefined || config.psk !== undefined
  const tls = {
    device,
    ...(host !== undefined && { serverName: host }),
    ...(tlsVersion && { versions: limitTo(tlsVersion) }),
    ...(ciphers !== undefined && { ciphers })
  }
  const credentials = { ...(username !== undefined && { username }), ...(password !== undefined && { password }) }
  const connect = { version, clientId, clean: question.clientId === undefined, ...credentials }
  const tried = await attempt({ target, ...(isSecured && { tls }), connect, patience })
  const { end } = tried
  const isShut = (end.kind === 'handshake' && end.code === 'ECONNRESET') || (end.kind === 'closed' && !isSecured)
  if (!isShut) return tried
  // Whoever hears the other language closes: is it that? Asked without a name or secret.
  const other = { version, clientId: `doctor-${randomBytes(6).toString('hex')}`, clean: true }
  const { end: answer, tls: secured } = await attempt({ target, ...(!isSecured && { tls: { device: nobody } }), connect: other, patience })
  if (isSecured && answer.kind === 'connack')
    return { ...tried, end: { kind: 'handshake', code: 'ERR_SSL_WRONG_VERSION_NUMBER', words: '' } }
  return !isSecured && secured ? { ...tried, end: { kind: 'not-mqtt', head: tlsAlert } } : tried
}

const nobody: Device = { chain: [] }

// An old device: Node's own lower limit is 1.2.
const limitTo = (max: SecureVersion) => ({ max, ...((max === 'TLSv1' || max === 'TLSv1.1') && { min: max }) })

function targetOf({ bind, port }: ListenerConfig, host: string | undefined): Target {
  if (bind.kind === 'unix') return { path: bind.path }
  return { host: host ?? reachable(bind), port }
}

const reachable = (bind: Exclude<Bind, { kind: 'unix' }>): string =>
  bind.kind === 'host' && bind.host !== '0.0.0.0' && bind.host !== '::' ? bind.host : 'localhost'

function placeOf(config: ListenerConfig, host: string | undefined): string {
  const target = targetOf(config, host)
  return 'path' in target ? target.path : `${target.host}, port ${target.port}`
}

type Judged = readonly [topic: string, explanation: Explanation]

function judgeTopics(
  { question, listener, device, subscribeCheck }: Case,
  clientId: string,
  username: string | undefined
): readonly Judged[] {
  const { config, acl, passwords, clientIdPrefix } = listener
  const rights: Rights = {
    listener: config,
    acl,
    subscribeCheck,
    ...(passwords && { passwords }),
    ...(clientIdPrefix !== undefined && { clientIdPrefix })
  }
  const certificate = certificateOf(device)
  const asked = { identity: { clientId, ...(username !== undefined && { username }) }, ...(certificate && { certificate }) }
  return [
    ...question.publish.map((topic): Judged => [topic, explain(rights, { ...asked, access: 'write', topic })]),
    ...question.subscribe.map((topic): Judged => [topic, explain(rights, { ...asked, access: 'subscribe', topic })])
  ]
}

function ofTopic(topic: string, { allowed, reason, why, rule, reach, dead }: Explanation): Finding | undefined {
  // That has been said.
  if (reason === 'not-connected') return undefined
  const at = rule?.at
  const mend = `Give it that right in acl_file${at ? `, or change ${formatLocation(at)}` : ''}; mosquitero acl explain tells more.`
  if (reach === undefined) return allowed ? undefined : wrong('acl-publish', `The device may not publish to '${topic}': ${why}.`, mend, at)
  if (!allowed || dead !== undefined)
    return wrong('acl-subscribe', `The device gets nothing of '${topic}'${allowed ? '' : `: ${why}`}.`, mend, at)
  return undefined
}

/** Two that are not valid yet are one clock that is wrong. */
function withClock(findings: readonly Finding[], now: Date): readonly Finding[] {
  const early = findings.filter(({ cause }) => cause === 'broker-not-yet-valid' || cause === 'device-not-yet-valid')
  if (early.length < 2) return findings
  const what = `Neither the broker's certificate nor the device's is valid yet: the clock of this machine, which says ${now.toISOString()}, is slow.`
  return [wrong('clock', what, 'Set the clock.'), ...findings.filter(finding => !early.includes(finding))]
}
