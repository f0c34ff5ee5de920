// What the load has said and heard in all, to be compared with what the broker has counted. A connection that was cut may have had packets on
// their way, of which nobody knows whether they arrived: `atMost` of it and `atLeast` of it differ by those.

const kinds = ['sent', 'received', 'publishesSent', 'publishesReceived']

export class Tally {
  /** TCP connections. */
  sockets = 0
  handshakes = { full: 0, resumed: 0 }
  /** Connections that ended, by how. */
  ends = { left: 0, killed: 0, 'taken over': 0, malformed: 0 }
  #live = new Set()
  #ended = Object.fromEntries(kinds.map(kind => [kind, 0]))
  #unsure = Object.fromEntries(kinds.map(kind => [kind, 0]))
  #strangers = { said: 0, heard: 0 }
  /** Of wrong behaviour the first ones, and how often each kind of it. */
  #troubles = new Map()

  opened(peer) {
    this.#live.add(peer)
  }

  closed(peer) {
    this.#live.delete(peer)
    for (const kind of kinds) this.#ended[kind] += peer[kind]
  }

  /** So many more, or fewer, may have gone either way. */
  unsure(counts) {
    for (const [kind, count] of Object.entries(counts)) this.#unsure[kind] += count
  }

  /** What those who talk rubbish said and heard, at the most. */
  strangers({ said, heard }) {
    this.#strangers.said += said
    this.#strangers.heard += heard
  }

  /** `{ atLeast, atMost }` of each kind. Of what was sent some may not have come; of what came, more may have been sent. */
  bounds() {
    return Object.fromEntries(
      kinds.map(kind => {
        let sum = this.#ended[kind]
        for (const peer of this.#live) sum += peer[kind]
        const unsure = this.#unsure[kind]
        const { said, heard } = this.#strangers
        const isSent = /sent/i.test(kind)
        return [kind, { atLeast: sum - (isSent ? unsure : 0), atMost: sum + (isSent ? said : unsure + heard) }]
      })
    )
  }

  get connected() {
    return this.#live.size
  }

  /** Everybody says goodbye, but one. */
  async leaveAll(stays) {
    await Promise.all([...this.#live].map(peer => peer !== stays && peer.leave()))
  }

  /** The kind of it is the same sentence each time. */
  trouble(kind, detail = '') {
    const known = this.#troubles.get(kind) ?? { count: 0, first: detail }
    known.count += 1
    this.#troubles.set(kind, known)
  }

  /** Sentences. */
  troubles() {
    return [...this.#troubles].map(([kind, { count, first }]) => `${kind}${first && ` (${first})`}${count > 1 ? `, ${count} times` : ''}`)
  }
}
