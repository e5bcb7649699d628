import type { HostPresence } from '../cluster/content.ts';
import { encodePresence, presenceIn } from './cluster-records.ts';
import type { EtcdGateway } from './etcd-gateway.ts';

/** One host's sign of life: a key under a lease that is renewed. */
export class EtcdPresence {
  readonly #gateway: EtcdGateway;
  readonly #key: string;
  readonly #presence: HostPresence;
  readonly #seconds: number;
  #lease: string | undefined;

  constructor(gateway: EtcdGateway, key: string, presence: HostPresence, silenceMs: number) {
    this.#gateway = gateway;
    this.#key = key;
    this.#presence = presence;
    this.#seconds = Math.ceil(silenceMs / 1000);
  }

  /** Throws when etcd does not answer, or another daemon goes by this name. */
  async renew(signal: AbortSignal): Promise<void> {
    const lease = this.#lease;
    // What fails from here on leaves it open whether there is one.
    this.#lease = undefined;
    if (lease !== undefined && (await this.#gateway.renewLease(lease, signal))) {
      const [stored] = await this.#gateway.read([this.#key], signal);
      if (stored?.lease === lease) {
        this.#lease = lease;
        return;
      }
    }
    this.#lease = await this.#begin(signal);
  }

  async end(signal: AbortSignal): Promise<void> {
    if (this.#lease !== undefined) await this.#gateway.endLease(this.#lease, signal);
    this.#lease = undefined;
  }

  async #begin(signal: AbortSignal): Promise<string> {
    const [stored] = await this.#gateway.read([this.#key], signal);
    const rival = stored && presenceIn(stored.text);
    if (rival && rival.certificate !== this.#presence.certificate)
      throw new Error(`a daemon at ${rival.api} goes by the same name; give this one another`);
    const lease = await this.#gateway.grantLease(this.#seconds, signal);
    const condition = { key: this.#key, revision: stored?.revision ?? 0n };
    const sign = { key: this.#key, text: encodePresence(this.#presence), lease };
    if (!(await this.#gateway.writeIf([condition], [sign], signal)))
      throw new Error('another daemon goes by the same name');
    return lease;
  }
}
