// A folder for each case of causes.ts, with what its configuration names.

import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import { BrokerError, createServer } from '../../dist/index.js'
import { issueCrl } from '../../dist/pki/authority.js'
import { DiskStore } from '../../dist/store/disk.js'
import { encodeJson, metaKey } from '../../dist/store/disk-records.js'
import { recordLog } from './bare-broker.js'
import type { Cause } from './causes.js'
import { freePort } from './command.js'
import { openssl } from './openssl.js'
import { testPki } from './pki.js'

interface TestScope {
  teardown(close: () => unknown): void
}

const daysFromNow = (days: number): Date => new Date(Date.now() + days * 86_400_000)
const later = { period: { notBefore: daysFromNow(2), notAfter: daysFromNow(60) } }

/** Certificates, keys and lists, good and bad, under the names that the cases use; resolves with their folder. */
export async function fixtures(t: TestScope): Promise<string> {
  const pki = await testPki(t)
  const file = (name: string) => join(pki.dir, name)
  const [old, early] = [await pki.authority('Old CA', { expired: true }), await pki.authority('New CA', later)]
  const server = await pki.server({ period: { notBefore: daysFromNow(-1), notAfter: daysFromNow(30) } })
  await pki.client('other')
  await pki.client('client', { names: ['localhost'] })
  await pki.server({ file: 'nameless', names: [] })
  await pki.server({ file: 'expired', expired: true })
  await pki.server({ file: 'early', ...later })
  await pki.server({ file: 'namesake', subject: [['CN', 'Test CA']] })
  await pki.server({
    file: 'similar',
    subject: [
      ['O', 'Works'],
      ['CN', 'Test CA']
    ]
  })
  const root = await pki.authority('Root', {})
  await pki.server({ file: 'below', ca: await pki.authority('Old CA', { issuer: root, expired: true, file: 'below-ca' }) })
  const namesake = await pki.authority('Test CA', { file: 'namesake-ca' })
  await pki.crl({ ca: namesake, file: file('forged.crl') })
  await pki.crl({ ca: old, file: file('other.crl') })
  await pki.crl({ expired: true, file: file('expired.crl') })
  writeFileSync(file('early.crl'), await issueCrl(pki.root.authority, [], { thisUpdate: daysFromNow(1), nextUpdate: daysFromNow(60) }))
  openssl('pkey', '-in', server.key, '-aes256', '-passout', 'pass:x', '-out', file('locked.key'))
  if (!existsSync(early.cert)) throw new Error('the certificate of New CA is not where it should be')
  return pki.dir
}

/** Makes the folder of a case; it goes, with all that is open in it, at the end of the test. */
export async function causeFolder(t: TestScope, fixtures: string, { conf, files = {} }: Cause): Promise<string> {
  // Not t.testdir(), whose path is too long for a socket; readable for the account that a broker of root becomes.
  const dir = mkdtempSync(join(tmpdir(), 'cause-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  chmodSync(dir, 0o755)
  const port = String(await freePort())
  const taken = conf.includes('TAKEN') ? String(await listen(t, 0)) : ''
  for (const [name, text] of Object.entries({ 'm.conf': conf, ...files })) {
    mkdirSync(dirname(join(dir, name)), { recursive: true })
    write(join(dir, name), text.replaceAll('PORT', port).replaceAll('TAKEN', taken))
  }
  const words = new Set(conf.split(/[\s/]+/))
  for (const name of readdirSync(fixtures)) if (words.has(name)) copyFileSync(join(fixtures, name), join(dir, name))
  if (words.has('taken.sock')) await listen(t, join(dir, 'taken.sock'))
  if (words.has('busy')) await holdStore(t, storeIn(dir, 'busy'))
  if (words.has('newer')) await newerStore(storeIn(dir, 'newer'))
  return dir
}

/** Why a start in that folder is refused. Changes the working directory meanwhile. */
export async function refusal(dir: string, { env }: Cause): Promise<BrokerError> {
  const before = process.cwd()
  process.chdir(dir)
  try {
    const server = await createServer({ config: 'm.conf', verbosity: 'quiet', env: { ...env } })
    await server.close()
  } catch (error) {
    if (error instanceof BrokerError) return error
    throw error
  } finally {
    process.chdir(before)
  }
  throw new Error('it started')
}

/** A text that is `MODE 666` is a file of that mode; password files are for their owner unless a case is about that. */
function write(path: string, text: string): void {
  const [, mode] = /^MODE (\d+)$/.exec(text) ?? []
  writeFileSync(path, mode === undefined ? bytes(text) : '')
  if (mode !== undefined) chmodSync(path, Number.parseInt(mode, 8))
}

function bytes(text: string): Buffer {
  return Buffer.concat(
    text.split(/(\\x[\da-f]{2})/).map(part => (/^\\x/.test(part) ? Buffer.from(part.slice(2), 'hex') : Buffer.from(part)))
  )
}

function storeIn(dir: string, folder: string): string {
  mkdirSync(join(dir, folder))
  return join(dir, folder, 'mosquitto.db')
}

async function listen(t: TestScope, place: number | string): Promise<number> {
  const server = createTcpServer()
  t.teardown(() => server.close())
  await new Promise<void>(resolve =>
    typeof place === 'string' ? server.listen(place, resolve) : server.listen(place, '127.0.0.1', resolve)
  )
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

async function holdStore(t: TestScope, file: string): Promise<void> {
  const store = new DiskStore({ file, log: recordLog(), sync: false })
  await store.open()
  t.teardown(() => store.close())
}

async function newerStore(file: string): Promise<void> {
  const level = new ClassicLevel<Buffer, Buffer>(`${file}.mosquitero`, { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  await level.put(metaKey('format'), encodeJson(metaKey('format'), { store: 'mosquitero', version: 9 }))
  await level.close()
}
