import { createHash } from 'node:crypto';
import { failed, ok, type Result } from '../base/result.ts';
import { type DiskMode, SHARED_DISKS } from '../ft/disk-mode.ts';
import { DEFAULT_LIMITS, DEFAULT_TIMING, type Limits, type Timing } from '../ft/timing.ts';
import { checkConfig, encodeConfig, type MachineConfig } from '../machine/config.ts';
import { type HostPort, parseHostPort } from '../transport/address.ts';
import { type ChannelConfig, parseChannelConfig } from './channel-config.ts';
import type { GuestFiles } from './guest-files.ts';
import { type NetworkConfig, parseNetworkConfig } from './network-config.ts';
import { arbiterDisk, parseStorage, type StorageConfig, unfenced } from './storage-config.ts';

/** Who decides which side may run alone (protocol 3), where it is not the disk server. */
export type ArbiterConfig =
  | { readonly kind: 'etcd'; readonly endpoints: readonly string[] }
  /** A directory that both hosts have. */
  | { readonly kind: 'directory'; readonly path: string };

/** What one VM process is told on its command line, as JSON. Addresses are "host:port". */
export interface VmProcessConfig {
  readonly role: 'primary' | 'backup';
  readonly vm: string;
  /** Stands before the random part of the instance's name. */
  readonly instance: string | undefined;
  readonly machine: MachineConfig;
  /** What a primary boots. */
  readonly boot: GuestFiles | undefined;
  /** Or the file of a saved guest that it goes on from, with the same machine and disks as then. */
  readonly snapshot: string | undefined;
  /** One for each disk of the machine. The first of a disk server arbitrates unless `arbiter` says otherwise. */
  readonly storage: StorageConfig | undefined;
  /** What the `mode` and `reads` of `storage` say. */
  readonly diskMode: DiskMode;
  /** Where each side has disks of its own: its files, one for each disk of the machine. */
  readonly diskFiles: readonly string[];
  readonly arbiter: ArbiterConfig | undefined;
  readonly network: NetworkConfig | undefined;
  /** A unix socket for the same orders and reports as on the standard streams. */
  readonly control: string | undefined;
  /** What other hosts know this one by; its host name when absent. */
  readonly host: string | undefined;
  /** A host for a backup is looked for from the start. */
  readonly faultTolerance: boolean;
  /** Where a backup's logging channel and heartbeats listen; port 0 takes a free one. */
  readonly listen: HostPort | undefined;
  /** A backup's `listen`: the primary attaches it before the guest's first instruction. */
  readonly protect: string | undefined;
  readonly channel: ChannelConfig;
  /**
   * The epoch at which the VM's record stands before power-on, 0 when there is none; or wherever it stands at present:
   * the arbiter allows a start from there when nobody holds the VM.
   */
  readonly expectedEpoch: number | 'present';
  readonly timing: Timing;
  readonly limits: Limits;
  readonly digestEveryMs: number | undefined;
  readonly figuresEveryMs: number | undefined;
  /** The guest's console goes here instead of into the status lines. */
  readonly consoleFile: string | undefined;
  /** Names everything that two sides must have alike. */
  readonly identity: string;
}

/** Both sides compare the state this often, unless told otherwise. */
const DIGEST_EVERY_MS = 1000;

type Json = Readonly<Record<string, unknown>>;

