import { once } from 'node:events'
import { createServer } from 'node:net'
import t from 'tap'
import type { Policy } from '../../dist/auth/policy.js'
import { Broker } from '../../dist/broker/broker.js'
import { openMemoryStore } from '../../dist/store/memory.js'
import { mosquittoDelivery, mosquittoLimits, plainListener, portOf, recordLog, startBareBroker } from '../helpers/bare-broker.js'
import { passwordLine } from '../helpers/hash.js'
import { connectMqtt, until } from '../helpers/mqtt.js'

t.test('after a reload who lost the right to be here is disconnected, the others stay', async t => {
  const eva = passwordLine('eva', 'e')
  const passwords = [passwordLine('ann', 'a'), passwordLine('bob', 'b'), passwordLine('cy', 'c'), eva].join('\n')
  const { broker, connect, reload, policyOf, log } = await startBareBroker(t, { passwords })
  const login = async (clientId: string, username?: string, password?: string) => {
    const client = await connect(5)
    const { reasonCode } = await client.connect({
      clientId,
      ...(username !== undefined && { username }),
      ...(password !== undefined && { password: Buffer.from(password) })
    })
    t.equal(reasonCode, 0, clientId)
    // Aedes sends no DISCONNECT to who has not got what waited for it.
    await client.ping()
    return client
  }
  const removed = await login('removed', 'ann', 'a')
  const changed = await login('changed', 'bob', 'b')
  const rehashed = await login('rehashed', 'cy', 'c')
  const untouched = await login('untouched', 'eva', 'e')
  const anonymous = await login('anonymous')

  reload({ allowAnonymous: false, passwords: [passwordLine('bob', 'new'), passwordLine('cy', 'c'), eva].join('\n') })
  const ended = await broker.recheckClients(({ connection, admitted }) => policyOf(connection).recheck(connection, admitted))

  t.same([...ended], [['not-authorised', 3]])
  for (const client of [removed, changed, anonymous]) {
    t.equal((await client.next('disconnect')).reasonCode, 0x87)
    await client.closed()
  }
  for (const client of [rehashed, untouched]) await client.ping()
  await until(() => log.lines.filter(line => line.includes('disconnected')).length === 3, 'three lines')
  for (const clientId of ['removed', 'changed', 'anonymous']) {
    t.ok(log.lines.some(line => line.startsWith(`Client ${clientId} [`) && line.endsWith('] disconnected: not authorised.')))
  }
  t.equal(broker.clientCount, 2)
})

t.test('a new ACL counts from the next message on', async t => {
  const { connect, reload } = await startBareBroker(t, { acl: 'topic a' })
  const client = await connect(5)
  await client.connect({ clientId: 'c' })
  await client.subscribe('#')
  client.publish('a', '1')
  t.equal(String((await client.next('publish')).payload), '1')
  reload({ acl: 'topic b' })
  client.publish('a', '2')
  client.publish('b', '3')
  t.equal(String((await client.next('publish')).payload), '3')
})

t.test('a certificate that is no longer accepted: MQTT 5 is told 0x98, MQTT 3.1.1 is just closed', async t => {
  const { broker, connect, log } = await startBareBroker(t)
  const five = await connect(5)
  await five.connect({ clientId: 'five' })
  const four = await connect(4)
  await four.connect({ clientId: 'four' })
  four.takeBytes()
  t.same([...(await broker.recheckClients(() => async () => 'administrative-action' as const))], [['administrative-action', 2]])
  t.equal((await five.next('disconnect')).reasonCode, 0x98)
  await four.closed()
  t.equal(four.takeBytes(), '')
  await until(() => log.lines.filter(line => line.endsWith('disconnected: administrative action.')).length === 2, 'two lines')
})

t.test('a client that does not read its DISCONNECT is closed all the same, and has no rights meanwhile', async t => {
  const { broker, connect } = await startBareBroker(t, { acl: 'topic #' })
  const frozen = await connect(5)
  await frozen.connect({ clientId: 'frozen' })
  await frozen.subscribe('#')
  const reader = await connect(5)
  await reader.connect({ clientId: 'reader' })
  await reader.subscribe('#')
  frozen.stream.pause()
  reader.publish('a', Buffer.alloc(1_500_000))
  await reader.next('publish')
  await broker.recheckClients(({ admitted }) => (admitted.identity.clientId === 'frozen' ? 'not-authorised' : admitted))
  frozen.publish('b', 'from the frozen one')
  reader.publish('c', 'last')
  t.equal((await reader.next('publish')).topic, 'c')
  frozen.stream.resume()
  await frozen.closed()
  t.equal(broker.clientCount, 1)
})

t.test('a judgement that throws ends the connection', async t => {
  const { broker, connect } = await startBareBroker(t)
  for (const clientId of ['a', 'b']) await (await connect()).connect({ clientId })
  const ended = await broker.recheckClients(({ admitted }) => {
    if (admitted.identity.clientId === 'a') throw new Error('broken')
    return () => Promise.reject(new Error('broken'))
  })
  t.same([...ended], [['not-authorised', 2]])
  await until(() => broker.clientCount === 0, 'no client')
})

