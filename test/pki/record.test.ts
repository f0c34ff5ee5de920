import { appendFileSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { createAuthority, issueClient, issueCrl, parseAuthority } from '../../dist/pki/authority.js'
import { Ca } from '../../dist/pki/ca.js'
import { pathsOf, writeIssued } from '../../dist/pki/files.js'
import { Invitations } from '../../dist/pki/invitations.js'
import { commonNameOf, formatEntry, parseRecord, recordSerial, revocationReasons } from '../../dist/pki/record.js'
import { mosquitero } from '../helpers/command.js'
import { openssl } from '../helpers/openssl.js'

async function openCa(t: Test): Promise<{ ca: Ca; dir: string; files: ReturnType<typeof pathsOf> }> {
  const dir = t.testdir()
  const files = pathsOf(join(dir, 'ca'))
  await writeIssued(files, await createAuthority({ commonName: 'Casa CA' }))
  return { ca: await Ca.open(files), dir, files }
}

const client = (commonName: string) => ({ profile: 'client', commonName }) as const

const sorted = (entry: object) => Object.entries(entry).toSorted(([a], [b]) => (a < b ? -1 : 1))
const seconds = (date: Date) => new Date(Math.floor(date.getTime() / 1000) * 1000)

t.test('what is written is read back', async () => {
  const entry = fc.record({
    notAfter: fc.date({ min: new Date(0), max: new Date('9999-01-01'), noInvalidDate: true }).map(seconds),
    serial: fc.bigInt({ min: 1n, max: 2n ** 160n }).map(number => recordSerial(number.toString(16))),
    file: fc.constantFrom('unknown', 'newcerts/01.pem'),
    subject: fc.constantFrom('/CN=a', '/C=ES/O=x/CN=Jos\\xC3\\xA9'),
    revoked: fc.option(
      fc.record({
        at: fc.date({ min: new Date(0), max: new Date('2100-01-01'), noInvalidDate: true }).map(seconds),
        reason: fc.constantFrom(...revocationReasons)
      }),
      { nil: undefined }
    )
  })
  fc.assert(
    fc.property(entry, ({ revoked, ...rest }) => {
      const whole = { ...rest, ...(revoked && { revoked }) }
      const [line] = parseRecord(formatEntry(whole))
      return JSON.stringify(line?.entry && sorted(line.entry)) === JSON.stringify(sorted(whole))
    })
  )
})

t.test('whatever a line says, it is an entry or damaged, and costs no other', async t => {
  const good = 'V\t300101000000Z\t\t01\tunknown\t/CN=a'
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), text => {
      const lines = parseRecord(`${good}\n${text}\n${good.replace('01\t', '02\t')}\n`)
      return lines[0]?.entry?.serial === '01' && lines.at(-1)?.entry?.serial === '02'
    })
  )
  for (const bad of [
    'V\t300101000000Z\t\t01\tunknown',
    'V\t301301000000Z\t\t01\tunknown\t/CN=a',
    'X\t300101000000Z\t\t01\tunknown\t/CN=a',
    'R\t300101000000Z\t\t01\tunknown\t/CN=a',
    'R\t300101000000Z\t290101000000Z,nosuchreason\t01\tunknown\t/CN=a',
    'V\t300101000000Z\t\t0x1\tunknown\t/CN=a',
    'V\t300101000000Z\t\t01\tunknown\tCN=a'
  ]) {
    t.equal(parseRecord(bad)[0]?.entry, undefined, bad)
  }
})

t.test('many that ask at once, in this process and others, are all recorded', async t => {
  const { ca, dir } = await openCa(t)
  mkdirSync(join(dir, 'certs/ca'), { recursive: true })
  for (const name of ['ca.crt', 'ca.key']) writeFileSync(join(dir, 'certs/ca', name), readFileSync(join(dir, name)))
  const shared = await Ca.open(pathsOf(join(dir, 'certs/ca/ca')))
  const others = ['x1', 'x2', 'x3'].map(name => mosquitero(t, ['certs', 'client', name], { cwd: dir }).ended)
  const here = Array.from({ length: 20 }, (_, index) => shared.issue(client(`c${index}`)))
  t.ok((await Promise.all(others)).every(({ status }) => status === 0))
  await Promise.all(here)
  const { entries, damaged } = await shared.record.read()
  t.same(damaged, [])
  t.same(entries.map(commonNameOf).toSorted(), ['x1', 'x2', 'x3', ...Array.from({ length: 20 }, (_, index) => `c${index}`)].toSorted())
  t.same((await ca.record.read()).entries, [])
})

