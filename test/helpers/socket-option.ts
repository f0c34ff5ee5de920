// What the kernel says of a socket. Node can set options and not read them, so the socket is lent to a perl, which every Debian has.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { text } from 'node:stream/consumers'

/** Is TCP_NODELAY set? */
export async function hasNoDelay(socket: Duplex): Promise<boolean> {
  const script = 'print unpack("i", getsockopt(STDIN, IPPROTO_TCP, TCP_NODELAY) // die $!)'
  const perl = spawn('perl', ['-MSocket=:DEFAULT,IPPROTO_TCP,TCP_NODELAY', '-e', script], { stdio: [socket, 'pipe', 'inherit'] })
  if (perl.stdout === null) throw new Error('perl has no output')
  const [answer] = await Promise.all([text(perl.stdout), once(perl, 'close')])
  if (answer === '') throw new Error('perl gave no answer')
  return answer !== '0'
}
