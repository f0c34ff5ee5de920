// The sentences in a source file: its strings and templates of three words and more, `{}` for what a template fills in.

/** In the order of the file. Comments and regular expressions are passed over. */
export function sentences(source: string): readonly string[] {
  const found: string[] = []
  new Scanner(source, found).readCode()
  return found.filter(text => text.trim().split(/\s+/).length >= 3)
}

class Scanner {
  readonly #source: string
  readonly #found: string[]
  #at = 0

  constructor(source: string, found: string[]) {
    this.#source = source
    this.#found = found
  }

  /** To the end, or behind the brace that ends a place of a template. */
  readCode(): void {
    for (let depth = 0; this.#at < this.#source.length; ) {
      const [char = '', next] = this.#source.slice(this.#at, this.#at + 2)
      if (char === '{') depth++
      if (char === '}' && depth-- === 0) {
        this.#at++
        return
      }
      if (char === '/' && next === '/') this.#skipTo('\n')
      else if (char === '/' && next === '*') this.#skipTo('*/')
      else if (char === '/' && this.#mayBeginPattern()) this.#skipPattern()
      else if (char === "'" || char === '"') this.#readString(char)
      else if (char === '`') this.#readTemplate()
      else this.#at++
    }
  }

  #skipTo(end: string): void {
    const found = this.#source.indexOf(end, this.#at)
    this.#at = found === -1 ? this.#source.length : found + end.length
  }

  // Behind a value a slash divides.
  #mayBeginPattern(): boolean {
    return /[(,=:[!&|?{};>\n]\s*$/.test(this.#source.slice(Math.max(0, this.#at - 40), this.#at))
  }

  #skipPattern(): void {
    let inClass = false
    for (this.#at++; this.#at < this.#source.length; this.#at++) {
      const char = this.#source[this.#at]
      if (char === '\\') this.#at++
      else if (char === '[') inClass = true
      else if (char === ']') inClass = false
      else if (char === '/' && !inClass) break
    }
    this.#at++
  }

  #readString(quote: string): void {
    let text = ''
    for (this.#at++; this.#at < this.#source.length && this.#source[this.#at] !== quote; ) text += this.#nextCharacter()
    this.#at++
    this.#found.push(text)
  }

  #readTemplate(): void {
    let text = ''
    for (this.#at++; this.#at < this.#source.length && this.#source[this.#at] !== '`'; ) {
      if (this.#source.startsWith('${', this.#at)) {
        this.#at += 2
        this.readCode()
        text += '{}'
      } else {
        text += this.#nextCharacter()
      }
    }
    this.#at++
    this.#found.push(text)
  }

  #nextCharacter(): string {
    const char = this.#source[this.#at++] ?? ''
    if (char !== '\\') return char
    const escaped = this.#source[this.#at++] ?? ''
    return escaped === 'n' ? '\n' : escaped
  }
}
