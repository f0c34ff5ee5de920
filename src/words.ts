// Words that people write, and slips in them.

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
