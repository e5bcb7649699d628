import 'reflect-metadata';
import { KeyObject, randomBytes, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

/** P-256: the fastest signature that every TLS 1.3 end speaks [RFC 8446 9.1]. */
export const KEYS = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const SERVER_AUTHENTICATION = '1.3.6.1.5.5.7.3.1';
/** Hosts' clocks may differ, and what is signed here ends when it is thrown away, not by date. */
export const NOT_BEFORE = new Date('2020-01-01T00:00:00Z');
export const NOT_AFTER = new Date('2049-12-31T23:59:59Z');
const SERIAL_BYTES = 16;

/** A key and a certificate for it that nobody else has signed: whoever trusts it was shown it. PEM texts. */
export async function selfSigned(commonName: string): Promise<{ certificate: string; key: string }> {
  const keys = await webcrypto.subtle.generateKey(KEYS, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: [commonName] }],
    notBefore: NOT_BEFORE,
    notAfter: NOT_AFTER,
    signingAlgorithm: KEYS,
    keys,
    extensions: [new x509.ExtendedKeyUsageExtension([SERVER_AUTHENTICATION])],
  });
  return { certificate: certificate.toString('pem'), key: privateKeyPem(keys.privateKey) };
}

export function serialNumber(): string {
  const bytes = randomBytes(SERIAL_BYTES);
  // Positive, and of full length [RFC 5280 4.1.2.2].
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes.toString('hex');
}

export function privateKeyPem(key: webcrypto.CryptoKey): string {
  return KeyObject.from(key).export({ format: 'pem', type: 'pkcs8' }).toString();
}
