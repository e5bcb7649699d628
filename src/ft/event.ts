import type { InstructionCount } from '../base/units.ts';
import type { DiskCompletedInput, DiskRequestOutput, Input } from '../machine/door.ts';
import type { LogPayload } from '../replay/log-entry.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import type { LogPosition } from '../replay/position.ts';
import type { ArbiterAnswer } from './arbiter.ts';
import type { Extent } from './extent.ts';
import type { Epoch } from './identity.ts';
import type { Link } from './link.ts';
import type { Heartbeat, Message } from './message.ts';

/** A machine's whole state, and what its log has to know of the past to go on from it. */
export interface MachineSnapshot {
  readonly machine: Uint8Array;
  readonly count: InstructionCount;
  readonly position: LogPosition;
  readonly digest: string;
}

/** Everything that can happen to the protocol core. The time at which it happens is given beside it. */
export type FtEvent =
  /** The timer that the core asked for; comes every heartbeat interval. */
  | { readonly kind: 'tick' }
  // The arbiter and the disks.
  | { readonly kind: 'answered'; readonly answer: ArbiterAnswer }
  | { readonly kind: 'disks-opened'; readonly epoch: Epoch; readonly verdict: 'ok' | 'refused' }
  | { readonly kind: 'disk-completed'; readonly completion: DiskCompletedInput }
  | { readonly kind: 'fenced' }
  /** A block of this side's copy; without data it is all zeroes. `failed`: it cannot be read. */
  | {
      readonly kind: 'block-read';
      readonly copy: number;
      readonly extent: Extent;
      readonly data: Uint8Array | undefined;
      readonly failed: boolean;
    }
  | { readonly kind: 'block-stored' }
  | { readonly kind: 'copy-secured'; readonly number: number }
  /** This side's copy has lost what was written to it. */
  | { readonly kind: 'copy-failed'; readonly reason: string }
  /** A backup's own read; without data: it failed. */
  | {
      readonly kind: 'disk-read';
      readonly disk: number;
      readonly request: number;
      readonly data: Uint8Array | undefined;
    }
  // Inputs other than disk completions.
  | { readonly kind: 'input'; readonly input: Input }
  // The logging channel.
  | { readonly kind: 'connected'; readonly link: Link; readonly address: string }
  | { readonly kind: 'received'; readonly link: Link; readonly messages: readonly Message[] }
  | { readonly kind: 'broken'; readonly link: Link | undefined; readonly reason: string }
  | { readonly kind: 'heartbeat'; readonly heartbeat: Heartbeat }
  // The vCPU.
  | { readonly kind: 'entry'; readonly at: InstructionCount; readonly payload: LogPayload }
  | { readonly kind: 'output'; readonly output: NumberedOutput }
  | { readonly kind: 'flush' }
  /** A part of the copy with this number, and its end. */
  | { readonly kind: 'pages'; readonly copy: number; readonly bytes: Uint8Array }
  | {
      readonly kind: 'snapshot';
      readonly snapshot: MachineSnapshot;
      readonly copy: number;
      /** For how long the guest has stood still for it. */
      readonly stoodUs: number;
    }
  /** `pending`: disk operations that the loaded guest has under way. */
  | { readonly kind: 'loaded'; readonly digest: string; readonly pending: readonly DiskRequestOutput[] }
  | { readonly kind: 'replayed'; readonly sequence: bigint }
  | { readonly kind: 'replayed-to-end'; readonly pending: readonly DiskRequestOutput[] }
  | { readonly kind: 'diverged'; readonly reason: string }
  | { readonly kind: 'vcpu-stopped'; readonly reason: string; readonly failed: boolean }
  /** The hand-over that a `hand-over` action asked for has returned. */
  | { readonly kind: 'handed-over'; readonly output: bigint }
  /** A host that can take a backup: where its instance listens, and the host's name. */
  | { readonly kind: 'candidate'; readonly address: string; readonly host: string }
  // Orders.
  /** Without an address: on whichever host is offered. */
  | { readonly kind: 'protect'; readonly address: string | undefined }
  /** The pair gets another backup, there or wherever there is a host; the old one stays until the new one counts. */
  | { readonly kind: 'migrate-backup'; readonly address: string | undefined }
  /** Planned takeover: the backup goes on as the primary, this side ends. */
  | { readonly kind: 'switch-over' }
  /** A guest without a backup goes to this address, running, and this side ends. */
  | { readonly kind: 'move'; readonly address: string }
  | { readonly kind: 'unprotect' };
