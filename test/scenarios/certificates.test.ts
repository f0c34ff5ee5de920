// docs/certificates.md, typed as it stands, and what comes of it: the device that is revoked stays out, the others come in.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { freePort, must, run, startBroker, userLine } from '../helpers/command.js'

const document = readFileSync('docs/certificates.md', 'utf8')
const blocks = (language: string) =>
  [...document.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(([, text = '']) => text)

t.test('the commands of the page work in its order, and the broker judges by them', async t => {
  const dir = t.testdir()
  const port = await freePort()
  const main = join(process.cwd(), 'dist/cli/main.js')
  const commands = blocks('sh')
  t.ok(commands.length >= 8)
  const script = `set -e\nmosquitero() { '${process.execPath}' '${main}' "$@"; }\n${commands.join('')}`
  const output = await must(t, 'bash', ['-c', script], { cwd: dir })
  t.match(output, /Revoked: [\dA-F]{32} \/CN=press-7\nRevoked: /)
  t.notMatch(output, /example(?!\.org)/, 'no passphrase is shown')
  writeFileSync(join(dir, 'mosquitto.conf'), `${userLine}${blocks('conf').join('').replace('8883', `${port} 127.0.0.1`)}`)
  const broker = await startBroker(t, ['-c', 'mosquitto.conf'], { cwd: dir })
  const publish = (name: string, cert: string, key: string) =>
    run(
      t,
      'mosquitto_pub',
      ['-h', 'localhost', '-p', `${port}`, '--cafile', 'certs/ca/ca.crt', '--cert', cert, '--key', key, '-i', name, '-t', 't', '-m', 'm'],
      { cwd: dir }
    )
  t.match(await publish('pump', 'certs/client/pump-3.crt', 'pump-3.key'), { status: 0 })
  t.not((await publish('press', 'certs/client/press-7.crt', 'certs/client/press-7.key')).status, 0)
  await broker.line(/certificate is revoked .*CN=press-7/)

  // A list that is replaced while the broker runs is taken.
  const certs = (...args: string[]) => must(t, process.execPath, [main, 'certs', ...args], { cwd: dir })
  await certs('revoke', 'pump-3')
  await certs('crl')
  await broker.line(/Config reloaded: .*crlfile/)
  t.not((await publish('pump', 'certs/client/pump-3.crt', 'pump-3.key')).status, 0)
  t.match(await certs('expiring', '-c', 'mosquitto.conf', '--days', '9'), '')
})
