// What ends soon, said ahead of time: by a clock of the test's own, with real files.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ExpiryReport } from '../dist/expiry-report.js'
import { issueCrl } from '../dist/pki/authority.js'
import { run } from './helpers/command.js'
import { testPki } from './helpers/pki.js'
import { materialOf, testLog, tlsConfig } from './helpers/tls-listener.js'
import { startTlsServer } from './helpers/tls-server.js'

const day = 86_400_000
// Certificates end at whole seconds: in the middle of one it is sure on which side of a whole day each moment is.
const start = Math.floor(Date.now() / 1000) * 1000 + 500
const inDays = (days: number): Date => new Date(start + days * day + 3_600_000)
const dateOf = (days: number): string => inDays(days).toISOString().slice(0, 10)

interface Setting {
  readonly ends: { readonly server: number; readonly ca: number; readonly crl: number }
  readonly days?: number
  readonly clients?: readonly (readonly [clientId: string, days: number])[]
}

async function report(t: Test, { ends, days = 30, clients = [] }: Setting) {
  const pki = await testPki(t)
  const until = (end: number) => ({ period: { notBefore: inDays(-2), notAfter: inDays(end) } })
  const ca = await pki.authority('Plant CA', until(ends.ca))
  const server = await pki.server({ ca, ...until(ends.server) })
  const crlfile = join(pki.dir, 'plant.crl')
  writeFileSync(crlfile, await issueCrl(ca.authority, [], { thisUpdate: inDays(-1), nextUpdate: inDays(ends.crl) }))
  const config = tlsConfig({ ...server, cafile: ca.cert, crlfile })
  const known = clients.map(([clientId, end]) => ({ clientId, end: inDays(end) }))
  const said: string[] = []
  const log = testLog()
  let now = start
  const listener = { port: 8883, config, material: await materialOf(config) }
  const expiry = new ExpiryReport({
    log,
    days,
    // Two that share their files.
    listeners: [listener, { ...listener, port: 8884 }],
    eachCertificate: visit => {
      for (const { clientId, end } of known) visit(clientId, end)
    },
    warn: problems => said.push(...problems.map(({ message }) => message.replaceAll(`${pki.dir}/`, ''))),
    now: () => new Date(now)
  })
  t.teardown(() => expiry.end())
  return {
    expiry,
    said,
    log,
    pass(milliseconds: number) {
      now += milliseconds
      expiry.tick()
      return [...said.splice(0), ...log.lines.slice(0)]
    }
  }
}

t.test('at start and once a day: what ends within thirty days, once for all listeners; then what is over', async t => {
  const { expiry, said, pass } = await report(t, { ends: { server: 40, ca: 29, crl: 1 } })
  expiry.begin()
  const ca = (left: number) =>
    `The CA certificate CN=Plant CA in cafile "Plant_CA.crt" expires on ${dateOf(29)}, in ${left} days: what it signed will be refused from then on. Renew it.`
  t.same(said.splice(0), [
    ca(29),
    `The CRL of CN=Plant CA in crlfile "plant.crl" expires on ${dateOf(1)}, in one day: every client of that CA will be refused from then on. Renew it.`
  ])
  t.same(pass(day - 1), [], 'the day is not over')
  t.same(pass(1), [
    ca(28),
    `The CRL of CN=Plant CA in crlfile "plant.crl" expires on ${dateOf(1)}, in less than a day: every client of that CA will be refused from then on. Renew it.`
  ])
  t.same(pass(3_600_000), [], 'once a day')
  t.same(pass(day), [
    `The CRL of CN=Plant CA in crlfile "plant.crl" expired on ${dateOf(1)}: every client of that CA will be refused until it is renewed.`,
    ca(26)
  ])
})

t.test('connected clients whose certificates end are named, the first five of them', async t => {
  const clients = Array.from({ length: 9 }, (_, i) => [`c${i}`, 40 - 4 * i] as const)
  const { expiry, pass } = await report(t, { ends: { server: 90, ca: 90, crl: 90 }, clients })
  expiry.begin()
  const named = [8, 7, 6, 5, 4].map(i => `c${i} (${dateOf(40 - 4 * i)})`).join(', ')
  t.same(pass(day), [`Warning: The certificates of 6 connected clients end within 30 days: ${named} and 1 more.`])
})

