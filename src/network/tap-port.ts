import type { Packet } from '../base/packet/offload.ts';
import { failed, ok, type Result } from '../base/result.ts';
import type { Epoch } from '../ft/identity.ts';
import type { NetworkEvents, NetworkPort } from '../hypervisor/ports.ts';
import { announcement, gratuitousArp } from './announcement.ts';
import { ETHERNET_HEADER_LENGTH } from './ethernet.ts';
import { FRAME_LENGTH_MAX } from './frame-stream.ts';
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
      (device, nic) => new Cable(device, nics[nic]!.mac, (packet) => this.#events?.frame(nic, packet), say),
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

  send(nic: number, packet: Packet, _output: bigint): void {
    this.#cables[nic]?.send(packet);
  }

  replayed(nic: number, { frame }: Packet): void {
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
  readonly #received: (packet: Packet) => void;
  readonly #say: (line: string) => void;
  readonly #addresses: GuestAddresses;
  readonly #said = new Set<string>();
  #state: 'unplugged' | 'plugged-in' | 'open' | 'closed' = 'unplugged';
  #frameLengthMax = 0;
  #held: Packet[] = [];
  #opening: NodeJS.Timeout | undefined;
  #announcing: NodeJS.Timeout[] = [];
  #closed: Promise<void> | undefined;

  constructor(
    device: TapDevice,
    mac: Uint8Array,
    received: (packet: Packet) => void,
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
      packet: (packet) => {
        this.#addresses.received(packet.frame);
        this.#received(packet);
      },
      ended: (reason) => this.#cutOff(reason),
    });
    this.#openWhenRunning(performance.now());
  }

  send(packet: Packet): void {
    const { frame, offload } = packet;
    this.#addresses.sent(frame, performance.now());
    // A long one is cut by the kernel, or by whoever has it then.
    const long = offload !== undefined && offload.segments !== 'none';
    const lengthMax = long ? FRAME_LENGTH_MAX : this.#frameLengthMax;
    if (frame.length >= ETHERNET_HEADER_LENGTH && frame.length <= lengthMax) this.#out(packet);
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
      for (const packet of this.#held.splice(0)) this.#out(packet);
      return;
    }
    const waited = performance.now() - since;
    if (waited > LINK_MS_MAX) this.#down();
    // The longer it takes, the less it matters when it ends.
    this.#opening = setTimeout(() => this.#openWhenRunning(since), Math.max(LOOK_AGAIN_MS, waited / 10));
    this.#opening.unref();
  }

  #announceOnce(mac: Uint8Array): void {
    this.#out({ frame: announcement(mac) });
    for (const address of this.#addresses.inUse(performance.now()))
      this.#out({ frame: gratuitousArp(mac, address) });
  }

  #out(packet: Packet): void {
    if (this.#state === 'plugged-in' && this.#held.length < HELD_FRAMES_MAX) this.#held.push(packet);
    if (this.#state !== 'open') return;
    switch (this.#device.write(packet)) {
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
