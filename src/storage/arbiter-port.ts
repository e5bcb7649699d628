import type { ArbiterRequest } from '../ft/arbiter.ts';
import type { Nonce } from '../ft/identity.ts';
import type { ArbiterEvents, ArbiterPort } from '../hypervisor/ports.ts';
import { parseAnswer } from './arbiter-message.ts';
import { type NbdAddress, NbdClientConnection, NbdRefusedError } from './nbd-client-connection.ts';

const ANSWER_TIMEOUT_MS = 2_000;

/**
 * The disk server as arbiter [hypervisor/ports.ts ArbiterPort]. A request that cannot be delivered is dropped:
 * the caller repeats it with the same nonce until it is answered.
 */
export class DiskServerArbiter implements ArbiterPort {
  readonly #address: NbdAddress;
  readonly #refused: (reason: string) => void;
  readonly #queue = new Map<Nonce, ArbiterRequest>();
  #events: ArbiterEvents | undefined;
  #connection: NbdClientConnection | undefined;
  #busy = false;
  #closed = false;

  /** `refused`: the server has no such disk, or it is another VM's. Asking again may help once that is mended. */
  constructor(address: NbdAddress, refused: (reason: string) => void = () => {}) {
    this.#address = address;
    this.#refused = refused;
  }

  listen(events: ArbiterEvents): void {
    this.#events = events;
  }

  request(request: ArbiterRequest): void {
    this.#queue.set(request.nonce, request);
    if (!this.#busy) void this.#work();
  }

  close(): void {
    this.#closed = true;
    this.#connection?.close();
  }

  async #work(): Promise<void> {
    this.#busy = true;
    for (const [nonce, request] of this.#queue) {
      this.#queue.delete(nonce);
      const answer = await this.#ask(request);
      if (answer !== undefined && answer.nonce === nonce && !this.#closed) this.#events?.answered(answer);
    }
    this.#busy = false;
  }

  async #ask(request: ArbiterRequest): Promise<ReturnType<typeof parseAnswer>> {
    let connection = this.#connection;
    const timer = setTimeout(() => {
      connection?.close();
      this.#connection = undefined;
    }, ANSWER_TIMEOUT_MS);
    try {
      connection ??= await NbdClientConnection.connect(this.#address);
      this.#connection = connection;
      return parseAnswer(await connection.arbitrate(this.#address.disk, request));
    } catch (error) {
      if (error instanceof NbdRefusedError && !this.#closed) this.#refused(error.message);
      connection?.close();
      this.#connection = undefined;
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }
}
