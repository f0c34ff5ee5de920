// Text from files and clients, made safe for a terminal.

/** What would move the cursor, hide or reorder text is written as an escape. */
export function printable(line: string): string {
  return line.replaceAll(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, character => `\\u{${character.codePointAt(0)?.toString(16)}}`)
}
