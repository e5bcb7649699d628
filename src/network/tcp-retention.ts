import type { Packet } from '../base/packet/offload.ts';
import { isAtOrBefore, tcpSegmentOf } from './ethernet.ts';

/**
 * TCP segments on their way to a guest that the guest has not acknowledged. A guest's acknowledgement leaves its
 * host only when the frame it answers is in the backup's log (Output Rule), so what is acknowledged is safe and
 * what is not may have died with the primary. A survivor is given all of it again: TCP drops what it has. The
 * sender would repeat it too, but passt takes two seconds to.
 */

interface Flow {
  /** In order of arrival. */
  segments: { readonly packet: Packet; readonly end: number }[];
  bytes: number;
  /** The newest segment without data: the guest may be waiting for what it acknowledges. */
  bare: Packet | undefined;
}

const FLOWS_MAX = 4096;
const BYTES_PER_FLOW_MAX = 1024 * 1024;
/** Of all flows of one interface: whoever can send to the guest decides how many there are. */
const BYTES_MAX = 32 * 1024 * 1024;

export class TcpRetention {
  /** By the flow's name seen from the peer; the flow used last is last. */
  readonly #flows = new Map<string, Flow>();
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** A frame towards the guest; true when it is kept here. */
  towardsGuest(packet: Packet): boolean {
    const { frame } = packet;
    const segment = tcpSegmentOf(frame);
    if (segment === undefined) return false;
    const flow = this.#flows.get(segment.flow) ?? { segments: [], bytes: 0, bare: undefined };
    this.#flows.delete(segment.flow);
    if (segment.reset) {
      this.#bytes -= flow.bytes;
      flow.segments = [];
      flow.bytes = 0;
    }
    this.#flows.set(segment.flow, flow);
    if (segment.end === segment.sequence) flow.bare = packet;
    else {
      flow.segments.push({ packet, end: segment.end });
      flow.bytes += frame.length;
      this.#bytes += frame.length;
      while (flow.bytes > BYTES_PER_FLOW_MAX) {
        const gone = flow.segments.shift()?.packet.frame.length ?? flow.bytes;
        flow.bytes -= gone;
        this.#bytes -= gone;
      }
    }
    while (this.#flows.size > FLOWS_MAX || this.#bytes > BYTES_MAX) this.#forgetOldest();
    return true;
  }

  #forgetOldest(): void {
    const [oldest] = this.#flows.keys();
    if (oldest !== undefined) this.#forget(oldest);
  }

  #forget(name: string): void {
    this.#bytes -= this.#flows.get(name)?.bytes ?? 0;
    this.#flows.delete(name);
  }

  /** A frame that the guest has sent. */
  fromGuest(frame: Uint8Array): void {
    const segment = tcpSegmentOf(frame);
    if (segment === undefined) return;
    const flow = this.#flows.get(segment.reverse);
    if (flow === undefined) return;
    if (segment.reset) {
      this.#forget(segment.reverse);
      return;
    }
    const acknowledged = segment.acknowledges;
    if (acknowledged === undefined) return;
    flow.segments = flow.segments.filter(({ packet, end }) => {
      if (!isAtOrBefore(end, acknowledged)) return true;
      flow.bytes -= packet.frame.length;
      this.#bytes -= packet.frame.length;
      return false;
    });
  }

  /** What a survivor must be given again, in order within each flow. */
  unacknowledged(): Packet[] {
    return [...this.#flows.values()].flatMap(({ segments, bare }) => [
      ...segments.map(({ packet }) => packet),
      ...(bare === undefined ? [] : [bare]),
    ]);
  }
}
