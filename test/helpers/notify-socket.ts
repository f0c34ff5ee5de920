// systemd's end of NOTIFY_SOCKET: what a service says of itself, one message a line.

import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { start } from './command.js'
import { until } from './until.js'

export interface NotifySocket {
  readonly path: string
  /** The messages so far, their lines joined by spaces; those by which systemd-notify waits for us left out. */
  messages(): readonly string[]
  /** Waits for one more message that matches and comes behind the last one that was waited for. */
  next(pattern: RegExp): Promise<string>
}

// Node has no datagram sockets in the file system. Descriptors that come along are closed: that is what systemd-notify waits for.
const receive = `use IO::Socket::UNIX; use Socket;
my $socket = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]) or die "no socket: $!";
chmod 0777, $ARGV[0];
$| = 1;
print "open\\n";
while (defined $socket->recv(my $message, 65536)) { $message =~ s/\\n/ /g; print "$message\\n" }`

export async function openNotifySocket(t: Test): Promise<NotifySocket> {
  // Not t.testdir(): the path of a socket has to be short, and reachable for other accounts.
  const dir = mkdtempSync(join(tmpdir(), 'notify-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  chmodSync(dir, 0o755)
  const path = join(dir, 'socket')
  const listener = start(t, 'perl', ['-e', receive, path])
  await listener.line(/^open$/)
  const messages = () =>
    listener
      .stdout()
      .split('\n')
      .filter(line => line !== '' && line !== 'open' && !line.startsWith('BARRIER='))
  let heard = 0
  return {
    path,
    messages,
    async next(pattern) {
      const found = await until(() => {
        const index = messages().findIndex((message, i) => i >= heard && pattern.test(message))
        return index === -1 ? undefined : { index }
      }).catch(() => {
        throw new Error(`no message matches ${pattern} in\n${messages().join('\n')}`)
      })
      heard = found.index + 1
      return messages()[found.index] ?? ''
    }
  }
}
