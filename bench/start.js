// npm run bench:start: how long a broker with many sessions takes to start, what it needs for them, and how long a client waits that pings
// while all of it is written in Mosquitto's format, while the configuration is read anew, and while a thousand sessions end.
//
//   --sessions N  with ten subscriptions each (100000)
//   --json        the figures as JSON

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { loadavg, userInfo } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { brokerCore, freePort, importing, isPinned, main, moveToLoadCore, pinned, scratchFolder } from './brokers.js'
import { table } from './figures.js'
import { describeMachine, machine, memoryOf } from './process.js'

const here = dirname(fileURLToPath(import.meta.url))
const { values: options } = parseArgs({
  options: { sessions: { type: 'string', default: '100000' }, json: { type: 'boolean', default: false } }
})
const sessions = Number(options.sessions)
const subscriptions = 10 * sessions
const ending = Math.min(1000, sessions)
/** New connections of those that end, at a time. */
const atOnce = 50

const folder = scratchFolder()
moveToLoadCore()

const loadBefore = loadavg()[0]
const empty = await measureEmpty()
const place = join(folder, 'full')
mkdirSync(place)
const fillStart = performance.now()
await finished(spawn(process.execPath, [join(here, 'fill.js'), join(place, 'mosquitto.db'), String(sessions)], { stdio: 'inherit' }))
const filling = performance.now() - fillStart
const bytesOnDisk = sizeOf(join(place, 'mosquitto.db.mosquitero'))

const broker = await start(place)
const rss = memoryOf(broker.pid)
const memory = await broker.ask('memory')
const phases = {}
await measure('quiet', () => sleep(2000))
await measure('export at SIGUSR1', () => signalled('SIGUSR1', /: Saved /))
await measure('reload at SIGHUP', () => signalled('SIGHUP', /: Config reloaded/))
await measure(`${ending} sessions end`, endSessions)
const mosquittoFile = statSync(join(place, 'mosquitto.db')).size
const stopStart = performance.now()
await broker.stop()
const stopping = performance.now() - stopStart

const report = {
  ...machine(isPinned),
  loadAverage: [loadBefore, loadavg()[0]],
  sessions,
  subscriptions,
  queued: sessions,
  retained: Math.ceil(sessions / 10),
  filling,
  startEmpty: empty.started,
  startFull: broker.started,
  longestTurnOfStart: broker.turns,
  listenersOpen: broker.listening,
  rssEmpty: empty.rss,
  rss,
  heapUsed: memory.heapUsed,
  heapPerSubscription: (memory.heapUsed - empty.heapUsed) / subscriptions,
  rssPerSubscription: (rss - empty.rss) / subscriptions,
  bytesOnDisk,
  mosquittoFile,
  phases,
  stopping
}
process.stdout.write(options.json ? `${JSON.stringify(report, undefined, 2)}\n` : tables())

async function measureEmpty() {
  const place = join(folder, 'empty')
  mkdirSync(place)
  const broker = await start(place)
  const rss = memoryOf(broker.pid)
  const { heapUsed } = await broker.ask('memory')
  await broker.stop()
  return { started: broker.started, rss, heapUsed }
}

/** With the hook that tells of its turns; resolves when it says that it runs, and has answered a client. */
async function start(place) {
  const port = await freePort()
  const file = join(place, 'bench.conf')
  const lines = [`listener ${port} 127.0.0.1`, 'allow_anonymous true', 'persistence true', `persistence_location ${place}/`]
  writeFileSync(file, `${[...lines, `user ${userInfo().username}`, 'log_dest stdout', 'log_type all'].join('\n')}\n`)
  const [program, ...args] = pinned(brokerCore, [process.execPath, ...importing('turns.js'), main, '-c', file])
  const started = performance.now()
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
  const ended = once(child, 'exit')
  let said = ''
  let look = () => {}
  child.stdout.on('data', text => {
    said = `${said}${text}`.slice(-1_000_000)
    look()
  })
  const says = words =>
    new Promise((resolve, reject) => {
      said = ''
      look = () => words.test(said) && resolve()
      child.once('exit', () => reject(new Error(`the broker ended: ${said}`)))
    })
  const ask = async question => {
    child.send(question)
    const [answer] = await once(child, 'message')
    return answer
  }
  await says(/ running\n/)
  const running = performance.now() - started
  const client = await open(port, 'first')
  const answered = performance.now() - started
  client.socket.destroy()
  const turns = await ask('end')
  const stop = async () => {
    child.kill('SIGTERM')
    await ended
  }
  return { pid: child.pid, port, started: running, listening: answered, turns, says, ask, stop, kill: signal => child.kill(signal) }
}

