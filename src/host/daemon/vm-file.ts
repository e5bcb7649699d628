import { readFile } from 'node:fs/promises';
import { parse } from 'yaml';
import { z } from 'zod';
import { failed, ok, type Result } from '../../base/result.ts';
import { isName } from '../../cluster/content.ts';
import { DEFAULT_LIMITS, DEFAULT_TIMING } from '../../ft/timing.ts';
import { parseNbdUrl } from '../../storage/nbd-address.ts';
import { parseHostPort } from '../../transport/address.ts';
import type { VmDefinition } from '../api.ts';
import { parseMemorySize } from '../memory-size.ts';
import { arbiterDisk, parseStorage, type StorageConfig, unfenced } from '../storage-config.ts';
import { parseImageReference } from './host-images.ts';

const address = z
  .string()
  .refine((text) => parseHostPort(text).ok, { error: 'is no address: write host:port' });
const path = z.string().refine((text) => text.startsWith('/'), { error: 'is no path from / on' });
const mac = z.string().regex(/^([0-9a-f]{2}:?){5}[0-9a-f]{2}$/i, 'is no MAC address like 52:54:00:12:34:56');
const url = z.string().regex(/^https?:\/\/[^/]+/, 'is no URL like http://10.0.0.1:2379');
const memory = z.union([z.string(), z.number()]).transform((value, context) => {
  const size = parseMemorySize(String(value));
  if (size.ok) return size.value;
  context.addIssue({ code: 'custom', message: size.error });
  return z.NEVER;
});

/** Names of numbers that stand in for defaults: timing and limits of the protocol. */
function numbersOf(defaults: object) {
  const number = z.number({ error: 'is no number' }).positive('is no number above 0');
  return z.strictObject(
    Object.fromEntries(Object.keys(defaults).map((name) => [name, number.optional()])) as Record<
      string,
      z.ZodOptional<typeof number>
    >,
  );
}

type Json = Readonly<Record<string, unknown>>;

const DEFAULT_APPEND = 'console=ttyS0';
const DEFAULT_MACS = ['52:54:00:12:34:56'] as const;
const tap = z.string().regex(/^[^/\s]{1,15}$/, 'is no name of an interface: at most 15 characters');
const macs = z
  .array(mac)
  .min(1, 'needs at least one MAC address')
  .default([...DEFAULT_MACS]);

const readonly = z.boolean({ error: 'is true or false' }).optional();
const nbd = z.string().refine((text) => parseNbdUrl(text).ok, {
  error: 'is no NBD server: write nbd://host:port/export, or nbd+unix:///export?socket=/path',
});
const disk = z.union(
  [
    z.string().min(1),
    z.strictObject({ name: z.string().min(1), readonly }),
    z.strictObject({ nbd, readonly }),
    z.strictObject({ file: path, readonly }),
  ],
  { error: 'is no disk: a name on the server, {name: N}, {nbd: URL} or {file: PATH}, each with readonly' },
);
const milliseconds = z.number({ error: 'is no number' }).positive('is no number above 0').max(3_600_000);

