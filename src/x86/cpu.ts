import type { CpuState, Size } from './state.ts';

/**
 * What slow-path code (exceptions, segments, MSRs, x87, soft floating point, repeated strings) sees of the
 * processor. Every engine calls the same code, so it too exists once.
 */
export type Outcome = typeof DONE | typeof ABORTED | typeof AGAIN;
/** The operation is complete. */
export const DONE = 0;
/** A fault (or a restart that the engine wants) is pending; nothing architectural was changed. */
export const ABORTED = 1;
/** A repeated string instruction did what it may for now: RIP stays, the count went on. */
export const AGAIN = 2;

export type Privilege = 'current' | 'supervisor';

/** An exception that was raised and is not delivered yet. */
export interface PendingFault {
  readonly vector: number;
  /** 0 when the vector has none. */
  readonly errorCode: number;
  /** The linear address for CR2 with #PF; unused otherwise. */
  readonly address: bigint;
}

export interface Cpu {
  readonly state: CpuState;
  /** Linear memory; undefined / false: a fault is pending, return ABORTED. Values zero-extended. */
  load(size: Size, linear: bigint, privilege?: Privilege): bigint | undefined;
  store(size: Size, linear: bigint, value: bigint, privilege?: Privilege): boolean;
  loadBytes(linear: bigint, length: number, privilege?: Privilege): Uint8Array | undefined;
  storeBytes(linear: bigint, bytes: Uint8Array, privilege?: Privilege): boolean;
  /** Checks (and sets A/D bits) as an access of that kind would, without making it. */
  probe(linear: bigint, length: number, access: 'read' | 'write', privilege?: Privilege): boolean;
  /** Makes an exception pending at this instruction and returns ABORTED. */
  fault(vector: number, errorCode?: number): Outcome;
  /**
   * Takes back what the last ABORTED made pending. Accesses made while an interrupt is delivered never ask for a
   * restart, so after one of those ABORTED there always is one.
   */
  takeFault(): PendingFault | undefined;
  /** For repeated strings: how many iterations may still be counted (at least 1). */
  readonly budget: number;
  /** Counts iterations beyond the first. */
  charge(iterations: number): void;
  /**
   * Bulk access for repeated strings: host bytes behind [linear, linear + length) when all of it is one page of
   * plain RAM that may be accessed so without side effects (no device, no code, no page table); else undefined.
   */
  span(
    linear: bigint,
    length: number,
    access: 'read' | 'write',
    privilege?: Privilege,
  ): Uint8Array | undefined;
  /** The instruction met these breakpoints, as bits 3:0 of DR6: their trap follows it. */
  meet(breakpoints: number): void;
  readonly environment: Environment;
}

/** The world outside the processor core. */
export interface Environment {
  readPort(port: number, size: number): number;
  writePort(port: number, size: number, value: number): void;
  /** MSRs that belong to devices (local APIC): undefined / false when there is no such register or it refuses. */
  readMsr(index: number): bigint | undefined;
  writeMsr(index: number, value: bigint): boolean;
  /** CR8 (task priority). */
  taskPriority(): number;
  setTaskPriority(value: number): void;
  /** Guest timestamp counter before TSC_OFFSET, at the exact count. */
  timestamp(): bigint;
  /** 64 random bits of the VM's own deterministic generator. */
  random(): bigint;
  readonly cpuid: CpuidTable;
}

/** EAX, EBX, ECX, EDX for a leaf; from the VM's configuration only. */
export type CpuidTable = (leaf: number, subleaf: number) => readonly [number, number, number, number];

export type SystemFunction = (cpu: Cpu, b: number, c: number, imm: bigint) => Outcome;

export interface SystemOperation {
  readonly name: string;
  readonly run: SystemFunction;
}

export function systemOperation(name: string, run: SystemFunction): SystemOperation {
  return { name, run };
}
