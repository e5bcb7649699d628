import { failed, ok, type Result } from '../base/result.ts';
import { formatNbdAddress, type NbdAddress, parseNbdUrl } from './nbd-address.ts';

/** Where a guest's disk is. */
export type DiskSource = {
  /** The guest cannot write it. */
  readonly readOnly: boolean;
} & (
  | { readonly kind: 'file'; readonly path: string }
  /** A disk of Lockstep's disk server: written under a generation, by one VM [protocol 6]. */
  | { readonly kind: 'served'; readonly address: NbdAddress }
  /** Any other NBD server. */
  | { readonly kind: 'nbd'; readonly address: NbdAddress }
);

const READ_ONLY = ',readonly';

/** `FILE`, `nbd://host:port/export` or `nbd+unix:///export?socket=PATH`, each also with `,readonly`. */
export function parseDiskSource(text: string): Result<DiskSource> {
  const readOnly = text.endsWith(READ_ONLY);
  const where = readOnly ? text.slice(0, -READ_ONLY.length) : text;
  if (where === '') return failed('a disk needs a file, or the URL of an NBD server');
  if (!/^nbds?(\+[a-z]+)?:/.test(where)) return ok({ kind: 'file', path: where, readOnly });
  const address = parseNbdUrl(where);
  return address.ok ? ok({ kind: 'nbd', address: address.value, readOnly }) : address;
}

export function formatDiskSource(source: DiskSource): string {
  return source.kind === 'file' ? source.path : formatNbdAddress(source.address);
}

/** Whoever takes this disk over cannot be disturbed by a late write of the one before. */
export function isFenced({ kind, readOnly }: DiskSource): boolean {
  return kind === 'served' || readOnly;
}