t.test('with 0 days nothing is said, and $SYS counts nobody', async t => {
  const { expiry, said, pass } = await report(t, { ends: { server: 1, ca: 1, crl: 1 }, days: 0, clients: [['c', 1]] })
  expiry.begin()
  t.same(said, [])
  t.same(pass(2 * day), [])
  t.match(
    expiry.sysTopics(0).find(({ topic }) => topic.endsWith('/expiring')),
    { payload: '0' }
  )
})

t.test('$SYS says by port what ends first, and how many clients it is about', async t => {
  const { expiry } = await report(t, {
    ends: { server: 40, ca: 50, crl: 5 },
    clients: [
      ['soon', 3],
      ['later', 33]
    ]
  })
  const topics = new Map(expiry.sysTopics(7).map(({ topic, payload }) => [topic.replace('$SYS/broker/certificates/', ''), payload]))
  const iso = (days: number): string => `${inDays(days).toISOString().slice(0, 19)}Z`
  t.same(Object.fromEntries(topics), {
    ...Object.fromEntries(
      [8883, 8884].flatMap(port => [
        [`${port}/certificate/expires`, iso(40)],
        [`${port}/certificate/days`, '40'],
        [`${port}/ca/expires`, iso(50)],
        [`${port}/ca/days`, '50'],
        [`${port}/crl/expires`, iso(5)],
        [`${port}/crl/days`, '5']
      ])
    ),
    'clients/expiring': '1',
    'clients/disconnected': '7'
  })
})

t.test('a hundred thousand clients are counted in a few milliseconds', async t => {
  const clients = Array.from({ length: 100_000 }, (_, i) => [`c${i}`, 20 - (i % 7)] as const)
  const { expiry } = await report(t, { ends: { server: 90, ca: 90, crl: 90 }, clients })
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < 10; i++) {
    const began = performance.now()
    expiry.sysTopics(0)
    best = Math.min(best, performance.now() - began)
  }
  t.ok(best < 10, `${best} ms`)
  t.comment(`${best.toFixed(1)} ms`)
})

t.test('the real mosquitto_sub reads it, retained; a listener that goes takes its topics along', async t => {
  const pki = await testPki(t)
  const short = await pki.client('short', { period: { notBefore: inDays(-2), notAfter: inDays(3) } })
  const { port, server, client, conf, lines } = await startTlsServer(t, pki, 'sys_interval 1\n')
  t.notOk(
    lines().some(line => /expires on/.test(line)),
    'nothing ends soon'
  )
  const mqtt = await client(short)
  await mqtt.connect({ clientId: 'short' })
  const ask = async (...args: string[]): Promise<string> => {
    const files = ['--cafile', pki.ca, '--cert', short.cert, '--key', short.key]
    const { stdout } = await run(t, 'mosquitto_sub', [
      '-h',
      '127.0.0.1',
      '-p',
      String(port),
      ...files,
      '-t',
      '$SYS/broker/certificates/#',
      '-v',
      ...args
    ])
    return stdout
  }
  // Itself is one of the two. What was said before they came counts none of them.
  let found = ''
  while (!/^\$SYS\/broker\/certificates\/clients\/expiring [12]$/m.test(found)) found = await ask('-C', '8', '-W', '20')
  t.match(found, new RegExp(`^\\$SYS/broker/certificates/${port}/certificate/days 59$`, 'm'))
  t.match(found, new RegExp(`^\\$SYS/broker/certificates/${port}/crl/expires \\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ$`, 'm'))
  t.match(found, /^\$SYS\/broker\/certificates\/clients\/disconnected 0$/m)

  await pki.revoke(short)
  writeFileSync(join(pki.dir, 'm.conf'), `${conf}sys_interval 1\n`)
  t.match(await server.reload(), { disconnected: [{ reason: 'revoked' }] })
  const other = await client(await pki.client('other'))
  await other.connect({ clientId: 'other' })
  await other.subscribe('$SYS/broker/certificates/clients/disconnected')
  const told: string[] = []
  while (told.at(-1) !== '1') told.push(String((await other.next('publish')).payload))
  t.ok(told.length <= 2, 'from 0 to 1')
})
