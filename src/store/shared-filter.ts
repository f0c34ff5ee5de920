// The one text of a subscription in a store: its filter, with `$share/GROUP/` before it when it is shared.

const prefix = '$share/'

export function joinSharedFilter(filter: string, group: string | undefined): string {
  return group === undefined ? filter : `${prefix}${group}/${filter}`
}

export function splitSharedFilter(text: string): { readonly filter: string; readonly group?: string } {
  const end = text.startsWith(prefix) ? text.indexOf('/', prefix.length) : -1
  return end === -1 ? { filter: text } : { group: text.slice(prefix.length, end), filter: text.slice(end + 1) }
}
