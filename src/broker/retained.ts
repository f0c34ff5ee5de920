// The retained messages, in a trie by the levels of their topics. A walk gives them in Mosquitto's order and can be left and taken up
// again in a later turn, whatever came and went in between.

import type { Message } from '../message.js'
import { startsWithDollar } from '../topic.js'

/** Between two pauses of a walk. */
const nodesBetweenPauses = 256

const one = '+'
const all = '#'

/** Topics and filters are valid ones (src/topic.ts). */
export class RetainedMessages {
  readonly #now: () => number
  readonly #root = new Node('', 0)
  /** Numbers the nodes as they are made. */
  #born = 0
  #count = 0
  #bytes = 0
  #mortal = 0

  /** The clock: milliseconds since 1970. */
  constructor(now: () => number) {
    this.#now = now
  }

  get count(): number {
    return this.#count
  }

  /** Of the payloads. */
  get bytes(): number {
    return this.#bytes
  }

  /** Takes the place of the one on its topic; an empty payload only removes that [MQTT-3.3.1-10]. True if something changed. */
  set(message: Message): boolean {
    if (message.payloadLength === 0) return this.delete(message.topic)
    let node = this.#root
    for (const level of message.topic.split('/')) {
      node = node.child(level) ?? node.grow(new Node(level, ++this.#born))
    }
    this.#put(node, message)
    return true
  }

  get(topic: string): Message | undefined {
    let node: Node | undefined = this.#root
    for (const level of topic.split('/')) {
      node = node.child(level)
      if (node === undefined) return undefined
    }
    return this.#living(node)
  }

  delete(topic: string): boolean {
    const path = [this.#root]
    let node = this.#root
    for (const level of topic.split('/')) {
      const child = node.child(level)
      if (child === undefined) return false
      path.push(child)
      node = child
    }
    if (node.message === undefined) return false
    this.#put(node, undefined)
    for (let depth = path.length - 1; depth > 0; depth--) {
      const [child, parent] = [path[depth], path[depth - 1]]
      if (child === undefined || parent === undefined || !child.isEmpty) break
      parent.cut(child)
    }
    return true
  }

  /**
   * Those that the filter matches: children in the order in which they came, each before what is below it; under `x/#` the topic `x` itself
   * comes last. `undefined` is a pause: take the next one at once or in a later turn. What comes on a new topic while the walk is under
   * way is not in it, so that it ends; what is replaced comes as it is when the walk gets there; what goes before that does not come.
   */
  *walk(filter: string): Generator<Message | undefined, void> {
    const levels = filter.split('/')
    const until = this.#born
    // Leading wildcards don't see `$SYS` and its like [MQTT-4.7.2-1].
    const frames = [startWalk(this.#root, levels, 0)]
    let visited = 0
    for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
      const child = nextChild(frame, until)
      if (child === undefined) {
        frames.pop()
        const message = frame.parent === undefined ? undefined : this.#living(frame.parent)
        if (message !== undefined) yield message
        continue
      }
      if (++visited % nodesBetweenPauses === 0) yield undefined
      if (frames.length === 1 && frame.isWild && startsWithDollar(child.level)) continue
      const below = frame.isAll ? frame.depth : frame.depth + 1
      const isLeaf = child.children === undefined
      if (frame.isAll || below === levels.length || (isLeaf && levels[below] === all)) {
        const message = this.#living(child)
        if (message !== undefined) yield message
      }
      if (!isLeaf && below < levels.length) frames.push(startWalk(child, levels, below, frame.isAll))
    }
  }

  /** Removes what has expired by then and gives it; pauses as a walk. Nothing is looked at when nothing can expire. */
  *expire(now: number): Generator<Message | undefined, void> {
    const until = this.#born
    const frames = [startWalk(this.#root, [all], 0)]
    let visited = 0
    for (let frame = frames.at(-1); frame !== undefined && this.#mortal > 0; frame = frames.at(-1)) {
      const child = nextChild(frame, until)
      if (child === undefined) {
        frames.pop()
        continue
      }
      if (++visited % nodesBetweenPauses === 0) yield undefined
      const { message } = child
      if (child.children !== undefined) frames.push(startWalk(child, [all], 0, true))
      if (!message?.hasExpired(now)) continue
      this.delete(message.topic)
      yield message
    }
  }

  // One whose time is over is nobody's any more; `expire` removes it, and says so to who stores it.
  #living({ message }: Node): Message | undefined {
    if (message === undefined || message.expiresAt === Number.POSITIVE_INFINITY) return message
    return message.hasExpired(this.#now()) ? undefined : message
  }

  #put(node: Node, message: Message | undefined): void {
    this.#account(node.message, -1)
    node.message = message
    this.#account(message, 1)
  }

  #account(message: Message | undefined, sign: 1 | -1): void {
    if (message === undefined) return
    this.#count += sign
    this.#bytes += sign * message.payloadLength
    if (message.expiresAt !== Number.POSITIVE_INFINITY) this.#mortal += sign
  }
}

/** The children of one node that are still to be visited. */
interface Frame {
  readonly children: Iterator<Node>
  /** Of the level of the filter that they are to match. */
  readonly depth: number
  readonly isAll: boolean
  readonly isWild: boolean
  /** The `x` of `x/#`, due when its children are done. */
  readonly parent: Node | undefined
}

function startWalk(node: Node, levels: readonly string[], depth: number, isBelowAll = false): Frame {
  const level = levels[depth] ?? ''
  const isAll = level === all
  const isWild = isAll || level === one
  return { children: isWild ? node.each() : node.only(level), depth, isAll, isWild, parent: isAll && !isBelowAll ? node : undefined }
}

// Children lie in the order of their birth: where a later one is met, all that follow are later too.
function nextChild({ children }: Frame, until: number): Node | undefined {
  const { value, done } = children.next()
  return done !== true && value.born <= until ? value : undefined
}

// One level of topics. A single child is held bare; a Map, once there, stays until it is empty: walks may stand in it.
class Node {
  readonly level: string
  readonly born: number
  message: Message | undefined = undefined
  children: Node | Map<string, Node> | undefined = undefined

  constructor(level: string, born: number) {
    this.level = level
    this.born = born
  }

  get isEmpty(): boolean {
    return this.message === undefined && this.children === undefined
  }

  child(level: string): Node | undefined {
    if (this.children instanceof Map) return this.children.get(level)
    return this.children?.level === level ? this.children : undefined
  }

  grow(child: Node): Node {
    if (this.children === undefined) this.children = child
    else if (this.children instanceof Map) this.children.set(child.level, child)
    else this.children = new Map([[this.children.level, this.children]]).set(child.level, child)
    return child
  }

  cut(child: Node): void {
    if (this.children instanceof Map) {
      this.children.delete(child.level)
      if (this.children.size > 0) return
    }
    this.children = undefined
  }

  each(): Iterator<Node> {
    if (this.children instanceof Map) return this.children.values()
    return (this.children === undefined ? [] : [this.children]).values()
  }

  only(level: string): Iterator<Node> {
    const child = this.child(level)
    return (child === undefined ? [] : [child]).values()
  }
}
