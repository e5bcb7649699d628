import { failed, type Result } from '../base/result.ts';
import { type DiskSource, parseDiskSource } from '../storage/disk-source.ts';

/** `--disk`: a file or an NBD server's URL, each also with `,readonly`. */
export function parseDisk(text: string): Result<DiskSource> {
  const source = parseDiskSource(text);
  return source.ok ? source : failed(`--disk ${source.error}`);
}
