// The admin socket byte by byte: HTTP as it stands in docs/admin.md, lists in pages while clients come and go, and peers that mean no good.

import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Problem } from '../../dist/errors.js'
import { type AdminSocket, openAdminSocket } from '../../dist/net/admin-server.js'
import type { ReloadReport } from '../../dist/reload-report.js'
import type { Store } from '../../dist/storage.js'
import { openMemoryStore } from '../../dist/store/memory.js'
import { type BareBroker, type BareOptions, startBareBroker } from '../helpers/bare-broker.js'
import { disconnect, publish, seededRandom, subscribe } from '../helpers/raw-mqtt.js'
import { crowd, Sink } from '../helpers/sink.js'
import { until } from '../helpers/until.js'

interface Answer {
  readonly status: number | undefined
  readonly body: Record<string, unknown>
}

interface Opened {
  readonly broker: BareBroker
  readonly socket: AdminSocket
  readonly path: string
  ask(target: string, method?: string): Promise<Answer>
}

const reportOf = (problems: readonly Problem[]): ReloadReport => ({
  problems,
  applied: !problems.some(({ severity }) => severity === 'error'),
  changed: [],
  needsRestart: [],
  listeners: { added: [], removed: [] },
  disconnected: []
})

function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

async function open(t: Test, options: BareOptions = {}, problems: readonly Problem[] = [], patience?: number): Promise<Opened> {
  const broker = await startBareBroker(t, { debug: false, ...options })
  const path = join(folder(t), 'a.sock')
  const service = { administration: broker.broker.administration, name: 'mosquitero', version: '9', reload: async () => reportOf(problems) }
  const socket = await openAdminSocket({ path }, service, broker.log, patience)
  if (socket === undefined) throw new Error(broker.log.lines.join('\n'))
  t.teardown(() => socket.close())
  return { broker, socket, path, ask: (target, method) => ask(path, target, method) }
}

function ask(socketPath: string, path: string, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path, method }, response => {
      let text = ''
      response.setEncoding('utf8').on('data', part => {
        text += part
      })
      response.once('end', () => resolve({ status: response.statusCode, body: JSON.parse(text) }))
    })
      .once('error', reject)
      .end()
  })
}

/** All bytes that come back, until the broker closes. */
function raw(path: string, ...parts: readonly (string | Buffer)[]): Promise<string> {
  return new Promise(resolve => {
    const socket = connect(path)
    let text = ''
    socket.setEncoding('latin1').on('data', part => {
      text += part
    })
    socket.on('error', () => {})
    socket.once('close', () => resolve(text))
    for (const part of parts) socket.write(part)
  })
}

/** Both ends of a connection to a Unix socket in this process. */
const pipes = (): number => process.getActiveResourcesInfo().filter(name => name === 'PipeWrap').length

const idsOf = (list: unknown): unknown[] => (Array.isArray(list) ? list.map(({ clientId }) => clientId) : [])

