import fc from 'fast-check'
import t from 'tap'
import { CertificateWatch } from '../../dist/broker/certificate-watch.js'
import type { Dismissal } from '../../dist/broker/dismissal.js'
import type { Connection } from '../../dist/session/connection.js'

const expired: Dismissal = { reason: 'not-authorised', loss: 'expired', ofCertificate: 'certificate expired' }

interface Fake {
  readonly connection: Connection
  /** When its certificate ends, seconds. */
  readonly end: number
}

/** The watch looks at nothing of a connection but its transport. */
function fake(end: number): Fake {
  const transport = { tls: { certificate: { end } } }
  return { connection: { transport } as unknown as Connection, end }
}

const endOf = (transport: unknown): number => (transport as { tls: { certificate: { end: number } } }).tls.certificate.end

t.test('who is due goes, once, neither early nor late; who has left is not looked at', async t => {
  fc.assert(
    fc.property(fc.array(fc.record({ end: fc.nat(50), leaves: fc.boolean() }), { maxLength: 40 }), clients => {
      let now = 0
      const gone = new Map<Connection, number>()
      const watch = new CertificateWatch(
        {
          nextLook: transport => endOf(transport) * 1000 + 1,
          outdated: transport => (endOf(transport) * 1000 < now ? expired : undefined)
        },
        {
          turns: { isOver: false },
          dismiss: connection => {
            if (gone.has(connection)) throw new Error('twice')
            gone.set(connection, now)
          }
        }
      )
      const all = clients.map(({ end, leaves }) => ({ ...fake(end), leaves }))
      for (const { connection } of all) watch.follow(connection)
      for (const { connection, leaves } of all) if (leaves) watch.forget(connection)
      for (; now <= 60_000; now += 1000) if (!watch.sweep(now)) return false
      return all.every(({ connection, end, leaves }) => gone.get(connection) === (leaves ? undefined : (end + 1) * 1000))
    })
  )
  t.pass('at random')
})

t.test('who still stands is looked at again when the next of its certificates ends', async t => {
  let now = 0
  const ends = [10_001, 20_001]
  const looked: number[] = []
  const gone: number[] = []
  const watch = new CertificateWatch(
    {
      nextLook: () => ends.find(end => end > now),
      outdated: () => {
        looked.push(now)
        return now > 20_000 ? expired : undefined
      }
    },
    { turns: { isOver: false }, dismiss: () => gone.push(now) }
  )
  watch.follow(fake(0).connection)
  for (; now <= 30_000; now += 1000) watch.sweep(now)
  t.same(looked, [11_000, 21_000])
  t.same(gone, [21_000])
})

t.test('a turn whose time is over leaves the rest to the next one', async t => {
  let left = 3
  const turns = {
    get isOver() {
      left -= 1
      return left < 0
    }
  }
  let gone = 0
  const watch = new CertificateWatch({ nextLook: () => 1000, outdated: () => expired }, { turns, dismiss: () => (gone += 1) })
  for (let i = 0; i < 5; i++) watch.follow(fake(0).connection)
  t.equal(watch.sweep(1000), false)
  t.equal(gone, 3)
  left = 10
  t.equal(watch.sweep(1000), true)
  t.equal(gone, 5)
})

t.test('who has just come may have taken minutes since its certificate was judged', async t => {
  const asked: number[] = []
  const watch = new CertificateWatch(
    {
      nextLook: (_, since) => {
        asked.push(Date.now() - since)
        return undefined
      },
      outdated: () => undefined
    },
    { turns: { isOver: false }, dismiss: () => {} }
  )
  const { connection } = fake(0)
  watch.begin(connection)
  watch.follow(connection)
  t.ok((asked[0] ?? 0) >= 60_000)
  t.ok((asked[1] ?? 60_000) < 60_000)
})
