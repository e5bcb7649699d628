import { failed, ok, type Result } from '../base/result.ts';
import { decodeText, encodeText } from '../base/text.ts';
import type { JitOptions } from '../engine/jit/jit-options.ts';

export interface DiskConfig {
  /** Bytes, a multiple of 512. */
  readonly capacity: number;
  readonly readOnly: boolean;
  /** At most 20 characters of ASCII. */
  readonly serial: string;
}

export interface NicConfig {
  /** Twelve hexadecimal digits. */
  readonly mac: string;
}

/** What the guest's hardware is. Two machines with the same configuration and inputs are the same machine. */
export interface MachineConfig {
  /** RAM, a multiple of 1 MiB up to 3.5 GiB. */
  readonly memoryBytes: number;
  readonly disks: readonly DiskConfig[];
  readonly nics: readonly NicConfig[];
  /** Time of day at guest time 0, in seconds since 1970. */
  readonly startEpochSeconds: number;
  /** 64 hexadecimal digits: the first seed of the guest's entropy. */
  readonly seed: string;
  /** A port at 0xf4 whose writes end the run. */
  readonly debugExit: boolean;
}

/** How a machine is run; nothing that the guest or a digest could see. */
export interface EngineOptions {
  /** Entries of the translation cache: a power of two, at least 16. */
  readonly tlbEntries?: number;
  /** The JIT unless told otherwise. */
  readonly engine?: 'interpreter' | 'jit' | 'oracle';
  readonly jit?: Partial<JitOptions>;
}

export function encodeConfig(config: MachineConfig): Uint8Array {
  return encodeText(JSON.stringify(config));
}

export function decodeConfig(bytes: Uint8Array): Result<MachineConfig> {
  try {
    return checkConfig(JSON.parse(decodeText(bytes)));
  } catch {
    return failed('the machine configuration is not JSON');
  }
}

const MIB = 2 ** 20;

/** Checks what came from a file or the network. */
export function checkConfig(value: unknown): Result<MachineConfig> {
  const config = value as MachineConfig;
  const bad = (what: string) => failed(`the machine configuration has a bad ${what}`);
  if (typeof config !== 'object' || config === null) return bad('form');
  const { memoryBytes, disks, nics, startEpochSeconds, seed, debugExit } = config;
  if (
    !Number.isInteger(memoryBytes) ||
    memoryBytes % MIB !== 0 ||
    memoryBytes < MIB ||
    memoryBytes > 3.5 * 1024 * MIB
  ) {
    return bad('memory size');
  }
  if (!Array.isArray(disks) || !disks.every(isDisk)) return bad('disk');
  if (
    !Array.isArray(nics) ||
    !nics.every((nic) => typeof nic?.mac === 'string' && /^[0-9a-f]{12}$/.test(nic.mac))
  ) {
    return bad('network interface');
  }
  if (!Number.isInteger(startEpochSeconds)) return bad('start time');
  if (typeof seed !== 'string' || !/^[0-9a-f]{64}$/.test(seed)) return bad('seed');
  if (typeof debugExit !== 'boolean') return bad('debug exit');
  return ok({ memoryBytes, disks, nics, startEpochSeconds, seed, debugExit });
}

function isDisk(disk: DiskConfig): boolean {
  return (
    Number.isSafeInteger(disk?.capacity) &&
    disk.capacity >= 0 &&
    disk.capacity % 512 === 0 &&
    typeof disk.readOnly === 'boolean' &&
    typeof disk.serial === 'string' &&
    disk.serial.length <= 20
  );
}

export function hexBytes(digits: string): Uint8Array {
  const bytes = new Uint8Array(digits.length / 2);
  for (let index = 0; index < bytes.length; index++)
    bytes[index] = Number.parseInt(digits.slice(index * 2, index * 2 + 2), 16);
  return bytes;
}