t.test('a lock that a dead process left is taken over', async t => {
  const { ca, dir } = await openCa(t)
  const lock = join(dir, 'index.txt.lock')
  for (const [time, name] of [
    [-60_000, 'a'],
    [60_000, 'b']
  ] as const) {
    writeFileSync(lock, '1 x\n')
    utimesSync(lock, new Date(Date.now() + time), new Date(Date.now() + time))
    await ca.issue(client(name))
  }
  t.equal((await ca.record.read()).entries.length, 2, 'also one of a time when the clock was fast')
})

t.test('a line that was cut off spoils nothing but what it said, and no list is made without it', async t => {
  const { ca, dir } = await openCa(t)
  await ca.issue(client('a'))
  appendFileSync(join(dir, 'index.txt'), 'R\t2903')
  await ca.issue(client('b'))
  const [b] = await ca.find('b')
  await ca.revoke([b?.serial ?? ''], 'keyCompromise')
  const { entries, damaged } = await ca.record.read()
  t.same([entries.map(commonNameOf), damaged], [['a', 'b'], [2]])
  t.match(readFileSync(join(dir, 'index.txt'), 'utf8'), /^R\t2903$/m)
  await t.rejects(ca.crl({ days: 1 }), { code: 'ERR_PKI_INPUT', message: /index\.txt:2 is damaged, and it may have said/ })
})

t.test('in a record of two hundred thousand lines one is found, and one more is written', async t => {
  const { ca } = await openCa(t)
  const { serial } = await ca.issue(client('first'))
  const lines = Array.from({ length: 200_000 }, (_, i) => {
    const number = recordSerial((2 ** 40 + i).toString(16))
    return `V\t300101000000Z\t\t${number}\tnewcerts/${number}.pem\t/O=${'x'.repeat(40)}/CN=device-${i}\n`
  })
  appendFileSync(ca.record.path, lines.join(''))
  t.ok(statSync(ca.record.path).size > 16 * 2 ** 20)
  const { serial: last } = await ca.issue(client('last'))
  t.match(await ca.record.find(recordSerial(serial)), { subject: '/CN=first' })
  t.match(await ca.record.find(recordSerial(last)), { subject: '/CN=last' })
  t.match(await ca.record.find('0100000186A0'), { subject: /CN=device-100000$/ })
  t.equal(await ca.record.find('0100000186'), undefined)
  appendFileSync(ca.record.path, `R\t300101000000Z\t250101000000Z\t${recordSerial(last)}\tunknown\t/CN=last\n`)
  t.match(await ca.record.find(recordSerial(last)), { revoked: { reason: 'unspecified' } }, 'of two that contradict each other the worse')
})

t.test("what root does in another account's folder is that account's, so that its broker can go on", async t => {
  const { files, dir } = await openCa(t)
  const isRoot = process.getuid?.() === 0
  if (isRoot) chownSync(dir, 65534, 65534)
  const ca = await Ca.open(files)
  await ca.issue(client('press-7'))
  await new Invitations(dir).invite('press-8')
  await ca.revokeName('press-7', 'superseded')
  const made = ['index.txt', 'index.txt.attr', 'newcerts', `newcerts/${readdirSync(join(dir, 'newcerts'))[0]}`, 'invitations.jsonl']
  for (const name of made) t.equal(statSync(join(dir, name)).uid, isRoot ? 65534 : process.getuid?.(), name)
})

