import t from 'tap'
import type { ClientCertificate, Connection } from '../../dist/auth/identity.js'
import { openPasswordHasher } from '../../dist/auth/password-hash.js'
import type { Admission, Credentials } from '../../dist/auth/policy.js'
import { type BareOptions, plainListener, policyFrom, recordLog } from '../helpers/bare-broker.js'
import { passwordLine } from '../helpers/hash.js'

const certificate: ClientCertificate = {
  commonName: 'press-7',
  subject: 'CN=press-7,O=Plant',
  issuer: 'CN=Plant CA',
  serial: '01',
  notBefore: new Date(0),
  notAfter: new Date(1e13),
  raw: Buffer.alloc(0)
}
const { commonName: _, ...nameless } = certificate

const plain: Connection = { listener: plainListener, remoteAddress: '192.0.2.1', remotePort: 5000 }
const over = (certificate?: ClientCertificate): Connection => ({
  ...plain,
  tls: { version: 'TLSv1.3', cipher: 'X', ...(certificate !== undefined && { certificate }) }
})

const hasher = openPasswordHasher()
t.teardown(() => hasher.close())
const policy = (options: BareOptions) => policyFrom(options, hasher, recordLog())

const sent = (username?: string, password?: string): Credentials => ({
  clientId: 'dev',
  ...(username !== undefined && { username }),
  ...(password !== undefined && { password: Buffer.from(password) })
})

const shown = (admission: Admission) =>
  admission.ok ? `${admission.provenBy} ${admission.identity.clientId} ${admission.identity.username ?? '-'}` : admission.refusal

const ann = passwordLine('ann', 'right')

// Without and with password_file, for and against anonymous clients [mosquitto.conf(5), allow_anonymous, password_file].
const rows: readonly [options: BareOptions, credentials: Credentials, answer: string][] = [
  [{ allowAnonymous: true }, sent(), 'anonymous dev -'],
  [{ allowAnonymous: true }, sent('ann'), 'anonymous dev ann'],
  [{ allowAnonymous: true }, sent('ann', 'any'), 'anonymous dev ann'],
  [{ allowAnonymous: false }, sent(), 'not-authorised'],
  [{ allowAnonymous: false }, sent('ann', 'any'), 'not-authorised'],
  [{ allowAnonymous: true, passwords: ann }, sent(), 'anonymous dev -'],
  [{ allowAnonymous: true, passwords: ann }, sent(undefined, 'right'), 'anonymous dev -'],
  [{ allowAnonymous: true, passwords: ann }, sent('ann', 'right'), 'password dev ann'],
  [{ allowAnonymous: true, passwords: ann }, sent('ann', 'wrong'), 'not-authorised'],
  [{ allowAnonymous: true, passwords: ann }, sent('ann'), 'not-authorised'],
  [{ allowAnonymous: true, passwords: ann }, sent('eve', 'right'), 'not-authorised'],
  [{ allowAnonymous: true, passwords: ann }, sent('', ''), 'not-authorised'],
  [{ allowAnonymous: false, passwords: ann }, sent(), 'not-authorised'],
  [{ allowAnonymous: false, passwords: ann }, sent('ann', 'right'), 'password dev ann'],
  [{ allowAnonymous: false, passwords: '' }, sent('ann', 'right'), 'not-authorised'],
  [{ allowAnonymous: false, passwords: ann }, sent('__proto__', 'right'), 'not-authorised'],
  [{ listener: { useUsernameAsClientId: true } }, sent('ann'), 'anonymous ann ann'],
  [{ listener: { useUsernameAsClientId: true } }, sent(), 'not-authorised'],
  [{ listener: { useUsernameAsClientId: true } }, sent(''), 'not-authorised'],
  [{ clientIdPrefix: 'de' }, sent(), 'anonymous dev -'],
  [{ clientIdPrefix: 'plant-' }, sent(), 'not-authorised']
]

for (const [options, credentials, answer] of rows) {
  const { passwords, listener, ...rest } = options
  const name = JSON.stringify({
    ...rest,
    ...listener,
    ...(passwords !== undefined && { passwords: true }),
    ...credentials,
    password: String(credentials.password)
  })
  t.test(`${name}: ${answer}`, async t => {
    t.equal(shown(await policy(options).authenticate(plain, credentials)), answer)
  })
}

t.test('a name from the certificate needs no password and no entry; without one nobody comes in', async t => {
  const common = policy({ allowAnonymous: false, passwords: ann, listener: { username: 'from-common-name' } })
  t.equal(shown(await common.authenticate(over(certificate), sent('ann', 'wrong'))), 'certificate dev press-7')
  t.equal(shown(await common.authenticate(over(), sent('ann', 'right'))), 'bad-credentials')
  t.equal(shown(await common.authenticate(plain, sent('ann', 'right'))), 'bad-credentials')
  t.equal(shown(await common.authenticate(over(nameless), sent())), 'bad-credentials')
  t.equal(shown(await common.authenticate(over({ ...certificate, commonName: '' }), sent())), 'bad-credentials')
  t.equal(shown(await common.authenticate(over({ ...certificate, commonName: 'press-7\0x' }), sent())), 'bad-credentials')
  const subject = policy({ listener: { username: 'from-subject', useUsernameAsClientId: true } })
  t.equal(shown(await subject.authenticate(over(certificate), sent())), 'certificate CN=press-7,O=Plant CN=press-7,O=Plant')
})