/** The file of a VM, in YAML or JSON. docs/CLUSTER.md describes it. */
export const VM_FILE = z.strictObject({
  name: z.string().refine(isName, { error: 'is letters, digits, ".", "_" and "-", at most 63' }),
  memory: memory.default(512 * 2 ** 20),
  image: z
    .string()
    .refine((text) => parseImageReference(text) !== undefined, { error: 'is no name of an image' })
    .optional(),
  kernel: path.optional(),
  initrd: path.optional(),
  append: z.string().optional(),
  storage: z
    .strictObject({
      server: address.optional(),
      disks: z.array(disk).min(1, 'names no disk').optional(),
      mode: z.enum(['shared', 'non-shared'], { error: 'is "shared" or "non-shared"' }).optional(),
      files: z.array(path).min(1, 'names no file').optional(),
      reads: z.enum(['log', 'backup'], { error: 'is "log" or "backup"' }).optional(),
      fencing: z.literal('lease', { error: 'is "lease", or absent' }).optional(),
      driftMs: milliseconds.optional(),
      lateMs: milliseconds.optional(),
    })
    .optional(),
  network: z
    .union(
      [
        z.strictObject({ switch: address, macs }),
        z.strictObject({ taps: z.array(tap).min(1, 'names no TAP'), macs }),
      ],
      {
        error: 'is {switch: host:port} or {taps: [NAME]}, with macs beside it',
      },
    )
    .optional(),
  arbiter: z
    .discriminatedUnion(
      'kind',
      [
        z.strictObject({ kind: z.literal('etcd'), endpoints: z.array(url).min(1, 'names no endpoint') }),
        z.strictObject({ kind: z.literal('directory'), path }),
      ],
      { error: 'is "etcd" or "directory"; without an arbiter the disk server is it' },
    )
    .optional(),
  faultTolerance: z.enum(['on', 'off'], { error: 'is "on" or "off"' }).default('off'),
  restart: z.boolean({ error: 'is true or false' }).default(false),
  antiAffinity: z.array(z.string()).default([]),
  compress: z.boolean({ error: 'is true or false' }).default(false),
  timing: numbersOf(DEFAULT_TIMING).default({}),
  limits: numbersOf(DEFAULT_LIMITS).default({}),
});

/** How long a VM that may be restarted elsewhere, or whose disks are fenced by the lease, goes on without an answer of its arbiter. */
const RESTART_LEASE_MS = 10_000;

/** Checks all of it; the error lists everything that is wrong, in one line. */
export function checkVmFile(content: unknown, name: string): Result<VmDefinition> {
  const checked = VM_FILE.safeParse(content, { reportInput: true });
  const mistakes = [...(checked.error?.issues.map(mistake) ?? []), ...contradictions(content)];
  if (!checked.success || mistakes.length > 0) {
    const number = mistakes.length === 1 ? '1 mistake' : `${mistakes.length} mistakes`;
    return failed(`${name} has ${number}: ${mistakes.join('; ')}`);
  }
  const {
    memory: memoryBytes,
    image,
    kernel = '',
    initrd,
    append,
    compress,
    network,
    timing,
    ...rest
  } = checked.data;
  const leased = rest.restart || rest.storage?.fencing === 'lease';
  const lease = leased ? { leaseMs: RESTART_LEASE_MS } : {};
  return ok({
    ...rest,
    memoryBytes,
    boot: image === undefined ? { kernel, initrd, append: append ?? DEFAULT_APPEND } : { image, append },
    network: network && {
      ...network,
      macs: network.macs.map((each) => each.replaceAll(':', '').toLowerCase()),
    },
    channel: { compress },
    timing: { ...lease, ...given(timing) },
    limits: given(rest.limits),
  });
}

/** What the store keeps of a VM is its file, as it was checked when it was written. */
export function definitionOf(stored: unknown): Result<VmDefinition> {
  return checkVmFile(stored, 'the VM in the store');
}

/** The content of a VM file, YAML or JSON, unchecked. */
export async function readVmFile(file: string): Promise<Result<unknown>> {
  try {
    return ok(parse(await readFile(file, 'utf8')));
  } catch (error) {
    const [reason] = (error as Error).message.split('\n');
    return failed(`${file} cannot be read: ${reason}`);
  }
}

function given(numbers: Readonly<Record<string, number | undefined>>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(numbers).filter((entry): entry is [string, number] => entry[1] !== undefined),
  );
}

