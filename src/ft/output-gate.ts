import type { HostMilliseconds, InstructionCount } from '../base/units.ts';
import type { DiskCompletedInput, DiskRequestOutput } from '../machine/door.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import type { FtAction } from './action.ts';
import { HoldQueue } from './hold-queue.ts';
import { OutputWaits, type WaitSamples } from './output-waits.ts';

/**
 * The way out of the guest: outputs wait in the hold queue, leave one at a time when they may, and disk operations
 * are remembered until their completion (rules 1 and 6).
 */
export class OutputGate {
  readonly #do: (action: FtAction) => void;
  readonly #hold: HoldQueue;
  readonly #waits = new OutputWaits();
  /** Disk operations handed over and not completed, in order. */
  readonly #started: DiskRequestOutput[];
  #handingOver = false;

  /** `own`: disk requests do not wait. */
  constructor(
    released: bigint,
    started: readonly DiskRequestOutput[],
    own: boolean,
    perform: (action: FtAction) => void,
  ) {
    this.#hold = new HoldQueue(released, own);
    this.#started = [...started];
    this.#do = perform;
  }

  get released(): bigint {
    return this.#hold.released;
  }

  get bytes(): number {
    return this.#hold.bytes;
  }

  get length(): number {
    return this.#hold.length;
  }

  /** Handed over or started, and not completed, in order. */
  get started(): readonly DiskRequestOutput[] {
    return this.#started;
  }

  /** In order, for a snapshot. */
  get outputs(): readonly NumberedOutput[] {
    return this.#hold.outputs;
  }

  /** Nothing waits and nothing is on its way out. */
  get empty(): boolean {
    return this.#hold.length === 0 && !this.#handingOver;
  }

  hold(output: NumberedOutput, mark: bigint): void {
    this.#hold.hold(output, mark);
  }

  /** It waits for nothing. */
  start(request: DiskRequestOutput): void {
    this.#started.push(request);
    this.#do({ kind: 'issue', request });
  }

  /** It waits for an ack: what that costs is measured. */
  measure(output: NumberedOutput, mark: bigint, now: HostMilliseconds): void {
    this.#waits.made(output.number, mark, output.at, now);
  }

  acked(position: bigint, now: HostMilliseconds): void {
    this.#waits.acked(position, now);
  }

  /** Lets the head out when everything up to `acked` is acked by every gate, and no other rule holds it back. */
  release(acked: bigint, heldBack: (request: DiskRequestOutput) => boolean): void {
    if (this.#handingOver) return;
    const output = this.#hold.releasable(acked);
    if (!output || (output.output.kind === 'disk-request' && heldBack(output.output))) return;
    this.#handingOver = true;
    if (output.output.kind === 'disk-request') this.#started.push(output.output);
    this.#do({ kind: 'hand-over', output });
  }

  handedOver(number: bigint, reached: InstructionCount | undefined, now: HostMilliseconds): void {
    this.#handingOver = false;
    this.#hold.leave(number);
    if (reached !== undefined) this.#waits.left(number, reached, now);
  }

  /** Undefined: completed already. An operation that was issued twice answers twice, the guest sees it once. */
  completed({ disk, request }: DiskCompletedInput): DiskRequestOutput | undefined {
    const at = this.#started.findIndex(
      (operation) => operation.disk === disk && operation.request === request,
    );
    return at < 0 ? undefined : this.#started.splice(at, 1)[0];
  }

  issueAgain(): void {
    for (const request of this.#started) this.#do({ kind: 'issue-again', request });
  }

  /** Without a partner nothing waits for an ack. */
  forgetWaits(): void {
    this.#waits.forget();
  }

  takeWaits(): WaitSamples {
    return this.#waits.take();
  }
}
