import { type HostMilliseconds, hostMilliseconds } from '../base/units.ts';
import type { FtAction } from './action.ts';
import type { Epoch } from './identity.ts';
import type { Link } from './link.ts';
import { type Message, PROTOCOL_VERSION } from './message.ts';
import type { Purpose } from './program.ts';
import type { Side } from './side.ts';

/**
 * A primary's connection to one backup: asked for, greeted, and bound to the backup's generation by its welcome; when it
 * breaks, asked for again, until it is cut.
 */
export class PartnerLink {
  readonly #side: Side;
  readonly #address: string;
  readonly #generation: Epoch;
  readonly #do: (action: FtAction) => void;
  /** Counts the hellos of this primary, to whomever. */
  readonly #attempt: () => number;
  /** The connection that is bound to this generation. */
  #link: Link | undefined;
  /** A connection that has said hello and waits for the welcome. */
  #greeting: Link | undefined;
  #reconnectAt: HostMilliseconds | undefined;
  #cut = false;

  constructor(
    side: Side,
    address: string,
    generation: Epoch,
    perform: (action: FtAction) => void,
    attempt: () => number,
  ) {
    this.#side = side;
    this.#address = address;
    this.#generation = generation;
    this.#do = perform;
    this.#attempt = attempt;
    this.#connect();
  }

  #connect(): void {
    this.#do({ kind: 'connect', address: this.#address, generation: this.#generation });
  }

  get bound(): Link | undefined {
    return this.#link;
  }

  /** Nothing more of the log is sent, and no connection is made. */
  get isCut(): boolean {
    return this.#cut;
  }

  owns(link: Link): boolean {
    return link === this.#link || link === this.#greeting;
  }

  greets(link: Link): boolean {
    return link === this.#greeting;
  }

  /** A connection that was asked for. False: there is no use for it. `fresh`: a copy follows. */
  accept(link: Link, address: string, fresh: boolean, purpose: Purpose): boolean {
    const free = this.#link === undefined && this.#greeting === undefined && !this.#cut;
    if (!free || address !== this.#address) return false;
    this.#reconnectAt = undefined;
    const { vm, instance, host, program } = this.#side;
    const message: Message = {
      kind: 'hello',
      vm,
      generation: this.#generation,
      sender: instance,
      version: PROTOCOL_VERSION,
      host,
      program,
      fresh,
      attempt: this.#attempt(),
      purpose,
    };
    this.#do({ kind: 'send', link, message });
    this.#do({ kind: 'flush', link });
    // Until the welcome has named a position entries only pile up.
    this.#greeting = link;
    return true;
  }

  /** Welcomed on the connection that was greeted. */
  bind(link: Link): void {
    this.#greeting = undefined;
    this.#link = link;
  }

  send(message: Message): void {
    if (this.#link !== undefined) this.#do({ kind: 'send', link: this.#link, message });
  }

  flush(): void {
    if (this.#link !== undefined && !this.#cut) this.#do({ kind: 'flush', link: this.#link });
  }

  /** It is gone: it was broken from outside, or is closed here for what came on it. */
  broken(link: Link, close: boolean): void {
    if (close) this.#do({ kind: 'close', link });
    if (this.#greeting === link) this.#greeting = undefined;
    if (this.#link === link) this.#link = undefined;
  }

  reconnectSoon(now: HostMilliseconds): void {
    if (this.#cut || this.#link !== undefined || this.#greeting !== undefined) return;
    this.#reconnectAt = hostMilliseconds(now + this.#side.timing.reconnectMs);
  }

  tick(now: HostMilliseconds): void {
    if (this.#cut || this.#reconnectAt === undefined || now < this.#reconnectAt) return;
    this.#reconnectAt = undefined;
    this.#connect();
  }

  /** Nothing more of the log is sent to it; the connection stays, for the last word. */
  fallSilent(): void {
    this.#cut = true;
    this.#reconnectAt = undefined;
  }

  /** For good: nothing more is sent, and nothing is heard. */
  cut(over?: Epoch): void {
    if (over !== undefined) this.send({ kind: 'over', epoch: over });
    for (const link of [this.#link, this.#greeting])
      if (link !== undefined) this.#do({ kind: 'close', link });
    this.#link = undefined;
    this.#greeting = undefined;
    this.fallSilent();
  }
}
