import { connect, type Socket } from 'node:net';
import type { Epoch, VmId } from '../ft/identity.ts';
import type { NetworkEvents, NetworkPort } from '../hypervisor/ports.ts';
import { encodeFrame, FrameDecoder } from './frame-stream.ts';
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
      (_, nic) => new Cable(options, nic, (frame) => this.#events?.frame(nic, frame)),
    );
  }

  listen(events: NetworkEvents): void {
    this.#events = events;
  }

  open(epoch: Epoch): void {
    for (const cable of this.#cables) cable.open(epoch);
  }

  send(nic: number, frame: Uint8Array, output: bigint): void {
    this.#cables[nic]?.send({ kind: 'frame', output, frame });
  }

  /** The switch asks for no addresses. */
  replayed(): void {}

  announce(nic: number, mac: Uint8Array): void {
    this.#cables[nic]?.send({ kind: 'announce', mac });
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
  readonly #received: (frame: Uint8Array) => void;
  #epoch: Epoch | undefined;
  #socket: Socket | undefined;
  #closed = false;

  constructor(options: SwitchPortOptions, nic: number, received: (frame: Uint8Array) => void) {
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

  /** Sent while the connection is being made too: the socket keeps it. Dropped when there is none. */
  send(message: SwitchMessage): void {
    const socket = this.#socket;
    if (socket === undefined || socket.writableLength > QUEUED_BYTES_MAX) return;
    this.#write(socket, message);
  }

  close(): void {
    this.#closed = true;
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  #connect(): void {
    if (this.#closed || this.#epoch === undefined) return;
    const { host, port } = this.#options;
    const socket = connect({ host, port, noDelay: true });
    const decoder = new FrameDecoder(SWITCH_MESSAGE_LENGTH_MAX);
    this.#socket = socket;
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
        if (message.kind === 'delivered') this.#received(new Uint8Array(message.frame));
        else if (message.kind === 'refused') this.#refused(message.epoch);
      }
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      if (this.#socket !== socket) return;
      this.#socket = undefined;
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

  #open(socket: Socket, epoch: Epoch): void {
    this.#write(socket, { kind: 'open', vm: this.#options.vm, nic: this.#nic, epoch });
  }

  #write(socket: Socket, message: SwitchMessage): void {
    socket.write(encodeFrame(encodeSwitchMessage(message)));
  }
}
