// White space as C's isspace(3) has it, which Mosquitto trims by. String.prototype.trim takes more, such as a no-break space, which may be
// part of a name; and a pattern for the end of a line is slow on long blank ones.

/** Without blanks at either end. */
export function trimBlanks(text: string): string {
  return trimBlanksStart(trimBlanksEnd(text))
}

export function trimBlanksStart(text: string): string {
  let start = 0
  while (start < text.length && isBlank(text.charCodeAt(start))) start++
  return text.slice(start)
}

export function trimBlanksEnd(text: string): string {
  let end = text.length
  while (end > 0 && isBlank(text.charCodeAt(end - 1))) end--
  return text.slice(0, end)
}

function isBlank(code: number): boolean {
  return code === 0x20 || (code >= 0x09 && code <= 0x0d)
}

const byteOrderMark = Buffer.of(0xef, 0xbb, 0xbf)

/** Whether a file begins with the mark that some editors write before UTF-8. To Mosquitto it is a part of the first line, and so it is here. */
export function startsWithMark(content: Uint8Array): boolean {
  return byteOrderMark.equals(content.subarray(0, byteOrderMark.length))
}