t.test('openssl ca goes on where we stopped, and we where it stopped', async t => {
  const { ca, dir, files } = await openCa(t)
  await ca.issue(client('ours'))
  await ca.issue(client('ours'))
  writeFileSync(
    join(dir, 'ca.cnf'),
    `[ca]\ndefault_ca = d\n[d]\ndatabase = ${dir}/index.txt\nnew_certs_dir = ${dir}/newcerts\ncertificate = ${files.certificate}\nprivate_key = ${files.key}\nrand_serial = yes\ndefault_md = sha256\npolicy = p\ndefault_days = 9\ndefault_crl_days = 9\n[p]\ncommonName = supplied\n`
  )
  const config = ['-config', join(dir, 'ca.cnf')]
  const csr = join(dir, 'theirs.csr')
  openssl('req', '-new', '-newkey', 'rsa:2048', '-nodes', '-keyout', join(dir, 'theirs.key'), '-out', csr, '-subj', '/CN=theirs')
  openssl('ca', ...config, '-batch', '-notext', '-in', csr, '-out', join(dir, 'theirs.crt'))
  const [ours, again] = await ca.find('ours')
  const [theirs] = await ca.find('theirs')
  openssl('ca', ...config, '-revoke', join(dir, `newcerts/${ours?.serial}.pem`), '-crl_reason', 'keyCompromise')
  t.match((await ca.find(ours?.serial ?? ''))[0]?.revoked, { reason: 'keyCompromise' })
  await ca.revoke([theirs?.serial ?? '', again?.serial ?? ''], 'cACompromise')
  for (const crl of [openssl('ca', ...config, '-gencrl'), await ca.crl({ days: 3 })]) {
    writeFileSync(join(dir, 'x.crl'), crl)
    const text = openssl('crl', '-in', join(dir, 'x.crl'), '-noout', '-text', '-CAfile', files.certificate)
    for (const serial of [ours, again, theirs]) t.match(text, `Serial Number: ${serial?.serial}`)
    t.match(text, /Key Compromise[\s\S]*CA Compromise/)
  }
})

t.test('a list of many is made in no time, whatever the CA signs with, and openssl reads it', async t => {
  const dir = t.testdir()
  const revoked = Array.from({ length: 5_000 }, (_, index) => ({
    serial: recordSerial((0xff00000000n + BigInt(index)).toString(16)),
    at: new Date(index % 2 === 0 ? '2026-01-02T03:04:05Z' : '2051-01-02T03:04:05Z'),
    reason: revocationReasons[index % revocationReasons.length] ?? 'unspecified'
  }))
  openssl(
    'req',
    '-new',
    '-x509',
    '-newkey',
    'ed25519',
    '-nodes',
    '-keyout',
    join(dir, 'ed.key'),
    '-out',
    join(dir, 'ed.crt'),
    '-subj',
    '/CN=Ed',
    '-extensions',
    'v3_ca'
  )
  const made = [await createAuthority({ commonName: 'Ec' }), await createAuthority({ commonName: 'Rsa', key: 'rsa:2048' })]
  const ed = { certificate: readFileSync(join(dir, 'ed.crt'), 'utf8'), key: readFileSync(join(dir, 'ed.key'), 'utf8') }
  for (const source of [...made, ed]) {
    const start = process.cpuUsage()
    const crl = await issueCrl(await parseAuthority(source), revoked, {
      thisUpdate: new Date(),
      nextUpdate: new Date(Date.now() + 86_400_000)
    })
    t.ok(process.cpuUsage(start).user < 2_000_000)
    writeFileSync(join(dir, 'x.crl'), crl)
    writeFileSync(join(dir, 'x.crt'), source.certificate)
    const text = openssl('crl', '-in', join(dir, 'x.crl'), '-noout', '-text', '-CAfile', join(dir, 'x.crt'))
    t.equal(text.match(/Serial Number/g)?.length, revoked.length)
    t.match(text, /Serial Number: FF00000001\n {8}Revocation Date: Jan {2}2 03:04:05 2051 GMT\n.*\n.*\n {16}Key Compromise/)
    t.match(text, /Serial Number: FF00000000\n {8}Revocation Date: Jan {2}2 03:04:05 2026 GMT\n {4}Serial/, 'no reason is none')
  }
})

t.test('what another CA signed is neither renewed nor revoked', async t => {
  const { ca } = await openCa(t)
  const other = await parseAuthority(await createAuthority({ commonName: 'Casa CA' }))
  const { certificate } = await issueClient(other, { commonName: 'a' })
  await t.rejects(ca.renew(certificate, {}), { code: 'ERR_PKI_INPUT', message: /was not signed by this CA/ })
})
