// The threads that hash passwords, two at a time, and the bounded queue before them. A thread that fails costs its job, not the rest.

import { Worker } from 'node:worker_threads'
import { BrokerError } from '../errors.js'
import { FairQueue } from './fair-queue.js'

/** How to derive a hash: a `PasswordHash` without its salt and result. */
export type HashSetting =
  | { readonly scheme: 'sha512' }
  | { readonly scheme: 'sha512-pbkdf2'; readonly iterations: number }
  | { readonly scheme: 'argon2id'; readonly memory: number; readonly iterations: number; readonly parallelism: number }

/** What the worker is asked. */
export interface Derivation {
  readonly setting: HashSetting
  readonly salt: Uint8Array
  readonly length: number
  readonly password: Uint8Array
}

export type DerivationAnswer = { readonly hash: Uint8Array } | { readonly failure: string }

const concurrency = 2

/** Ends with `close()`; what fails rejects with `ERR_PASSWORD_BUSY` or `ERR_PASSWORD_HASH`. */
export class HashThreads {
  readonly #worker: URL
  readonly #threads = new Set<Thread>()
  readonly #waiting: FairQueue<Job>
  #closed = false

  constructor(worker: URL, maxWaiting: number) {
    this.#worker = worker
    this.#waiting = new FairQueue(maxWaiting)
  }

  derive(setting: HashSetting, salt: Uint8Array, length: number, password: Uint8Array, source = ''): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(closedError())
      // Copies, because a Buffer may be a view of a pool that would be cloned as a whole.
      const derivation = { setting: settingOf(setting), salt: Uint8Array.from(salt), length, password: Uint8Array.from(password) }
      this.#waiting
        .push(source, { derivation, resolve, reject })
        ?.reject(new BrokerError('ERR_PASSWORD_BUSY', `${this.#waiting.size} password checks are waiting already`))
      this.#next()
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    for (let job = this.#waiting.shift(); job !== undefined; job = this.#waiting.shift()) job.reject(closedError())
    await Promise.all(Array.from(this.#threads, thread => thread.worker.terminate()))
  }

  // Gives the first waiting job to a free thread, as often as both exist. A thread that cannot be started costs its job, not the rest.
  #next(): void {
    while (!this.#closed && this.#waiting.size > 0) {
      try {
        const thread = this.#idleThread()
        if (thread === undefined) return
        const job = this.#waiting.shift()
        if (job) assign(thread, job)
      } catch (cause) {
        this.#waiting.shift()?.reject(failure('the thread that hashes passwords could not be started', cause))
      }
    }
  }

  #idleThread(): Thread | undefined {
    for (const thread of this.#threads) if (thread.job === undefined) return thread
    return this.#threads.size < concurrency ? this.#startThread() : undefined
  }

  #startThread(): Thread {
    // No execArgv: flags for the main thread (loaders, inspector) are not meant for this one.
    const thread: Thread = { worker: new Worker(this.#worker, { execArgv: [], name: 'passwords' }), job: undefined }
    let cause: unknown
    thread.worker.unref()
    thread.worker.on('message', (answer: DerivationAnswer) => {
      const job = release(thread)
      if ('hash' in answer) job?.resolve(answer.hash)
      else job?.reject(failure(`the password could not be hashed: ${answer.failure}`))
      this.#next()
    })
    thread.worker.on('error', error => {
      cause = error
    })
    thread.worker.on('exit', () => {
      this.#threads.delete(thread)
      release(thread)?.reject(this.#closed ? closedError() : failure('the thread that hashes passwords ended', cause))
      this.#next()
    })
    this.#threads.add(thread)
    return thread
  }
}

interface Job {
  readonly derivation: Derivation
  readonly resolve: (hash: Uint8Array) => void
  readonly reject: (error: Error) => void
}

interface Thread {
  readonly worker: Worker
  job: Job | undefined
}

// A thread holds the process only while somebody waits for its answer.
function assign(thread: Thread, job: Job): void {
  thread.job = job
  thread.worker.ref()
  thread.worker.postMessage(job.derivation)
}

function release(thread: Thread): Job | undefined {
  const { job } = thread
  thread.job = undefined
  thread.worker.unref()
  return job
}

// A PasswordHash may stand for its setting; its salt and result need not travel.
function settingOf(setting: HashSetting): HashSetting {
  switch (setting.scheme) {
    case 'sha512':
      return { scheme: setting.scheme }
    case 'sha512-pbkdf2':
      return { scheme: setting.scheme, iterations: setting.iterations }
    case 'argon2id': {
      const { scheme, memory, iterations, parallelism } = setting
      return { scheme, memory, iterations, parallelism }
    }
  }
}

function failure(message: string, cause?: unknown): BrokerError {
  return new BrokerError('ERR_PASSWORD_HASH', message, undefined, { cause })
}

function closedError(): BrokerError {
  return failure('the password hasher is closed')
}
