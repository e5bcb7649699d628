import { createServer, type Server, type Socket } from 'node:net';
import { coalesced } from '../base/packet/coalescing.ts';
import type { Packet } from '../base/packet/offload.ts';
import { wholeFrame, wireFrames } from '../base/packet/segmentation.ts';
import { failed, ok, type Result } from '../base/result.ts';
import { announcement } from './announcement.ts';
import { macNumber } from './ethernet.ts';
import { encodeFrame, FRAME_LENGTH_MAX, FrameDecoder, writeTogether } from './frame-stream.ts';
import { LearningSwitch, type SwitchedPort } from './learning-switch.ts';
import { Station, type StationLink } from './station.ts';
import {
  decodeSwitchMessage,
  encodeSwitchMessage,
  SWITCH_MAGIC,
  SWITCH_MESSAGE_LENGTH_MAX,
  type SwitchMessage,
} from './switch-message.ts';
import { WindowClamp } from './window-clamp.ts';

export interface SwitchServerOptions {
  /** 0 takes a free port. */
  readonly port: number;
  readonly host?: string;
}

/** A socket with more than this waiting drops frames, as a full network does. */
const QUEUED_BYTES_MAX = 4 * 1024 * 1024;
/** Verdicts are not dropped; who asks for more of them than this without reading any is hung up on. */
const QUEUED_VERDICT_BYTES_MAX = 64 * 1024;
/** Stations stay when their connections go, so they are counted: strangers can name as many as they like. */
const STATIONS_MAX = 1024;
const CONNECTIONS_MAX = 1024;
const FIRST_BYTES_MS = 5_000;

interface StationPort extends SwitchedPort {
  readonly station: Station;
}

/** The user switch (design 7): VM processes connect by TCP, an uplink and plain QEMU peers by stream framing. */
export class SwitchServer {
  readonly port: number;
  readonly #server: Server;
  readonly #switch = new LearningSwitch();
  readonly #stations = new Map<string, StationPort>();
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
    server.maxConnections = CONNECTIONS_MAX;
    server.on('connection', (socket) => this.#accept(socket));
  }

