// Certificates and keys on disk. A file that exists is never overwritten, a key is 0600 from its first byte, and a crash leaves no
// half-written file under a final name.

import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { copyFile, type FileHandle, link, lstat, mkdir, open, rename, stat, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { BrokerError, systemCode, systemReason } from '../errors.js'
import type { Issued } from './authority.js'

/** A certificate file and the file of its key. */
export interface CertificatePaths {
  readonly certificate: string
  readonly key: string
}

/** Nothing that we read is larger: a revocation list of a hundred thousand entries has some four megabytes. */
const maxFileSize = 16 * 1024 * 1024

/** Where a pair lives: `certs/broker/broker.crt` and `.key`; clients have names of their own in `client/`. */
export function certificatePaths(dir: string, folder: 'ca' | 'broker' | 'client', name: string = folder): CertificatePaths {
  // Names are checked where they come in; here it is made sure that none of them leaves the folder.
  if (name !== basename(name) || /^\.{0,2}$|[\\\0]/.test(name)) {
    throw new BrokerError('ERR_PKI_INPUT', `${JSON.stringify(name)} cannot be the name of a file.`)
  }
  return pathsOf(join(dir, folder, name))
}

/** `PREFIX.crt` and `PREFIX.key`. */
export function pathsOf(prefix: string): CertificatePaths {
  return { certificate: `${prefix}.crt`, key: `${prefix}.key` }
}

/** Which of the two files are there. A broken symbolic link counts: it is somebody's, too. */
export async function existing(paths: CertificatePaths): Promise<{ certificate: boolean; key: boolean }> {
  return { certificate: await exists(paths.certificate), key: await exists(paths.key) }
}

/** Refuses a pair of names of which one is taken. Ask before the work; `writeIssued` makes sure of it again. */
export async function checkAbsent(paths: CertificatePaths): Promise<void> {
  const found = await existing(paths)
  if (found.key) throw existsError(paths.key)
  if (found.certificate) throw existsError(paths.certificate)
}

/** Writes a new certificate and its key: both or none. */
export async function writeIssued(paths: CertificatePaths, issued: Pick<Issued, 'certificate' | 'key'>): Promise<void> {
  await checkAbsent(paths)
  await writeNew(paths.key, issued.key, 0o600)
  try {
    await writeNew(paths.certificate, issued.certificate, 0o644)
  } catch (error) {
    await unlink(paths.key)
    throw error
  }
}

/** Writes a file that must not exist yet: in full under another name first, then linked, which fails when the name is taken. */
export async function writeNew(file: string, text: string | Buffer, mode: number): Promise<void> {
  await makeFolder(dirname(file))
  await writeBeside(file, text, mode, publish)
}

/** Writes a file in the place of the one that is there, if any: whoever reads it sees the old one or the new one, whole. */
export async function replaceFile(file: string, text: string | Buffer, mode: number): Promise<void> {
  await makeFolder(dirname(file))
  await writeBeside(file, text, mode, rename)
}

/** Keeps what a name stands for under another name as well, which must be free. */
export async function keepAs(file: string, other: string): Promise<void> {
  try {
    await publish(file, other)
  } catch (cause) {
    if (systemCode(cause) === 'EEXIST') throw existsError(other, cause)
    throw new BrokerError('ERR_PKI_FILE', `Unable to write ${other}: ${systemReason(cause)}.`, { file: other }, { cause })
  }
}

async function writeBeside(
  file: string,
  text: string | Buffer,
  mode: number,
  settle: (temporary: string, file: string) => Promise<void>
): Promise<void> {
  const temporary = join(dirname(file), `.${basename(file).slice(0, 32)}.${randomBytes(6).toString('hex')}.tmp`)
  try {
    try {
      await writeDurably(temporary, text, mode)
      await settle(temporary, file)
    } finally {
      await unlink(temporary).catch(() => undefined)
    }
  } catch (cause) {
    if (systemCode(cause) === 'EEXIST') throw existsError(file, cause)
    throw new BrokerError('ERR_PKI_FILE', `Unable to write ${file}: ${systemReason(cause)}.`, { file }, { cause })
  }
}

/** Rejects when there is no such folder: what would be found in it is not nothing, it is unknown. */
export async function checkFolder(dir: string): Promise<void> {
  try {
    if (!(await stat(dir)).isDirectory()) throw new Error('it is no folder')
  } catch (cause) {
    throw new BrokerError('ERR_PKI_FILE', `Unable to read ${dir}: ${systemReason(cause)}.`, { file: dir }, { cause })
  }
}

/** The bytes of a file that a person named. Pipes may be read too, but nothing without end. */
export async function readFileBounded(file: string, limit = maxFileSize): Promise<Buffer> {
  try {
    const handle = await open(file, 'r')
    try {
      const chunks: Buffer[] = []
      let size = 0
      for await (const chunk of handle.createReadStream({ autoClose: false, end: limit })) {
        chunks.push(chunk)
        size += chunk.length
      }
      if (size > limit) throw new Error(`it is larger than ${limit >= 2 ** 20 ? `${limit / 2 ** 20} MB` : `${limit / 1024} KB`}`)
      return Buffer.concat(chunks)
    } finally {
      await handle.close()
    }
  } catch (cause) {
    throw new BrokerError('ERR_PKI_FILE', `Unable to read ${file}: ${systemReason(cause)}.`, { file }, { cause })
  }
}

async function makeFolder(dir: string): Promise<void> {
  try {
    await makeFolders(dir)
  } catch (cause) {
    const reason = systemCode(cause) === 'EEXIST' ? 'a file of that name is in the way' : systemReason(cause)
    throw new BrokerError('ERR_PKI_FILE', `Unable to make the folder ${dir}: ${reason}.`, { file: dir }, { cause })
  }
}

// Node's own `recursive` never ends where a parent is there and says ENOENT all the same, as /proc does.
async function makeFolders(dir: string): Promise<void> {
  const missing: string[] = []
  for (let folder = dir; !(await isFolder(folder)); folder = dirname(folder)) {
    missing.push(folder)
    if (dirname(folder) === folder) break
  }
  for (const folder of missing.reverse()) {
    try {
      await mkdir(folder)
      await ownFolder(folder)
    } catch (error) {
      // Somebody else was faster.
      if (systemCode(error) !== 'EEXIST' || !(await isFolder(folder))) throw error
    }
  }
}

async function ownFolder(folder: string): Promise<void> {
  // Never a link that somebody has put in its place meanwhile.
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  try {
    await giveToOwner(handle, dirname(folder))
  } finally {
    await handle.close()
  }
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false
    throw error
  }
}

