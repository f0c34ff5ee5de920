// What people get wrong at a start, given to the real mosquitto: where it refuses as well, it ends with the same status.

import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { exitStatus } from '../../dist/errors.js'
import { causeFolder, fixtures, refusal } from '../helpers/cause-folder.js'
import { confCauses, fileCauses, hashCauses } from '../helpers/causes.js'
import { mosquittoVersion, type Start, startMosquitto } from '../helpers/real-mosquitto.js'

/** Where it takes what we refuse, or ends otherwise. A mark that is no longer true must go. */
const differences: readonly (readonly [said: RegExp, reason: string])[] = [
  [/password file 'p'/, '2.1: 2.0 skips what is wrong in a password file'],
  [/value not a number|value out of range/, '2.1: 2.0 reads numbers with atoi'],
  [/stable connection period/, '2.1: 2.0 knows no third number'],
  [/'cafile' option requires a listener|certfile and keyfile|capath "nope"/, '2.1: 2.0 starts without TLS'],
  [/'require_certificate true' needs/, 'ours: it would open a plain text listener, or refuse everybody'],
  [/Unsupported tls_version/, '2.1: 2.0 looks at it where TLS begins'],
  [/include_dir option is only valid/, '2.1: 2.0 reads nested folders'],
  [/NUL byte/, 'ours: for C the line ends there'],
  [/not UTF-8, which no topic/, 'ours: such a rule matches nothing'],
  [/#!\w|certificate cannot be made|enrolment listener cannot sign/, 'ours: a comment to Mosquitto'],
  [/bind_interface|protocol websockets|^Plugin '\/x\//, 'ours: not supported yet, or never'],
  [/psk_hint|PSK encryption|tls_version tlsv1\.3/, 'ours: nobody could come in, or by other keys than were meant'],
  [/not signed by that CA/, 'ours: it refuses every client instead'],
  [/Unable to open unix socket "(taken|server)/, 'ours: it takes the name away from whoever has it'],
  [/Unable to open log file/, '2.1: 2.0 neither runs nor ends'],
  [/open the store|newer Mosquitero/, 'ours: the store is another one']
]

const is20 = mosquittoVersion().startsWith('2.0.')
const causes = [...confCauses, ...fileCauses, ...hashCauses].filter(({ env, byCommand }) => !env && !byCommand)

function compare(t: Test, said: string, ours: number, { accepted, status, output }: Start): void {
  const [, reason] = differences.find(([pattern]) => pattern.test(said)) ?? []
  const isSame = !accepted && status === ours
  if (reason === undefined) t.ok(isSame, `${said} ends with ${ours}: ${accepted ? 'it is taken' : `${status}, ${output}`}`)
  else if (is20 || reason.startsWith('ours')) t.notOk(isSame, `${said}: ${reason}`)
}

t.test('where Mosquitto refuses too, it ends with the same status', { jobs: 4, timeout: 120_000 }, async t => {
  const shared = await fixtures(t)
  for (const cause of causes) {
    const dir = await causeFolder(t, shared, cause)
    const ours = exitStatus[(await refusal(dir, cause)).code]
    // Started by root it would become a user that may not read our files.
    if (process.getuid?.() === 0) appendFileSync(join(dir, 'm.conf'), 'user root\n')
    const said = String(cause.said)
    void t.test(said.slice(0, 100), { buffered: true }, async t => compare(t, said, ours, await startMosquitto(dir, 'm.conf')))
  }
})