  static start(options: SwitchServerOptions): Promise<Result<SwitchServer>> {
    const server = createServer();
    const host = options.host ?? '127.0.0.1';
    return new Promise((resolve) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const reason =
          error.code === 'EADDRINUSE' ? 'is in use: choose another one with --port' : (error.code ?? '');
        resolve(failed(`port ${options.port} on ${host} ${reason}`));
      });
      server.listen(options.port, host, () => {
        const address = server.address();
        const port = typeof address === 'object' && address !== null ? address.port : options.port;
        resolve(ok(new SwitchServer(server, port)));
      });
    });
  }

  /** passt, in plain stream framing. It ends the guest's TCP connections, so it takes frames of any length. */
  attachUplink(socket: Socket): void {
    this.#track(socket);
    const clamp = new WindowClamp();
    this.#serveStream(socket, Buffer.alloc(0), (packet) => [clamp.clamped(wholeFrame(packet))]);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#sockets.delete(socket));
  }

  /** The first bytes tell a VM process from a plain peer. */
  #accept(socket: Socket): void {
    this.#track(socket);
    socket.setNoDelay(true);
    let first: Buffer = Buffer.alloc(0);
    // Who says nothing takes a place that a survivor may need.
    const silent = setTimeout(() => socket.destroy(), FIRST_BYTES_MS);
    socket.on('close', () => clearTimeout(silent));
    const decide = (bytes: Buffer): void => {
      first = Buffer.concat([first, bytes]);
      const length = Math.min(first.length, SWITCH_MAGIC.length);
      const lockstep = first.subarray(0, length).equals(SWITCH_MAGIC.subarray(0, length));
      if (lockstep && length < SWITCH_MAGIC.length) return;
      clearTimeout(silent);
      socket.off('data', decide);
      if (lockstep) this.#serveVm(socket, first.subarray(length));
      else this.#serveStream(socket, first, wireFrames);
    };
    socket.on('data', decide);
  }

  /** A peer that knows no offloads, as a QEMU is; `finished`: what it is given in place of a packet. */
  #serveStream(socket: Socket, first: Buffer, finished: (packet: Packet) => readonly Uint8Array[]): void {
    const decoder = new FrameDecoder();
    const port: SwitchedPort = {
      deliver: (packet) => {
        if (socket.writableLength >= QUEUED_BYTES_MAX) return;
        for (const frame of finished(packet)) writeTogether(socket, encodeFrame(frame));
      },
    };
    const receive = (bytes: Buffer): void => {
      const frames = decoder.push(bytes);
      if (frames === undefined) {
        socket.destroy();
        return;
      }
      // What arrived together goes on together, as far as a guest may take it so.
      for (const { frame, offload } of coalesced(frames)) {
        // The frame outlives the chunk it was cut from: a copy keeps 64 KiB chunks from piling up.
        this.#switch.forward(port, { frame: offload ? frame : Buffer.from(frame), offload });
      }
    };
    this.#switch.add(port);
    socket.on('close', () => this.#switch.remove(port));
    socket.on('data', receive);
    receive(first);
  }

  #serveVm(socket: Socket, first: Buffer): void {
    const decoder = new FrameDecoder(SWITCH_MESSAGE_LENGTH_MAX);
    const send = (message: SwitchMessage) => writeTogether(socket, encodeFrame(encodeSwitchMessage(message)));
    let offloads = false;
    const link: StationLink = {
      deliver: (packet) => {
        if (socket.writableLength >= QUEUED_BYTES_MAX) return false;
        if (offloads) send({ kind: 'delivered', ...packet });
        else for (const frame of wireFrames(packet)) send({ kind: 'delivered', frame });
        return true;
      },
      replaced: () => socket.end(),
    };
    let port: StationPort | undefined;

    const handle = (message: SwitchMessage | undefined): boolean => {
      switch (message?.kind) {
        case 'open': {
          port ??= this.#station(`${message.vm}/${message.nic}`);
          if (port === undefined) return false;
          if (socket.writableLength >= QUEUED_BYTES_MAX + QUEUED_VERDICT_BYTES_MAX) return false;
          // The verdict goes first, so that the frames that were held follow it.
          const newest = port.station.epoch;
          if (newest !== undefined && message.epoch < newest) {
            send({ kind: 'refused', epoch: newest });
            return true;
          }
          send({ kind: 'opened', epoch: message.epoch, offloads: true });
          port.station.attach(message.epoch, link, performance.now());
          return true;
        }
        case 'frame': {
          if (port === undefined || message.frame.length > FRAME_LENGTH_MAX) return false;
          const frame = Buffer.from(message.frame);
          const { offload } = message;
          if (port.station.accepts(link, message.output, frame))
            this.#switch.forward(port, { frame, offload });
          return true;
        }
        case 'takes-offloads':
          offloads = true;
          return port !== undefined;
        case 'announce':
          if (port === undefined) return false;
          if (port.station.carries(link)) {
            this.#switch.learn(macNumber(message.mac), port);
            this.#switch.forward(port, { frame: announcement(message.mac) });
          }
          return true;
        default:
          return false;
      }
    };
    const receive = (bytes: Buffer): void => {
      const messages = decoder.push(bytes);
      if (messages === undefined || !messages.every((each) => handle(decodeSwitchMessage(each))))
        socket.destroy();
    };
    socket.on('data', receive);
    socket.on('close', () => port?.station.detach(link));
    receive(first);
  }

  /** Stations stay when their connections go: frames are held for the next one. */
  #station(name: string): StationPort | undefined {
    const known = this.#stations.get(name);
    if (known !== undefined) return known;
    if (this.#stations.size >= STATIONS_MAX) return undefined;
    const station = new Station(name);
    const port: StationPort = { station, deliver: (packet) => station.deliver(packet, performance.now()) };
    this.#stations.set(name, port);
    this.#switch.add(port);
    return port;
  }
}
