// node verify.ts KEY [STATE]: reads the messages of one sender from standard input, one a line in hexadecimal, as `mosquitto_sub -F %x` prints
// them, so that they are the same to the byte. KEY is the sender's public key or certificate. STATE is a file that keeps the time of the
// last message, so that a replay is seen after a restart too.

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { readPublicKey, Verifier } from './signed-message.ts'

const [keyFile, state] = process.argv.slice(2)
if (keyFile === undefined) {
  console.error('Usage: node verify.ts KEY [STATE]')
  process.exit(2)
}
try {
  const last = state !== undefined && existsSync(state) ? Number(readFileSync(state, 'utf8')) : 0
  if (!Number.isSafeInteger(last)) throw new Error(`${state} holds no time`)
  const verifier = new Verifier(readPublicKey(readFileSync(keyFile)), { last })
  for await (const line of createInterface({ input: process.stdin })) {
    const verdict = verifier.verify(Buffer.from(line, 'hex'))
    if (!verdict.ok) {
      console.error(`refused: ${verdict.reason}`)
      continue
    }
    // Before anybody acts on it: after a crash it would be accepted once more.
    if (state !== undefined) {
      writeFileSync(`${state}.new`, `${verifier.last}\n`)
      renameSync(`${state}.new`, state)
    }
    console.log(`${new Date(verdict.time * 1000).toISOString()} ${verdict.message}`)
  }
} catch (error) {
  console.error(`Error: ${error instanceof Error ? error.message : error}.`)
  process.exit(1)
}
