// What a command has of this process, with a person to ask where there is one.

import type { CommandIo } from './certs.js'
import { readHidden } from './password-prompt.js'

/** Without a terminal nobody can be asked, and a passphrase comes from the environment only. */
export function terminalIo(): CommandIo {
  const { stdin, stdout, stderr, env } = process
  if (!stdin.isTTY) return { stdout, stderr, env }
  return { stdout, stderr, env, askPassphrase: async prompt => (await readHidden({ stdin, stderr }, prompt)).toString() }
}
