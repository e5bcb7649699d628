import type { Packet } from '../base/packet/offload.ts';
import type { Epoch } from '../ft/identity.ts';
import { TcpRetention } from './tcp-retention.ts';

/** Where a VM's frames go while it is there. False: its buffer is full and the frame is dropped. */
export interface StationLink {
  deliver(packet: Packet): boolean;
  /** Ends the connection: a newer one has taken its place. */
  replaced(): void;
}

const HELD_MS_MAX = 30_000;
const HELD_FRAMES_MAX = 256;
const REMEMBERED_OUTPUTS_MAX = 1024;
const REMEMBERED_BYTES_MAX = 16 * 1024 * 1024;

/**
 * One network interface of one VM as the switch sees it, over all hosts the VM runs on. It outlives their
 * connections: while there is none, frames are held, and the next one gets them.
 */
export class Station {
  readonly name: string;
  readonly #retention = new TcpRetention();
  #epoch: Epoch | undefined;
  #link: StationLink | undefined;
  /** Frames that are not TCP and came while there was no link. */
  #held: { readonly packet: Packet; readonly at: number }[] = [];
  #highestOutput = 0n;
  readonly #outputs = new Map<bigint, Uint8Array>();
  #outputBytes = 0;

  constructor(name: string) {
    this.name = name;
  }

  get epoch(): Epoch | undefined {
    return this.#epoch;
  }

  /** False: a newer generation is here, and this one may not come back. */
  attach(epoch: Epoch, link: StationLink, now: number): boolean {
    if (this.#epoch !== undefined && epoch < this.#epoch) return false;
    const before = this.#link;
    this.#epoch = epoch;
    this.#link = link;
    // The same process moving to a newer epoch has lost nothing.
    if (before === link) return true;
    before?.replaced();
    for (const packet of this.#retention.unacknowledged()) link.deliver(packet);
    const held = this.#held.filter(({ at }) => now - at <= HELD_MS_MAX);
    this.#held = [];
    for (const { packet } of held) link.deliver(packet);
    return true;
  }

  carries(link: StationLink): boolean {
    return this.#link === link;
  }

  detach(link: StationLink): void {
    if (this.#link === link) this.#link = undefined;
  }

  /** A frame for this VM. */
  deliver(packet: Packet, now: number): void {
    const kept = this.#retention.towardsGuest(packet);
    if (this.#link !== undefined) this.#link.deliver(packet);
    else if (!kept) {
      this.#held.push({ packet, at: now });
      if (this.#held.length > HELD_FRAMES_MAX) this.#held.shift();
    }
  }

  /**
   * A frame of this VM, with the number of the output it is. False: it comes from a connection that is no longer
   * this VM, or the frame has been let through before the takeover.
   */
  accepts(link: StationLink, output: bigint, frame: Uint8Array): boolean {
    if (link !== this.#link) return false;
    const before = output <= this.#highestOutput ? this.#outputs.get(output) : undefined;
    // Number and content: a VM that was started again counts its outputs from 1.
    if (before !== undefined && Buffer.compare(before, frame) === 0) return false;
    this.#highestOutput = output;
    this.#remember(output, frame);
    this.#retention.fromGuest(frame);
    return true;
  }

  #remember(output: bigint, frame: Uint8Array): void {
    this.#forget(output);
    this.#outputs.set(output, frame);
    this.#outputBytes += frame.length;
    while (this.#outputs.size > REMEMBERED_OUTPUTS_MAX || this.#outputBytes > REMEMBERED_BYTES_MAX) {
      const oldest = this.#outputs.keys().next().value;
      if (oldest === undefined) return;
      this.#forget(oldest);
    }
  }

  #forget(output: bigint): void {
    this.#outputBytes -= this.#outputs.get(output)?.length ?? 0;
    this.#outputs.delete(output);
  }
}
