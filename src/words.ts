// Words that people write, and slips in them.

/** As long as any option's name, and longer than what is left of a secret may be. */
const longestName = 40
const shownOfOthers = 4

/**
 * What may be shown of a word that should have been the name of an option. Where somebody named a key or a file of passwords instead, the word is a
 * secret, or holds one behind a colon, an equals sign or a tab: shown is what comes before that, and next to nothing of what no name looks like.
 */
export function nameOf(word: string): string {
  const [name = ''] = /^\s{0,4}#?!?[\w.-]+/.exec(word) ?? []
  const end = name.length + 1
  const isName = name !== '' && name.length <= longestName && (word.length < end || /[\s:=]/.test(word.charAt(end - 1)))
  const shown = word.slice(0, isName ? end : shownOfOthers)
  return shown === word ? word : `${shown}…`
}

/** Whether a line begins a key or certificate as PEM has them [RFC 7468]: what comes behind it is not for the log. */
export function beginsPem(line: string): boolean {
  return /^\s*-----BEGIN/.test(line)
}

/** Whether one letter inserted, left out or replaced, or two neighbours swapped, make one word of the other. */
export function withinOneEdit(a: string, b: string): boolean {
  if (a.length > b.length) return withinOneEdit(b, a)
  if (b.length - a.length > 1) return false
  let same = 0
  while (same < a.length && a[same] === b[same]) same++
  if (a.length < b.length) return a.slice(same) === b.slice(same + 1)
  const swapped = a[same] === b[same + 1] && a[same + 1] === b[same]
  return a.slice(same + 1) === b.slice(same + 1) || (swapped && a.slice(same + 2) === b.slice(same + 2))
}
