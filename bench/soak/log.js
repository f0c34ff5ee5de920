// What the broker's log may say under the mix, and that it says nothing else.

/** The first that matches. Mosquitto's words, most of them. */
const known = [
  [
    'started',
    /^(mosquitero version|Store \S+: |Config loaded|Opening ipv[46] listen|Info: running as user|Warning: a broker should not be run as root|Listener on port)/
  ],
  ['reloaded', /^Config reloaded: /],
  ['reload refused', /^Error: Reload refused, /],
  ['why it was refused', /^Error: (Invalid topic access type "readwrong" in|'max_queued_messages' value not a number)|^Error found at /],
  ['reloading', /^Reloading config\.$/],
  ['connection', /^New connection from /],
  ['client', /^(New client connected from|Client \S+ negotiated|Client \S+ \[\S+\] disconnected\.$)/],
  [
    'cut off or taken over',
    /^Client (kept-\S+|mortal-\d+|taken-\d+) \[\S+\] (disconnected: (connection closed by client|session taken over|.*ECONNRESET.*)\.|already connected, closing old connection\.)$/
  ],
  ['malformed', /^(?!Error: ).*\bbad-\d+\b/],
  ['malformed', /^Client <unknown> |^Protocol error from \S+: |from 127\.0\.0\.1(:\d+)?, disconnecting\.$/],
  ['malformed', /^Connection from \S+ rejected, /],
  ['the rule that is not there', /^Warning: switch subscribes to |^Denied PUBLISH from switch |^\d+ further /],
  ['saved', /^(Saving in-memory database|Saved )/],
  ['end', /^(mosquitero version \S+ terminating|Denied by the ACL since the start:|\t)/]
]

export class Log {
  /** Lines by kind. */
  #counts = new Map()
  #unexpected = new Map()

  take(line) {
    const words = line.replace(/^\d+: /, '')
    const [kind] = known.find(([, pattern]) => pattern.test(words)) ?? []
    if (kind === undefined) this.#unexpected.set(words, (this.#unexpected.get(words) ?? 0) + 1)
    this.#counts.set(kind, this.count(kind) + 1)
  }

  count(kind) {
    return this.#counts.get(kind) ?? 0
  }

  counts() {
    return Object.fromEntries([...this.#counts].filter(([kind]) => kind !== undefined))
  }

  /** The first few. */
  unexpected() {
    return [...this.#unexpected].slice(0, 10).map(([words, count]) => (count > 1 ? `${words} (${count} times)` : words))
  }
}
