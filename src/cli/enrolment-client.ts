// Asks an enrolment server, ours or another that speaks EST [RFC 7030]: for its CA, and for certificates.

import { request as ask, type RequestOptions } from 'node:https'
import { BrokerError, errorMessage, systemCode, systemReason } from '../errors.js'
import { decodeCertificates, estPath, estTypes } from '../pki/est.js'
import { printable } from '../printable.js'

export interface EnrolmentClient {
  /** PEM certificates of the CA. */
  authorities(): Promise<readonly string[]>
  /** With the secret of an invitation. PEM. */
  enrol(deviceId: string, secret: string, request: string): Promise<string>
  /** With the certificate of today, PEM. */
  reenrol(current: { readonly certificate: string; readonly key: string }, request: string): Promise<string>
}

/** For an answer. Milliseconds. */
const patience = 30_000
const longestAnswer = 256 * 1024

/** `authority`: PEM, by which the server is known; absent: it is not proven who answers, and nothing secret must be sent. */
export function enrolmentClient(base: URL, authority: string | undefined): EnrolmentClient {
  const trust: RequestOptions = authority === undefined ? { rejectUnauthorized: false } : { ca: authority }
  const post = async (operation: string, request: string, more: RequestOptions): Promise<string> => {
    const headers = { 'Content-Type': estTypes.request, 'Content-Length': Buffer.byteLength(request), ...more.headers }
    const [certificate] = decodeCertificates(await exchange(base, operation, { ...trust, ...more, method: 'POST', headers }, request))
    if (certificate === undefined) throw new BrokerError('ERR_PKI_INPUT', `${base.host} sent no certificate.`)
    return certificate
  }
  return {
    authorities: async () => decodeCertificates(await exchange(base, 'cacerts', { ...trust, method: 'GET' })),
    enrol: (deviceId, secret, request) => post('simpleenroll', request, { auth: `${deviceId}:${secret}` }),
    reenrol: ({ certificate, key }, request) => post('simplereenroll', request, { cert: certificate, key })
  }
}

/** The address as a person writes it; only HTTPS will do. */
export function parseEnrolmentUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol === 'https:' && url.username === '' && url.search === '') return url
  throw new BrokerError('ERR_PKI_INPUT', `${JSON.stringify(text)} is no address of an enrolment server: write https://HOST:PORT.`)
}

function exchange(base: URL, operation: string, options: RequestOptions, body = ''): Promise<string> {
  const path = `${base.pathname.replace(/\/$/, '')}${estPath}/${operation}`
  const fail = (what: string, cause?: unknown) =>
    new BrokerError('ERR_PKI_INPUT', `${base.host}: ${what.replace(/\.$/, '')}.`, undefined, { cause })
  return new Promise((resolve, reject) => {
    const sent = ask({
      host: base.hostname.replace(/^\[|\]$/g, ''),
      port: base.port || 443,
      path,
      agent: false,
      timeout: patience,
      ...options
    })
    sent.on('timeout', () => sent.destroy(fail('no answer')))
    sent.on('error', error => reject(error instanceof BrokerError ? error : fail(reasonOf(error), error)))
    sent.on('response', response => {
      const chunks: Buffer[] = []
      let size = 0
      response.on('error', error => reject(fail(reasonOf(error), error)))
      response.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > longestAnswer) sent.destroy(fail('the answer is too long'))
        else chunks.push(chunk)
      })
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        if (response.statusCode === 200) resolve(text)
        else reject(fail(`refused (${response.statusCode}), ${firstLine(text) || 'without a reason'}`))
      })
    })
    sent.end(body)
  })
}

/** Of whoever answers, who may not be the one that was meant. */
const firstLine = (text: string): string => printable(text.split('\n')[0]?.slice(0, 300) ?? '')

const trustWords: Readonly<Record<string, string>> = {
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is of another CA than the one that is trusted',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate is of another CA than the one that is trusted',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate is of another CA than the one that is trusted',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is self-signed',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet, or the clock of this machine is slow',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is not for that host name',
  ECONNREFUSED: 'nothing listens there',
  ECONNRESET: 'it closed the connection'
}

function reasonOf(error: Error): string {
  return trustWords[systemCode(error) ?? ''] ?? (systemCode(error) === undefined ? errorMessage(error) : systemReason(error))
}
