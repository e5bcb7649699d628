import type { HostMilliseconds } from '../base/units.ts';
import type { DiskRequestOutput, Input } from '../machine/door.ts';
import type { LogEntry } from '../replay/log-entry.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import type { ArbiterRequest } from './arbiter.ts';
import type { Following } from './copy-name.ts';
import type { MachineSnapshot } from './event.ts';
import type { Extent } from './extent.ts';
import type { Epoch, InstanceId } from './identity.ts';
import type { Link } from './link.ts';
import type { Heartbeat, Message } from './message.ts';
import type { PastOutputs } from './past-outputs.ts';

/** What the protocol core wants done, in this order. The driver adds nothing and leaves nothing out. */
export type FtAction =
  | { readonly kind: 'ask'; readonly request: ArbiterRequest }
  | { readonly kind: 'open-disks'; readonly epoch: Epoch }
  | { readonly kind: 'open-network'; readonly epoch: Epoch }
  | { readonly kind: 'announce' }
  /** Hand this output to its port; answered by `handed-over` when the call has returned. */
  | { readonly kind: 'hand-over'; readonly output: NumberedOutput }
  /** A disk operation that was started before and has no completion: again, on the session that is open now. */
  | { readonly kind: 'issue-again'; readonly request: DiskRequestOutput }
  /** A disk operation that waits for no ack (output-rule.ts): a read, or one of disks of one's own. */
  | { readonly kind: 'issue'; readonly request: DiskRequestOutput }
  /** A block of this side's own copy, for whom it is copied to; answered by `block-read`. */
  | { readonly kind: 'read-block'; readonly copy: number; readonly extent: Extent }
  /**
   * A copy begins to come here, whole or only what this side lacks; a block of it, but for what this side's guest has
   * written since, answered by `block-stored`; everything so far is to be on stable storage, answered by `copy-secured`.
   * `follows`: and the copy is whole, in this pair.
   */
  | { readonly kind: 'begin-copy'; readonly whole: boolean }
  | { readonly kind: 'store-block'; readonly extent: Extent; readonly data: Uint8Array | undefined }
  | { readonly kind: 'secure-copy'; readonly number: number; readonly follows: Following | undefined }
  /** A backup: its guest asks for this again. A read is answered by `disk-read`. */
  | { readonly kind: 'replay-disk'; readonly request: DiskRequestOutput }
  /** A connection for this generation. */
  /** A host for a new backup is wanted; `except`: addresses of instances that cannot be it any more. */
  | { readonly kind: 'find-host'; readonly except: readonly string[] }
  | { readonly kind: 'connect'; readonly address: string; readonly generation: Epoch }
  | { readonly kind: 'send'; readonly link: Link; readonly message: Message }
  | { readonly kind: 'flush'; readonly link: Link }
  /** Sends what was given to `send` and ends the connection; nothing more of it is read. */
  | { readonly kind: 'close'; readonly link: Link }
  | { readonly kind: 'pause-reading'; readonly link: Link }
  | { readonly kind: 'resume-reading'; readonly link: Link }
  | { readonly kind: 'send-snapshot'; readonly link: Link; readonly snapshot: Uint8Array }
  /** `to`: the partner's address, where this side knows it. */
  | { readonly kind: 'heartbeat'; readonly heartbeat: Heartbeat; readonly to?: string }
  | { readonly kind: 'vcpu-run' }
  | { readonly kind: 'vcpu-pause' }
  | { readonly kind: 'vcpu-input'; readonly input: Input }
  | { readonly kind: 'vcpu-share'; readonly share: number }
  /**
   * Copy the running guest; an older copy is given up. `standStill`: nothing is executed after its end. So many of its
   * parts have arrived. It is given up: the guest goes on, whether it stands still for it already or not.
   */
  | { readonly kind: 'vcpu-copy'; readonly number: number; readonly standStill: boolean }
  | { readonly kind: 'vcpu-let-go' }
  | { readonly kind: 'vcpu-copied'; readonly parts: number }
  /** A new copy begins to arrive; part after part of it; the end of it. */
  | { readonly kind: 'vcpu-forget-staged' }
  | { readonly kind: 'vcpu-stage'; readonly pages: Uint8Array }
  | { readonly kind: 'vcpu-load'; readonly snapshot: MachineSnapshot }
  | { readonly kind: 'vcpu-replay'; readonly entries: readonly LogEntry[] }
  | { readonly kind: 'vcpu-end-replay' }
  /** This side goes on as the primary, under the name that the arbiter knows. */
  | { readonly kind: 'go-live'; readonly instance: InstanceId; readonly takeover: Takeover }
  /** `protected`: whatever else is under way, the VM has a backup. */
  | {
      readonly kind: 'state';
      readonly state: string;
      readonly detail: string;
      readonly protected?: boolean;
    }
  /** The end of this instance: nothing leaves it any more. */
  | { readonly kind: 'halt'; readonly reason: string };

/** What a backup hands to the primary that it becomes. */
export interface Takeover extends PastOutputs {
  readonly epoch: Epoch;
  /** Its lease holds until then, by this host's clock. */
  readonly leaseUntil: HostMilliseconds;
  /** Whether a backup is looked for: not where fault tolerance was off, or being turned off by an order in the log. */
  readonly faultTolerance: boolean;
  /** For so long the guest stood still, if it was moved here. */
  readonly stoodMs?: number;
}
