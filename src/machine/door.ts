import type { Packet } from '../base/packet/offload.ts';
import type { GuestNanoseconds, InstructionCount } from '../base/units.ts';

/**
 * The one door (design 2): everything that enters or leaves the machine. The machine is a pure function of its
 * initial image and the inputs, each applied at an exact count.
 */

/** Guest time from `at` on: base + (count - at) * rate, standing still at `cap` until the next clock entry. */
export interface ClockInput {
  readonly kind: 'clock';
  /** Guest time at the count where this is applied; never less than guest time was there. */
  readonly guestTime: GuestNanoseconds;
  /** Guest nanoseconds per instruction, as 32.32 fixed point. */
  readonly rate: bigint;
  readonly cap: GuestNanoseconds;
}

/** A frame, which may stand for many: what the network has left undone comes with it. */
export interface FrameInput extends Packet {
  readonly kind: 'frame';
  readonly nic: number;
}

export interface DiskCompletedInput {
  readonly kind: 'disk-completed';
  readonly disk: number;
  /** Identifies the disk-request output that this answers. */
  readonly request: number;
  readonly status: 'ok' | 'error';
  /** The data of a read; empty for anything else. */
  readonly data: Uint8Array;
}

export interface ConsoleInput {
  readonly kind: 'console';
  /** 0: first serial port; 1: virtio console. */
  readonly port: number;
  readonly bytes: Uint8Array;
}

export interface EntropyInput {
  readonly kind: 'entropy';
  /** 32 bytes that reseed the machine's generator. */
  readonly seed: Uint8Array;
}

/** What a person orders [FT 3.3]. It takes effect at one count, on both sides of a pair. */
export type ControlInput =
  | { readonly kind: 'control'; readonly action: ControlAction }
  /** The processor gets this share of its host's time at most, in percent, 1 to 100. */
  | { readonly kind: 'control'; readonly action: 'limit'; readonly cpuPercent: number }
  /** The cable of a network card is pulled out, or put in again. */
  | { readonly kind: 'control'; readonly action: 'disconnect' | 'connect'; readonly nic: number };

export type ControlAction =
  | 'power-button'
  | 'power-off'
  | 'reset'
  | 'pause'
  | 'resume'
  /** Made by the vCPU itself: a guest that a reset has stopped is switched on again. */
  | 'restart'
  /** Fault tolerance is ended by order, so the backup's end is no loss. */
  | 'end-protection';

export type Input = ClockInput | FrameInput | DiskCompletedInput | ConsoleInput | EntropyInput | ControlInput;

/** A frame, with what the guest has left for the network to do. */
export interface FrameOutput extends Packet {
  readonly kind: 'frame';
  readonly nic: number;
}

/**
 * `discard` and `write-zeroes` both leave zeroes, so that copies of one disk stay equal; after a discard the storage need
 * not keep room for them.
 */
export type DiskOperationKind = 'read' | 'write' | 'flush' | 'discard' | 'write-zeroes';

export interface DiskRequestOutput {
  readonly kind: 'disk-request';
  readonly disk: number;
  readonly request: number;
  readonly operation: DiskOperationKind;
  /** Byte offset on the disk; 0 for a flush. */
  readonly offset: number;
  /** Bytes to read, write or clear; 0 for a flush. */
  readonly length: number;
  /** A write's data, taken when the guest rang the bell; empty otherwise. */
  readonly data: Uint8Array;
}

export interface ConsoleOutput {
  readonly kind: 'console';
  readonly port: number;
  readonly bytes: Uint8Array;
}

export interface PowerOutput {
  readonly kind: 'power';
  readonly state: 'off' | 'reset' | 'debug-exit' | 'triple-fault';
  /** The value written to the debug-exit port; 0 otherwise. */
  readonly value: number;
}

export type Output = FrameOutput | DiskRequestOutput | ConsoleOutput | PowerOutput;

export type StopReason =
  /** The count asked for was reached. */
  | 'count'
  /** HLT, and nothing that is due wakes it before the cap of guest time. */
  | 'halted'
  /** The stop word was set; `count` is exact. */
  | 'stop-requested'
  /** A power output was made: nothing runs until a reset or restore. */
  | 'powered-off';

/** 32 hexadecimal digits. */
export type Digest = string;

/** What control inputs have set. It is part of the machine's state, so a survivor goes on with it. */
export interface Orders {
  readonly paused: boolean;
  readonly cpuPercent: number;
}

export interface Machine {
  readonly count: InstructionCount;
  readonly guestTime: GuestNanoseconds;
  /** Guest time at which the earliest armed timer fires, if any. */
  readonly nextDeadline: GuestNanoseconds | undefined;
  /** Nonzero in its first word asks a running machine to stop soon; whoever set it clears it. */
  readonly stopWord?: Int32Array;
  /** Absent: nobody orders anything of this machine. */
  readonly orders?: Orders;
  /** Powered off by a reset, and a 'restart' switches it on again. */
  readonly awaitsRestart?: boolean;
  /** Runs until exactly `until`, before any input there. Outputs are handed to the sink as they are made. */
  runUntil(until: InstructionCount): StopReason;
  /** Applies one input at the current count. */
  apply(input: Input): void;
  /** Disk requests made and not yet completed, in order of issue. */
  pendingDiskRequests(): readonly DiskRequestOutput[];
  /** Digest of the whole state. Changes nothing. Incremental: costs what changed since the last one. */
  digest(): Digest;
  /** Hashes of the parts of the state as of the last digest, for whoever finds that two digests differ. */
  digestParts?(): Uint8Array;
  /** Names what differs from another machine of the same build at the same count, the first part first. */
  differingParts?(theirs: Uint8Array): string | undefined;
  /** Uses no compiled code until about this count: nothing that the guest or a digest could see. */
  interpretUntil?(count: InstructionCount): void;
  /**
   * Begins a copy of the running machine: from now on it is noted which pages change. `changedPages` gives those that
   * the copy lacks, at first all of them; `encodePages` gives the present content of some, for a StagedPages elsewhere.
   * `leavesZeroesOut`: for the first time, when there is nothing at the other end.
   */
  beginCopy?(): void;
  /** What never changes of the state: called, it goes before the pages, and not with the snapshot that ends the copy. */
  unchanging?(): Uint8Array;
  changedPages?(): Uint32Array;
  encodePages?(pages: Uint32Array, leavesZeroesOut: boolean): Uint8Array;
  /**
   * The whole state; zero pages are left out. Changes nothing. `changed`: ends a copy, with these pages; the others
   * are at the other end.
   */
  snapshot(changed?: Uint32Array): Uint8Array;
}

/** Receives outputs at the count where the machine made them. */
export interface OutputSink {
  output(output: Output): void;
}

/** What an output weighs in a buffer: small ones weigh too. */
export function outputBytes(output: Output): number {
  switch (output.kind) {
    case 'frame':
      return 64 + output.frame.length;
    case 'disk-request':
      return 64 + output.data.length;
    case 'console':
      return 64 + output.bytes.length;
    case 'power':
      return 64;
  }
}
