import type { HostMilliseconds } from '../base/units.ts';
import type { DiskCompletedInput, DiskRequestOutput } from '../machine/door.ts';
import type { NumberedOutput } from '../replay/numbered-output.ts';
import { outputMark } from '../replay/recorder.ts';
import type { FtAction } from './action.ts';
import { changesDisk } from './extent.ts';
import { HoldQueue } from './hold-queue.ts';
import { isHeld } from './output-rule.ts';
import { OutputWaits, type WaitSamples } from './output-waits.ts';
import type { Partners } from './partners.ts';
import type { OrderedRead, PastOutputs } from './past-outputs.ts';
import type { PrimaryLog } from './primary-log.ts';

/**
 * The way out of the guest (rules 1 and 6): an output is marked in the log and held; outputs leave one at a time, each once
 * every gate has acked its mark; disk operations are remembered until their completion.
 */
export class OutputGate {
  readonly #log: PrimaryLog;
  readonly #partners: Partners;
  readonly #own: boolean;
  readonly #do: (action: FtAction) => void;
  readonly #hold: HoldQueue;
  readonly #waits = new OutputWaits();
  /** Disk operations handed over and not completed, in order. */
  readonly #started: DiskRequestOutput[];
  /** Reads that have not left, in order. */
  readonly #reads: OrderedRead[];
  #handingOver = false;
  #issueAgain = false;

  /** `own`: this side's disks are its own, and their requests do not wait. */
  constructor(
    { released, held, started, reads }: PastOutputs,
    log: PrimaryLog,
    partners: Partners,
    own: boolean,
    perform: (action: FtAction) => void,
  ) {
    this.#log = log;
    this.#partners = partners;
    this.#own = own;
    this.#do = perform;
    this.#hold = new HoldQueue(released);
    this.#started = [...started];
    this.#reads = [...reads];
    // Go-live (protocol 5): every output above `released` goes again, and waits for no mark.
    for (const output of held) this.#hold.hold(output, 0n);
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
    return this.#hold.length === 0 && this.#reads.length === 0 && !this.#handingOver;
  }

  made(output: NumberedOutput, now: HostMilliseconds): void {
    this.#log.append(output.at, outputMark(output), now);
    const mark = this.#log.end;
    const { output: sent, number } = output;
    if (sent.kind === 'disk-request' && !isHeld(sent, this.#own)) {
      if (this.#own) this.#issue(sent, mark);
      else this.#reads.push({ request: sent, number });
      return;
    }
    this.#hold.hold(output, mark);
    // It waits for an ack: what that costs is measured.
    if (this.#partners.pair) this.#waits.made(output.number, mark, output.at, now);
    // An output that waits flushes at once (design 4).
    this.#partners.flush();
  }

  #issue(request: DiskRequestOutput, mark: bigint): void {
    if (changesDisk(request)) this.#partners.wrote(mark, request);
    this.#started.push(request);
    this.#do({ kind: 'issue', request });
  }

  acked(position: bigint, now: HostMilliseconds): void {
    this.#waits.acked(position, now);
  }

  /** The disks were opened anew: what was started is issued again before anything else leaves, and as it may. */
  reopened(): void {
    this.#issueAgain = true;
  }

  /** The head leaves when every gate has acked its mark, and the backup need not read first what it overwrites. */
  release(): void {
    if (this.#issueAgain) this.issueAgain();
    if (this.#reads.length > 0) this.#read();
    if (this.#handingOver) return;
    const output = this.#hold.releasable(this.#partners.ackedByAll(this.#log.end));
    if (!output || (output.output.kind === 'disk-request' && this.#partners.holdBack(output.output))) return;
    this.#handingOver = true;
    if (output.output.kind === 'disk-request') this.#started.push(output.output);
    this.#do({ kind: 'hand-over', output });
  }

  /** Reads wait for no ack, but each for what was to be written there before it. */
  #read(): void {
    for (const read of this.#reads.splice(0)) {
      if (this.#hold.changesBefore(read.number, read.request)) this.#reads.push(read);
      else this.#issue(read.request, 0n);
    }
  }

  /** The hand-over of an output has returned. */
  handedOver(number: bigint, now: HostMilliseconds): void {
    this.#handingOver = false;
    this.#hold.leave(number);
    const { reached } = this.#log;
    if (reached !== undefined) this.#waits.left(number, reached, now);
    this.#log.released(number, now);
  }

  /** Undefined: completed already. An operation that was issued twice answers twice, the guest sees it once. */
  completed({ disk, request }: DiskCompletedInput): DiskRequestOutput | undefined {
    const at = this.#started.findIndex(
      (operation) => operation.disk === disk && operation.request === request,
    );
    return at < 0 ? undefined : this.#started.splice(at, 1)[0];
  }

  issueAgain(): void {
    this.#issueAgain = false;
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
