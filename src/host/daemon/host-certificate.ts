import { readFile, writeFile } from 'node:fs/promises';
import { failed, ok, type Result } from '../../base/result.ts';
import type { StateFolder } from './state-folder.ts';

/** What a daemon proves itself with to other daemons and to clients on TCP. PEM texts. */
export interface HostCertificate {
  readonly certificate: string;
  readonly key: string;
}

/** The host's own certificate, made at its first start. Others trust it because the cluster's store shows it. */
export async function hostCertificate(state: StateFolder, host: string): Promise<Result<HostCertificate>> {
  const files = { certificate: state.file('certificate.pem'), key: state.file('key.pem') };
  try {
    const [certificate, key] = await Promise.all([
      readFile(files.certificate, 'utf8'),
      readFile(files.key, 'utf8'),
    ]);
    return ok({ certificate, key });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      return failed(`the host's certificate cannot be read: ${(error as Error).message}`);
  }
  // Only a first start needs the library that makes certificates.
  const { selfSigned } = await import('../self-signed.ts');
  const made = await selfSigned(`Lockstep host ${host}`);
  await writeFile(files.key, made.key, { mode: 0o600 });
  await writeFile(files.certificate, made.certificate, { mode: 0o644 });
  return ok(made);
}
