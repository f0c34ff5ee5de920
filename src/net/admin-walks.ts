// Long lists that are given page by page: each is walked once, and stands still between two requests under a token that only the next request
// of it has. Walks that nobody goes on with are forgotten.

import { randomUUID } from 'node:crypto'

/** As many may stand at a time, and for so long, milliseconds. */
const mostWalks = 64
const patience = 120_000

interface Standing {
  readonly items: AsyncGenerator<unknown, void>
  readonly timer: NodeJS.Timeout
}

export interface Page {
  /** The items as JSON. */
  readonly items: readonly string[]
  /** Of the page behind this one; absent: that was all. */
  readonly next?: string
}

export class AdminWalks {
  readonly #standing = new Map<string, Standing>()

  /** One that is to be gone on with, which nobody else has then; undefined: there is none of that token, or it was forgotten. */
  take(token: string): AsyncGenerator<unknown, void> | undefined {
    const standing = this.#standing.get(token)
    this.#standing.delete(token)
    clearTimeout(standing?.timer)
    return standing?.items
  }

  /** The next items: at most so many, and no more than about so many characters of JSON. */
  async page(items: AsyncGenerator<unknown, void>, limit: number, size: number): Promise<Page> {
    const page: string[] = []
    for (let left = size; page.length < limit && left > 0; ) {
      const { done, value } = await items.next()
      if (done === true) return { items: page }
      const text = JSON.stringify(value)
      left -= text.length
      page.push(text)
    }
    return { items: page, next: this.#stand(items) }
  }

  close(): void {
    for (const token of [...this.#standing.keys()]) this.#forget(token)
  }

  #stand(items: AsyncGenerator<unknown, void>): string {
    const [oldest] = this.#standing.keys()
    if (oldest !== undefined && this.#standing.size >= mostWalks) this.#forget(oldest)
    const token = randomUUID()
    this.#standing.set(token, { items, timer: setTimeout(() => this.#forget(token), patience).unref() })
    return token
  }

  #forget(token: string): void {
    const items = this.take(token)
    void items?.return().catch(() => {})
  }
}
