import { createRequire } from 'node:module'
import t from 'tap'
import { Emitter } from '../../dist/broker/mq.js'

interface Packet {
  readonly topic: string
  readonly payload?: string
}

interface TheirEmitter {
  on(topic: string, listener: (packet: Packet, done: () => void) => void): void
  emit(packet: Packet): void
}

// The one that Aedes brings along.
const mqemitter: () => TheirEmitter = createRequire(import.meta.resolve('aedes'))('mqemitter')

const failing = { onError: (error: unknown) => t.fail(String(error)) }

const filters = ['a', 'a/#', '#', '+', 'a/+', '$SYS/#', '$SYS/+/x', '__proto__', '/', '+/+', 'a/b/c']
const topics = ['a', 'a/', 'a/b', 'a/b/c', '/', '$SYS/1/x', '$SYS', '__proto__', 'constructor']

t.test('listeners hear what they hear from mqemitter', async t => {
  const heard = (on: (filter: string, listener: (packet: Packet, done: () => void) => void) => void, emit: (packet: Packet) => void) => {
    const calls: string[] = []
    for (const filter of filters) {
      on(filter, ({ topic }, done) => {
        calls.push(`${filter} ${topic}`)
        done()
      })
    }
    for (const topic of topics) emit({ topic })
    return calls.sort()
  }
  const ours = new Emitter<Packet>(failing)
  const theirs = mqemitter()
  t.same(
    heard(
      (filter, listener) => ours.on(filter, listener),
      packet => ours.emit(packet)
    ),
    heard(
      (filter, listener) => theirs.on(filter, listener),
      packet => theirs.emit({ ...packet })
    )
  )
  for (const topic of topics) t.ok(ours.matches(topic), topic)
})

t.test('a listener on two filters is called for each, one that is given twice is called twice', async t => {
  const emitter = new Emitter<Packet>(failing)
  let calls = 0
  const listener = (): void => void calls++
  const count = (): number => {
    calls = 0
    emitter.emit({ topic: 'a/b' })
    return calls
  }
  emitter.on('a/+', listener).on('a/#', listener).on('a/#', listener)
  t.equal(count(), 3)
  emitter.removeListener('a/#', listener)
  t.equal(count(), 2)
  emitter.removeListener('a/#', () => {}).removeListener('x', listener)
  t.equal(count(), 2)
  emitter.removeListener('a/#', listener).removeListener('a/+', listener)
  t.equal(count(), 0)
  t.notOk(emitter.matches('a/b'))
})

t.test('emit itself waits for no listener; its callback comes when all of them have called back, each once, not within', async t => {
  const emitter = new Emitter<Packet>(failing)
  const calls: string[] = []
  emitter.on('a', function (this: unknown, packet, done) {
    t.equal(this, emitter)
    t.type(done, 'function')
    calls.push(`later done ${packet.payload}`)
    setImmediate(() => {
      calls.push('later')
      done()
    })
  })
  emitter.on('+', (_packet, done) => {
    calls.push('done')
    done()
    done()
  })
  await new Promise<void>(resolve => {
    emitter.emit({ topic: 'a', payload: 'x' }, error => {
      calls.push(`emitted ${error}`)
      resolve()
    })
    calls.push('returned')
  })
  t.same(calls, ['later done x', 'done', 'returned', 'later', 'emitted undefined'])
})

t.test('a listener that throws is reported, and the next one is called', async t => {
  const errors: unknown[] = []
  const emitter = new Emitter<Packet>({ onError: (error, topic) => errors.push([error, topic]) })
  const fault = new Error('fault')
  emitter.on('a', () => {
    throw fault
  })
  const heard = new Promise<Packet>(resolve =>
    emitter.on('a', (packet, done) => {
      resolve(packet)
      done()
    })
  )
  await new Promise<void>(resolve => emitter.emit({ topic: 'a' }, () => resolve()))
  t.same(await heard, { topic: 'a' })
  t.same(errors, [[fault, 'a']])
})

t.test('a listener may subscribe, unsubscribe and emit; who was there when it began is called', async t => {
  const emitter = new Emitter<Packet>(failing)
  const calls: string[] = []
  const second = (): void => void calls.push('second')
  emitter.on('a', () => {
    calls.push('first')
    emitter.removeListener('a', second)
    emitter.on('a', () => calls.push('third'))
    emitter.emit({ topic: 'b' })
  })
  emitter.on('a', second)
  emitter.on('b', () => calls.push('b'))
  emitter.emit({ topic: 'a' })
  t.same(calls, ['first', 'b', 'second'])
})

t.test('callbacks come later, after close emit says no', async t => {
  const emitter = new Emitter<Packet>(failing)
  const listener = (): void => void t.fail('called after close')
  let returned = false
  const later = (work: (done: () => void) => void): Promise<void> =>
    new Promise(resolve => {
      returned = false
      work(() => {
        t.ok(returned, 'asynchronous')
        resolve()
      })
      returned = true
    })
  await later(done => emitter.on('a', () => {}, done))
  await later(done => emitter.removeListener('a', () => {}, done))
  emitter.on('b', listener)
  await later(done => emitter.close(done))
  t.ok(emitter.closed)
  await later(done => emitter.emit({ topic: 'b' }, error => (error instanceof Error ? done() : t.fail('no error'))))
})
