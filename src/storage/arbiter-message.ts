import type { ArbiterAnswer, ArbiterRequest } from '../ft/arbiter.ts';
import { type Epoch, epoch, instanceId, nonce, vmId } from '../ft/identity.ts';
import { LEASE_MS } from './vm-record.ts';

/** Lockstep's options of the NBD handshake carry JSON. Everything that arrives is checked here. */

export interface OpenMessage {
  readonly disk: string;
  readonly vm: string;
  readonly epoch: Epoch;
  readonly instance: string;
}

export interface ArbiterMessage {
  readonly disk: string;
  /** The asker's lease as the arbiter counts it; the default where it is absent. */
  readonly leaseMs: number;
  readonly request: ArbiterRequest;
}

/** Longer than anybody waits for a restart; a number without a bound would shut the VM out for ever. */
export const LEASE_MS_MAX = 24 * 60 * 60 * 1000;

type Fields = Readonly<Record<string, unknown>>;

export function parseJson(bytes: Uint8Array): Fields | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Fields) : undefined;
  } catch {
    return undefined;
  }
}

export function parseOpen(bytes: Uint8Array): OpenMessage | undefined {
  const fields = parseJson(bytes);
  const at = epochOf(fields?.epoch);
  if (!isName(fields?.disk) || !isName(fields.vm) || !isName(fields.instance) || at === undefined)
    return undefined;
  return { disk: fields.disk, vm: fields.vm, epoch: at, instance: fields.instance };
}

export interface ReadingMessage {
  readonly disk: string;
  readonly vm: string;
  /** Whosever the disk is. */
  readonly ofAnyVm: boolean;
}

/** A session that only reads: it needs no generation. */
export function parseReading(bytes: Uint8Array): ReadingMessage | undefined {
  const fields = parseJson(bytes);
  if (fields?.reading !== true || !isName(fields.disk) || !isName(fields.vm)) return undefined;
  return { disk: fields.disk, vm: fields.vm, ofAnyVm: fields.ofAnyVm === true };
}

export function parseArbiter(bytes: Uint8Array): ArbiterMessage | undefined {
  const fields = parseJson(bytes);
  const request = fields?.request;
  if (!isName(fields?.disk) || typeof request !== 'object' || request === null) return undefined;
  const parsed = parseRequest(request as Fields);
  const leaseMs = leaseOf(fields.leaseMs);
  if (parsed === undefined || leaseMs === undefined) return undefined;
  return { disk: fields.disk, leaseMs, request: parsed };
}

function parseRequest(fields: Fields): ArbiterRequest | undefined {
  if (!isName(fields.vm) || !isName(fields.nonce) || !isName(fields.instance)) return undefined;
  const common = { vm: vmId(fields.vm), nonce: nonce(fields.nonce), instance: instanceId(fields.instance) };
  const [lowest, highest] = [epochOf(fields.lowest), epochOf(fields.highest)];
  const [expected, at] = [epochOf(fields.expected), epochOf(fields.epoch)];
  switch (fields.kind) {
    case 'claim':
      return lowest === undefined || highest === undefined
        ? undefined
        : { kind: 'claim', ...common, lowest, highest };
    case 'commit':
      return expected === undefined || !isName(fields.backup)
        ? undefined
        : { kind: 'commit', ...common, expected, backup: instanceId(fields.backup) };
    case 'renew':
      return at === undefined ? undefined : { kind: 'renew', ...common, epoch: at };
    case 'restart':
      return expected === undefined ? undefined : { kind: 'restart', ...common, expected };
    default:
      return undefined;
  }
}

export function parseAnswer(bytes: Uint8Array): ArbiterAnswer | undefined {
  const fields = parseJson(bytes);
  const at = epochOf(fields?.epoch);
  if (!isName(fields?.nonce) || at === undefined) return undefined;
  if (fields.verdict !== 'won' && fields.verdict !== 'superseded') return undefined;
  return { nonce: nonce(fields.nonce), verdict: fields.verdict, epoch: at };
}

/** Undefined when it is no lease. */
export function leaseOf(value: unknown = LEASE_MS): number | undefined {
  return typeof value === 'number' && value > 0 && value <= LEASE_MS_MAX ? value : undefined;
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= 256;
}

function epochOf(value: unknown): Epoch | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? epoch(value) : undefined;
}
