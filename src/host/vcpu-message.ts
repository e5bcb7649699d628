import type { MessagePort } from 'node:worker_threads';
import type { InstructionCount } from '../base/units.ts';
import type { MachineSnapshot } from '../ft/event.ts';
import type { CopyFigures } from '../hypervisor/ports.ts';
import type { EngineOptions, MachineConfig } from '../machine/config.ts';
import type { DiskRequestOutput, Input } from '../machine/door.ts';
import type { BootImage } from '../machine/machine.ts';
import type { LogEntry, LogPayload } from '../replay/log-entry.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';

/** What crosses between the I/O thread and the vCPU's thread. Both directions keep their order. */

export type VcpuOrder =
  | { readonly kind: 'run' }
  | { readonly kind: 'pause' }
  | { readonly kind: 'input'; readonly input: Input }
  | { readonly kind: 'replay'; readonly entries: readonly LogEntry[] }
  | { readonly kind: 'end-replay' }
  | { readonly kind: 'share'; readonly share: number }
  | { readonly kind: 'snapshot' }
  | { readonly kind: 'copy'; readonly number: number; readonly standStill: boolean }
  | { readonly kind: 'let-go' }
  | { readonly kind: 'copied'; readonly parts: number }
  | { readonly kind: 'forget-staged' }
  | { readonly kind: 'stage'; readonly pages: Uint8Array }
  | { readonly kind: 'load'; readonly snapshot: MachineSnapshot }
  | { readonly kind: 'stop' };

export type VcpuNews =
  | { readonly kind: 'entry'; readonly at: InstructionCount; readonly payload: LogPayload }
  | { readonly kind: 'output'; readonly output: NumberedOutput }
  | { readonly kind: 'flush' }
  | { readonly kind: 'replayed'; readonly sequence: bigint; readonly at: InstructionCount }
  | {
      readonly kind: 'replayed-to-end';
      readonly at: InstructionCount;
      readonly pending: readonly DiskRequestOutput[];
    }
  | { readonly kind: 'pages'; readonly copy: number; readonly bytes: Uint8Array }
  | {
      readonly kind: 'snapshot';
      readonly snapshot: MachineSnapshot;
      readonly copy: CopyFigures | undefined;
      readonly stoodUs: number;
    }
  | { readonly kind: 'loaded'; readonly digest: string; readonly pending: readonly DiskRequestOutput[] }
  | { readonly kind: 'diverged'; readonly reason: string }
  | { readonly kind: 'stopped'; readonly reason: string; readonly failed: boolean }
  /** The word that makes the running machine look for orders. */
  | { readonly kind: 'stop-word'; readonly word: Int32Array };

export interface VcpuWorkerData {
  readonly config: MachineConfig;
  readonly options: Omit<EngineOptions, 'jit'>;
  /** Of a channel to the thread that compiles regions. */
  readonly modules: MessagePort;
  /** What a primary boots; a backup has nothing until its snapshot comes. */
  readonly boot: BootImage | undefined;
  readonly digestEveryMs: number | undefined;
  /** A backup's disk requests are told in replay. */
  readonly tellsDiskRequests: boolean;
  /** One word that changes with every order: the worker sleeps on it. */
  readonly bell: Int32Array;
  /** One word: the longest time, in microseconds, for which the guest could run and did not. Whoever reads clears it. */
  readonly standstill: Int32Array;
  /** One word: bytes of outputs that were told and not heard yet. Whoever makes them waits when there are too many. */
  readonly untaken: Int32Array;
}

/** So far the guest may run ahead of the thread that takes its outputs. */
export const UNTAKEN_BYTES_MAX = 16 * 1024 * 1024;

/** Below it a copy costs no more than to hand over. */
const MOVED_BYTES_MIN = 4096;

/** The memory of these bytes, where it is theirs alone: it can move to the other thread instead of being copied. */
export function ownBuffer({ buffer, byteLength, byteOffset }: Uint8Array): [ArrayBuffer] | [] {
  // What the guest sent stands behind its header.
  const own = byteOffset <= 16 && buffer.byteLength === byteOffset + byteLength;
  return own && byteLength >= MOVED_BYTES_MIN && buffer instanceof ArrayBuffer ? [buffer] : [];
}