// The certificate's CN is press-7 unless a row says otherwise.
const bound: readonly [form: 'cn' | '*:cn', clientId: string, answer: 'in' | 'client-id', commonName?: string][] = [
  ['cn', 'press-7', 'in'],
  ['cn', 'press-8', 'client-id'],
  ['cn', 'admin:press-7', 'client-id'],
  ['cn', 'PRESS-7', 'client-id'],
  ['*:cn', 'admin:press-7', 'in'],
  ['*:cn', 'admin:press-8', 'client-id'],
  ['*:cn', 'press-7', 'client-id'],
  ['*:cn', ':press-7', 'client-id'],
  ['*:cn', 'admin:press-7:x', 'client-id'],
  ['*:cn', 'a:b:press-7', 'client-id'],
  ['*:cn', 'xpress-7', 'client-id'],
  ['*:cn', 'adm+n:press-7', 'client-id'],
  ['*:cn', '#:press-7', 'client-id'],
  ['*:cn', 'a/b:press-7', 'client-id'],
  ['*:cn', 'adm\nin:press-7', 'client-id'],
  ['*:cn', 'auto-1', 'client-id'],
  // Of such a name the parts would be another device's.
  ['*:cn', 'admin:other:press-7', 'client-id', 'other:press-7'],
  ['*:cn', 'admin:a/b', 'client-id', 'a/b'],
  ['*:cn', 'admin:+', 'client-id', '+'],
  ['*:cn', 'admin:a\tb', 'client-id', 'a\tb'],
  ['*:cn', 'admin:', 'client-id', '']
]

for (const [form, clientId, answer, name = 'press-7'] of bound) {
  t.test(`#!clientid_must_match ${form}: '${clientId}' of '${name}' is ${answer}`, async t => {
    const { authenticate } = policy({ listener: { clientIdMustMatch: form } })
    const admission = await authenticate(over({ ...certificate, commonName: name }), { clientId })
    t.equal(admission.ok ? 'in' : admission.refusal, answer)
  })
}

t.test('without a certificate, or a name in it, no client id matches', async t => {
  const { authenticate } = policy({ listener: { clientIdMustMatch: 'cn' } })
  for (const connection of [plain, over(), over(nameless)]) {
    t.equal(shown(await authenticate(connection, { clientId: 'press-7' })), 'client-id')
  }
})

t.test('it is the client id that counts in the end: the one that use_username_as_clientid gives', async t => {
  const listener = { username: 'from-common-name', useUsernameAsClientId: true } as const
  const common = policy({ listener: { ...listener, clientIdMustMatch: 'cn' } })
  t.equal(shown(await common.authenticate(over(certificate), { clientId: 'x' })), 'certificate press-7 press-7')
  const tenant = policy({ listener: { ...listener, clientIdMustMatch: '*:cn' } })
  t.equal(shown(await tenant.authenticate(over(certificate), { clientId: 'admin:press-7' })), 'client-id')
})

t.test('who is in goes when its client id has to match from now on', async t => {
  const admission = await policy({}).authenticate(over(certificate), { clientId: 'x' })
  if (!admission.ok) throw new Error('not admitted')
  const answer = policy({ listener: { clientIdMustMatch: 'cn' } }).recheck(over(certificate), admission)
  t.match(answer, { ok: false, refusal: 'client-id', why: "client id must be 'press-7', as the certificate says" })
})

t.test('what a certificate proved keeps no password', async t => {
  const admission = await policy({ listener: { username: 'from-common-name' } }).authenticate(over(certificate), sent('ann', 'secret'))
  t.ok(admission.ok && admission.credentials.password === undefined)
})