/** Checks the whole configuration; the error names all that is wrong. */
export function parseVmProcessConfig(text: string): Result<VmProcessConfig> {
  let json: Json;
  try {
    json = JSON.parse(text) as Json;
  } catch (error) {
    return failed(`the configuration is not JSON: ${(error as Error).message}`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    return failed('the configuration is no JSON object');
  const wrong: string[] = [];
  const role = json.role === 'backup' ? 'backup' : 'primary';
  if (json.role !== 'primary' && json.role !== 'backup') wrong.push('role is "primary" or "backup"');
  const vm = optionalText(json, 'vm', wrong) ?? '';
  if (vm === '') wrong.push('vm is missing');
  const machine = checkConfig(json.machine);
  if (!machine.ok) wrong.push(machine.error);
  const boot = parseBoot(json.boot, wrong);
  const snapshot = optionalText(json, 'snapshot', wrong);
  if (role === 'primary' && !boot && snapshot === undefined)
    wrong.push('boot: a primary needs a kernel, or a snapshot');
  if (boot && snapshot !== undefined) wrong.push('snapshot: a guest is booted or goes on, not both');
  const listen = optionalAddress(json, 'listen', wrong);
  if (role === 'backup' && !listen) wrong.push('listen: a backup needs an address');
  const protect = optionalText(json, 'protect', wrong);
  if (protect !== undefined && !parseHostPort(protect).ok)
    wrong.push('protect is no address: write host:port');
  const channel = parseChannelConfig(json.channel, wrong);
  if (channel.security === undefined && (role === 'backup' || protect !== undefined))
    wrong.push('channel: fault tolerance needs credentials (lockstep channel issue), or "security": "none"');
  const own = (json.storage as Json | undefined | null)?.mode === 'non-shared';
  const storage = own ? undefined : parseStorage(json.storage, wrong);
  const diskMode = parseDiskMode(json.storage, machine.ok ? machine.value.disks : [], wrong);
  const diskFiles = diskMode.own ? parseFiles(json.storage, wrong) : [];
  const disks = machine.ok ? machine.value.disks.length : 0;
  const named = diskMode.own ? diskFiles : storage?.disks;
  if ((named?.length ?? 0) < disks) wrong.push(`storage names fewer than ${disks} disks`);
  const arbiter = parseArbiter(json.arbiter, wrong);
  const timing = numbers('timing', json.timing, DEFAULT_TIMING, wrong);
  if (diskMode.own && !arbiter)
    wrong.push('arbiter: non-shared disks need one that both sides reach: etcd or a directory');
  const arbitrated = diskMode.own || arbiter !== undefined || arbiterDisk(storage) !== undefined;
  if (role === 'backup' || protect !== undefined || json.faultTolerance === true) {
    if (!arbitrated && json.faultTolerance !== true)
      wrong.push(
        'storage: fault tolerance needs an arbiter: a disk server, or etcd or a directory as arbiter',
      );
    const open = storage && unfenced(storage);
    if (open !== undefined) wrong.push(`storage: ${open}`);
  }
  if (storage?.lease !== undefined && timing.leaseMs <= storage.lease.driftMs)
    wrong.push('storage.fencing "lease" needs timing.leaseMs, longer than storage.driftMs');
  const config = {
    role,
    vm,
    instance: optionalText(json, 'instance', wrong),
    boot,
    snapshot,
    storage,
    diskMode,
    diskFiles,
    arbiter,
    network: parseNetworkConfig(json.network, machine.ok ? machine.value.nics.length : undefined, wrong),
    control: optionalText(json, 'control', wrong),
    host: optionalText(json, 'host', wrong),
    faultTolerance: json.faultTolerance === true,
    listen,
    protect,
    channel,
    expectedEpoch: optionalEpoch(json, wrong),
    timing,
    limits: numbers('limits', json.limits, DEFAULT_LIMITS, wrong),
    digestEveryMs: optionalNumber(json, 'digestEveryMs', wrong) ?? DIGEST_EVERY_MS,
    figuresEveryMs: optionalNumber(json, 'figuresEveryMs', wrong),
    consoleFile: optionalText(json, 'consoleFile', wrong),
  } as const;
  if (!machine.ok || wrong.length > 0) return failed(`the configuration is wrong: ${wrong.join('; ')}`);
  const alike = createHash('sha256').update(encodeConfig(machine.value));
  if (diskMode.own || diskMode.backupReads) alike.update(JSON.stringify(diskMode));
  const identity = alike.digest('hex').slice(0, 32);
  return ok({ ...config, machine: machine.value, identity });
}

function parseBoot(value: unknown, wrong: string[]): GuestFiles | undefined {
  if (value === undefined || value === null) return undefined;
  const json = value as Json;
  const kernel = optionalText(json, 'kernel', wrong);
  if (kernel === undefined) return undefined;
  return {
    kernel,
    initrd: optionalText(json, 'initrd', wrong),
    append: optionalText(json, 'append', wrong) ?? '',
  };
}

/** In blocks of so many bytes copies of disks are made. */
const COPY_BLOCK_BYTES = 65_536;

function parseDiskMode(value: unknown, disks: MachineConfig['disks'], wrong: string[]): DiskMode {
  const { mode = 'shared', reads = 'log' } = (value ?? {}) as Json;
  if (mode !== 'shared' && mode !== 'non-shared') wrong.push('storage: mode is "shared" or "non-shared"');
  if (reads !== 'log' && reads !== 'backup') wrong.push('storage: reads is "log" or "backup"');
  const backupReads = reads === 'backup';
  if (mode !== 'non-shared') return { ...SHARED_DISKS, backupReads };
  const bytes = disks.map(({ capacity, readOnly }) => (readOnly ? 0 : capacity));
  return { own: true, backupReads, bytes, blockBytes: COPY_BLOCK_BYTES };
}

function parseFiles(value: unknown, wrong: string[]): readonly string[] {
  const { files } = value as Json;
  if (Array.isArray(files) && files.every((file) => typeof file === 'string' && file !== ''))
    return files as string[];
  wrong.push('storage: non-shared disks need "files", the raw file of each disk on this host');
  return [];
}

function parseArbiter(value: unknown, wrong: string[]): ArbiterConfig | undefined {
  if (value === undefined || value === null) return undefined;
  const { kind, endpoints, path } = value as Json;
  if (kind === 'etcd') {
    const urls = Array.isArray(endpoints) ? endpoints : [];
    if (urls.length > 0 && urls.every(isHttpUrl)) return { kind, endpoints: urls };
    wrong.push('arbiter: etcd needs the URLs of its endpoints, such as ["http://10.0.0.1:2379"]');
  } else if (kind === 'directory') {
    if (typeof path === 'string' && path.startsWith('/')) return { kind, path };
    wrong.push('arbiter: a directory needs its path, from / on');
  } else wrong.push('arbiter: kind is "etcd" or "directory"; without an arbiter the disk server is it');
  return undefined;
}

function isHttpUrl(value: unknown): value is string {
  return typeof value === 'string' && URL.canParse(value) && /^https?:$/.test(new URL(value).protocol);
}

function optionalText(json: Json, name: string, wrong: string[]): string | undefined {
  const value = json[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string') return value;
  wrong.push(`${name} is no text`);
  return undefined;
}

function optionalNumber(json: Json, name: string, wrong: string[]): number | undefined {
  const value = json[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value;
  wrong.push(`${name} is no number from 0`);
  return undefined;
}

function optionalEpoch(json: Json, wrong: string[]): number | 'present' {
  if (json.expectedEpoch === 'present') return 'present';
  const value = optionalNumber(json, 'expectedEpoch', wrong) ?? 0;
  if (Number.isSafeInteger(value)) return value;
  wrong.push('expectedEpoch is a whole number, or "present"');
  return 0;
}

function optionalAddress(json: Json, name: string, wrong: string[]): HostPort | undefined {
  const text = optionalText(json, name, wrong);
  if (text === undefined) return undefined;
  const parsed = parseHostPort(text);
  if (!parsed.ok) wrong.push(`${name}: ${parsed.error}`);
  return parsed.ok ? parsed.value : undefined;
}

/** Given numbers in place of the defaults. */
function numbers<Numbers extends object>(
  place: string,
  given: unknown,
  defaults: Numbers,
  wrong: string[],
): Numbers {
  const changed: Record<string, number> = {};
  for (const [name, value] of Object.entries(given ?? {})) {
    if (!(name in defaults)) wrong.push(`${place}: ${name} is unknown`);
    else if (typeof value !== 'number' || !(value > 0)) wrong.push(`${place}: ${name} is no number above 0`);
    else changed[name] = value;
  }
  return { ...defaults, ...changed };
}
