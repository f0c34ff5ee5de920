// Who gets a message: a trie of topic filters, one level of a filter a node. Answers in the order of Mosquitto's sub__search. A million
// filters are expected, so a node holds nothing that is empty and no Map for one child or one subscriber.

import type { Subscription } from '../storage.js'
import { startsWithDollar } from '../topic.js'

/** One subscription; a later one in its place is another object, so what a match holds never changes. */
export interface Target<Subscriber> {
  readonly subscriber: Subscriber
  readonly subscription: Subscription
}

export interface Match<Subscriber> {
  /** One for each subscriber and filter, shared subscriptions apart. */
  readonly targets: readonly Target<Subscriber>[]
  readonly groups: readonly SharedGroup<Subscriber>[]
  /** Nodes that were looked at for it. Wildcards make them many, whether they match in the end or not. */
  readonly visited: number
}

interface RouterOptions {
  /** `apart`: what starts with `$` is matched only by filters that do too [MQTT-4.7.2-1]. Default. `alike`: as any other topic. */
  readonly dollar?: 'apart' | 'alike'
}

const one = '+'
const all = '#'

/** Filters are valid ones (`isTopicFilter`), without `$share/GROUP/`; so are the topics that are matched. */
export class Router<Subscriber extends object> {
  readonly #root = new Node<Subscriber>('')
  readonly #dollarApart: boolean
  #version = 0
  #subscriptions = 0
  #shared = 0

  constructor({ dollar = 'apart' }: RouterOptions = {}) {
    this.#dollarApart = dollar === 'apart'
  }

  /** Raised when a match made before may differ from one made now. Members of a group that is already in it come and go without that. */
  get version(): number {
    return this.#version
  }

  /** Without the shared ones, as Mosquitto counts. */
  get subscriptionCount(): number {
    return this.#subscriptions
  }

  get sharedCount(): number {
    return this.#shared
  }

  /** True when the subscriber had none of that filter and group; else it replaces that one in its place. */
  add(subscriber: Subscriber, subscription: Subscription): boolean {
    const { filter, group } = subscription
    let node = this.#root
    for (const level of filter.split('/')) node = node.grow(level)
    if (group === undefined) {
      const before = node.target(subscriber)
      // Clients subscribe to the same again after each reconnect: nothing to forget then.
      if (before !== undefined && isSame(before.subscription, subscription)) return false
      node.setTarget({ subscriber, subscription })
      this.#version++
      if (before !== undefined) return false
      this.#subscriptions++
      return true
    }
    node.groups ??= new Map()
    let members = node.groups.get(group)
    if (members === undefined) {
      members = new SharedGroup(group)
      node.groups.set(group, members)
      this.#version++
    }
    const isNew = members.set({ subscriber, subscription })
    if (isNew) this.#shared++
    return isNew
  }

