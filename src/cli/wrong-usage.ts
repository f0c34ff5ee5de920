// What is wrong with the command line of a tool, for those who wrote it.

import { errorMessage, systemCode } from '../errors.js'

/** Is it Node's parseArgs that says so? */
export function isParseFault(error: unknown): boolean {
  return systemCode(error)?.startsWith('ERR_PARSE_ARGS') === true
}

/** A sentence without its full stop. Of what parseArgs says the first sentence is for people, what follows it for programmers. */
export function wrongUsageWords(error: unknown): string {
  const message = errorMessage(error)
  const said = isParseFault(error) ? (message.split(/\.\s/)[0] ?? message) : message
  return said.replace(/\.$/, '')
}
