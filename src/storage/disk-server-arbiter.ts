import type { ArbiterAnswer, ArbiterRequest } from '../ft/arbiter.ts';
import { parseAnswer } from './arbiter-message.ts';
import type { ArbiterConnection } from './asked-arbiter.ts';
import type { NbdAddress } from './nbd-address.ts';
import { NbdClientConnection } from './nbd-client-connection.ts';
import { LEASE_MS } from './vm-record.ts';

export type DiskServerArbiterOptions = NbdAddress & { readonly leaseMs?: number };

/**
 * Lockstep's disk server as arbiter: the record of a VM stands beside its first disk (protocol 3). The lease's length
 * travels with each request, so the server need not be told it by its operator.
 */
export class DiskServerArbiter implements ArbiterConnection {
  readonly #address: NbdAddress;
  readonly #leaseMs: number;
  #connection: NbdClientConnection | undefined;

  constructor({ leaseMs = LEASE_MS, ...address }: DiskServerArbiterOptions) {
    this.#address = address;
    this.#leaseMs = leaseMs;
  }

  async ask(request: ArbiterRequest, signal: AbortSignal): Promise<ArbiterAnswer> {
    const drop = (): void => this.close();
    signal.addEventListener('abort', drop);
    try {
      const connection = this.#connection ?? (await this.#connect(signal));
      this.#connection = connection;
      const answer = parseAnswer(await connection.arbitrate(this.#address.disk, this.#leaseMs, request));
      if (answer === undefined) throw new Error('its answer cannot be read');
      return answer;
    } catch (error) {
      drop();
      throw signal.aborted ? signal.reason : error;
    } finally {
      signal.removeEventListener('abort', drop);
    }
  }

  close(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }

  /** A connection that stands too late is closed again. */
  #connect(signal: AbortSignal): Promise<NbdClientConnection> {
    const connecting = NbdClientConnection.connect(this.#address);
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
      connecting.then((connection) => {
        if (signal.aborted) connection.close();
        else resolve(connection);
      }, reject);
    });
  }
}