t.test('one request in bytes', async t => {
  const { path } = await open(t)
  const answer = await raw(path, 'GET /v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  const [head = '', body = ''] = answer.split('\r\n\r\n')
  t.match(head, /^HTTP\/1\.1 200 OK\r\n/)
  t.match(head, /\r\nContent-Type: application\/json\r\n/)
  t.same(JSON.parse(body), { name: 'mosquitero', version: '9', pid: process.pid })
})

t.test('what is asked wrongly is said', async t => {
  const { ask, path } = await open(t)
  const rows: readonly (readonly [method: string, target: string, status: number, error: RegExp])[] = [
    ['GET', '/', 404, /there is no \/;/],
    ['GET', '/v1/constructor', 404, /there is no \/v1\/constructor;/],
    ['GET', '/v1/kick?id=a', 405, /takes POST/],
    ['POST', '/v1/clients', 405, /takes GET/],
    ['POST', '/v1/kick', 400, /'id' is missing/],
    ['POST', '/v1/kick?id=a', 404, /there is no session 'a'/],
    ['POST', '/v1/kick?id=a&forget=yes', 400, /'forget' is true or false/],
    ['GET', '/v1/clients?limit=0', 400, /'limit' is a number/],
    ['GET', '/v1/clients?limit=x', 400, /'limit' is a number/],
    ['GET', '/v1/clients?bogus=1', 400, /no parameter 'bogus'/],
    ['GET', '/v1/clients?match=a&match=b', 400, /'match' is given twice/],
    ['GET', '/v1/clients?next=nothing', 410, /no longer there/],
    ['GET', '/v1/queue', 400, /'id' is missing/],
    ['GET', '/v1/queue?id=a', 404, /there is no session 'a'/],
    ['GET', '/v1/subscriptions?topic=a/%23', 400, /no topic name/],
    ['GET', '/v1/retained?filter=a%23', 400, /no topic filter/],
    ['POST', '/v1/retained/clear?filter=$SYS/%23', 400, /\$SYS/],
    ['POST', '/v1/retained/clear', 400, /'filter' is missing/]
  ]
  for (const [method, target, status, error] of rows) t.match(await ask(target, method), { status, body: { error } }, `${method} ${target}`)
  t.match(await raw(path, 'POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}'), /^HTTP\/1\.1 413 /)
})

t.test('a refused reload names its problems', async t => {
  const { ask } = await open(t, {}, [
    { severity: 'warning', code: 'ERR_CONF_DEPRECATED', message: 'Old.' },
    { severity: 'error', code: 'ERR_ACL_SYNTAX', message: 'Wrong.', at: { file: 'acl', line: 3 } }
  ])
  t.match((await ask('/v1/reload', 'POST')).body, {
    applied: false,
    summary: 'nothing changed; 0 clients disconnected',
    problems: [
      { severity: 'warning', code: 'ERR_CONF_DEPRECATED', message: 'Old.' },
      { severity: 'error', code: 'ERR_ACL_SYNTAX', message: 'Wrong.', file: 'acl', line: 3 }
    ]
  })
})

t.test('twenty thousand sessions in pages, while others come and go: who stays is listed once, who comes later is not', async t => {
  const { broker, ask } = await open(t)
  const count = 20_000
  await crowd(broker, count, i => [{ clientId: `stays-${i}` }])
  const guests = await crowd(broker, 1000, i => [{ clientId: `goes-${i}` }])
  const seen: unknown[] = []
  let pages = 0
  let next: unknown
  do {
    const { status, body } = await ask(next === undefined ? '/v1/clients' : `/v1/clients?next=${next}`)
    t.equal(status, 200)
    seen.push(...idsOf(body.clients))
    next = body.next
    pages += 1
    // Some of both ends of the list go, and others come.
    for (const guest of guests.splice(0, 30)) guest.push(disconnect)
    for (let i = 0; i < 50; i++) new Sink(broker, { clientId: `comes-${pages}-${i}` })
    await nextTurn()
  } while (next !== undefined)
  t.ok(pages >= 20, `${pages} pages`)
  const stayed = seen.filter(id => String(id).startsWith('stays-'))
  t.equal(stayed.length, count)
  t.equal(new Set(stayed).size, count)
  t.same(
    seen.filter(id => String(id).startsWith('comes-')),
    []
  )
  t.equal(new Set(seen).size, seen.length)
})

t.test('a page is given once, and takes no more than a megabyte', async t => {
  const { broker, ask } = await open(t, { limits: { maxQueuedMessages: 0 } })
  const [reader] = await crowd(broker, 1, () => [{ clientId: 'r', clean: false }, subscribe(['q'])])
  reader?.destroy()
  await until(() => !broker.broker.clients.r)
  for (let i = 0; i < 50; i++)
    broker.broker.publish({ cmd: 'publish', topic: 'q', payload: Buffer.alloc(100_000, i), qos: 1, retain: false, dup: false })
  const sequences: unknown[] = []
  let pages = 0
  let target = '/v1/queue?id=r&payload=true&limit=10000'
  for (;;) {
    const { body } = await ask(target)
    const { queue, next } = body
    if (!Array.isArray(queue)) throw new Error(JSON.stringify(body))
    for (const { sequence, bytes, payload } of queue) {
      sequences.push(sequence)
      t.equal(bytes, 100_000)
      t.equal(Buffer.from(payload, 'base64').length, 65_536)
    }
    pages += 1
    if (next === undefined) break
    target = `/v1/queue?next=${next}`
  }
  t.ok(pages >= 4, `${pages} pages`)
  t.equal(new Set(sequences).size, 50)
  const { body } = await ask('/v1/queue?id=r&limit=1')
  t.equal((await ask(`/v1/queue?next=${body.next}`)).status, 200)
  t.equal((await ask(`/v1/queue?next=${body.next}`)).status, 410)
})

t.test('what is under way to a client that does not acknowledge, and what waits behind it', async t => {
  const { broker, ask } = await open(t, { limits: { maxInflightMessages: 2 } })
  for (const clean of [true, false]) {
    const clientId = `clean ${clean}`
    await crowd(broker, 1, () => [{ clientId, clean }, subscribe([`q/${clean}`])])
    const [writer] = await crowd(broker, 1, () => [{ clientId: 'writer' }])
    for (let i = 1; i <= 5; i++) writer?.push(publish(`q/${clean}`, { qos: 1, messageId: i }))
    const clientTarget = `/v1/clients?match=${encodeURIComponent(clientId)}`
    const report = await until(async () => {
      const { body } = await ask(clientTarget)
      const [client] = Array.isArray(body.clients) ? body.clients : []
      return client.queued === 3 ? client : undefined
    })
    t.match(report, { connected: true, queued: 3, inflight: 2, queuedBytes: 5 })
    const { body } = await ask(`/v1/queue?id=${encodeURIComponent(clientId)}`)
    t.same(Array.isArray(body.queue) && body.queue.map(({ state }) => state), ['sent', 'sent', 'queued', 'queued', 'queued'])
  }
})

t.test('a client whose CONNACK waits for the store is thrown off too', async t => {
  const store = openMemoryStore()
  let waiting: (() => void)[] = []
  const settle = () => {
    for (const resolve of waiting) resolve()
    waiting = []
  }
  const slow: Store = {
    isDurableAtOnce: false,
    open: () => store.open(),
    commit: changes => {
      void store.commit(changes)
      return new Promise(resolve => waiting.push(resolve))
    },
    page: (clientId, after, limit) => store.page(clientId, after, limit),
    close: () => store.close()
  }
  const { broker, ask } = await open(t, { store: slow })
  const client = await broker.connect(5)
  client.send({
    cmd: 'connect',
    protocolId: 'MQTT',
    protocolVersion: 5,
    clean: false,
    keepalive: 60,
    clientId: 'early',
    properties: { sessionExpiryInterval: 9 }
  })
  await until(() => waiting.length > 0)
  t.match(await ask('/v1/clients'), { body: { clients: [{ clientId: 'early', connected: true }] } })
  const kicked = ask('/v1/kick?id=early&forget=true', 'POST')
  await client.closed()
  const settling = setInterval(settle, 5)
  t.teardown(() => clearInterval(settling))
  t.same((await kicked).body, { disconnected: true, forgotten: true })
  t.same((await ask('/v1/clients')).body, { clients: [] })
  t.same((await store.open()).sessions, [])
})

t.test('the socket is its owner’s, goes at the end, and what a dead process left is replaced', async t => {
  const { socket, path, broker } = await open(t)
  t.equal(statSync(path).mode & 0o777, 0o600)
  const service = { administration: broker.broker.administration, name: 'm', version: '9', reload: async () => reportOf([]) }
  t.equal(await openAdminSocket({ path }, service, broker.log), undefined)
  t.match(broker.log.lines.at(-1), /another broker answers there\.$/)
  t.equal((await ask(path, '/v1')).status, 200)
  await socket.close()
  t.notOk(existsSync(path))

  writeFileSync(path, '')
  t.equal(await openAdminSocket({ path }, service, broker.log), undefined)
  t.match(broker.log.lines.at(-1), /there is a file of that name\.$/)
  t.equal(await openAdminSocket({}, service, broker.log), undefined)
  t.equal(await openAdminSocket({ path: join(folder(t), 'no', 'a.sock') }, service, broker.log), undefined)
  t.match(broker.log.lines.at(-1), /There is no admin socket .*: No such file or directory\.$/)
})

t.test('rubbish, silence and too many connections cost nobody anything', async t => {
  const { path, broker, ask } = await open(t)
  const random = seededRandom(7)
  for (let i = 0; i < 50; i++) {
    const rubbish = Buffer.from(Array.from({ length: 200 }, () => Math.floor(random() * 256)))
    t.equal(await raw(path, rubbish, '\r\n\r\n'), '')
  }
  // More than a header may be.
  t.notMatch(await raw(path, `GET /v1/clients?match=${'x'.repeat(400_000)} HTTP/1.1\r\n\r\n`), /200 OK/)
  // A crowd that says nothing: the ones too many are shown out, and the broker serves its clients.
  const crowd: Socket[] = []
  let closed = 0
  for (let i = 0; i < 500; i++) {
    const socket = connect(path)
    socket.on('error', () => {})
    socket.on('close', () => {
      closed += 1
    })
    crowd.push(socket)
  }
  await until(() => closed >= 400)
  const client = await broker.connect()
  await client.connect({ clientId: 'served' })
  await client.ping()
  for (const socket of crowd) socket.destroy()
  await until(async () => (await ask('/v1').catch(() => undefined))?.status === 200)
  t.same(
    broker.log.lines.filter(line => /Internal fault/.test(line)),
    []
  )
})

t.test('who asks and does not read the answer is closed, and a list that is left is forgotten when there are others', async t => {
  const { broker, path, ask } = await open(t, {}, [], 500)
  const before = pipes()
  for (let i = 0; i < 3000; i++)
    broker.broker.publish({
      cmd: 'publish',
      topic: `a/${i}/${'x'.repeat(300)}`,
      payload: Buffer.from('x'),
      qos: 0,
      retain: true,
      dup: false
    })
  const deaf = connect(path)
  deaf.pause()
  const gone = new Promise<void>(resolve => deaf.once('close', resolve))
  deaf.on('error', () => {})
  for (let i = 0; i < 20; i++) deaf.write('GET /v1/retained?limit=3000 HTTP/1.1\r\nHost: x\r\n\r\n')
  const { body } = await ask('/v1/retained?limit=1')
  for (let i = 0; i < 64; i++) await ask('/v1/retained?limit=1')
  t.equal((await ask(`/v1/retained?next=${body.next}`)).status, 410)
  // The broker's end of it is gone; what is read now is what lay between them.
  await until(() => pipes() === before + 1)
  deaf.resume()
  await gone
  t.ok(deaf.bytesRead > 0 && deaf.bytesRead < 1_000_000, `${deaf.bytesRead} of 19 million bytes`)
})

t.test('something that is no broker has the name of the socket', async t => {
  const path = join(folder(t), 's')
  const server = createServer()
  await new Promise<void>(resolve => server.listen(path, resolve))
  t.teardown(() => server.close())
  const { broker } = await open(t)
  const service = { administration: broker.broker.administration, name: 'm', version: '9', reload: async () => reportOf([]) }
  t.equal(await openAdminSocket({ path }, service, broker.log), undefined)
})
