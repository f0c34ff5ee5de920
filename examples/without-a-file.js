// A broker that a program configures: mosquitto.conf's options as an object, and hooks that are asked beside them. Both must agree.

import { createServer } from 'mosquitero'

const server = await createServer({
  config: {
    listeners: [{ port: Number(process.env.PORT ?? 1883), address: '127.0.0.1', allow_anonymous: true, max_qos: 1 }],
    max_queued_messages: 100,
    log_type: ['error', 'warning']
  },
  hooks: {
    authorizePublish: (client, packet, done) => done(packet.topic.startsWith('plant/') ? null : new Error('only plant/… is open'))
  }
})

server.broker.on('clientReady', client => console.log(`${client.id} is here`))
server.broker.subscribe(
  'plant/#',
  (packet, done) => {
    console.log(`${packet.topic}: ${packet.payload}`)
    done()
  },
  () => console.log('listening to plant/#')
)
console.log(`port ${server.ports[0]}`)

process.once('SIGTERM', () => server.close())
