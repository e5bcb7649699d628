import { failed, ok, type Result } from '../base/result.ts';
import type { Epoch } from '../ft/identity.ts';
import type { NetworkEvents, NetworkPort } from '../hypervisor/ports.ts';
import { announcement, gratuitousArp } from './announcement.ts';
import { ETHERNET_HEADER_LENGTH } from './ethernet.ts';
import { GuestAddresses } from './guest-addresses.ts';
import { TapDevice } from './tap-device.ts';

export interface TapPortOptions {
  /** One for each network interface of the VM, with its MAC address of six bytes. */
  readonly nics: readonly { readonly tap: string; readonly mac: Uint8Array }[];
  /** Told once for each reason why an interface is cut off. */
  readonly say: (line: string) => void;
}

/**
 * When an announcement is made again: any may be lost, a switch may be slow to see the link, and an old primary that was
 * stopped draws the address to itself by what it lets out when it comes back.
 */
const ANNOUNCED_AFTER_MS = [0, 50, 150, 350, 750, 3_000, 10_000] as const;
/** The kernel tells the bridge of a carrier within a millisecond or so; frames wait until it has. */
const LOOK_AGAIN_MS = 1;
const HELD_FRAMES_MAX = 256;
/** Whoever has no link after this long is told. */
const LINK_MS_MAX = 1000;

/**
 * Linux TAPs as a network [hypervisor/ports.ts NetworkPort], one for each interface, usually on a bridge. They are attached
 * from the start, so that a backup does not find out in a takeover that it has none, and have no carrier until `open`: a
 * bridge keeps such a port disabled, nothing goes in or out.
 *
 * A TAP knows no epochs and remembers no output numbers: a survivor's repeats go out, and TCP drops them. A fenced old
 * primary cannot say anything new: what it lets out late is in the survivor's history too (PROTOCOL.md).
 */
export class TapNetworkPort implements NetworkPort {
  readonly #cables: readonly Cable[];
  #events: NetworkEvents | undefined;

  private constructor(devices: readonly TapDevice[], { nics, say }: TapPortOptions) {
    this.#cables = devices.map(
      (device, nic) => new Cable(device, nics[nic]!.mac, (frame) => this.#events?.frame(nic, frame), say),
    );
  }

  /** The error names all TAPs that cannot be had. */
  static attach(options: TapPortOptions): Result<TapNetworkPort> {
    const devices: TapDevice[] = [];
    const wrong: string[] = [];
    for (const { tap } of options.nics) {
      const attached = TapDevice.attach(tap);
      if (attached.ok) devices.push(attached.value);
      else wrong.push(attached.error);
    }
    if (wrong.length === 0) return ok(new TapNetworkPort(devices, options));
    for (const device of devices) void device.close();
    return failed(wrong.join('; '));
  }

  listen(events: NetworkEvents): void {
    this.#events = events;
  }

  /** A TAP tells no epochs apart: a newer one changes nothing. */
  open(_epoch: Epoch): void {
    for (const cable of this.#cables) cable.open();
  }

  send(nic: number, frame: Uint8Array, _output: bigint): void {
    this.#cables[nic]?.send(frame);
  }

  replayed(nic: number, frame: Uint8Array): void {
    this.#cables[nic]?.replayed(frame);
  }

  announce(nic: number, mac: Uint8Array): void {
    this.#cables[nic]?.announce(mac);
  }

  /** Nothing goes in or out any more. The TAPs are free for another process when this resolves. */
  async close(): Promise<void> {
    this.#events = undefined;
    await Promise.all(this.#cables.map((cable) => cable.close()));
  }
}

/** One interface's TAP: closed, then plugged in with frames held until the bridge knows, then open, then closed for good. */
class Cable {
  readonly #device: TapDevice;
  readonly #received: (frame: Uint8Array) => void;
  readonly #say: (line: string) => void;
  readonly #addresses: GuestAddresses;
  readonly #said = new Set<string>();
  #state: 'unplugged' | 'plugged-in' | 'open' | 'closed' = 'unplugged';
  #frameLengthMax = 0;
  #held: Uint8Array[] = [];
  #opening: NodeJS.Timeout | undefined;
  #announcing: NodeJS.Timeout[] = [];
  #closed: Promise<void> | undefined;

  constructor(
    device: TapDevice,
    mac: Uint8Array,
    received: (frame: Uint8Array) => void,
    say: (line: string) => void,
  ) {
    this.#device = device;
    this.#received = received;
    this.#say = say;
    this.#addresses = new GuestAddresses(mac);
  }

  open(): void {
    if (this.#state !== 'unplugged') return;
    this.#state = 'plugged-in';
    this.#frameLengthMax = this.#device.frameLengthMax;
    this.#device.plugIn({
      frame: (frame) => {
        this.#addresses.received(frame);
        this.#received(frame);
      },
      ended: (reason) => this.#cutOff(reason),
    });
    this.#openWhenRunning(performance.now());
  }

  send(frame: Uint8Array): void {
    this.#addresses.sent(frame, performance.now());
    if (frame.length >= ETHERNET_HEADER_LENGTH && frame.length <= this.#frameLengthMax) this.#out(frame);
  }

  replayed(frame: Uint8Array): void {
    this.#addresses.sent(frame, performance.now());
  }

  announce(mac: Uint8Array): void {
    this.#stopAnnouncing();
    const [first, ...later] = ANNOUNCED_AFTER_MS.map((ms) => ({ ms, say: () => this.#announceOnce(mac) }));
    first?.say();
    this.#announcing = later.map(({ ms, say }) => setTimeout(say, ms).unref());
  }

  close(): Promise<void> {
    this.#state = 'closed';
    this.#held = [];
    clearTimeout(this.#opening);
    this.#stopAnnouncing();
    this.#closed ??= this.#device.close();
    return this.#closed;
  }

  /** A bridge loses what comes from a port whose carrier it does not know of. */
  #openWhenRunning(since: number): void {
    if (this.#device.running) {
      this.#state = 'open';
      for (const frame of this.#held.splice(0)) this.#out(frame);
      return;
    }
    const waited = performance.now() - since;
    if (waited > LINK_MS_MAX) this.#down();
    // The longer it takes, the less it matters when it ends.
    this.#opening = setTimeout(() => this.#openWhenRunning(since), Math.max(LOOK_AGAIN_MS, waited / 10));
    this.#opening.unref();
  }

  #announceOnce(mac: Uint8Array): void {
    this.#out(announcement(mac));
    for (const address of this.#addresses.inUse(performance.now())) this.#out(gratuitousArp(mac, address));
  }

  #out(frame: Uint8Array): void {
    if (this.#state === 'plugged-in' && this.#held.length < HELD_FRAMES_MAX) this.#held.push(frame);
    if (this.#state !== 'open') return;
    switch (this.#device.write(frame)) {
      case 'down':
        this.#down();
        break;
      case 'gone':
        this.#cutOff('it was removed');
        break;
      default:
    }
  }

  #stopAnnouncing(): void {
    for (const timer of this.#announcing.splice(0)) clearTimeout(timer);
  }

  #down(): void {
    this.#cutOff(`it is down: as root, ip link set ${this.#device.name} up`);
  }

  #cutOff(reason: string): void {
    if (this.#said.has(reason)) return;
    this.#said.add(reason);
    this.#say(`TAP ${this.#device.name} is cut off: ${reason}`);
  }
}
