import { closeSync, constants, openSync } from 'node:fs';
import { userInfo } from 'node:os';
import { OFFLOAD_BYTES, type Packet, writeOffload } from '../base/packet/offload.ts';
import { failed, ok, type Result } from '../base/result.ts';
import { ETHERNET_HEADER_LENGTH } from './ethernet.ts';
import { FRAME_LENGTH_MAX } from './frame-stream.ts';
import {
  attachTap,
  controlSocket,
  ERRNO,
  type Errno,
  INTERFACE_RUNNING,
  INTERFACE_UP,
  interfaceFlags,
  interfaceMtu,
  readInto,
  setCarrier,
  setInterfaceFlags,
  writeFrom,
} from './tap-calls.ts';
import { tapNameError } from './tap-name.ts';
import { TapReader, type TapReaderEvents } from './tap-reader.ts';

const TUN = '/dev/net/tun';
const VLAN_TAG_LENGTH = 4;
/** Frames that may have been queued before the carrier was there; the kernel keeps no more. */
const QUEUED_FRAMES_MAX = 4096;

/**
 * The far end of a Linux TAP: what the kernel sends out of the interface is read here, what is written here comes in at
 * it. Attached without a carrier, so that a bridge keeps the port disabled until `plugIn`. One process has it at a time.
 */
export class TapDevice {
  readonly name: string;
  readonly #fd: number;
  readonly #control: number;
  #reader: TapReader | undefined;

  private constructor(name: string, fd: number, control: number) {
    this.name = name;
    this.#fd = fd;
    this.#control = control;
  }

  /** Takes the TAP of this name; makes it when there is none and this process may. `tun`: the driver's device. */
  static attach(name: string, tun = TUN): Result<TapDevice> {
    const wrong = tapNameError(name);
    if (wrong !== undefined) return failed(wrong);
    let fd: number;
    try {
      fd = openSync(tun, constants.O_RDWR | constants.O_NONBLOCK);
    } catch (error) {
      return failed(whyNoTun(tun, (error as NodeJS.ErrnoException).code ?? ''));
    }
    const control = controlSocket();
    const giveUp = (reason: string): Result<TapDevice> => {
      closeSync(control);
      closeSync(fd);
      return failed(reason);
    };
    const existed = interfaceFlags(control, name) !== undefined;
    const errno = attachTap(fd, name);
    if (errno !== 0) return giveUp(whyNotAttached(name, errno, existed));
    const flags = interfaceFlags(control, name) ?? 0;
    const up = (flags & INTERFACE_UP) !== 0 || setInterfaceFlags(control, name, flags | INTERFACE_UP) === 0;
    if (!up) return giveUp(`TAP ${name} is down: as root, ip link set ${name} up`);
    return ok(new TapDevice(name, fd, control));
  }

  /** The longest frame that the interface carries, with one VLAN tag. */
  get frameLengthMax(): number {
    return (interfaceMtu(this.#control, this.name) ?? 0) + ETHERNET_HEADER_LENGTH + VLAN_TAG_LENGTH;
  }

  /** The carrier is there, and the kernel has told the bridge. */
  get running(): boolean {
    return ((interfaceFlags(this.#control, this.name) ?? 0) & INTERFACE_RUNNING) !== 0;
  }

  /** From now on frames come and go. */
  plugIn(events: TapReaderEvents): void {
    // A TAP with offloads gives nothing into less room than its header.
    const old = new Uint8Array(OFFLOAD_BYTES + FRAME_LENGTH_MAX);
    for (let frames = 0; frames < QUEUED_FRAMES_MAX && readInto(this.#fd, old) >= 0; frames++);
    setCarrier(this.#fd, true);
    this.#reader = new TapReader(this.#fd, events);
  }

  /** One whole packet; never blocks. The kernel does what is left to do. `full`: it does not take it now. */
  write(packet: Packet): 'sent' | 'full' | 'down' | 'gone' {
    const bytes = Buffer.allocUnsafe(OFFLOAD_BYTES + packet.frame.length);
    writeOffload(bytes, 0, packet);
    bytes.set(packet.frame, OFFLOAD_BYTES);
    switch (writeFrom(this.#fd, bytes)) {
      case 0:
        return 'sent';
      case ERRNO.EIO:
        return 'down';
      case ERRNO.EBADFD:
        return 'gone';
      default:
        return 'full';
    }
  }

  /** The carrier goes at once; the TAP is free for another process when this resolves. */
  async close(): Promise<void> {
    setCarrier(this.#fd, false);
    // The number of a closed file may be another file's soon: nobody reads from it any more.
    await this.#reader?.stop();
    closeSync(this.#fd);
    closeSync(this.#control);
  }
}

function whyNoTun(tun: string, code: string): string {
  if (code === 'ENOENT')
    return `this host has no ${tun}: modprobe tun, or give the device to this container (--device ${tun})`;
  if (code === 'EACCES' || code === 'EPERM')
    return `${tun} is closed to user ${user()}: as root, chmod 0666 ${tun}`;
  if (code === 'ENODEV' || code === 'ENXIO') return 'this kernel has no TUN/TAP driver: modprobe tun';
  return `${tun} cannot be opened (${code})`;
}

function whyNotAttached(name: string, errno: Errno, existed: boolean): string {
  const add = `ip tuntap add dev ${name} mode tap user ${user()}`;
  switch (errno) {
    case ERRNO.EPERM:
      return existed
        ? `TAP ${name} belongs to another user: as root, ip tuntap del dev ${name} mode tap; ${add}`
        : `TAP ${name} does not exist, and user ${user()} may not make it: as root, ${add}`;
    case ERRNO.EBUSY:
      return `TAP ${name} is in use: end the other process that has it, or name another TAP`;
    case ERRNO.EINVAL:
      return `interface ${name} is there and is no TAP with one queue: name another one, or ${add}`;
    default:
      return `TAP ${name} cannot be attached (error ${errno})`;
  }
}

function user(): string {
  try {
    return userInfo().username;
  } catch {
    // A user id without an entry in the password file.
    return String(process.getuid?.());
  }
}
