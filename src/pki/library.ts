// The one door to @peculiar/x509 and its family. It stops at import when reflect-metadata was not loaded before it, so the order below matters.

import 'reflect-metadata'

export {
  CertificateChoices,
  CertificateSet,
  ContentInfo,
  EncapsulatedContentInfo,
  id_data,
  id_signedData,
  SignedData
} from '@peculiar/asn1-cms'
export { AsnConvert } from '@peculiar/asn1-schema'
export { Certificate } from '@peculiar/asn1-x509'
export {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  PemConverter,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
  X509Crl,
  X509CrlGenerator,
  X509CrlReason
} from '@peculiar/x509'
