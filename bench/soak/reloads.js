// SIGHUP again and again: a rule comes and goes, a limit changes, and now and then a file is broken, which is refused and changes nothing.

import { writeFileSync } from 'node:fs'
import { aclText } from '../mutual-tls.js'
import { holds } from './holds.js'
import { Peer } from './peer.js'

const rule = 'topic readwrite switched/#\n'
/** What is read for what it says. `isOpen`: the rule is there behind it; undefined: as before. */
const steps = [
  { isOpen: true, limit: 1100 },
  { isOpen: false, limit: 1000 },
  { acl: 'topic readwrong bench/#\n' },
  { isOpen: true, limit: 1200 },
  { limit: 'many' },
  { isOpen: false, limit: 1000 }
]

/** The stranger has topics of its own. */
const always = 'topic read $SYS/#\nuser stranger\ntopic readwrite rubbish/#\n'
export const firstAcl = aclText(always)
export const firstLimit = 1000

export class Reloads {
  done = 0
  refused = 0
  #place
  #heard = 0
  #isOpen = false
  #lines
  #files
  #signal

  /** `files`: `acl`, and `conf` with its text for a limit; `lines`: what the log has said so far, counted. */
  constructor(place, { files, lines, signal }) {
    this.#place = place
    this.#files = files
    this.#lines = lines
    this.#signal = signal
  }

  async open() {
    this.probe = new Peer(this.#place, { clientId: 'switch', version: 5, onMessage: () => (this.#heard += 1) })
    await this.probe.open()
    await this.probe.subscribe(Buffer.from('switched/#'), 1)
    await this.#look()
  }

  async next() {
    const { isOpen, limit = firstLimit, acl = '' } = steps[(this.done + this.refused) % steps.length]
    const isRefused = isOpen === undefined
    const { tally } = this.#place
    writeFileSync(this.#files.acl, aclText(`${(isRefused ? !this.#isOpen : isOpen) ? rule : ''}${acl}${always}`))
    writeFileSync(this.#files.conf, this.#files.confText(limit))
    const kind = isRefused ? 'reload refused' : 'reloaded'
    const before = this.#lines(kind)
    this.#signal('SIGHUP')
    if (!(await holds(() => this.#lines(kind) > before))) {
      tally.trouble(isRefused ? 'a broken file was not refused' : 'a reload was not done', `number ${this.done + this.refused + 1}`)
    }
    if (isRefused) this.refused += 1
    else {
      this.done += 1
      this.#isOpen = isOpen
    }
    await this.#look()
  }

  /** Whether the rule is in force, on both of its sides. */
  async #look() {
    const before = this.#heard
    const code = await this.probe.published('switched/it', Buffer.from('on'), { qos: 1 })
    if (this.#isOpen) await holds(() => this.#heard > before)
    await this.probe.ping()
    const isOpen = code < 0x80 && this.#heard === before + 1
    const isClosed = code === 0x87 && this.#heard === before
    if (this.#isOpen ? !isOpen : !isClosed) {
      this.#place.tally.trouble('a rule was not in force, or still', `reason code ${code}, ${this.#heard - before} came`)
    }
  }
}