t.test('after a reload: who keeps the right to be here', async t => {
  const before = policy({ passwords: ann })
  const admission = await before.authenticate(plain, sent('ann', 'right'))
  if (!admission.ok) throw new Error('not admitted')
  const anonymous = await before.authenticate(plain, sent())
  if (!anonymous.ok) throw new Error('not admitted')

  const recheck = async (options: BareOptions, admitted = admission, connection = plain): Promise<Admission> => {
    const answer = policy(options).recheck(connection, admitted)
    return typeof answer === 'function' ? answer() : answer
  }
  t.type(policy({ passwords: ann }).recheck(plain, admission), 'object', 'an unchanged entry is not hashed for')
  t.equal(shown(await recheck({ passwords: ann })), 'password dev ann')
  const renewed = await recheck({ passwords: passwordLine('ann', 'right') })
  t.equal(shown(renewed), 'password dev ann', 'the same password with a new salt')
  t.not(renewed.ok && renewed.hash, admission.hash)
  t.equal(shown(await recheck({ passwords: passwordLine('ann', 'new') })), 'not-authorised')
  t.equal(shown(await recheck({ passwords: passwordLine('bob', 'right') })), 'not-authorised')
  t.equal(shown(await recheck({ allowAnonymous: false })), 'not-authorised', 'no password_file any more')
  t.equal(shown(await recheck({ allowAnonymous: false, passwords: ann }, anonymous)), 'not-authorised')
  t.equal(shown(await recheck({ passwords: ann }, anonymous)), 'anonymous dev -')
  t.equal(
    shown(await recheck({ listener: { username: 'from-common-name' } }, anonymous, over(certificate))),
    'certificate dev press-7',
    'the name is taken from the certificate again'
  )
})

t.test('a full queue is nobody’s failed login, and a re-check asks again', async t => {
  let answers = 0
  const busyOnce: typeof hasher = {
    ...hasher,
    verifyUnknown: async () => false,
    verify: async (...question) => {
      if (answers++ === 0) throw new (await import('../../dist/errors.js')).BrokerError('ERR_PASSWORD_BUSY', 'full')
      return hasher.verify(...question)
    }
  }
  const log = recordLog()
  const policy = policyFrom({ passwords: ann }, busyOnce, log)
  t.equal(shown(await policy.authenticate(plain, sent('ann', 'right'))), 'busy')
  t.match(log.lines, [/^Too many passwords/])
  const admission = await policy.authenticate(plain, sent('ann', 'right'))
  if (!admission.ok) throw new Error('not admitted')
  answers = 0
  const changed = policyFrom({ passwords: passwordLine('ann', 'right') }, busyOnce, log)
  const judge = changed.recheck(plain, admission)
  t.equal(typeof judge === 'function' && shown(await judge()), 'password dev ann')
})

t.test('a stranger, and a user without a password, cost a hash as a wrong password does', async t => {
  const asked: (string | undefined)[] = []
  const counting: typeof hasher = {
    ...hasher,
    verify: (...question) => hasher.verify(...question),
    verifyUnknown: async (_entries, username) => {
      asked.push(username)
      return false
    }
  }
  const policy = policyFrom({ allowAnonymous: true, passwords: ann }, counting, recordLog())
  for (const credentials of [sent('eve', 'right'), sent('ann'), sent('ann', 'wrong')]) {
    t.equal(shown(await policy.authenticate(plain, credentials)), 'not-authorised')
  }
  t.same(asked, ['eve', 'ann'])
})

t.test('after ten failures the next try waits, also with the right password', async t => {
  const waits: number[] = []
  const log = recordLog()
  const policy = policyFrom({ passwords: ann }, hasher, log, async milliseconds => void waits.push(milliseconds))
  for (let i = 0; i < 11; i++) await policy.authenticate(plain, sent('ann', 'wrong'))
  t.equal(shown(await policy.authenticate(plain, sent('ann', 'right'))), 'password dev ann')
  t.ok(waits.length > 0 && waits.every(wait => wait > 0))
  t.match(log.lines[0], /^Login from 192\.0\.2\.1:5000 as 'ann' delayed by \d+ ms/)
})

t.test('many connections at once do not get round the delay', async t => {
  const log = recordLog()
  const sleeping: (() => void)[] = []
  const policy = policyFrom({ passwords: ann }, hasher, log, () => new Promise(resolve => sleeping.push(resolve)))
  for (let i = 0; i < 10; i++) await policy.authenticate(plain, sent('ann', `wrong ${i}`))
  const guesses = Array.from({ length: 100 }, (_, i) => policy.authenticate(plain, sent('ann', `guess ${i}`)))
  t.equal(sleeping.length, 20)
  const elsewhere = policy.authenticate({ ...plain, remoteAddress: '198.51.100.1' }, sent('ann', 'right'))
  t.equal(sleeping.length, 21)
  for (const wake of sleeping) wake()
  t.equal(shown(await elsewhere), 'password dev ann')
  t.equal((await Promise.all(guesses)).filter(admission => shown(admission) === 'busy').length, 80)
})

t.test('one address that asks for much takes no place from another', async t => {
  const queue = openPasswordHasher({ maxWaiting: 4 })
  t.teardown(() => queue.close())
  const policy = policyFrom({ passwords: ann }, queue, recordLog())
  const flood = Array.from({ length: 20 }, (_, i) => policy.authenticate(plain, sent(`user ${i}`, 'x')))
  const admission = await policy.authenticate({ ...plain, remoteAddress: '198.51.100.1' }, sent('ann', 'right'))
  t.equal(shown(admission), 'password dev ann')
  await Promise.all(flood)
})

t.test('the policy is frozen', async t => {
  t.ok(Object.isFrozen(policy({})))
})