t.test('who is judged at once does not wait for those whose password is hashed', async t => {
  const { broker, connect } = await startBareBroker(t)
  for (const clientId of ['slow-1', 'slow-2', 'slow-3', 'gone']) await (await connect()).connect({ clientId })
  let finish = () => {}
  const thought = new Promise<void>(resolve => {
    finish = resolve
  })
  const judged = broker.recheckClients(({ admitted }) =>
    admitted.identity.clientId === 'gone' ? 'not-authorised' : () => thought.then(() => admitted)
  )
  await until(() => broker.clientCount === 3, 'three clients')
  finish()
  t.same([...(await judged)], [['not-authorised', 1]])
})

t.test('a later reload judges everybody anew, and nothing that an earlier one finds out still counts', async t => {
  const { broker, connect } = await startBareBroker(t)
  const client = await connect(5)
  await client.connect({ clientId: 'c' })
  await client.ping()
  let finish = () => {}
  const thought = new Promise<void>(resolve => {
    finish = resolve
  })
  const first = broker.recheckClients(() => () => thought.then(() => 'not-authorised' as const))
  t.equal((await broker.recheckClients(({ admitted }) => admitted)).size, 0)
  finish()
  t.equal((await first).size, 0)
  await client.ping()
})

t.test('a CONNECT that is judged while a reload comes is in by the new policy or not at all', async t => {
  // The reload comes so many steps of the event loop's microtasks behind the old policy's yes.
  for (let steps = 0; steps < 8; steps++) {
    let isReloaded = false
    let recheck = async (): Promise<void> => {}
    const no = { ok: false, refusal: 'not-authorised' } as const
    const asked: Policy = {
      async authenticate(_, credentials) {
        void after(steps, recheck)
        return { ok: true, identity: { clientId: credentials.clientId }, provenBy: 'anonymous', credentials }
      },
      recheck: () => no,
      authorize: () => ({ allowed: true, reason: 'no-acl-file' }),
      authorizeFilter: () => ({ allowed: true, reason: 'no-acl-file' })
    }
    const reloaded: Policy = { ...asked, authenticate: async () => no }
    const policyOf = () => (isReloaded ? reloaded : asked)
    const broker = await Broker.createBroker({
      engine: {
        limits: mosquittoLimits,
        delivery: mosquittoDelivery,
        log: recordLog(),
        policyOf,
        policyOfAbsent: policyOf,
        store: openMemoryStore()
      }
    })
    t.teardown(() => broker.close())
    recheck = async () => {
      isReloaded = true
      await broker.recheckClients(() => 'not-authorised')
    }
    const server = createServer(socket =>
      broker.accept(socket, { listener: plainListener, remoteAddress: '192.0.2.1', remotePort: 5000 })
    ).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const client = await connectMqtt(portOf(server.address()))
    server.close()
    await client.connect().catch(() => {})
    await client.closed()
    t.equal(broker.clientCount, 0, `${steps} steps`)
  }
})

async function after(steps: number, action: () => Promise<void>): Promise<void> {
  for (let step = 0; step < steps; step++) await undefined
  await action()
}

t.test('many clients are judged in slices', async t => {
  const { broker, connect } = await startBareBroker(t)
  await Promise.all(Array.from({ length: 250 }, async (_, i) => (await connect()).connect({ clientId: `c${i}` })))
  let turns = 0
  let running = true
  const count = () => {
    turns++
    if (running) setImmediate(count)
  }
  setImmediate(count)
  t.equal((await broker.recheckClients(({ admitted }) => admitted)).size, 0)
  running = false
  t.ok(turns >= 2, `${turns} turns`)
  t.equal(broker.clientCount, 250)
})

t.test('close() tells MQTT 5 clients, ends everything, and writes no line for each', async t => {
  const { broker, connect, log } = await startBareBroker(t)
  const client = await connect(5)
  await client.connect({ clientId: 'c' })
  const silent = await connect()
  await broker.close()
  t.equal((await client.next('disconnect')).reasonCode, 0x8b)
  await client.closed()
  await silent.closed()
  t.equal(log.lines.filter(line => line.includes('disconnected')).length, 0)
})

t.test('wills that take too long to decide about hold up the end no longer than a few seconds, and are counted', async t => {
  const log = recordLog()
  const slow: Policy = {
    authenticate: async (_, credentials) => ({
      ok: true,
      identity: { clientId: credentials.clientId },
      provenBy: 'anonymous',
      credentials
    }),
    recheck: (_, admitted) => admitted,
    authorize() {
      const end = performance.now() + 250
      while (performance.now() < end);
      return { allowed: true, reason: 'no-acl-file' }
    },
    authorizeFilter: () => ({ allowed: true, reason: 'no-acl-file' })
  }
  const broker = await Broker.createBroker({
    engine: {
      limits: mosquittoLimits,
      delivery: { ...mosquittoDelivery, sysInterval: 0 },
      log,
      policyOf: () => slow,
      policyOfAbsent: () => slow,
      store: openMemoryStore()
    }
  })
  const server = createServer(socket =>
    broker.accept(socket, { listener: plainListener, remoteAddress: '192.0.2.1', remotePort: 5000 })
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  for (let i = 0; i < 40; i++) {
    const client = await connectMqtt(portOf(server.address()))
    t.teardown(() => client.destroy())
    await client.connect({ clientId: `c${i}`, will: { topic: 'w', payload: Buffer.from('x'), qos: 1, retain: false } })
  }
  const began = performance.now()
  await broker.close()
  t.ok(performance.now() - began < 8000, `${Math.round(performance.now() - began)} ms`)
  t.match(
    log.lines.filter(line => line.includes('There was no time')),
    [/^Warning: There was no time for \d\d wills before the end\.$/]
  )
})
