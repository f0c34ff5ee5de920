import t from 'tap'
import { type Gauges, Stats } from '../../dist/broker/stats.js'
import { SysTopics, untilNextTick } from '../../dist/broker/sys-topics.js'

const idle: Gauges = {
  clientsTotal: 0,
  clientsConnected: 0,
  messagesStored: 0,
  messageBytesStored: 0,
  subscriptions: 0,
  sharedSubscriptions: 0,
  retainedMessages: 0,
  packetsOut: 0,
  packetBytesOut: 0,
  heapCurrent: 1000,
  heapMaximum: 1000
}

/** By topic, without `$SYS/broker/`. */
const asObject = (news: ReturnType<SysTopics['tick']>): Record<string, string> =>
  Object.fromEntries(news.map(({ topic, payload }) => [topic.replace('$SYS/broker/', ''), payload]))

t.test('the first tick tells everything, the next what has changed', async t => {
  const stats = new Stats()
  const topics = new SysTopics('1.2.3', 5_000)
  const first = asObject(topics.tick(stats, idle, 5_000))
  t.equal(first.version, 'mosquitero version 1.2.3')
  t.equal(first.uptime, '0 seconds')
  t.equal(first['clients/total'], '0')
  t.equal(first['heap/current'], '1000')
  t.equal(first['load/connections/15min'], '0.00')
  t.same(topics.tick(stats, idle, 5_000), [], 'no time has passed')
  t.same(asObject(topics.tick(stats, idle, 15_999)), { uptime: '10 seconds' })
})

t.test('what others have to say is said too, and cleared when they say it no more', async t => {
  const topics = new SysTopics('1', 0)
  topics.tick(new Stats(), idle, 0)
  const more = [
    { topic: '$SYS/broker/x/a', payload: '1' },
    { topic: '$SYS/broker/x/b', payload: '2' }
  ]
  t.same(topics.tick(new Stats(), idle, 0, more), more)
  t.same(topics.tick(new Stats(), idle, 0, more), [])
  t.same(topics.tick(new Stats(), idle, 0, more.slice(1)), [{ topic: '$SYS/broker/x/a', payload: '' }])
  t.same(topics.tick(new Stats(), idle, 0, more), more.slice(0, 1), 'and said again')
})

t.test('old names say what the new ones say', async t => {
  const stats = new Stats()
  const topics = new SysTopics('1', 0)
  topics.tick(stats, idle, 0)
  t.same(asObject(topics.tick(stats, { ...idle, clientsTotal: 5, clientsConnected: 3, messagesStored: 7 }, 0)), {
    'clients/total': '5',
    'clients/disconnected': '2',
    'clients/inactive': '2',
    'clients/connected': '3',
    'clients/active': '3',
    'messages/stored': '7',
    'store/messages/count': '7'
  })
})

t.test('every counter and gauge has its topic', async t => {
  const stats = new Stats()
  const topics = new SysTopics('1', 0)
  topics.tick(stats, idle, 0)
  stats.messagesReceived = 1
  stats.messagesSent = 2
  stats.bytesReceived = 3
  stats.bytesSent = 4
  stats.publishReceived = 5
  stats.publishSent = 6
  stats.publishDropped = 7
  stats.publishBytesReceived = 8
  stats.publishBytesSent = 9
  stats.socketConnections = 10
  stats.connections = 11
  stats.clientsExpired = 12
  stats.noteClients(14)
  stats.noteClients(13)
  const gauges = { ...idle, messageBytesStored: 15, subscriptions: 16, sharedSubscriptions: 17, retainedMessages: 18 }
  t.same(asObject(topics.tick(stats, { ...gauges, packetsOut: 19, packetBytesOut: 20, heapCurrent: 21, heapMaximum: 22 }, 0)), {
    'messages/received': '1',
    'messages/sent': '2',
    'bytes/received': '3',
    'bytes/sent': '4',
    'publish/messages/received': '5',
    'publish/messages/sent': '6',
    'publish/messages/dropped': '7',
    'publish/bytes/received': '8',
    'publish/bytes/sent': '9',
    'connections/socket/count': '10',
    'clients/expired': '12',
    'clients/maximum': '14',
    'store/messages/bytes': '15',
    'subscriptions/count': '16',
    'shared_subscriptions/count': '17',
    'retained messages/count': '18',
    'packet/out/count': '19',
    'packet/out/bytes': '20',
    'heap/current': '21',
    'heap/maximum': '22'
  })
})

// The numbers are mosquitto 2.0.11's, two seconds after its first client had sent 27 bytes in two packets.
t.test('loads are averages per minute that fade with e^(-t/window)', async t => {
  const stats = new Stats()
  const topics = new SysTopics('1', 0)
  topics.tick(stats, idle, 0)
  stats.connections++
  stats.socketConnections++
  stats.messagesReceived += 2
  stats.bytesReceived += 27
  const after = asObject(topics.tick(stats, idle, 2_000))
  const loads = Object.entries(after).filter(([topic]) => topic.startsWith('load/'))
  t.same(Object.fromEntries(loads), {
    'load/connections/1min': '0.98',
    'load/connections/5min': '0.20',
    'load/connections/15min': '0.07',
    'load/sockets/1min': '0.98',
    'load/sockets/5min': '0.20',
    'load/sockets/15min': '0.07',
    'load/messages/received/1min': '1.97',
    'load/messages/received/5min': '0.40',
    'load/messages/received/15min': '0.13',
    'load/bytes/received/1min': '26.55',
    'load/bytes/received/5min': '5.38',
    'load/bytes/received/15min': '1.80'
  })
  const later = asObject(topics.tick(stats, idle, 62_000))
  t.equal(later['load/bytes/received/1min'], (810 * (1 - Math.exp(-1 / 30)) * Math.exp(-1)).toFixed(2), 'a minute later 1/e of it')
})

t.test('a load that is over is told to be over', async t => {
  const stats = new Stats()
  const topics = new SysTopics('1', 0)
  topics.tick(stats, idle, 0)
  stats.publishReceived++
  const last = new Map<string, string>()
  for (let second = 10; second < 10_000; second += 10) {
    for (const { topic, payload } of topics.tick(stats, idle, second * 1000)) last.set(topic, payload)
  }
  for (const window of ['1min', '5min', '15min']) t.equal(last.get(`$SYS/broker/load/publish/received/${window}`), '0.00')
})

t.test('a steady rate shows as that rate', async t => {
  const stats = new Stats()
  const topics = new SysTopics('1', 0)
  let said: Record<string, string> = {}
  for (let second = 0; second <= 20_000; second += 10) {
    said = { ...said, ...asObject(topics.tick(stats, idle, second * 1000)) }
    stats.messagesReceived += 50
  }
  for (const window of ['1min', '5min', '15min']) t.equal(said[`load/messages/received/${window}`], '300.00')
})

t.test('ticks fall on multiples of the interval', async t => {
  t.equal(untilNextTick(1_700_000_003_250, 10), 6_750)
  t.equal(untilNextTick(1_700_000_000_000, 10), 10_000)
  t.equal(untilNextTick(1_700_000_000_999, 1), 1)
  t.equal(untilNextTick(1_700_000_000_000, 0), undefined)
})
