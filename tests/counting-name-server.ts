import { connect, type Socket } from 'node:net';
import { encodeFrame, FrameDecoder } from '../src/network/frame-stream.ts';
import { parseHostPort } from '../src/transport/address.ts';

const ETHERNET = 14;
const IP = 20;
const UDP = 8;
const DNS_PORT = 53;
const TYPE_A = 1;

/**
 * A station on the switch, not on this host's network: a name server that answers every question, each with an
 * address of its own, and keeps the bytes of all that it was asked. So one request more would be another answer.
 */
export class CountingNameServer {
  readonly address = '10.0.2.99';
  readonly mac = '52:54:00:00:00:63';
  /** The payloads of the questions, in hexadecimal, in order. */
  readonly questions: string[] = [];
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  static async attach(network: string): Promise<CountingNameServer> {
    const to = parseHostPort(network);
    if (!to.ok) throw new Error(to.error);
    const socket = connect(to.value);
    const server = new CountingNameServer(socket);
    const frames = new FrameDecoder();
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      for (const frame of frames.push(bytes) ?? []) server.#received(frame);
    });
    await new Promise((resolve) => socket.once('connect', resolve));
    // The switch learns where this station is.
    socket.write(encodeFrame(Buffer.concat([Buffer.alloc(6, 0xff), server.#ownMac(), Buffer.alloc(48)])));
    return server;
  }

  /** The answer to the question of that number, from 0. */
  answer(question: number): string {
    return `10.77.${question >> 8}.${question & 255}`;
  }

  close(): void {
    this.#socket.destroy();
  }

  #ownMac(): Buffer {
    return Buffer.from(this.mac.replaceAll(':', ''), 'hex');
  }

  #received(frame: Buffer): void {
    if (frame.length < ETHERNET + IP + UDP || frame.readUInt16BE(12) !== 0x0800) return;
    const toUs = frame.subarray(30, 34).join('.') === this.address;
    if (!toUs || frame[23] !== 17 || frame.readUInt16BE(ETHERNET + IP + 2) !== DNS_PORT) return;
    const udpLength = frame.readUInt16BE(ETHERNET + IP + 4);
    const question = frame.subarray(ETHERNET + IP + UDP, ETHERNET + IP + udpLength);
    this.questions.push(question.toString('hex'));
    this.#socket.write(encodeFrame(this.#reply(frame, this.#answerTo(question))));
  }

  /** [RFC 1035 4.1]: the question again, and one address for a question about addresses. */
  #answerTo(question: Buffer): Buffer {
    const end = question.indexOf(0, 12) + 5;
    const isAddress = question.readUInt16BE(end - 4) === TYPE_A;
    const head = Buffer.from(question.subarray(0, 12));
    head.writeUInt16BE(0x8180, 2);
    head.writeUInt16BE(isAddress ? 1 : 0, 6);
    head.fill(0, 8);
    const record = Buffer.from('c00c000100010000000a0004', 'hex');
    const address = Buffer.from(
      this.answer(this.questions.length - 1)
        .split('.')
        .map(Number),
    );
    return Buffer.concat([head, question.subarray(12, end), ...(isAddress ? [record, address] : [])]);
  }

  #reply(frame: Buffer, payload: Buffer): Buffer {
    const reply = Buffer.concat([frame.subarray(0, ETHERNET + IP + UDP), payload]);
    frame.copy(reply, 0, 6, 12);
    this.#ownMac().copy(reply, 6);
    frame.copy(reply, 26, 30, 34);
    frame.copy(reply, 30, 26, 30);
    reply.writeUInt16BE(IP + UDP + payload.length, 16);
    reply.writeUInt16BE(internetChecksum(reply), 24);
    frame.copy(reply, ETHERNET + IP, ETHERNET + IP + 2, ETHERNET + IP + 4);
    frame.copy(reply, ETHERNET + IP + 2, ETHERNET + IP, ETHERNET + IP + 2);
    reply.writeUInt16BE(UDP + payload.length, ETHERNET + IP + 4);
    // Zero: none was computed [RFC 768].
    reply.writeUInt16BE(0, ETHERNET + IP + 6);
    return reply;
  }
}

/** Of the IPv4 header, its own field taken as zero [RFC 1071]. */
function internetChecksum(frame: Buffer): number {
  let sum = 0;
  for (let at = ETHERNET; at < ETHERNET + IP; at += 2) if (at !== 24) sum += frame.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}
