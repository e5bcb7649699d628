import {
  arpSenderOf,
  type Ipv4Number,
  ipv4SenderOf,
  type MacNumber,
  macNumber,
  sourceOf,
} from './ethernet.ts';

/**
 * The IPv4 addresses that a guest uses on one interface, so that they can be announced for it. An address is the guest's
 * when it has said so itself, by ARP: the source of a packet proves nothing, a guest may be a router. It stays the guest's
 * while it uses it, and until another machine says that it is its own: one that moved on, as the shared address of two
 * load balancers does, must not be called back.
 */

const ADDRESSES_MAX = 4;
/** Linux asks for a neighbour again after 15 to 45 s; an address in use is seen more often than this. */
const UNUSED_MS_MAX = 60_000;

export class GuestAddresses {
  readonly #mac: MacNumber;
  /** When each was used last; the one used last is last. */
  readonly #used = new Map<Ipv4Number, number>();

  /** `mac`: six bytes. */
  constructor(mac: Uint8Array) {
    this.#mac = macNumber(mac);
  }

  /** A frame that the guest sends. */
  sent(frame: Uint8Array, now: number): void {
    if (sourceOf(frame) !== this.#mac) return;
    const claimed = arpSenderOf(frame);
    if (claimed?.mac === this.#mac) this.#use(claimed.address, now);
    const source = ipv4SenderOf(frame);
    if (source !== undefined && this.#used.has(source)) this.#use(source, now);
  }

  /** A frame for the guest, or for everybody. */
  received(frame: Uint8Array): void {
    const claimed = arpSenderOf(frame);
    if (claimed !== undefined && claimed.mac !== this.#mac) this.#used.delete(claimed.address);
  }

  /** Those in use now, four bytes each. */
  inUse(now: number): Uint8Array[] {
    const addresses = [...this.#used].filter(([, at]) => now - at <= UNUSED_MS_MAX);
    return addresses.map(([address]) =>
      Uint8Array.of(address >>> 24, address >>> 16, address >>> 8, address),
    );
  }

  #use(address: Ipv4Number, now: number): void {
    this.#used.delete(address);
    this.#used.set(address, now);
    const oldest = this.#used.keys().next().value;
    if (this.#used.size > ADDRESSES_MAX && oldest !== undefined) this.#used.delete(oldest);
  }
}
