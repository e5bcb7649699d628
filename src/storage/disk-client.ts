import type { Epoch, InstanceId, VmId } from '../ft/identity.ts';
import type { DiskLease } from './disk-lease.ts';
import { unfitness } from './disk-size.ts';
import type { DiskAnswer, DiskOperation } from './fenced-disk.ts';
import { formatNbdAddress, type NbdAddress } from './nbd-address.ts';
import { NbdClientConnection } from './nbd-client-connection.ts';
import { NbdBrokenError, type NbdDisk, NbdRefusedError } from './nbd-disk.ts';

export interface DiskClientOptions {
  readonly address: NbdAddress;
  readonly vm: VmId;
  /** False for a foreign NBD server: no fencing, so only for a disk that one host alone uses. */
  readonly generations: boolean;
  /**
   * It reads beside whatever generation has the disk, and is never fenced: a backup, what is its own VM's; `of-any-vm`,
   * who has the disk read-only, whosever it is.
   */
  readonly reading?: boolean | 'of-any-vm';
  /** Bytes that the guest was promised; a disk of another size is refused. */
  readonly capacity?: number | undefined;
  /** Of a foreign server: nothing is changed without it. */
  readonly lease?: DiskLease | undefined;
  /** For tests: milliseconds without an answer after which a connection is first given up. */
  readonly silenceMs?: number;
  /** Told when the disk cannot be reached, and when it can again; operations wait meanwhile. */
  readonly say?: (line: string) => void;
}

interface Waiting {
  readonly operation: DiskOperation;
  resolve(answer: DiskAnswer): void;
}

interface Opening {
  readonly epoch: Epoch;
  readonly instance: InstanceId;
  answered(verdict: 'ok' | 'refused'): void;
}

const RECONNECT_MS_MIN = 20;
const RECONNECT_MS_MAX = 1_000;
/** After so long without an answer the connection is given up, where the server drains it before the next one. */
const SILENCE_MS_MAX = 15_000;
/** As long as TCP itself waits for a peer that has vanished. */
const SILENCE_MS_LIMIT = 16 * 60_000;
/** An opening may take its time: older operations have to end first. So may an operation. */
const OPENING_MS_TOLD = 2_000;
const SILENCE_MS_TOLD = 5_000;

/**
 * One disk on a disk server, over connections that come and go. Operations without an answer are sent again on
 * the next connection of the same generation: the server has drained the earlier one by then, so none of them
 * takes effect late. A server that knows no generations is trusted to have ended the operations of a connection
 * soon after it broke; so a connection to one is given up by this side only when a lease ends (docs/STORAGE.md).
 */
export class DiskClient {
  readonly #options: DiskClientOptions;
  readonly #name: string;
  #opening: Opening | undefined;
  #connection: NbdClientConnection | undefined;
  #ready = false;
  #state: 'closed' | 'open' | 'fenced' = 'closed';
  #silenceMs: number;
  /** Operations that a connection was given up over: each next one is given longer, until they have an answer. */
  readonly #slow = new Set<Waiting>();
  /** Counts openings: what an earlier one still does is ignored. */
  #era = 0;
  readonly #waiting = new Set<Waiting>();
  #watchdog: NodeJS.Timeout | undefined;
  #silence: NodeJS.Timeout | undefined;
  #complaint: string | undefined;
  /** As it was at first: the guest knows it so. */
  #disk: NbdDisk | undefined;
  #pauseMs = RECONNECT_MS_MIN;

  constructor(options: DiskClientOptions) {
    this.#options = options;
    const { address, silenceMs = SILENCE_MS_MAX } = options;
    this.#silenceMs = silenceMs;
    this.#name = options.generations ? address.disk : formatNbdAddress(address);
  }

