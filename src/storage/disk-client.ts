import type { Epoch, InstanceId, VmId } from '../ft/identity.ts';
import type { DiskAnswer, DiskOperation } from './fenced-disk.ts';
import { type NbdAddress, NbdClientConnection, NbdRefusedError } from './nbd-client-connection.ts';

export interface DiskClientOptions {
  readonly address: NbdAddress;
  readonly vm: VmId;
  /** False for a foreign NBD server: no fencing, so only for a disk that one host alone uses. */
  readonly generations: boolean;
  /** Told once when the disk cannot be reached, and once when it can again; operations wait meanwhile. */
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
const SILENCE_MS_MAX = 15_000;
/** An opening may take its time: older operations have to end first. */
const OPENING_MS_TOLD = 2_000;

/**
 * One disk on a disk server, over connections that come and go. Operations without an answer are sent again on
 * the next connection of the same generation: the server has drained the earlier one by then, so none of them
 * takes effect late.
 */
export class DiskClient {
  readonly #options: DiskClientOptions;
  #opening: Opening | undefined;
  #connection: NbdClientConnection | undefined;
  #ready = false;
  #state: 'closed' | 'open' | 'fenced' = 'closed';
  /** Counts openings: what an earlier one still does is ignored. */
  #era = 0;
  readonly #waiting = new Set<Waiting>();
  #watchdog: NodeJS.Timeout | undefined;
  #complained = false;

  constructor(options: DiskClientOptions) {
    this.#options = options;
  }

  /** Resolves when the server has answered, however long that takes; asking again asks anew. */
  open(epoch: Epoch, instance: InstanceId): Promise<'ok' | 'refused'> {
    const repeated = this.#opening?.epoch === epoch && this.#opening.instance === instance;
    if (repeated && this.#ready) return Promise.resolve('ok');
    this.#connection?.close();
    const era = ++this.#era;
    this.#state = 'open';
    this.#ready = false;
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
    this.#connection?.close();
    this.#ready = false;
    clearTimeout(this.#watchdog);
  }

  async #run(era: number, opening: Opening): Promise<void> {
    let pause = RECONNECT_MS_MIN;
    let since = performance.now();
    while (era === this.#era) {
      const left = Math.max(0, since + OPENING_MS_TOLD - performance.now());
      const slow = setTimeout(() => era === this.#era && this.#complain(), left);
      let connection: NbdClientConnection | undefined;
      try {
        const { address, vm, generations } = this.#options;
        connection = await NbdClientConnection.connect(address);
        if (era !== this.#era) break;
        this.#connection = connection;
        // A server that takes the connection and then falls silent must not be waited for without end either.
        this.#watch(connection);
        if (
          generations &&
          !(await connection.openGeneration(address.disk, vm, opening.epoch, opening.instance))
        ) {
          connection.close();
          if (era === this.#era) this.#refused(opening);
          return;
        }
        await connection.attach(address.disk);
        if (era !== this.#era) break;
        pause = RECONNECT_MS_MIN;
        this.#ready = true;
        clearTimeout(slow);
        this.#reached();
        opening.answered('ok');
        for (const waiting of this.#waiting) this.#send(waiting);
        await connection.closed();
        since = performance.now();
      } catch (error) {
        connection?.close();
        if (error instanceof NbdRefusedError) {
          if (era === this.#era) this.#refused(opening);
          return;
        }
      } finally {
        clearTimeout(slow);
        if (era === this.#era) this.#ready = false;
        else connection?.close();
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 2, RECONNECT_MS_MAX);
    }
  }

  #complain(): void {
    if (!this.#complained)
      this.#options.say?.(`disk ${this.#options.address.disk} does not answer; waiting until it does`);
    this.#complained = true;
  }

  #reached(): void {
    if (this.#complained) this.#options.say?.(`disk ${this.#options.address.disk} answers again`);
    this.#complained = false;
  }

  #refused(opening: Opening): void {
    this.#state = 'fenced';
    opening.answered('refused');
    for (const { resolve } of this.#waiting) resolve({ status: 'fenced' });
    this.#waiting.clear();
  }

  #send(waiting: Waiting): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#watch(connection);
    connection.execute(waiting.operation).then(
      (answer) => {
        this.#watch(connection);
        if (this.#waiting.delete(waiting)) waiting.resolve(answer);
      },
      // Stays in the set and is sent again on the next connection.
      () => undefined,
    );
  }

  /** A peer that vanished without a word would otherwise be noticed after a quarter of an hour. */
  #watch(connection: NbdClientConnection): void {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      if (this.#waiting.size > 0 && connection === this.#connection) connection.close();
    }, SILENCE_MS_MAX);
    this.#watchdog.unref();
  }
}