/** A client pings all the while. */
async function measure(name, work) {
  const { socket } = await open(broker.port, 'pinger')
  let longest = 0
  let isOn = true
  const pinging = (async () => {
    while (isOn) {
      const start = performance.now()
      socket.write(Buffer.from([0xc0, 0]))
      await once(socket, 'data')
      longest = Math.max(longest, performance.now() - start)
      await sleep(1)
    }
  })()
  await broker.ask('begin')
  const start = performance.now()
  await work()
  const took = performance.now() - start
  const turns = await broker.ask('end')
  isOn = false
  await pinging
  socket.destroy()
  phases[name] = {
    took,
    longestWait: longest,
    longestTurn: turns.longest,
    longestPause: turns.longestPause,
    wall: turns.wall,
    rss: memoryOf(broker.pid)
  }
}

async function signalled(signal, words) {
  const said = broker.says(words)
  broker.kill(signal)
  await said
}

// A clean connection ends what was kept under its identifier.
async function endSessions() {
  for (let i = 0; i < ending; i += atOnce) {
    const clients = await Promise.all(Array.from({ length: Math.min(atOnce, ending - i) }, (_, j) => open(broker.port, `press-${i + j}`)))
    for (const { socket } of clients) socket.destroy()
  }
  // Their records go after that.
  await sleep(1000)
}

async function open(port, clientId) {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  const id = Buffer.from(clientId)
  const head = Buffer.from([0x10, 12 + id.length, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 2, 0, 0, 0, id.length])
  socket.write(Buffer.concat([head, id]))
  const [connack] = await once(socket, 'data')
  if (connack[3] !== 0) throw new Error(`refused: ${connack[3]}`)
  return { socket }
}

async function finished(child) {
  const [status] = await once(child, 'close')
  if (status !== 0) throw new Error(`ended with status ${status}`)
}

function sizeOf(place) {
  return readdirSync(place).reduce((sum, name) => sum + statSync(join(place, name)).size, 0)
}

function tables() {
  const megabytes = bytes => `${Math.round(bytes / 1e6)} MB`
  const seconds = milliseconds => `${(milliseconds / 1000).toFixed(2)} s`
  const milliseconds = value => value.toFixed(1)
  const facts = [
    ['from the command to "running"', seconds(report.startFull)],
    ['… to the first CONNACK', seconds(report.listenersOpen)],
    ['… with an empty store', seconds(report.startEmpty)],
    ['memory of the process (RSS) after the start', megabytes(rss)],
    ['… with an empty store', megabytes(empty.rss)],
    ['JavaScript heap after a collection', megabytes(memory.heapUsed)],
    ['… for each subscription, with its share of session and message', `${Math.round(report.heapPerSubscription)} bytes`],
    ['store on disk', megabytes(bytesOnDisk)],
    ["Mosquitto's file", megabytes(mosquittoFile)],
    ['from SIGTERM to the end, with a last save', seconds(stopping)]
  ]
  const rows = Object.entries(phases).map(([name, { took, longestWait, longestTurn, longestPause, wall, rss }]) => [
    name,
    seconds(took),
    milliseconds(longestWait),
    milliseconds(longestTurn),
    milliseconds(longestPause),
    milliseconds(wall),
    megabytes(rss)
  ])
  const head = [
    'while',
    'took',
    'longest wait of a PINGRESP, ms',
    'longest turn of our own, ms',
    'longest pause of the collector, ms',
    'longest turn on the wall, ms',
    'RSS'
  ]
  return `${describeMachine(report)}, load average ${report.loadAverage.map(load => load.toFixed(1)).join(' → ')}
${sessions} sessions, ${subscriptions} subscriptions, ${report.queued} queued messages, ${report.retained} retained

${table(['', ''], facts)}
${table(head, rows)}`
}