  /** False when there was none. */
  remove(subscriber: Subscriber, filter: string, group?: string): boolean {
    const levels = filter.split('/')
    const path = [this.#root]
    let node = this.#root
    for (const level of levels) {
      const child = node.child(level)
      if (child === undefined) return false
      path.push(child)
      node = child
    }
    if (!(group === undefined ? this.#removeTarget(node, subscriber) : this.#removeMember(node, subscriber, group))) return false
    for (let depth = levels.length; depth > 0; depth--) {
      const [child, parent] = [path[depth], path[depth - 1]]
      if (child === undefined || parent === undefined || !child.isEmpty) break
      parent.cut(child)
    }
    return true
  }

  /** As it is now, shared ones apart; undefined: there is none. */
  find(subscriber: Subscriber, filter: string): Subscription | undefined {
    let node: Node<Subscriber> | undefined = this.#root
    for (const level of filter.split('/')) node = node?.child(level)
    return node?.target(subscriber)?.subscription
  }

  /** Walks the trie. The groups are the living ones, the rest of it stays as it is. */
  match(topic: string): Match<Subscriber> {
    const found: Found<Subscriber> = { targets: [], groups: [], visited: 0 }
    collect(this.#root, topic.split('/'), 0, this.#dollarApart && startsWithDollar(topic), found)
    return found
  }

  #removeTarget(node: Node<Subscriber>, subscriber: Subscriber): boolean {
    if (!node.deleteTarget(subscriber)) return false
    this.#subscriptions--
    this.#version++
    return true
  }

  #removeMember(node: Node<Subscriber>, subscriber: Subscriber, group: string): boolean {
    const members = node.groups?.get(group)
    if (!members?.delete(subscriber)) return false
    this.#shared--
    if (members.size === 0) {
      node.groups?.delete(group)
      if (node.groups?.size === 0) node.groups = undefined
      this.#version++
    }
    return true
  }
}

/** The subscribers that share one filter under one name. Normal subscriptions to the same filter have nothing to do with it. */
export class SharedGroup<Subscriber> {
  readonly name: string
  /** In the order of their turns. */
  readonly #members = new Map<Subscriber, Target<Subscriber>>()

  constructor(name: string) {
    this.name = name
  }

  get size(): number {
    return this.#members.size
  }

  /** Whose turn it is, strictly in a round beginning with the first subscriber. Who is not eligible keeps its turn. */
  next(eligible: (target: Target<Subscriber>) => boolean): Target<Subscriber> | undefined {
    for (const target of this.#members.values()) {
      if (!eligible(target)) continue
      this.endTurn(target)
      return target
    }
    return undefined
  }

  /** A member's turn comes again after all others. */
  endTurn(target: Target<Subscriber>): void {
    if (this.#members.size < 2) return
    this.#members.delete(target.subscriber)
    this.#members.set(target.subscriber, target)
  }

  /** The router's: true when it is a new member; else its turn stays. */
  set(target: Target<Subscriber>): boolean {
    const { size } = this.#members
    this.#members.set(target.subscriber, target)
    return this.#members.size > size
  }

  /** The router's. */
  delete(subscriber: Subscriber): boolean {
    return this.#members.delete(subscriber)
  }
}

interface Found<Subscriber> {
  readonly targets: Target<Subscriber>[]
  readonly groups: SharedGroup<Subscriber>[]
  visited: number
}

// The literal child with all below it, then `+`, then `#`; so `a/#` on `a` is found before `a` itself, as Mosquitto finds it. As deep as
// the topic has levels, of which there are 201 at most.
function collect<Subscriber>(
  node: Node<Subscriber>,
  levels: readonly string[],
  depth: number,
  literally: boolean,
  found: Found<Subscriber>
): void {
  found.visited += 1
  if (node.children === undefined) return
  const level = levels[depth]
  if (level !== undefined) {
    descend(node.child(level), levels, depth + 1, found)
    if (!literally) descend(node.child(one), levels, depth + 1, found)
  }
  if (!literally) node.child(all)?.take(found)
}

function descend<Subscriber>(
  child: Node<Subscriber> | undefined,
  levels: readonly string[],
  depth: number,
  found: Found<Subscriber>
): void {
  if (child === undefined) return
  collect(child, levels, depth, false, found)
  if (depth === levels.length) child.take(found)
}

// One level of filters. What it has one of is held bare, without a Map around it.
class Node<Subscriber> {
  readonly level: string
  children: Node<Subscriber> | Map<string, Node<Subscriber>> | undefined = undefined
  targets: Target<Subscriber> | Map<Subscriber, Target<Subscriber>> | undefined = undefined
  groups: Map<string, SharedGroup<Subscriber>> | undefined = undefined

  constructor(level: string) {
    this.level = level
  }

  get isEmpty(): boolean {
    return this.children === undefined && this.targets === undefined && this.groups === undefined
  }

  child(level: string): Node<Subscriber> | undefined {
    if (this.children instanceof Map) return this.children.get(level)
    return this.children?.level === level ? this.children : undefined
  }

  /** The child of that level, made if there is none. */
  grow(level: string): Node<Subscriber> {
    const known = this.child(level)
    if (known !== undefined) return known
    const child = new Node<Subscriber>(level)
    if (this.children === undefined) this.children = child
    else if (this.children instanceof Map) this.children.set(level, child)
    else this.children = new Map([[this.children.level, this.children]]).set(level, child)
    return child
  }

  cut(child: Node<Subscriber>): void {
    if (!(this.children instanceof Map)) {
      this.children = undefined
      return
    }
    this.children.delete(child.level)
    this.children = bare(this.children)
  }

  target(subscriber: Subscriber): Target<Subscriber> | undefined {
    if (this.targets instanceof Map) return this.targets.get(subscriber)
    return this.targets?.subscriber === subscriber ? this.targets : undefined
  }

  setTarget(target: Target<Subscriber>): void {
    const { subscriber } = target
    if (this.targets instanceof Map) this.targets.set(subscriber, target)
    else if (this.targets === undefined || this.targets.subscriber === subscriber) this.targets = target
    else this.targets = new Map([[this.targets.subscriber, this.targets]]).set(subscriber, target)
  }

  deleteTarget(subscriber: Subscriber): boolean {
    if (this.targets instanceof Map) {
      if (!this.targets.delete(subscriber)) return false
      this.targets = bare(this.targets)
      return true
    }
    if (this.targets?.subscriber !== subscriber) return false
    this.targets = undefined
    return true
  }

  take({ targets, groups }: Found<Subscriber>): void {
    if (this.targets instanceof Map) for (const target of this.targets.values()) targets.push(target)
    else if (this.targets !== undefined) targets.push(this.targets)
    if (this.groups !== undefined) for (const group of this.groups.values()) groups.push(group)
  }
}

// The last one of a Map without the Map.
function bare<Key, Value>(map: Map<Key, Value>): Value | Map<Key, Value> | undefined {
  if (map.size > 1) return map
  const [last] = map.values()
  return last
}

function isSame(a: Subscription, b: Subscription): boolean {
  return (
    a.qos === b.qos &&
    a.noLocal === b.noLocal &&
    a.retainAsPublished === b.retainAsPublished &&
    a.retainHandling === b.retainHandling &&
    a.identifier === b.identifier
  )
}
