// What a commit of the disk store comes to: its changes, in their order, as operations for LevelDB. What comes to a queue is gathered, and what
// is done of a run noted, until all of them are known.

import type { Change, QueueEntry } from '../storage.js'
import type { Index, Place } from './disk-index.js'
import {
  encodeEntry,
  encodeLast,
  encodeMessage,
  encodeSession,
  encodeState,
  encodeSubscription,
  entryKey,
  filterKey,
  heldKey,
  lastKey,
  retainedKey,
  sessionKey,
  stateKey
} from './disk-records.js'
import { Gathered, type Progress, Run, RunProgress } from './disk-run.js'
import { Operations } from './level.js'

/** Operations of a step. */
const perStep = 64

export class Plan {
  readonly number: number
  readonly operations = new Operations()
  /** It changes what a commit under way changes as well: that one comes first. */
  isBehind = false
  /** Numbers of the sessions that end with it. */
  readonly ended: number[] = []
  readonly #index: Index
  readonly #written: number
  /** What came to queues and is not among the operations yet. */
  readonly #gathered = new Map<Place, Gathered>()
  /** Runs some of whose entries have come further, and whose they are. */
  readonly #progressed = new Map<RunProgress, Place>()
  /** Places whose last entry went. */
  readonly #emptied = new Set<Place>()
  /** Where entries came, and the last of their sequences. */
  readonly #grown: Place[] = []
  readonly #sequences: number[] = []
  /** Whose place was looked up last: entries of one queue come one behind the other. */
  #clientId: string | undefined
  #place: Place | undefined

  /** `number`: of the commit, counted from 1; `written`: of the last one that is on disk. */
  constructor(number: number, written: number, index: Index) {
    this.number = number
    this.#written = written
    this.#index = index
  }

  /** Takes all there are. A step is some of them: a turn has room for several. */
  *take(changes: readonly Change[]): Generator<void, void> {
    let step = 0
    for (const change of changes) {
      if (change.kind !== 'enqueue') this.#takeOne(change)
      else if (change.entries.length > 1) yield* this.#takeEntries(change.entries)
      else for (const entry of change.entries) this.#takeEntry(entry, false)
      if (++step % perStep === 0) yield
    }
    for (const [place, { entries }] of this.#gathered) {
      this.#putGathered(place)
      step += entries.length
      if (step < perStep) continue
      step = 0
      yield
    }
    for (const [progress, place] of this.#progressed) {
      this.#putProgress(progress, place)
      if (++step % perStep === 0) yield
    }
    for (const place of this.#emptied) {
      const key = lastKey(place.number)
      this.operations.put(key, encodeLast(key, place))
      if (++step % perStep === 0) yield
    }
  }

  /** It is on disk: what came to queues may be read. */
  noteWritten(): void {
    for (let i = 0; i < this.#grown.length; i++) {
      const place = this.#grown[i]
      if (place !== undefined) place.readable = this.#sequences[i] ?? 0
    }
  }

