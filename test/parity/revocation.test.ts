// The real mosquitto and ours with the same certificates and revocation lists: who comes in?

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort, mosquitero, run, start, userLine } from '../helpers/command.js'
import { type CertificateFiles, type TestPki, testPki } from '../helpers/pki.js'

interface Case {
  readonly name: string
  /** Made of the list with `bad` on it. */
  lists(pki: TestPki, bad: CertificateFiles): Promise<readonly string[]>
  readonly comesIn: { readonly good: boolean; readonly bad: boolean; readonly below: boolean }
}

const revoke = (pki: TestPki, bad: CertificateFiles) => pki.revoke(bad, { file: join(pki.dir, 'root.crl') })
const ofMiddle = async (pki: TestPki) => pki.crl({ ca: await middleOf(pki), file: join(pki.dir, 'middle.crl') })
const middles = new WeakMap<TestPki, ReturnType<TestPki['authority']>>()

function middleOf(pki: TestPki): ReturnType<TestPki['authority']> {
  const known = middles.get(pki) ?? pki.authority('Middle', { issuer: pki.root })
  middles.set(pki, known)
  return known
}

const cases: readonly Case[] = [
  {
    name: 'a list for each CA',
    lists: async (pki, bad) => [await revoke(pki, bad), await ofMiddle(pki)],
    comesIn: { good: true, bad: false, below: true }
  },
  {
    name: 'an expired list',
    lists: async (pki, bad) => [await pki.revoke(bad, { expired: true }), await ofMiddle(pki)],
    comesIn: { good: false, bad: false, below: true }
  },
  {
    name: 'a list of another CA alone',
    lists: async pki => [await pki.crl({ ca: await pki.authority('Other') })],
    comesIn: { good: false, bad: false, below: false }
  },
  {
    name: 'no list of the root, which signs no client itself',
    lists: async pki => [await ofMiddle(pki)],
    comesIn: { good: false, bad: false, below: true }
  },
  {
    name: 'a revoked CA between, which is not looked up',
    async lists(pki, bad) {
      const { authority } = await middleOf(pki)
      pki.root.revoked.push({ serial: authority.x509.serialNumber, at: new Date(), reason: 'cACompromise' })
      return [await revoke(pki, bad), await ofMiddle(pki)]
    },
    comesIn: { good: true, bad: false, below: true }
  }
]

for (const { name, lists, comesIn } of cases) {
  t.test(`${name}: as mosquitto decides`, async t => {
    const pki = await testPki(t)
    const clients = {
      good: await pki.client('good'),
      bad: await pki.client('bad'),
      below: { ...(await pki.client('below', { ca: await middleOf(pki) })), ca: pki.ca }
    }
    const crlfile = join(pki.dir, 'lists.pem')
    writeFileSync(crlfile, (await lists(pki, clients.bad)).map(path => readFileSync(path, 'latin1')).join(''))
    for (const broker of ['mosquitto', 'mosquitero'] as const) {
      const port = await open(t, pki, crlfile, broker)
      for (const [client, files] of Object.entries(clients)) {
        t.equal(await isLetIn(t, port, files), comesIn[client as keyof typeof comesIn], `${broker}: ${client}`)
      }
    }
  })
}

async function open(t: Test, pki: TestPki, crlfile: string, command: 'mosquitto' | 'mosquitero'): Promise<number> {
  const { cert, key } = await pki.server()
  const port = await freePort()
  const conf = join(pki.dir, `${command}.conf`)
  const files = `cafile ${pki.ca}\ncertfile ${cert}\nkeyfile ${key}\ncrlfile ${crlfile}\n`
  writeFileSync(conf, `listener ${port} 127.0.0.1\n${files}require_certificate true\nallow_anonymous true\n${userLine}`)
  const broker = command === 'mosquitto' ? start(t, command, ['-c', conf]) : mosquitero(t, ['-c', conf])
  await broker.line(/running$/)
  return port
}

async function isLetIn(t: Test, port: number, { ca, cert, key }: CertificateFiles): Promise<boolean> {
  const files = ['--cafile', ca, '--cert', cert, '--key', key]
  const { status } = await run(t, 'mosquitto_pub', ['-h', '127.0.0.1', '-p', `${port}`, ...files, '-t', 'a', '-m', 'x', '-q', '1'])
  return status === 0
}