  /** Resolves when the server has answered, however long that takes; asking again asks anew. */
  open(epoch: Epoch, instance: InstanceId): Promise<'ok' | 'refused'> {
    const repeated = this.#opening?.epoch === epoch && this.#opening.instance === instance;
    if (repeated && this.#ready) return Promise.resolve('ok');
    this.#connection?.close();
    const era = ++this.#era;
    this.#state = 'open';
    this.#ready = false;
    this.#pauseMs = RECONNECT_MS_MIN;
    return new Promise((resolve) => {
      this.#opening = { epoch, instance, answered: resolve };
      void this.#run(era, this.#opening);
    });
  }

  /** Resolves when the operation has an answer, over any number of connections. */
  execute(operation: DiskOperation): Promise<DiskAnswer> {
    if (this.#state === 'fenced') return Promise.resolve({ status: 'fenced' });
    return new Promise((resolve) => {
      const waiting = { operation, resolve };
      this.#waiting.add(waiting);
      if (this.#ready) this.#send(waiting);
    });
  }

  /** Forgets everything; operations without an answer get none. */
  close(): void {
    this.#era += 1;
    this.#state = 'closed';
    this.#waiting.clear();
    this.#slow.clear();
    this.#connection?.close();
    this.#ready = false;
    clearTimeout(this.#watchdog);
    clearTimeout(this.#silence);
  }

  async #run(era: number, opening: Opening): Promise<void> {
    let since = performance.now();
    let reason = '';
    while (era === this.#era) {
      const left = Math.max(0, since + OPENING_MS_TOLD - performance.now());
      const slow = setTimeout(() => era === this.#era && this.#complain(unanswered(reason)), left);
      let connection: NbdClientConnection | undefined;
      try {
        const { address, vm, generations, reading } = this.#options;
        connection = await NbdClientConnection.connect(address);
        if (era !== this.#era) break;
        this.#connection = connection;
        // A server that takes the connection and then falls silent must not be waited for without end either.
        this.#watch(connection);
        const admitted = !generations
          ? true
          : reading
            ? await connection.openForReading(address.disk, vm, reading === 'of-any-vm')
            : await connection.openGeneration(address.disk, vm, opening.epoch, opening.instance);
        if (!admitted) {
          connection.close();
          if (era === this.#era) this.#refused(opening, 'a newer generation or another VM has it');
          return;
        }
        const disk = await connection.attach(address.disk, this.#options.lease);
        if (era !== this.#era) break;
        const unlike = this.#unlike(disk);
        if (unlike !== undefined) throw new NbdRefusedError(unlike);
        this.#disk ??= disk;
        this.#ready = true;
        clearTimeout(slow);
        this.#reached();
        opening.answered('ok');
        for (const waiting of this.#waiting) this.#send(waiting);
        await connection.closed();
        since = performance.now();
        if (connection.broken !== undefined) throw connection.broken;
      } catch (error) {
        connection?.close();
        const { code, message } = error as NodeJS.ErrnoException;
        reason = code ?? message;
        // Whoever lost a disk that was there waits for it; where there are generations, no is a verdict.
        const { generations, reading } = this.#options;
        const final = (generations && reading !== 'of-any-vm') || this.#disk === undefined;
        if (error instanceof NbdRefusedError && final) {
          if (era === this.#era) this.#refused(opening, reason);
          return;
        }
        const wrong = error instanceof NbdRefusedError || error instanceof NbdBrokenError;
        if (wrong && era === this.#era)
          this.#complain(`is not served as it should be: ${reason}; asking again until it is`);
        else if (era === this.#era && performance.now() - since > OPENING_MS_TOLD)
          this.#complain(unanswered(reason));
      } finally {
        clearTimeout(slow);
        if (era === this.#era) this.#ready = false;
        else connection?.close();
      }
      await new Promise((resolve) => setTimeout(resolve, this.#pauseMs));
      this.#pauseMs = Math.min(this.#pauseMs * 2, RECONNECT_MS_MAX);
    }
  }

  /** What of the disk is another than the guest was promised. */
  #unlike(disk: NbdDisk): string | undefined {
    const unfit = unfitness(disk);
    if (unfit !== undefined) return `it ${unfit}`;
    const before = this.#disk;
    const { capacity } = this.#options;
    if (before === undefined)
      return capacity === undefined || disk.size === capacity
        ? undefined
        : `it has ${disk.size} bytes, the guest's disk has ${capacity}: serve the disk that the guest had`;
    if (disk.size !== before.size) return `it has ${disk.size} bytes now, and had ${before.size}`;
    return disk.readOnly && !before.readOnly ? 'it is read-only now' : undefined;
  }

  #complain(what: string): void {
    if (this.#complaint === undefined) this.#options.say?.(`disk ${this.#name} ${what}`);
    this.#complaint = what;
  }

  #reached(): void {
    // One that breaks the protocol again and again is not back yet: its first answer tells.
    if (this.#waiting.size === 0) this.#answered();
  }

  #answered(): void {
    this.#pauseMs = RECONNECT_MS_MIN;
    if (this.#complaint !== undefined) this.#options.say?.(`disk ${this.#name} answers again`);
    this.#complaint = undefined;
  }

  #refused(opening: Opening, reason: string): void {
    this.#options.say?.(`disk ${this.#name} cannot be used: ${reason}`);
    this.#state = 'fenced';
    opening.answered('refused');
    for (const { resolve } of this.#waiting) resolve({ status: 'fenced' });
    this.#waiting.clear();
    this.#slow.clear();
  }

  #send(waiting: Waiting): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#watch(connection);
    connection.execute(waiting.operation).then(
      (answer) => {
        this.#answered();
        if (this.#waiting.delete(waiting)) waiting.resolve(answer);
        if (this.#slow.delete(waiting) && this.#slow.size === 0)
          this.#silenceMs = this.#options.silenceMs ?? SILENCE_MS_MAX;
        this.#watch(connection);
      },
      // Stays in the set and is sent again on the next connection.
      () => undefined,
    );
  }

  /** A peer that vanished without a word would otherwise be noticed after a quarter of an hour. */
  #watch(connection: NbdClientConnection): void {
    clearTimeout(this.#watchdog);
    clearTimeout(this.#silence);
    if (this.#options.generations) {
      this.#watchdog = setTimeout(() => {
        if (this.#waiting.size === 0 || connection !== this.#connection) return;
        for (const waiting of this.#waiting) this.#slow.add(waiting);
        this.#silenceMs = Math.min(2 * this.#silenceMs, SILENCE_MS_LIMIT);
        connection.close();
      }, this.#silenceMs);
      this.#watchdog.unref();
    }
    if (this.#waiting.size === 0) return;
    this.#silence = setTimeout(() => {
      if (this.#waiting.size > 0 && connection === this.#connection) this.#complain(unanswered(''));
    }, SILENCE_MS_TOLD);
    this.#silence.unref();
  }
}

function unanswered(reason: string): string {
  return `does not answer${reason === '' ? '' : ` (${reason})`}; waiting until it does`;
}
