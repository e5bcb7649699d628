import type { Epoch, InstanceId, VmId } from './identity.ts';
import { type Message, PROTOCOL_VERSION } from './message.ts';
import { mismatch, type Program, type Purpose } from './program.ts';
import type { Side } from './side.ts';

export type Hello = Message & { readonly kind: 'hello' };

/** The pair that a backup belongs to: the first hello decides, and binds it until it is loaded. */
export interface Pair {
  readonly generation: Epoch;
  readonly primary: InstanceId;
  readonly purpose: Purpose;
}

/** What of a backup decides whom it listens to. */
export interface Listener {
  readonly vm: VmId;
  readonly program: Program;
  readonly pair: Pair | undefined;
  /** The last hello that was listened to: an earlier one of the same primary comes late. */
  readonly greeted: { readonly sender: InstanceId; readonly attempt: number } | undefined;
  /** Nothing of a guest is here that may not be given up: no primary has come, or its copy has not been loaded. */
  readonly empty: boolean;
  /** Its copy is loaded and follows the log. */
  readonly follows: boolean;
  /** It has asked the arbiter, too early: its pair is not committed, and may never be. */
  readonly early: boolean;
}

/** What a backup does with a hello. */
export type Judgement =
  /** The two can never be partners: the other side is told why. */
  | { readonly kind: 'unfit'; readonly reason: string }
  | { readonly kind: 'late' }
  | { readonly kind: 'refused'; readonly reason: string }
  /** The connection goes on with the log of the copy that is here. */
  | { readonly kind: 'resumed' }
  /** A copy comes. `givesUp`: the question that is open to the arbiter, asked for the copy before. */
  | { readonly kind: 'expected'; readonly givesUp: boolean };

/** Which primary a backup listens to (protocol 2, 5). */
export function judge(hello: Hello, listener: Listener): Judgement {
  const { vm, program, pair, greeted, empty, follows, early } = listener;
  const differs = hello.vm === vm ? mismatch(program, hello, hello.purpose, 'here') : undefined;
  if (differs !== undefined) return { kind: 'unfit', reason: differs };
  if (hello.sender === greeted?.sender && hello.attempt <= greeted.attempt) return { kind: 'late' };
  if (hello.vm !== vm) return { kind: 'refused', reason: 'another VM' };
  // Not by a primary of before: its pair can never be committed, the one that was asked for still can.
  const older = pair !== undefined && hello.generation < pair.generation;
  const givesUp = early && hello.fresh && !older;
  if (empty || givesUp) return { kind: 'expected', givesUp };
  if (!follows || !isOf(hello, pair)) return { kind: 'refused', reason: `generation ${hello.generation}` };
  // The same generation copied anew: its commit was never asked for, and the state of the try before is another.
  return hello.fresh ? { kind: 'expected', givesUp: false } : { kind: 'resumed' };
}

function isOf({ generation, sender, purpose }: Hello, pair: Pair | undefined): boolean {
  return pair?.generation === generation && pair.primary === sender && pair.purpose === purpose;
}

/** How a backup answers, but for how far it is. `sender`: its name in the pair. */
export function introduce({ vm, host, program }: Side, sender: InstanceId, generation: Epoch) {
  const envelope = { vm, generation, sender };
  return { kind: 'welcome', ...envelope, version: PROTOCOL_VERSION, host, program } as const;
}
