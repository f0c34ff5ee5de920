// A program that was written for Aedes: the first import is what changed.

import { createServer } from 'node:net'
import { Broker as Aedes } from 'mosquitero'

const aedes = await Aedes.createBroker({
  authenticate: (client, username, password, done) => done(null, username === 'ann' && String(password) === 'secret'),
  authorizePublish: (client, packet, done) => done(packet.topic.startsWith('plant/') ? null : new Error('wrong topic')),
  authorizeSubscribe: (client, subscription, done) => done(null, subscription.topic === 'secret' ? null : subscription)
})
aedes.on('clientReady', client => console.log(`${client.id} is here`))
aedes.on('publish', (packet, client) => client && console.log(`${client.id}: ${packet.topic} ${packet.payload}`))
aedes.on('clientError', (client, error) => console.log(`${client.id}: ${error.message}`))

const server = createServer(aedes.handle)
server.listen(process.env.PORT ?? 1883, () => console.log(`port ${server.address().port}`))
