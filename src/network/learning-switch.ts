import type { Packet } from '../base/packet/offload.ts';
import {
  destinationOf,
  ETHERNET_HEADER_LENGTH,
  isGroupAddress,
  type MacNumber,
  sourceOf,
} from './ethernet.ts';

export interface SwitchedPort {
  deliver(packet: Packet): void;
}

const ADDRESSES_MAX = 4096;

/** A layer-2 learning switch: frames go where their destination was last seen, or everywhere. */
export class LearningSwitch {
  readonly #ports = new Set<SwitchedPort>();
  readonly #addresses = new Map<MacNumber, SwitchedPort>();

  add(port: SwitchedPort): void {
    this.#ports.add(port);
  }

  remove(port: SwitchedPort): void {
    this.#ports.delete(port);
    for (const [address, at] of this.#addresses) if (at === port) this.#addresses.delete(address);
  }

  /** The address is here now, whatever was seen before. */
  learn(address: MacNumber, port: SwitchedPort): void {
    this.#addresses.delete(address);
    this.#addresses.set(address, port);
    if (this.#addresses.size > ADDRESSES_MAX) {
      const oldest = this.#addresses.keys().next().value;
      if (oldest !== undefined) this.#addresses.delete(oldest);
    }
  }

  forward(from: SwitchedPort, packet: Packet): void {
    const { frame } = packet;
    if (frame.length < ETHERNET_HEADER_LENGTH) return;
    if (!isGroupAddress(frame, 6)) {
      const source = sourceOf(frame);
      if (this.#addresses.get(source) !== from) this.learn(source, from);
    }
    const to = isGroupAddress(frame, 0) ? undefined : this.#addresses.get(destinationOf(frame));
    if (to === from) return;
    if (to !== undefined) to.deliver(packet);
    else for (const port of this.#ports) if (port !== from) port.deliver(packet);
  }
}
