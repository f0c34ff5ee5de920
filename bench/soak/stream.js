// Messages with numbers, from one publisher to each of its receivers: all of them come, in their order, and no more often than their QoS allows.

/** The shortest payload. */
const smallest = 4
/** Messages: what was sent so many before has come, however long its receiver was away. */
const longAgo = 10_000

export class Stream {
  sent = 0
  /** By number, how often a publisher sent it again because it did not know whether it had come. */
  #again = new Map()
  #readers = []
  #payload

  constructor(name, qos, size, tally) {
    this.name = name
    this.qos = qos
    this.topic = `bench/${name}`
    this.tally = tally
    this.#payload = Buffer.alloc(Math.max(smallest, size), 'x')
  }

  /** For `onMessage` of a receiver; its `count` says how many have come. */
  reader(name) {
    const reader = { count: 0, repeats: 0 }
    this.#readers.push(reader)
    reader.onMessage = (_topic, payload, { dup }) => {
      const number = payload.readUInt32BE(0)
      if (number === reader.count) reader.count += 1
      else if (number > reader.count) {
        this.tally.trouble('messages were lost', `${name} got number ${number} of QoS ${this.qos} instead of ${reader.count}`)
        reader.count = number + 1
      } else if (this.qos === 1 && (dup || this.#isExcused(number))) reader.repeats += 1
      else this.tally.trouble('a message came twice', `${name} got number ${number} of QoS ${this.qos} instead of ${reader.count}`)
    }
    return reader
  }

  get readers() {
    return this.#readers.length
  }

  /** How many the slowest receiver has still to get. */
  get behind() {
    let behind = 0
    for (const { count } of this.#readers) behind = Math.max(behind, this.sent - count)
    return behind
  }

  get delivered() {
    return this.#readers.reduce((sum, { count, repeats }) => sum + count + repeats, 0)
  }

  get repeats() {
    return this.#readers.reduce((sum, { repeats }) => sum + repeats, 0)
  }

  publish(peer) {
    this.#payload.writeUInt32BE(this.sent)
    peer.publish(this.topic, this.#payload, { qos: this.qos, number: this.sent })
    this.sent += 1
  }

  /** The publisher comes back, and sends again what was not answered. */
  sendsAgain({ outgoing }) {
    for (const number of this.#again.keys()) if (number < this.sent - longAgo) this.#again.delete(number)
    for (const { number } of outgoing.values()) this.#again.set(number, (this.#again.get(number) ?? 0) + 1)
  }

  // Whoever resumes has one receiver.
  #isExcused(number) {
    const times = this.#again.get(number) ?? 0
    this.#again.set(number, times - 1)
    return times > 0
  }
}