/**
 * What root makes in a folder of another account belongs to that account: a broker without privileges goes on with what an administrator's
 * command has left it.
 */
async function giveToOwner(handle: FileHandle, dir: string): Promise<void> {
  if (process.getuid?.() !== 0) return
  const { uid, gid } = await stat(dir)
  if (uid !== 0) await handle.chown(uid, gid)
}

async function writeDurably(file: string, text: string | Buffer, mode: number): Promise<void> {
  const handle = await open(file, 'wx', mode)
  try {
    await giveToOwner(handle, dirname(file))
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

// Some file systems (FAT, a few network and container mounts) have no hard links: there the copy still never overwrites, but a
// crash in its middle leaves a part.
async function publish(temporary: string, file: string): Promise<void> {
  try {
    await link(temporary, file)
  } catch (error) {
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(systemCode(error) ?? '')) throw error
    await copyFile(temporary, file, constants.COPYFILE_EXCL)
  }
}

async function exists(file: string): Promise<boolean> {
  try {
    await lstat(file)
    return true
  } catch (cause) {
    if (systemCode(cause) === 'ENOENT') return false
    throw new BrokerError('ERR_PKI_FILE', `Unable to look for ${file}: ${systemReason(cause)}.`, { file }, { cause })
  }
}

function existsError(file: string, cause?: unknown): BrokerError {
  return new BrokerError('ERR_PKI_EXISTS', `${file} exists and is not overwritten; move it away to make a new one.`, { file }, { cause })
}
