// Topic names and topic filters [MQTT-4.7]: which are valid, and which name a filter matches. Strings are taken as valid UTF-8 text
// (the decoder's work); comparing code units is then the same as comparing bytes. Nothing here allocates.

/** Mosquitto's limit on the number of `/`, for names and filters. */
export const maxSlashes = 200
const maxBytes = 65_535

const nul = 0x00
const hash = 0x23
const dollar = 0x24
const plus = 0x2b
const slash = 0x2f

/** May a client publish to it? */
export function isTopicName(text: string): boolean {
  if (!hasTopicLength(text)) return false
  let slashes = 0
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case nul:
      case hash:
      case plus:
        return false
      case slash:
        if (++slashes > maxSlashes) return false
    }
  }
  return true
}

/** May a client subscribe to it? `+` and `#` must be alone in their level, `#` in the last one [MQTT-4.7.1-1, MQTT-4.7.1-2]. */
export function isTopicFilter(text: string): boolean {
  if (!hasTopicLength(text)) return false
  let slashes = 0
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case nul:
        return false
      case hash:
        if (!startsLevel(text, i) || i + 1 !== text.length) return false
        break
      case plus:
        if (!startsLevel(text, i) || !endsLevel(text, i)) return false
        break
      case slash:
        if (++slashes > maxSlashes) return false
    }
  }
  return true
}

/** What a client subscribes to; `group` of a shared subscription. */
export interface ParsedFilter {
  readonly filter: string
  readonly group?: string
}

/**
 * Takes `$share/GROUP/FILTER` apart [MQTT5 4.8.2]. As in Mosquitto that works for every version, and all of it together keeps the limits of
 * a filter. `malformed`: no filter at all; `protocol-error`: no filter behind the group, no group [MQTT-4.8.2-1], or one with `+` or `#`.
 */
export function parseFilter(text: string): ParsedFilter | 'malformed' | 'protocol-error' {
  if (!isTopicFilter(text)) return 'malformed'
  if (text !== '$share' && !text.startsWith('$share/')) return { filter: text }
  const end = text.indexOf('/', '$share/'.length)
  const group = text.slice('$share/'.length, end)
  const filter = text.slice(end + 1)
  if (end < 0 || filter === '' || group === '' || group === '+' || group === '#') return 'protocol-error'
  return { filter, group }
}

/**
 * Does the filter match the name? Both are valid. `a/#` matches `a` too [MQTT-4.7.1-2], `+` matches an empty level, and what
 * starts with `$` is matched only by what does too [MQTT-4.7.2-1].
 */
export function matchesFilter(filter: string, name: string): boolean {
  if (name === '' || startsWithDollar(filter) !== startsWithDollar(name)) return false
  let n = 0
  for (let f = 0; f < filter.length; f++) {
    const unit = filter.charCodeAt(f)
    if (unit === hash) return true
    if (unit === plus) {
      const usualEnd = Math.min(n + usualLevel, name.length)
      while (n < usualEnd && name.charCodeAt(n) !== slash) n++
      if (n === usualEnd) n = endOfLevel(name, n)
    } else if (n < name.length && name.charCodeAt(n) === unit) {
      n++
    } else {
      return n === name.length && isParentOfAll(filter, f)
    }
  }
  return n === name.length
}

/** Levels that are longer are looked through by `indexOf`, many times as fast; for the usual ones its call costs more than it saves. */
const usualLevel = 64

function endOfLevel(name: string, at: number): number {
  const end = name.indexOf('/', at)
  return end < 0 ? name.length : end
}

/** `$SYS/…` and its like stand apart from all other topics. */
export function startsWithDollar(text: string): boolean {
  return text.charCodeAt(0) === dollar
}

/** What Mosquitto's plugins are spoken to by: nobody else gets it. */
export function isControlTopic(name: string): boolean {
  return startsWithDollar(name) && name.startsWith('$CONTROL/')
}

// The last step of `a/#` on `a`: the name is used up and `/#` is what the filter has left.
function isParentOfAll(filter: string, at: number): boolean {
  return at + 2 === filter.length && filter.charCodeAt(at) === slash && filter.charCodeAt(at + 1) === hash
}

function startsLevel(text: string, at: number): boolean {
  return at === 0 || text.charCodeAt(at - 1) === slash
}

function endsLevel(text: string, at: number): boolean {
  return at + 1 === text.length || text.charCodeAt(at + 1) === slash
}

// At least one character [MQTT-4.7.3-1], at most 65535 bytes [MQTT-4.7.3-3]. A code unit takes up to three bytes.
function hasTopicLength(text: string): boolean {
  if (text === '' || text.length > maxBytes) return false
  return text.length * 3 <= maxBytes || Buffer.byteLength(text) <= maxBytes
}
