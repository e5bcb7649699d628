import { type DiskSource, formatDiskSource, isFenced } from '../storage/disk-source.ts';
import { type NbdAddress, parseNbdUrl } from '../storage/nbd-address.ts';
import { type HostPort, parseHostPort } from '../transport/address.ts';
import type { StorageDefinition } from './api.ts';

/** The disks of a VM process, one for each disk of its machine, and how they are fenced (docs/STORAGE.md). */
export interface StorageConfig {
  readonly disks: readonly DiskSource[];
  /** Disks that know no generations are written under the arbiter's lease alone. */
  readonly lease: LeaseFencing | undefined;
}

/** The assumptions of protocol 7(b), in milliseconds. */
export interface LeaseFencing {
  /** d: how far two clocks may drift apart within a lease. */
  readonly driftMs: number;
  /** m: no write takes effect later than this after it was issued. */
  readonly lateMs: number;
}

const DRIFT_MS = 500;
const LATE_MS = 5_000;

type Json = Readonly<Record<string, unknown>>;

/** `{address, disks, fencing, driftMs, lateMs}` as StorageDefinition says; `address` is the disk server. */
export function parseStorage(value: unknown, wrong: string[]): StorageConfig | undefined {
  if (value === undefined || value === null) return undefined;
  const json = value as Json;
  const server = typeof json.address === 'string' ? parseHostPort(json.address) : undefined;
  if (server !== undefined && !server.ok) wrong.push(`storage.address: ${server.error}`);
  if (!Array.isArray(json.disks) || json.disks.length === 0) {
    wrong.push('storage names no disks');
    return undefined;
  }
  const disks: DiskSource[] = [];
  for (const [index, each] of json.disks.entries()) {
    const source = sourceOf(each, server?.ok ? server.value : undefined);
    if (typeof source === 'string') wrong.push(`storage.disks.${index} ${source}`);
    else disks.push(source);
  }
  if (json.fencing !== undefined && json.fencing !== 'lease')
    wrong.push('storage.fencing is "lease", or absent');
  const number = (name: string, otherwise: number): number => {
    const given = json[name] ?? otherwise;
    if (typeof given === 'number' && given > 0 && given <= 3_600_000) return given;
    wrong.push(`storage.${name} is no number of milliseconds`);
    return otherwise;
  };
  const lease = { driftMs: number('driftMs', DRIFT_MS), lateMs: number('lateMs', LATE_MS) };
  return { disks, lease: json.fencing === 'lease' ? lease : undefined };
}

/** A text says what is wrong. */
function sourceOf(value: unknown, server: HostPort | undefined): DiskSource | string {
  const named = typeof value === 'string' ? { name: value } : value;
  if (typeof named !== 'object' || named === null) return 'is no disk: a name, or {name}, {nbd} or {file}';
  const { name, nbd, file, readonly: readOnly = false } = named as Json;
  if (typeof readOnly !== 'boolean') return 'is readonly, or is not: true or false';
  if (typeof name === 'string' && name !== '') {
    if (server === undefined) return `is named "${name}", and there is no disk server`;
    return { kind: 'served', address: { ...server, disk: name }, readOnly };
  }
  if (typeof nbd === 'string') {
    const address = parseNbdUrl(nbd);
    return address.ok ? { kind: 'nbd', address: address.value, readOnly } : address.error;
  }
  if (typeof file === 'string' && file !== '') return { kind: 'file', path: file, readOnly };
  return 'is no disk: a name, or {name}, {nbd} or {file}';
}

/** A non-shared disk's file on this host: `{host}` in its path stands for the host's name. */
export function fileOn(host: string, file: string): string {
  return file.replaceAll('{host}', host);
}

/** The sources of a VM file's disks as a host sees them; a name without a server has been found before. */
export function sourcesOf(
  { server, mode, files = [], ...rest }: StorageDefinition,
  host: string,
): readonly DiskSource[] {
  if (mode === 'non-shared')
    return files.map((file) => ({ kind: 'file', path: fileOn(host, file), readOnly: false }));
  return parseStorage({ ...rest, address: server }, [])?.disks ?? [];
}

/** The disk beside which the VM's record stands, when its disk server is the arbiter. */
export function arbiterDisk(storage: Pick<StorageConfig, 'disks'> | undefined): NbdAddress | undefined {
  const [first] = storage?.disks.filter(({ kind, readOnly }) => kind === 'served' && !readOnly) ?? [];
  return first?.kind === 'served' ? first.address : undefined;
}

/** Why these disks cannot be another host's after this one; what to do stands in the same line. */
export function unfenced({ disks, lease }: StorageConfig): string | undefined {
  const foreign = disks.find(
    (each) => !isFenced(each) && !(each.kind === 'nbd' && lease !== undefined && !('socket' in each.address)),
  );
  if (foreign === undefined) return undefined;
  const where = formatDiskSource(foreign);
  if (foreign.kind === 'nbd' && 'socket' in foreign.address)
    return `disk ${where} is behind a socket of this host, and another host's is another server: serve it by nbd://host:port or lockstep disk serve, or give it as readonly`;
  return foreign.kind === 'file'
    ? `disk ${where} is a file that only this host has: serve it by lockstep disk serve, or give it as readonly`
    : `the NBD server of disk ${where} fences nobody: use lockstep disk serve, or storage.fencing "lease" (docs/STORAGE.md), or give it as readonly`;
}
