// The broker of the command line in this process, with its mosquitto.conf: node examples/with-a-file.js FILE

import { createServer } from 'mosquitero'

const server = await createServer({ config: process.argv[2] ?? 'config/mosquitto.conf' })
console.log(`ports ${server.ports.join(', ')}`)

process.on('SIGHUP', async () => {
  const { applied, problems } = await server.reload()
  console.log(applied ? 'reloaded' : `refused: ${problems.map(({ message }) => message).join(' ')}`)
})
process.once('SIGTERM', () => server.close())
