// Patterns that a person types to find clients: `press-*`.

/**
 * Does the text fit? `*` stands for anything, `?` for one character; a pattern without either may be anywhere in the text. Takes at most as
 * many steps as the product of both lengths.
 */
export function fits(pattern: string, text: string): boolean {
  if (!/[*?]/.test(pattern)) return text.includes(pattern)
  let p = 0
  let t = 0
  // Where to go on when it doesn't fit: the last star, taking one character more.
  let star = -1
  let starText = 0
  while (t < text.length) {
    if (pattern[p] === '*') {
      star = p++
      starText = t
    } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === text[t])) {
      p += 1
      t += 1
    } else if (star >= 0) {
      p = star + 1
      t = ++starText
    } else {
      return false
    }
  }
  while (pattern[p] === '*') p += 1
  return p === pattern.length
}
