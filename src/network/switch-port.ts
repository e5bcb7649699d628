import { connect, type Socket } from 'node:net';
import type { Packet } from '../base/packet/offload.ts';
import { wireFrames } from '../base/packet/segmentation.ts';
import type { Epoch, VmId } from '../ft/identity.ts';
import type { NetworkEvents, NetworkPort } from '../hypervisor/ports.ts';
import { encodeFrame, FrameDecoder, writeTogether } from './frame-stream.ts';
import {
  decodeSwitchMessage,
  encodeSwitchMessage,
  SWITCH_MAGIC,
  SWITCH_MESSAGE_LENGTH_MAX,
  type SwitchMessage,
} from './switch-message.ts';

export interface SwitchPortOptions {
  readonly vm: VmId;
  /** One connection to the switch for each network interface. */
  readonly nics: number;
  readonly host: string;
  readonly port: number;
  /** Told once for each interface that the switch refuses: it stays cut off. */
  readonly say?: (line: string) => void;
}

const QUEUED_BYTES_MAX = 4 * 1024 * 1024;
const RECONNECT_MS = 50;

/** The user switch as a network [hypervisor/ports.ts NetworkPort]. */
export class SwitchNetworkPort implements NetworkPort {
  readonly #cables: readonly Cable[];
  #events: NetworkEvents | undefined;

  constructor(options: SwitchPortOptions) {
    this.#cables = Array.from(
      { length: options.nics },
      (_, nic) => new Cable(options, nic, (packet) => this.#events?.frame(nic, packet)),
    );
  }

  listen(events: NetworkEvents): void {
    this.#events = events;
  }

  open(epoch: Epoch): void {
    for (const cable of this.#cables) cable.open(epoch);
  }

  send(nic: number, packet: Packet, output: bigint): void {
    this.#cables[nic]?.send(packet, output);
  }

  /** The switch asks for no addresses. */
  replayed(): void {}

  announce(nic: number, mac: Uint8Array): void {
    this.#cables[nic]?.announce(mac);
  }

  close(): void {
    this.#events = undefined;
    for (const cable of this.#cables) cable.close();
  }
}

/** One interface's connection; it comes back when it breaks, until a newer generation has taken its place. */
class Cable {
  readonly #options: SwitchPortOptions;
  readonly #nic: number;
  readonly #received: (packet: Packet) => void;
  #epoch: Epoch | undefined;
  #socket: Socket | undefined;
  /** The switch has answered. */
  #opened = false;
  /** It takes packets that are not finished; an older one does not say so. */
  #offloads = false;
  /** What waits for its answer: a packet must be the same bytes for the switch as those the primary before sent. */
  #early: { readonly packet: Packet; readonly output: bigint }[] = [];
  #earlyBytes = 0;
  #closed = false;

  constructor(options: SwitchPortOptions, nic: number, received: (packet: Packet) => void) {
    this.#options = options;
    this.#nic = nic;
    this.#received = received;
  }

  open(epoch: Epoch): void {
    const first = this.#epoch === undefined;
    this.#epoch = epoch;
    if (first) this.#connect();
    else if (this.#socket !== undefined) this.#open(this.#socket, epoch);
  }

  /** Taken while the connection is being made too. Dropped when there is none. */
  send(packet: Packet, output: bigint): void {
    const { frame, offload } = packet;
    if (!this.#opened) {
      if (this.#socket === undefined || this.#earlyBytes > QUEUED_BYTES_MAX) return;
      this.#early.push({ packet, output });
      this.#earlyBytes += frame.length;
      return;
    }
    if (this.#offloads || offload === undefined) this.#say({ kind: 'frame', output, frame, offload });
    else for (const each of wireFrames(packet)) this.#say({ kind: 'frame', output, frame: each });
  }

  announce(mac: Uint8Array): void {
    this.#say({ kind: 'announce', mac });
  }

  #say(message: SwitchMessage): void {
    const socket = this.#socket;
    if (socket === undefined || socket.writableLength > QUEUED_BYTES_MAX) return;
    this.#write(socket, message);
  }

  close(): void {
    this.#closed = true;
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#takeEarly();
  }

  #takeEarly(): readonly { readonly packet: Packet; readonly output: bigint }[] {
    const early = this.#early;
    this.#early = [];
    this.#earlyBytes = 0;
    return early;
  }

  #connect(): void {
    if (this.#closed || this.#epoch === undefined) return;
    const { host, port } = this.#options;
    const socket = connect({ host, port, noDelay: true });
    const decoder = new FrameDecoder(SWITCH_MESSAGE_LENGTH_MAX);
    this.#socket = socket;
    this.#opened = false;
    this.#offloads = false;
    // What is written before the connection stands goes out in order once it does.
    socket.write(SWITCH_MAGIC);
    this.#open(socket, this.#epoch);
    socket.on('data', (bytes) => {
      for (const content of decoder.push(bytes) ?? [undefined]) {
        const message = content === undefined ? undefined : decodeSwitchMessage(content);
        if (message === undefined) {
          socket.destroy();
          return;
        }
        if (this.#closed) return;
        // A copy: the frame outlives the chunk that it was cut from.
        if (message.kind === 'delivered')
          this.#received({ frame: new Uint8Array(message.frame), offload: message.offload });
        else if (message.kind === 'opened') this.#answered(socket, message.offloads);
        else if (message.kind === 'refused') this.#refused(message.epoch);
      }
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      if (this.#socket !== socket) return;
      this.#socket = undefined;
      this.#opened = false;
      this.#takeEarly();
      if (!this.#closed) setTimeout(() => this.#connect(), RECONNECT_MS).unref();
    });
  }

  /**
   * A newer generation is there; this instance hears of it from the arbiter and the disk, and halts. Where the arbiter's
   * record has begun anew it does not, and goes on without a network: only this line says why.
   */
  #refused(newest: Epoch): void {
    this.close();
    this.#options.say?.(
      `interface ${this.#nic} is cut off: the switch refuses epoch ${this.#epoch}, it has seen epoch ${newest} of this VM`,
    );
  }

  #answered(socket: Socket, offloads: boolean): void {
    if (offloads && !this.#offloads) this.#write(socket, { kind: 'takes-offloads' });
    this.#offloads = offloads;
    this.#opened = true;
    for (const { packet, output } of this.#takeEarly()) this.send(packet, output);
  }

  #open(socket: Socket, epoch: Epoch): void {
    this.#write(socket, { kind: 'open', vm: this.#options.vm, nic: this.#nic, epoch });
  }

  #write(socket: Socket, message: SwitchMessage): void {
    writeTogether(socket, encodeFrame(encodeSwitchMessage(message)));
  }
}
