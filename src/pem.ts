// The blocks of a PEM file [RFC 7468], as OpenSSL finds them: markers at the beginning of a line, text around them ignored, and so is a byte
// order mark at the beginning of the file.

export interface PemBlock {
  readonly label: string
  /** From BEGIN to END; empty when it is cut off. */
  readonly text: string
  /** False: the END line is missing, as in a file that is still being written. */
  readonly closed: boolean
}

// As a character, and as the bytes of a file that was read as latin1.
const byteOrderMark = /^(?:\ufeff|\u00ef\u00bb\u00bf)/

/** All blocks in order. One pass, line by line: a file full of BEGIN lines costs no more than any other. */
export function pemBlocks(text: string): PemBlock[] {
  const blocks: PemBlock[] = []
  let label: string | undefined
  let lines: string[] = []
  for (const line of text.replace(byteOrderMark, '').split(/\r?\n/)) {
    const [, begin] = /^-----BEGIN ([A-Z0-9 ]{1,60})-----\s*$/.exec(line) ?? []
    if (begin !== undefined) {
      if (label !== undefined) blocks.push({ label, text: '', closed: false })
      label = begin
      lines = []
    }
    if (label === undefined) continue
    lines.push(line)
    if (line.trimEnd() !== `-----END ${label}-----`) continue
    blocks.push({ label, text: `${lines.join('\n')}\n`, closed: true })
    label = undefined
  }
  if (label !== undefined) blocks.push({ label, text: '', closed: false })
  return blocks
}

/** Is this a private key under a passphrase, in PKCS#8 or in OpenSSL's older form? Node's error codes for it differ from version to version. */
export function isEncryptedKey(text: string): boolean {
  return /^-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(text.replace(byteOrderMark, ''))
}
