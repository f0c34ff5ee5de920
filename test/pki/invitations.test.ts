// Invitations: a secret is good once, for a while, for few wrong tries; and the file that holds them gives none away.

import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { Invitations } from '../../dist/pki/invitations.js'

function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'mosquitero-invitations-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

const issue = async () => ({ issued: true })

t.test('a secret is good once', async t => {
  const invitations = new Invitations(folder(t))
  const { secret } = await invitations.invite('press-7')
  t.match(secret, /^[a-z2-9]{6}(-[a-z2-9]{6}){3}$/)
  t.same(await invitations.redeem('press-8', secret, issue), 'not-invited')
  t.same(await invitations.redeem('press-7', ` ${secret.toUpperCase()}\n`, issue), { issued: true }, 'as a person types it')
  t.same(await invitations.redeem('press-7', secret, issue), 'not-invited')
  t.same(await invitations.list(), [])
})

t.test('of many who come with it at once, one gets in', async t => {
  const dir = folder(t)
  const { secret } = await new Invitations(dir).invite('press-7')
  const outcomes = await Promise.all(Array.from({ length: 20 }, () => new Invitations(dir).redeem('press-7', secret, issue)))
  t.same(outcomes.filter(outcome => typeof outcome === 'object').length, 1)
})

t.test('where issuing fails it stays good', async t => {
  const invitations = new Invitations(folder(t))
  const { secret } = await invitations.invite('press-7')
  await t.rejects(
    invitations.redeem('press-7', secret, () => Promise.reject(new Error('the disk is full'))),
    /the disk is full/
  )
  t.same(await invitations.redeem('press-7', secret, issue), { issued: true })
})

t.test('it ends with its time, with five wrong secrets, and with the next invitation', async t => {
  const invitations = new Invitations(folder(t))
  const now = new Date()
  const { secret, expires } = await invitations.invite('press-7', 60_000, now)
  t.equal(expires.getTime(), now.getTime() + 60_000)
  t.same(await invitations.redeem('press-7', secret, issue, new Date(now.getTime() + 60_000)), 'expired')
  t.same(await invitations.redeem('press-7', secret, issue, now), 'not-invited', 'it is gone')

  const { secret: right } = await invitations.invite('press-7')
  for (let i = 0; i < 4; i++) t.same(await invitations.redeem('press-7', 'wrong', issue), 'wrong-secret')
  t.match(await invitations.list(), [{ deviceId: 'press-7', triesLeft: 1 }])
  t.same(await invitations.redeem('press-7', 'wrong', issue), 'wrong-secret')
  t.same(await invitations.redeem('press-7', right, issue), 'not-invited')

  const { secret: first } = await invitations.invite('press-7')
  const { secret: second } = await invitations.invite('press-7')
  t.same(await invitations.redeem('press-7', first, issue), 'wrong-secret')
  t.same(await invitations.redeem('press-7', second, issue), { issued: true })
})

t.test('no secret lies in the file, which is for its owner', async t => {
  const invitations = new Invitations(folder(t))
  const { secret } = await invitations.invite('press-7')
  t.notMatch(readFileSync(invitations.path, 'utf8'), secret)
  t.equal(statSync(invitations.path).mode & 0o777, 0o600)
})

t.test('what is no name for a device is refused, and times without end', async t => {
  const invitations = new Invitations(folder(t))
  for (const name of ['', '../x', 'a/b', 'a+', '#', 'a:b', 'a\nb', '.', 'x'.repeat(65), '\u202e', 'CA'])
    await t.rejects(invitations.invite(name), { code: 'ERR_PKI_INPUT' }, JSON.stringify(name))
  for (const lifetime of [0, -1, 999, Number.NaN, Number.POSITIVE_INFINITY, 31 * 86_400_000])
    await t.rejects(invitations.invite('a', lifetime), { code: 'ERR_PKI_INPUT' }, `${lifetime}`)
})

t.test('a damaged file invites nobody who was not, and lets in nobody', async t => {
  const invitations = new Invitations(folder(t))
  const { secret } = await invitations.invite('press-7')
  const line = readFileSync(invitations.path, 'utf8')
  await fc.assert(
    fc.asyncProperty(fc.string(), fc.nat(line.length), async (rubbish, at) => {
      writeFileSync(invitations.path, `${line.slice(0, at)}${rubbish}${line.slice(at + rubbish.length)}`)
      const outcome = await invitations.redeem('press-7', 'wrong', issue)
      t.ok(typeof outcome === 'string', 'a wrong secret never gets in')
    }),
    { numRuns: 100 }
  )
  writeFileSync(invitations.path, `{"deviceId":"x"}\nrubbish\n${line}`)
  t.same(await invitations.redeem('press-7', secret, issue), { issued: true })
})
