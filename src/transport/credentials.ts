import { createPrivateKey, X509Certificate } from 'node:crypto';
import { failed, ok, type Result } from '../base/result.ts';
import type { VmId } from '../ft/identity.ts';

/**
 * What an end of the logging channel proves itself with: a certificate of the VM's authority that names the VM, and
 * its key. All three are PEM texts. Whoever holds the key can read and write the VM's log.
 */
export interface ChannelCredentials {
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
}

/** The name of a VM in a certificate's subjectAltName, as a URI. */
export function vmUri(vm: VmId): string {
  return `urn:lockstep:vm:${encodeURIComponent(vm)}`;
}

/** `subjectAltName` as Node tells it: comma-separated, each with its type. */
export function namesVm(subjectAltName: string | undefined, vm: VmId): boolean {
  return (subjectAltName ?? '').split(', ').includes(`URI:${vmUri(vm)}`);
}

/** Reads a credentials file (JSON with the three texts) and checks that the parts belong together and to this VM. */
export function parseCredentials(text: string, vm: VmId): Result<ChannelCredentials> {
  let json: Readonly<Record<string, unknown>>;
  try {
    json = (JSON.parse(text) ?? {}) as typeof json;
  } catch (error) {
    return failed(`the credentials are not JSON: ${(error as Error).message}`);
  }
  const { authority, certificate, key } = json;
  if (typeof authority !== 'string' || typeof certificate !== 'string' || typeof key !== 'string')
    return failed('credentials have an authority, a certificate and a key, each a PEM text');
  try {
    const own = new X509Certificate(certificate);
    const issuer = new X509Certificate(authority);
    if (!own.checkIssued(issuer) || !own.verify(issuer.publicKey))
      return failed('the certificate is not one of its authority');
    if (!own.checkPrivateKey(createPrivateKey(key))) return failed('the key is not that of the certificate');
    if (!namesVm(own.subjectAltName, vm))
      return failed(`the certificate is not for the VM "${vm}" but for ${own.subjectAltName ?? 'nobody'}`);
  } catch (error) {
    return failed(`the credentials cannot be read: ${(error as Error).message}`);
  }
  return ok({ authority, certificate, key });
}
