import { announcement } from './announcement.ts';
import { type MacNumber, macNumber, sourceOf } from './ethernet.ts';

/**
 * Notices that somebody else on the network has the MAC address of one of the guest's interfaces: frames come in that only
 * the guest itself can have sent. One may be an echo of a takeover (a fenced primary's last words, the survivor's
 * announcement), so it takes two, further apart than any takeover's frames.
 */

const APART_MS = 15_000;
const TYPE_AT = 12;

export class MacConflicts {
  readonly #macs: readonly MacNumber[];
  readonly #announcements: readonly Uint8Array[];
  readonly #say: (line: string) => void;
  readonly #firstAt: (number | undefined)[] = [];
  readonly #said = new Set<number>();

  /** `macs`: six bytes for each interface. */
  constructor(macs: readonly Uint8Array[], say: (line: string) => void) {
    this.#macs = macs.map(macNumber);
    this.#announcements = macs.map(announcement);
    this.#say = say;
  }

  /** A frame that came in at an interface. */
  received(nic: number, frame: Uint8Array, now: number): void {
    if (sourceOf(frame) !== this.#macs[nic] || this.#said.has(nic)) return;
    if (this.#isAnnouncement(nic, frame)) return;
    const first = this.#firstAt[nic];
    this.#firstAt[nic] ??= now;
    if (first === undefined || now - first < APART_MS) return;
    this.#said.add(nic);
    const mac = [...frame.subarray(6, 12)].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
    this.#say(
      `interface ${nic}: another machine on the network has its MAC address ${mac}; give one of them another`,
    );
  }

  #isAnnouncement(nic: number, frame: Uint8Array): boolean {
    const own = this.#announcements[nic]!;
    return frame[TYPE_AT] === own[TYPE_AT] && frame[TYPE_AT + 1] === own[TYPE_AT + 1];
  }
}
