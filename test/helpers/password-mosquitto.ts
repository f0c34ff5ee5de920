// The real mosquitto with a password file, to ask it which passwords it accepts.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'

export interface PasswordBroker {
  /** Whether mosquitto_pub is let in with these. */
  accepts(username: string, password: string): Promise<boolean>
}

/** Starts mosquitto on a free loopback port; ends with the test. */
export async function startPasswordBroker(t: Test, dir: string, passwordFile: string): Promise<PasswordBroker> {
  const port = await freePort()
  const conf = join(dir, 'mosquitto.conf')
  // Not changing to another account keeps the file readable, whoever runs the test.
  writeFileSync(conf, `user root\nlistener ${port} 127.0.0.1\nallow_anonymous false\npassword_file ${passwordFile}\n`)
  const broker = spawn('mosquitto', ['-c', conf], { stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = once(broker, 'exit')
  t.teardown(async () => {
    broker.kill()
    await ended
  })
  const log: string[] = []
  const lines = createInterface(broker.stderr)
  await new Promise<void>((resolve, reject) => {
    lines.on('line', line => {
      log.push(line)
      if (line.endsWith('running')) resolve()
    })
    lines.on('close', () => reject(new Error(`mosquitto did not start:\n${log.join('\n')}`)))
    broker.on('error', reject)
  })
  return { accepts: (username, password) => publish(port, username, password) }
}

function publish(port: number, username: string, password: string): Promise<boolean> {
  const args = ['-h', '127.0.0.1', '-p', `${port}`, '-u', username, '-P', password, '-t', 'password/test', '-m', 'x']
  return new Promise((resolve, reject) => {
    execFile('mosquitto_pub', args, { timeout: 20_000 }, (error, _, stderr) => {
      if (!error) resolve(true)
      else if (stderr.includes('not authorised')) resolve(false)
      else reject(error)
    })
  })
}

// mosquitto cannot be asked for port 0.
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
