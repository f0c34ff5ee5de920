// Gets a new password from a person or a pipe. On a terminal it is asked for twice and never shown; from a pipe come the same two lines.

import { Buffer } from 'node:buffer'

export interface PromptInput extends NodeJS.ReadableStream {
  readonly isTTY?: boolean
  setRawMode?(mode: boolean): unknown
}

export interface PromptIo {
  readonly stdin: PromptInput
  /** Prompts are no results: `-c -` prints to stdout. */
  readonly stderr: { write(text: string): unknown }
}

/** No usable password was given; the message is Mosquitto's. */
export class PromptError extends Error {}

/** The password of `Password: ` and `Reenter password: `, as bytes. */
export async function readNewPassword(io: PromptIo): Promise<Buffer> {
  const [first, second] = io.stdin.isTTY ? await askTwice(io) : await readTwo(io.stdin)
  if (first === undefined || first.length === 0) throw new PromptError('Empty password.')
  // Typing twice guards against slips of the hand; a pipe that ends after one line made none.
  const confirmed = second ?? (io.stdin.isTTY ? undefined : first)
  if (confirmed === undefined || !first.equals(confirmed)) throw new PromptError('Passwords do not match.')
  return first
}

async function askTwice(io: PromptIo): Promise<Buffer[]> {
  const first = await readHidden(io, 'Password: ')
  if (first.length === 0) return []
  return [first, await readHidden(io, 'Reenter password: ')]
}

const key = {
  interrupt: 0x03,
  endOfInput: 0x04,
  backspace: 0x08,
  lineFeed: 0x0a,
  carriageReturn: 0x0d,
  killLine: 0x15,
  delete: 0x7f
} as const

/** One line that is typed and not shown, as bytes. Throws a PromptError at Ctrl-C. */
export function readHidden({ stdin, stderr }: PromptIo, prompt: string): Promise<Buffer> {
  // Raw mode switches echo off, and with it the editing that the terminal does for a line; what people use of that is done here.
  return new Promise((resolve, reject) => {
    let typed: number[] = []
    const finish = (rest: Buffer) => {
      stdin.removeListener('data', onData)
      stdin.removeListener('end', onEnd)
      stdin.pause()
      stdin.setRawMode?.(false)
      if (rest.length > 0) stdin.unshift(rest)
      stderr.write('\n')
    }
    const onEnd = () => {
      finish(Buffer.alloc(0))
      resolve(Buffer.from(typed))
    }
    const onData = (chunk: Buffer | string) => {
      const bytes = Buffer.from(chunk)
      for (const [index, byte] of bytes.entries()) {
        switch (byte) {
          case key.lineFeed:
          case key.carriageReturn:
          case key.endOfInput:
            finish(bytes.subarray(index + 1))
            return resolve(Buffer.from(typed))
          case key.interrupt:
            finish(Buffer.alloc(0))
            return reject(new PromptError('Interrupted.'))
          case key.backspace:
          case key.delete:
            typed = withoutLastCharacter(typed)
            break
          case key.killLine:
            typed = []
            break
          default:
            typed.push(byte)
        }
      }
    }
    stdin.setRawMode?.(true)
    stderr.write(prompt)
    stdin.on('data', onData)
    stdin.on('end', onEnd)
    stdin.resume()
  })
}

function withoutLastCharacter(bytes: number[]): number[] {
  const isContinuation = (byte: number) => (byte & 0xc0) === 0x80
  return bytes.slice(
    0,
    Math.max(
      0,
      bytes.findLastIndex(byte => !isContinuation(byte))
    )
  )
}

// Far beyond two passwords of the greatest length: whatever sends more is not sending passwords.
const longestInput = 4 * 65536

async function readTwo(stdin: PromptInput): Promise<Buffer[]> {
  let input = Buffer.alloc(0)
  for await (const chunk of stdin) {
    input = Buffer.concat([input, Buffer.from(chunk)])
    if (input.length > longestInput || input.filter(byte => byte === key.lineFeed).length >= 2) break
  }
  return lines(input).slice(0, 2)
}

// The complete lines of the input and, when it does not end with a line feed, the rest.
function lines(input: Buffer): Buffer[] {
  const parts = input.toString('latin1').split('\n')
  if (parts.at(-1) === '') parts.pop()
  return parts.map(line => Buffer.from(line.replace(/\r+$/, ''), 'latin1'))
}
