// The real Mosquitto as arbiter of ACL questions: one process with a Unix socket per acl_file, asked over MQTT 5 with a client of our own
// (MQTT 5, since there a denied publish says so: reason 0x87).

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { join, relative } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import mqtt, { type Packet } from 'mqtt-packet'
import type { Identity } from '../../dist/auth/identity.js'
import type { AclQuestion } from './acl-cases.js'

const deadline = 10_000

export interface Arbiter {
  /** For each question, whether Mosquitto allows it under the acl_file of that index. */
  ask(aclFile: number, questions: readonly AclQuestion[]): Promise<Map<AclQuestion, boolean>>
  close(): Promise<void>
}

/** Starts Mosquitto with one listener per ACL text (undefined: none), in that order, and one without for the other side of each question. */
export async function startArbiter(dir: string, acls: readonly (string | undefined)[]): Promise<Arbiter> {
  // Relative: a socket's path may have 107 bytes.
  const socket = (name: number | 'open') => join(relative(process.cwd(), dir), `${name}.sock`)
  const conf = ['per_listener_settings true', 'user root']
  for (const [i, acl] of acls.entries()) {
    conf.push(`listener 0 ${socket(i)}`, 'allow_anonymous true')
    if (acl === undefined) continue
    writeFileSync(join(dir, `${i}.acl`), acl)
    conf.push(`acl_file ${join(dir, `${i}.acl`)}`)
  }
  conf.push(`listener 0 ${socket('open')}`, 'allow_anonymous true')
  writeFileSync(join(dir, 'mosquitto.conf'), conf.join('\n'))
  const broker = spawn('mosquitto', ['-c', join(dir, 'mosquitto.conf')], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  broker.stderr.setEncoding('utf8').on('data', text => {
    log += text
  })
  if (!(await reaches(() => log.includes(' running\n') || broker.exitCode !== null)) || broker.exitCode !== null) {
    await end(broker)
    throw new Error(`mosquitto does not start: ${log}`)
  }
  return {
    ask: (aclFile, questions) => askAll(socket(aclFile), socket('open'), questions),
    close: () => end(broker)
  }
}

/** What Mosquitto says about a wrong ACL text when it starts, without time stamps: the lines up to its end. */
export async function refusalOf(dir: string, acl: string): Promise<string[]> {
  writeFileSync(join(dir, 'acl'), acl)
  const socket = join(relative(process.cwd(), dir), 'refused.sock')
  writeFileSync(join(dir, 'mosquitto.conf'), `listener 0 ${socket}\nallow_anonymous true\nuser root\nacl_file acl\n`)
  const broker = spawn('mosquitto', ['-c', 'mosquitto.conf'], { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  broker.stderr.setEncoding('utf8').on('data', text => {
    log += text
  })
  await once(broker, 'close', { signal: AbortSignal.timeout(deadline) }).catch(async error => {
    await end(broker)
    throw new Error(`mosquitto accepts it: ${log}`, { cause: error })
  })
  return log.split('\n').map(line => line.replace(/^\d+: /, ''))
}

async function askAll(aclSocket: string, openSocket: string, questions: readonly AclQuestion[]): Promise<Map<AclQuestion, boolean>> {
  const answers = new Map<AclQuestion, boolean>()
  const other = await Client.connect(openSocket, { clientId: 'other-side' })
  try {
    for (const question of questions) {
      const client = await Client.connect(aclSocket, question.identity)
      answers.set(question, await ask(client, other, question).finally(() => client.close()))
    }
  } finally {
    other.close()
  }
  return answers
}

async function ask(client: Client, other: Client, { access, topic }: AclQuestion): Promise<boolean> {
  switch (access) {
    case 'write':
      return (await client.publish(topic)) !== 0x87
    case 'subscribe':
      return (await client.subscribe(topic)) < 0x80
    case 'unsubscribe':
      return (await client.unsubscribe(topic)) < 0x80
    case 'read':
      return mayRead(client, other, topic)
  }
}

// Subscribes to just that name, has the other side publish to it, and looks at what came before the next PINGRESP.
async function mayRead(client: Client, other: Client, topic: string): Promise<boolean> {
  await client.subscribe(topic)
  // $SYS has its retained messages already.
  if (!topic.startsWith('$SYS')) await other.publish(topic)
  await client.ping()
  return client.received.has(topic)
}

interface Waiting {
  readonly cmd: Packet['cmd']
  readonly late: NodeJS.Timeout
  resolve(packet: Packet): void
  reject(error: Error): void
}

class Client {
  /** Names of the messages that were delivered. */
  readonly received = new Set<string>()
  readonly #socket: Socket
  readonly #parser = mqtt.parser({ protocolVersion: 5 })
  readonly #waiting: Waiting[] = []
  #lastId = 0

  static async connect(path: string, { clientId, username }: Identity): Promise<Client> {
    const client = new Client(path, clientId)
    const name = username === undefined ? {} : { username }
    const connack = await client.#exchange(
      { cmd: 'connect', protocolId: 'MQTT', protocolVersion: 5, clean: true, keepalive: 60, clientId, ...name },
      'connack'
    )
    if (connack.cmd !== 'connack' || connack.reasonCode !== 0) throw new Error(`${clientId} refused: ${JSON.stringify(connack)}`)
    return client
  }

  private constructor(path: string, clientId: string) {
    this.#socket = createConnection({ path })
    this.#socket.on('data', chunk => this.#parser.parse(chunk))
    this.#socket.on('error', error => this.#fail(error))
    this.#socket.on('close', () => this.#fail(new Error(`mosquitto closed the connection of ${clientId}`)))
    this.#parser.on('packet', packet => this.#take(packet))
  }

  async publish(topic: string): Promise<number> {
    const packet = { cmd: 'publish', topic, payload: 'x', qos: 1, messageId: this.#nextId(), dup: false, retain: false } as const
    const puback = await this.#exchange(packet, 'puback')
    return puback.cmd === 'puback' ? (puback.reasonCode ?? 0) : 0x80
  }

  async subscribe(topic: string): Promise<number> {
    const suback = await this.#exchange({ cmd: 'subscribe', messageId: this.#nextId(), subscriptions: [{ topic, qos: 0 }] }, 'suback')
    return suback.cmd === 'suback' ? Number(suback.granted[0]) : 0x80
  }

  async unsubscribe(topic: string): Promise<number> {
    const unsuback = await this.#exchange({ cmd: 'unsubscribe', messageId: this.#nextId(), unsubscriptions: [topic] }, 'unsuback')
    return unsuback.cmd === 'unsuback' ? Number(unsuback.granted[0]) : 0x80
  }

  async ping(): Promise<void> {
    await this.#exchange({ cmd: 'pingreq' }, 'pingresp')
  }

  close(): void {
    this.#socket.destroy()
  }

  #exchange(packet: Packet, answer: Packet['cmd']): Promise<Packet> {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => this.#fail(new Error(`no ${answer} for ${JSON.stringify(packet)}`)), deadline)
      this.#waiting.push({ cmd: answer, late, resolve, reject })
      this.#socket.write(mqtt.generate(packet, { protocolVersion: 5 }))
    })
  }

  #take(packet: Packet): void {
    if (packet.cmd === 'publish') {
      this.received.add(packet.topic)
      return
    }
    const at = this.#waiting.findIndex(({ cmd }) => cmd === packet.cmd)
    const [waiting] = at === -1 ? [] : this.#waiting.splice(at, 1)
    clearTimeout(waiting?.late)
    waiting?.resolve(packet)
  }

  #fail(error: Error): void {
    for (const { late, reject } of this.#waiting.splice(0)) {
      clearTimeout(late)
      reject(error)
    }
  }

  #nextId(): number {
    return ++this.#lastId
  }
}

async function end(broker: ChildProcess): Promise<void> {
  if (broker.exitCode !== null || broker.signalCode !== null) return
  const exited = once(broker, 'exit')
  broker.kill('SIGTERM')
  await exited
}

async function reaches(condition: () => boolean): Promise<boolean> {
  const end = Date.now() + deadline
  while (!condition() && Date.now() < end) await delay(10)
  return condition()
}
