import { type Link, link } from '../src/ft/link.ts';
import type { Message } from '../src/ft/message.ts';
import type { Instance } from './instance.ts';
import type { World } from './world.ts';

type Chunk = readonly Message[] | 'end';

/** What was kept back leaves by itself after so long at most. */
const KEPT_BACK_MS = 5;

/**
 * One end of a connection of the logging channel. Chunks arrive in order. Where the way is cut they wait, as TCP
 * would send them again; a host that lost its power says nothing, so the other end stays half-open.
 */
export class SimLink {
  readonly link: Link;
  readonly instance: Instance;
  readonly peer: Instance;
  readonly #world: World;
  #other!: SimLink;
  open = true;
  #outbox: Message[] = [];
  #flushing = false;
  /** Sent into a way that is cut, in order. */
  #stuck: Chunk[] = [];
  #lastArrival = 0;
  #paused = false;
  /** Arrived and not read. */
  #inbox: Chunk[] = [];

  constructor(world: World, instance: Instance, peer: Instance) {
    this.#world = world;
    this.link = link(++world.connections);
    this.instance = instance;
    this.peer = peer;
    instance.links.set(this.link, this);
    instance.peers.add(peer);
  }

  join(other: SimLink): void {
    this.#other = other;
  }

  send(message: Message): void {
    if (!this.open) return;
    this.#outbox.push(message);
    if (this.#flushing) return;
    this.#flushing = true;
    this.instance.later(this.#world.random.between(0.5, KEPT_BACK_MS), () => {
      this.#flushing = false;
      this.flush();
    });
  }

  flush(): void {
    if (this.#outbox.length === 0 || !this.open) return;
    this.#transmit(this.#spoil(this.#outbox));
    this.#outbox = [];
  }

  /** By our own side: no event for us, an end for the other. */
  close(): void {
    if (!this.open) return;
    this.flush();
    this.#transmit('end');
    this.#shut();
  }

  /** The process is gone: its kernel ends the connection, unless the host went with it. */
  died(silently: boolean): void {
    if (!this.open) return;
    if (!silently) this.#transmit('end');
    this.#shut();
  }

  /** The network breaks it: both sides see that, and what was under way is lost. */
  break(reason: string): void {
    for (const end of [this as SimLink, this.#other]) {
      end.#stuck = [];
      end.instance.later(this.#world.random.between(0.1, 1), () => end.#lost(reason));
    }
  }

  pause(paused: boolean): void {
    this.#paused = paused;
    if (!paused) this.instance.later(0.01, () => this.#read());
  }

  healed(): void {
    const stuck = this.#stuck;
    if (stuck.length === 0 || this.#isCut()) return;
    this.#stuck = [];
    for (const chunk of stuck) this.#transmit(chunk);
  }

  #isCut(): boolean {
    return this.#world.network.isCut(this.instance.host, this.peer.host);
  }

  #transmit(chunk: Chunk): void {
    if (this.#isCut() || this.#stuck.length > 0) {
      this.#stuck.push(chunk);
      return;
    }
    const world = this.#world;
    const at = Math.max(
      this.#lastArrival,
      world.now + world.network.delay(this.instance.host, this.peer.host),
    );
    this.#lastArrival = at;
    const other = this.#other;
    this.peer.later(at - world.now, () => other.#arrived(chunk));
  }

  #arrived(chunk: Chunk): void {
    if (!this.open) return;
    this.#inbox.push(chunk);
    if (!this.#paused) this.#read();
  }

  #read(): void {
    while (!this.#paused && this.open) {
      const chunk = this.#inbox.shift();
      if (chunk === undefined) return;
      if (chunk === 'end') this.#lost('closed by the other side');
      else this.instance.received(this, chunk);
    }
  }

  #lost(reason: string): void {
    if (!this.open) return;
    this.#shut();
    this.instance.channel.broken(this.link, reason);
  }

  #shut(): void {
    this.open = false;
    this.instance.links.delete(this.link);
    this.#world.network.forget(this);
  }

  /** A faulty box on the way loses or repeats one entry. */
  #spoil(messages: readonly Message[]): readonly Message[] {
    const { random, network } = this.#world;
    if (network.spoilt === 0 || !random.chance(network.spoilt)) return messages;
    const at = random.below(messages.length);
    const kind = messages[at]!.kind;
    if (kind !== 'entry' && kind !== 'ack') return messages;
    const spoilt = [...messages];
    if (random.chance(0.5)) spoilt.splice(at, 1);
    else spoilt.splice(at, 0, messages[at]!);
    this.#world.note(
      'network',
      `${spoilt.length > messages.length ? 'repeats' : 'loses'} one ${kind} from ${this.instance.name}`,
    );
    return spoilt;
  }
}
