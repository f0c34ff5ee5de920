// node sign.ts KEY [MESSAGE]: prints the signed message for `mosquitto_pub -s`. Without MESSAGE it is what comes from standard input.

import { readFileSync } from 'node:fs'
import { readPrivateKey, Signer } from './signed-message.ts'

const [keyFile, message] = process.argv.slice(2)
if (keyFile === undefined) {
  console.error('Usage: node sign.ts KEY [MESSAGE]')
  process.exit(2)
}
try {
  const signer = new Signer(readPrivateKey(readFileSync(keyFile)))
  process.stdout.write(signer.sign(message ?? readFileSync(0)))
} catch (error) {
  console.error(`Error: ${error instanceof Error ? error.message : error}.`)
  process.exit(1)
}
