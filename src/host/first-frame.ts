import type { Packet } from '../base/packet/offload.ts';
import type { Epoch } from '../ft/identity.ts';
import type { NetworkEvents, NetworkPort } from '../hypervisor/ports.ts';

/** Tells when the first frame of an epoch leaves: from then on a client can notice that a takeover is over. */
export class FirstFrame implements NetworkPort {
  readonly #network: NetworkPort;
  readonly #left: (epoch: Epoch) => void;
  #epoch: Epoch | undefined;

  constructor(network: NetworkPort, left: (epoch: Epoch) => void) {
    this.#network = network;
    this.#left = left;
  }

  listen(events: NetworkEvents): void {
    this.#network.listen(events);
  }

  open(epoch: Epoch): void {
    this.#epoch = epoch;
    this.#network.open(epoch);
  }

  send(nic: number, packet: Packet, output: bigint): void {
    this.#network.send(nic, packet, output);
    if (this.#epoch === undefined) return;
    this.#left(this.#epoch);
    this.#epoch = undefined;
  }

  replayed(nic: number, packet: Packet): void {
    this.#network.replayed(nic, packet);
  }

  announce(nic: number, mac: Uint8Array): void {
    this.#network.announce(nic, mac);
  }

  close(): void {
    this.#network.close();
  }
}
