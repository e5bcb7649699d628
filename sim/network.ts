import type { Heartbeat } from '../src/ft/message.ts';
import type { Instance } from './instance.ts';
import { SimLink } from './link.ts';
import type { World } from './world.ts';

/** Who reaches whom, how fast, and what gets lost. Ends are hosts by number, then disk server, arbiter, clients. */
export class Network {
  readonly #world: World;
  readonly #ends: number;
  readonly #cut: Uint8Array;
  readonly #delay: Float64Array;
  readonly links: SimLink[] = [];
  /** Of datagrams and of clients' frames. */
  loss = 0.01;
  jitterMs = 0.1;
  /** Of chunks on a logging channel: an entry in them is lost or comes twice. */
  spoilt = 0;

  constructor(world: World, hosts: number) {
    this.#world = world;
    this.#ends = hosts + 3;
    this.#cut = new Uint8Array(this.#ends * this.#ends);
    this.#delay = new Float64Array(this.#ends * this.#ends);
    for (let index = 0; index < this.#delay.length; index++)
      this.#delay[index] = world.random.between(0.05, 0.6);
  }

  get disk(): number {
    return this.#ends - 3;
  }

  get arbiter(): number {
    return this.#ends - 2;
  }

  get clients(): number {
    return this.#ends - 1;
  }

  isCut(from: number, to: number): boolean {
    return this.#cut[from * this.#ends + to] === 1;
  }

  cut(from: number, to: number): void {
    this.#cut[from * this.#ends + to] = 1;
  }

  heal(from: number, to: number): void {
    if (!this.isCut(from, to)) return;
    this.#cut[from * this.#ends + to] = 0;
    for (const link of this.links) link.healed();
  }

  healAll(): void {
    this.#cut.fill(0);
    for (const link of this.links) link.healed();
  }

  delay(from: number, to: number): number {
    return this.#delay[from * this.#ends + to]! + this.#world.random.unit() * this.jitterMs;
  }

  connect(from: Instance, address: string): void {
    const world = this.#world;
    const peer = world.instances.get(address);
    const out = peer ? this.delay(from.host, peer.host) + this.delay(peer.host, from.host) : 1;
    const reachable = (): boolean =>
      peer?.listening === true && !this.isCut(from.host, peer.host) && !this.isCut(peer.host, from.host);
    if (!reachable()) {
      from.later(out + 5, () => from.channel.broken(undefined, 'no answer'));
      return;
    }
    from.later(out, () => {
      if (!peer || !reachable()) {
        from.channel.broken(undefined, 'refused');
        return;
      }
      const ours = new SimLink(world, from, peer);
      const theirs = new SimLink(world, peer, from);
      ours.join(theirs);
      theirs.join(ours);
      this.links.push(ours, theirs);
      from.channel.connected(ours.link, address);
    });
  }

  /** To one instance, or to whoever it ever had a connection with. */
  heartbeat(from: Instance, heartbeat: Heartbeat, to: string | undefined): void {
    const { random } = this.#world;
    const named = to === undefined ? undefined : this.#world.instances.get(to);
    for (const peer of named ? [named] : from.peers) {
      if (this.isCut(from.host, peer.host) || random.chance(this.loss)) continue;
      const arrive = (): void => peer.heartbeats.heartbeat(heartbeat);
      const delay = this.delay(from.host, peer.host);
      peer.later(delay, arrive);
      // Some come twice, the second time much later.
      if (random.chance(0.02)) peer.later(delay + random.between(1, 80), arrive);
    }
  }

  /** A client's frame: it reaches everybody who has the guest's network open. */
  toGuest(frame: Uint8Array): void {
    for (const instance of this.#world.instances.values()) {
      if (!instance.networkOpen || this.isCut(this.clients, instance.host)) continue;
      if (this.#world.random.chance(this.loss)) continue;
      instance.later(this.delay(this.clients, instance.host), () => instance.receiveFrame(frame));
    }
  }

  fromGuest(instance: Instance, frame: Uint8Array): void {
    const world = this.#world;
    if (this.isCut(instance.host, this.clients) || world.random.chance(this.loss)) return;
    world.schedule(this.delay(instance.host, this.clients), () => {
      for (const client of world.clients) client.receive(frame);
    });
  }

  forget(link: SimLink): void {
    const at = this.links.indexOf(link);
    if (at >= 0) this.links.splice(at, 1);
  }
}
