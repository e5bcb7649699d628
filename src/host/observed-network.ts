import type { Packet } from '../base/packet/offload.ts';
import type { Epoch } from '../ft/identity.ts';
import type { NetworkEvents, NetworkPort } from '../hypervisor/ports.ts';
import type { MacConflicts } from '../network/mac-conflicts.ts';
import type { PcapWriter } from '../network/pcap-writer.ts';

/** A network whose packets are looked at as they pass: what has left the guest, no earlier, and what comes for it. */
export class ObservedNetwork implements NetworkPort {
  readonly #network: NetworkPort;
  readonly #captures: { readonly nic: number; readonly writer: PcapWriter }[] = [];

  readonly #conflicts: MacConflicts;

  constructor(network: NetworkPort, conflicts: MacConflicts) {
    this.#network = network;
    this.#conflicts = conflicts;
  }

  capture(nic: number, writer: PcapWriter): void {
    this.#captures.push({ nic, writer });
  }

  listen(events: NetworkEvents): void {
    this.#network.listen({
      frame: (nic, packet) => {
        this.#seen(nic, packet);
        this.#conflicts.received(nic, packet.frame, performance.now());
        events.frame(nic, packet);
      },
    });
  }

  open(epoch: Epoch): void {
    this.#network.open(epoch);
  }

  send(nic: number, packet: Packet, output: bigint): void {
    this.#seen(nic, packet);
    this.#network.send(nic, packet, output);
  }

  replayed(nic: number, packet: Packet): void {
    this.#network.replayed(nic, packet);
  }

  announce(nic: number, mac: Uint8Array): void {
    this.#network.announce(nic, mac);
  }

  close(): void {
    for (const { writer } of this.#captures.splice(0)) void writer.close();
    this.#network.close();
  }

  #seen(nic: number, packet: Packet): void {
    if (this.#captures.length === 0) return;
    for (const capture of this.#captures) if (capture.nic === nic) capture.writer.packet(packet);
    const over = this.#captures.findIndex(({ writer }) => writer.over);
    if (over >= 0) this.#captures.splice(over, 1);
  }
}
