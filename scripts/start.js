// npm start: installs, builds, makes development certificates, runs the broker on 8883 and prints two lines to try it with.
// Arguments go to the broker after its configuration, e.g. `npm start -- -v`.

import { mkdirSync } from 'node:fs'
import { prepare, root } from './prepare.js'

process.chdir(root)
prepare()

// Only now are there packages and a build to import.
const { runCerts } = await import('../dist/cli/certs.js')
const { terminalIo } = await import('../dist/cli/terminal.js')
const { runBroker } = await import('../dist/cli/run.js')

// What is there is never overwritten; what is wrong with it is said, and the broker still starts or says why it cannot.
await makeCertificates()
// The `persistence_location` of config/mosquitto.conf, which a broker doesn't make.
mkdirSync('data', { recursive: true })
process.exitCode = await runBroker(['-c', 'config/mosquitto.conf', ...process.argv.slice(2)], printHowToTry)

function makeCertificates() {
  return runCerts(['init', '--dev', '--dir', 'certs'], terminalIo())
}

function printHowToTry() {
  const tls = '--cafile certs/ca/ca.crt --cert certs/client/client.crt --key certs/client/client.key'
  process.stdout.write(`
Mosquitero is running. Try it from two other terminals in ${root}:

  mosquitto_sub -h localhost -p 8883 ${tls} -t 'public/#' -v
  mosquitto_pub -h localhost -p 8883 ${tls} -t public/hello -m 'Hello World'

`)
}