  #takeOne(change: Exclude<Change, { kind: 'enqueue' }>): void {
    const { operations } = this
    switch (change.kind) {
      case 'session': {
        const { clientId } = change.session
        this.#clientId = undefined
        const place = this.#index.placeOf(clientId) ?? this.#index.begin(clientId)
        const key = sessionKey(place.number)
        operations.put(key, encodeSession(key, change.session))
        if (change.lastPacketId === undefined) return
        place.packetId = change.lastPacketId
        this.#emptied.add(place)
        return
      }
      case 'drop': {
        const place = this.#index.placeOf(change.clientId)
        if (place === undefined) return
        this.#index.forget(change.clientId)
        this.#forget(place)
        operations.delete(sessionKey(place.number))
        this.ended.push(place.number)
        return
      }
      case 'subscribe': {
        const place = this.#index.placeOf(change.clientId)
        if (place === undefined) return
        const { filter, group } = change.subscription
        const key = filterKey(place.number, filter, group)
        operations.put(key, encodeSubscription(key, change.subscription))
        return
      }
      case 'unsubscribe': {
        const place = this.#index.placeOf(change.clientId)
        if (place !== undefined) operations.delete(filterKey(place.number, change.filter, change.group))
        return
      }
      case 'sent':
      case 'received': {
        const place = this.#index.placeOf(change.entry.clientId)
        if (place === undefined || this.#hasProgressed(change.entry, change.kind, place)) return
        this.#putState(change.entry, change.kind, place)
        return
      }
      case 'done': {
        const { entry } = change
        const place = this.#placeOf(entry.clientId)
        if (place === undefined || this.#hasProgressed(entry, 'done', place)) return
        operations.delete(entryKey(place.number, entry.sequence))
        if (this.#index.states.delete(entry)) operations.delete(stateKey(place.number, entry.sequence))
        this.#index.bodies.removeEntry(entry, operations)
        if (entry.sequence === place.sequence) this.#emptied.add(place)
        return
      }
      case 'hold': {
        const place = this.#index.placeOf(change.clientId)
        if (place === undefined) return
        const key = heldKey(place.number, change.packetId)
        operations.put(key, encodeMessage(key, change.message))
        return
      }
      case 'release': {
        const place = this.#index.placeOf(change.clientId)
        if (place !== undefined) operations.delete(heldKey(place.number, change.packetId))
        return
      }
      case 'retain': {
        const key = retainedKey(change.topic)
        if (change.message === undefined) operations.delete(key)
        else operations.put(key, encodeMessage(key, change.message))
      }
    }
  }

  *#takeEntries(entries: readonly QueueEntry[]): Generator<void, void> {
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i]
      if (entry !== undefined) this.#takeEntry(entry, true)
      if (i % perStep === perStep - 1) yield
    }
  }

  #takeEntry(entry: QueueEntry, isShared: boolean): void {
    const place = this.#placeOf(entry.clientId)
    if (place === undefined) return
    const body = this.#index.bodies.add(entry, isShared, this.operations)
    if (body === undefined && entry.state === 'queued') this.#gather(entry, place)
    else {
      if (this.#gathered.has(place)) this.#putGathered(place)
      this.#putEntry(entry, body, place)
    }
    place.sequence = entry.sequence
    if (this.#grown.at(-1) !== place) this.#grown.push(place)
    this.#sequences[this.#grown.length - 1] = entry.sequence
    if (entry.packetId === 0) return
    place.packetId = entry.packetId
    // It says itself what is the last of its queue.
    this.#emptied.delete(place)
  }

  #placeOf(clientId: string): Place | undefined {
    if (clientId === this.#clientId) return this.#place
    this.#clientId = clientId
    this.#place = this.#index.placeOf(clientId)
    return this.#place
  }

  #gather(entry: QueueEntry, place: Place): void {
    if (this.#gathered.get(place)?.take(entry)) return
    if (this.#gathered.has(place)) this.#putGathered(place)
    const next = new Gathered()
    next.take(entry)
    this.#gathered.set(place, next)
  }

  #putGathered(place: Place): void {
    const found = this.#gathered.get(place)
    this.#gathered.delete(place)
    const last = found?.entries.at(-1)
    if (found === undefined || last === undefined) return
    if (found.entries.length === 1) {
      this.#putEntry(last, undefined, place)
      return
    }
    const run = new Run(last.sequence, found.entries.length)
    for (const entry of found.entries) entry.record = run
    const key = entryKey(place.number, run.last)
    this.operations.put(key, found.encode(key))
  }

  #putEntry(entry: QueueEntry, body: number | undefined, place: Place): void {
    const key = entryKey(place.number, entry.sequence)
    this.operations.put(key, encodeEntry(key, entry, body))
    if (entry.state !== 'queued') this.#putState(entry, entry.state, place)
  }

  #putState(entry: QueueEntry, state: QueueEntry['state'], { number }: Place): void {
    const key = stateKey(number, entry.sequence)
    this.operations.put(key, encodeState(key, state, entry.packetId))
    this.#index.states.add(entry)
  }

  // False: it lies in no run.
  #hasProgressed(entry: QueueEntry, to: Progress, place: Place): boolean {
    const waiting = this.#gathered.get(place)?.entries[0]
    if (waiting !== undefined && entry.sequence >= waiting.sequence) this.#putGathered(place)
    const { record: run, sequence, packetId } = entry
    if (!(run instanceof Run)) return false
    const progress = run.progress ?? progressOf(run, place)
    if (progress.isOver) return true
    progress.note(sequence, to, packetId)
    if (progress.plan !== this.number) this.#progressed.set(progress, place)
    progress.plan = this.number
    if (progress.left === 0 && run.last === place.sequence) this.#emptied.add(place)
    return true
  }

  #putProgress(progress: RunProgress, place: Place): void {
    const { operations } = this
    const { run } = progress
    if (progress.commit > this.#written) this.isBehind = true
    progress.commit = this.number
    const key = stateKey(place.number, run.last)
    if (progress.left > 0) {
      operations.put(key, progress.encode(key))
      progress.isWritten = true
      return
    }
    operations.delete(entryKey(place.number, run.last))
    if (progress.isWritten) operations.delete(key)
    place.progress?.delete(run.last)
    progress.isOver = true
  }

  // Nothing of a session that ended is to be written any more.
  #forget(place: Place): void {
    this.#clientId = undefined
    this.#gathered.delete(place)
    this.#emptied.delete(place)
    for (const [progress, owner] of this.#progressed) if (owner === place) this.#progressed.delete(progress)
  }
}

// A run that was read again is another object, of the same progress.
function progressOf(run: Run, place: Place): RunProgress {
  place.progress ??= new Map()
  const progress = place.progress.get(run.last) ?? new RunProgress(run)
  place.progress.set(run.last, progress)
  run.progress = progress
  return progress
}