/** What does not go together, whatever else is wrong. */
function contradictions(content: unknown): string[] {
  if (typeof content !== 'object' || content === null || Array.isArray(content)) return [];
  const { faultTolerance, restart, storage, arbiter, network, image, kernel, initrd } = content as Json;
  const found: string[] = [];
  if (image === undefined && kernel === undefined) found.push('kernel is missing (or image)');
  if (image !== undefined && (kernel ?? initrd) !== undefined)
    found.push('image brings its kernel and initrd: name one or the other');
  const needsArbiter = 'needs an arbiter: a disk server (storage), or arbiter';
  const own = isNonShared(storage);
  const server = own ? undefined : (storage as Json | undefined)?.server;
  // A server that cannot be read is one mistake, not two.
  const meant = typeof server === 'string' && !parseHostPort(server).ok;
  const arbitrated =
    arbiter !== undefined || meant || arbiterDisk(own ? undefined : storageOf(storage)) !== undefined;
  if (faultTolerance === 'on' && !arbitrated) found.push(`faultTolerance ${needsArbiter}`);
  if (restart === true && !arbitrated) found.push(`restart ${needsArbiter}`);
  found.push(
    ...(own ? nonSharedContradictions : storageContradictions)(
      storage,
      faultTolerance === 'on' ? 'faultTolerance' : restart === true ? 'restart' : undefined,
    ),
    ...leaseContradictions(content as Json),
  );
  const { taps, macs = DEFAULT_MACS } = (network ?? {}) as { taps?: unknown; macs?: unknown };
  if (Array.isArray(taps) && Array.isArray(macs) && taps.length !== macs.length)
    found.push('network needs a TAP for each MAC address');
  return found;
}

function storageOf(storage: unknown): StorageConfig | undefined {
  const { server, ...rest } = (storage ?? {}) as Readonly<Record<string, unknown>>;
  return parseStorage({ ...rest, address: server }, []);
}

function isNonShared(storage: unknown): boolean {
  return (storage as Json | undefined | null)?.mode === 'non-shared';
}

/** Disks of each host's own [FT 4.1]. */
function nonSharedContradictions(storage: unknown): string[] {
  const { files, ...rest } = storage as Json;
  const found = ['server', 'disks', 'fencing', 'driftMs', 'lateMs']
    .filter((name) => rest[name] !== undefined)
    .map((name) => `storage.${name} is not for non-shared disks`);
  if (files === undefined)
    found.push('storage.files is missing: non-shared disks are raw files of each host');
  return found;
}

/** A lease that ends before clocks may have drifted apart is none. */
function leaseContradictions({ storage, timing }: Json): string[] {
  const lease = isNonShared(storage) ? undefined : storageOf(storage)?.lease;
  const { leaseMs = RESTART_LEASE_MS } = (timing ?? {}) as Json;
  return lease !== undefined && typeof leaseMs === 'number' && leaseMs <= lease.driftMs
    ? ['storage.fencing "lease" needs timing.leaseMs, longer than storage.driftMs']
    : [];
}

/** `movesFor`: what makes another host go on with these disks. */
function storageContradictions(storage: unknown, movesFor: string | undefined): string[] {
  const { server, disks, files } = (storage ?? {}) as Json;
  const found: string[] = [];
  if (storage !== undefined && disks === undefined) found.push('storage.disks is missing');
  if (files !== undefined) found.push('storage.files is for disks of mode "non-shared"');
  const isNamed = (each: unknown) =>
    typeof each === 'string' || (typeof each === 'object' && each !== null && 'name' in each);
  if (server === undefined && Array.isArray(disks) && disks.some(isNamed))
    found.push('storage.server is missing: a disk with a name alone is on a disk server');
  const config = storageOf(storage);
  const why = movesFor === undefined || config === undefined ? undefined : unfenced(config);
  if (why !== undefined) found.push(`${movesFor}: ${why}`);
  return found;
}

function mistake(issue: z.core.$ZodIssue): string {
  const where = issue.path.length === 0 ? 'the file' : issue.path.join('.');
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => `${[...issue.path, key].join('.')} is unknown`).join('; ');
    case 'invalid_type':
      if (issue.input === undefined) return `${where} is missing`;
      return issue.message.startsWith('is ')
        ? `${where} ${issue.message}`
        : `${where} is no ${issue.expected}`;
    default:
      return `${where} ${issue.message}`;
  }
}
