// `certs show`: what is in files, or presented by a server, in words.

import { stat } from 'node:fs/promises'
import { BrokerError } from '../errors.js'
import { existing, readFileBounded } from '../pki/files.js'
import { parsePrivateKey } from '../pki/keys.js'
import { decodePkcs12, isPkcs12 } from '../pki/pkcs12.js'
import { type Address, type ClientPair, type Presented, parseAddressAndPort, readPresented } from '../pki/presented.js'
import { type Use, useNotes } from '../pki/use-notes.js'
import { describe, formatDescription, type PkiObject, parsePkiFile } from '../pki/x509.js'
import {
  type Arguments,
  type Command,
  type CommandIo,
  keyPassphraseVariable,
  quote,
  UsageError,
  type Values,
  withPassphrase
} from './certs-command.js'

export const showCommands: Readonly<Record<string, Command>> = {
  show: {
    usage: 'certs show FILE|HOST:PORT... [--as server|client|ca] [--cert FILE --key FILE]',
    help: `Shows certificates, keys, certificate requests, revocation lists and PKCS#12 files in words, whether they fit together, and what is wrong with
them. HOST:PORT shows what a TLS server presents. A key that lies beside a certificate under the same name is compared with it.

  --as server  says what certificates are to be used for (or client, or ca), so that what is wrong with them for that is told
  --cert FILE, --key FILE  the client's own certificate and key, for a server that asks for one

PKCS#12 files and keys under a passphrase are opened with ${keyPassphraseVariable}, or by asking.

Example:
  mosquitero certs show certs/ca/ca.crt certs/broker/broker.crt
  mosquitero certs show localhost:8883`,
    options: ['as', 'cert', 'key'],
    run: runShow
  }
}

interface Shown {
  readonly file: string
  readonly object: PkiObject
  /** Of a certificate, where it is known. */
  readonly use?: Use
  /** What is odd about the file itself. */
  readonly notes: readonly string[]
}

async function runShow({ names, values }: Arguments, io: CommandIo): Promise<number> {
  if (names.length === 0) throw new UsageError('A file is missing, or HOST:PORT.')
  const use = parseUse(values.as)
  const shown: Shown[] = []
  const beside: PkiObject[] = []
  let failed = false
  for (const name of names) {
    try {
      const address = (await existing({ certificate: name, key: name })).certificate ? undefined : parseAddressAndPort(name)
      if (address) {
        shown.push(...(await showServer(name, address, values, io)))
      } else {
        shown.push(...(await showFile(name, io)))
        beside.push(...(await objectsBeside(name)))
      }
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error
      io.stderr.write(`Error: ${error.message}\n`)
      failed = true
    }
  }
  const objects = shown.map(({ object }) => object)
  const others = [...objects, ...beside]
  const certificates = others.flatMap(object => (object.kind === 'certificate' ? [object.certificate] : []))
  const descriptions = await Promise.all(objects.map(object => describe(object, { others })))
  const texts = descriptions.map((description, index) => {
    const { file = '', notes = [], object, use: own } = shown[index] ?? {}
    const found = object?.kind === 'certificate' ? useNotes(object.certificate, own ?? use, certificates) : []
    return `${quote(file)}: ${formatDescription({ ...description, notes: [...description.notes, ...found, ...notes] })}\n`
  })
  io.stdout.write(texts.join('\n'))
  return failed || descriptions.some(({ unreadable }) => unreadable) ? 1 : 0
}

async function showFile(file: string, io: CommandIo): Promise<Shown[]> {
  const content = await readFileBounded(file)
  const objects = isPkcs12(content) ? await openPkcs12(content, file, io) : parsePkiFile(content, file)
  const isSecret = objects.some(({ kind }) => kind === 'private key')
  const notes = isSecret ? await modeNotes(file) : []
  return objects.map(object => ({ file, object, notes: object.kind === 'private key' ? notes : [] }))
}

async function openPkcs12(content: Buffer, file: string, io: CommandIo): Promise<PkiObject[]> {
  const objects = await withPassphrase(file, keyPassphraseVariable, io, passphrase => {
    if (passphrase === undefined) throw new BrokerError('ERR_TLS_KEY_ENCRYPTED', `${file} is protected by a passphrase.`)
    return decodePkcs12(content, passphrase, file)
  })
  return objects.map(object => ('raw' in object ? { kind: 'certificate', certificate: object } : { kind: 'private key', key: object }))
}

async function modeNotes(file: string): Promise<string[]> {
  const { mode } = await stat(file)
  if ((mode & 0o044) === 0) return []
  const who = (mode & 0o004) === 0 ? 'The group of its file' : 'Everybody on this machine'
  return [`${who} can read it: chmod ${(mode & 0o004) === 0 ? 'g-r' : 'go-r'} ${quote(file)}`]
}

/** The key of a certificate, or the certificate of a key, by the name of the file. */
async function objectsBeside(file: string): Promise<PkiObject[]> {
  const [, stem, ending] = /^(.*)\.(crt|pem|cer|key)$/.exec(file) ?? []
  if (stem === undefined) return []
  for (const other of ending === 'key' ? [`${stem}.crt`, `${stem}.pem`, `${stem}.cer`] : [`${stem}.key`]) {
    try {
      return parsePkiFile(await readFileBounded(other), other)
    } catch {
      // There is none, or it can't be read: nobody asked for it.
    }
  }
  return []
}

async function showServer(name: string, address: Address, values: Values, io: CommandIo): Promise<Shown[]> {
  const presented = await readPresented(address, await pairOf(values, io))
  io.stdout.write(`${name} speaks ${presented.protocol} with ${presented.cipher}.\n\n`)
  const notes = serverNotes(presented, address, values)
  return presented.chain.map((certificate, index) => ({
    file: index === 0 ? name : `${name} (${index})`,
    object: { kind: 'certificate', certificate },
    notes: index === 0 ? notes : [],
    use: index === 0 ? 'server' : 'ca'
  }))
}

function parseUse(text: string | undefined): Use | undefined {
  if (text === undefined || text === 'server' || text === 'client' || text === 'ca') return text
  throw new UsageError(`--as ${JSON.stringify(text)} is none of server, client, ca.`)
}

function serverNotes({ isForHost, refusal }: Presented, { host }: Address, { cert }: Values): string[] {
  const notes = isForHost ? [] : [`It is not for ${host}: clients that connect to that name refuse it.`]
  if (refusal === undefined) return notes
  const advice = cert === undefined ? '; it may want a client certificate: --cert FILE --key FILE' : ''
  return [...notes, `After the handshake: ${refusal}${advice}.`]
}

async function pairOf({ cert, key }: Values, io: CommandIo): Promise<ClientPair | undefined> {
  if (cert === undefined && key === undefined) return undefined
  if (cert === undefined || key === undefined) throw new UsageError('--cert and --key go together.')
  const pair = { cert: (await readFileBounded(cert)).toString('latin1'), key: (await readFileBounded(key)).toString('latin1') }
  return withPassphrase(key, keyPassphraseVariable, io, async passphrase => {
    parsePrivateKey(pair.key, passphrase, key)
    return { ...pair, ...(passphrase !== undefined && { passphrase }) }
  })
}
