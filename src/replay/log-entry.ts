import type { InstructionCount } from '../base/units.ts';
import type { Digest, Input, Output } from '../machine/door.ts';

/**
 * One entry of the log (design 4). `sequence` counts from 1 without a gap within one generation; `at` is the
 * exact count. A recording on disk and the logging channel carry the same entries.
 */
export type LogEntry = { readonly sequence: bigint; readonly at: InstructionCount } & LogPayload;

export type LogPayload =
  /**
   * `afterHalt`: before this input the machine ran to a halt at this very count, so timers due there have fired.
   * Set on the clock entry that begins every wake from a halt, and on nothing else.
   */
  | { readonly kind: 'input'; readonly input: Input; readonly afterHalt?: true }
  /**
   * The completion of a read whose data whoever replays has to read itself [FT 4.2]: so many bytes, with this hash. Never
   * in a recording, and never given to a replayer: it is replaced by the input that it stands for.
   */
  | {
      readonly kind: 'read-reference';
      readonly disk: number;
      readonly request: number;
      readonly length: number;
      readonly hash: string;
    }
  /** An output happened here; `output` counts over the whole life of the VM, `hash` is of its content. */
  | {
      readonly kind: 'output-mark';
      readonly output: bigint;
      readonly outputKind: Output['kind'];
      readonly hash: string;
    }
  /** Outputs up to and including this number have left. */
  | { readonly kind: 'released'; readonly output: bigint }
  /** `parts`: hashes of the parts of the state, which tell what differs when the digests do. */
  | { readonly kind: 'digest'; readonly digest: Digest; readonly parts?: Uint8Array }
  /** An orderly end of the log: nothing follows. */
  | { readonly kind: 'end'; readonly reason: EndReason };

/** `handed-over`: a planned takeover; whoever has everything up to here goes on as the primary. */
export type EndReason = 'powered-off' | 'stopped' | 'handed-over';
