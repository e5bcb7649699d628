import { failed, ok, type Result } from '../base/result.ts';
import type { Epoch, VmId } from '../ft/identity.ts';
import type { Message } from '../ft/message.ts';
import { decodeMessage } from '../ft/message-codec.ts';
import { FRAME_BODY_MAX_BYTES, FRAME_TAG, type Frame, FrameReader } from '../replay/frame.ts';
import { BATCH_MAX_BYTES, inflatedBatch } from './compressed-batch.ts';

/** Until the other side has said who it is, no frame may be longer than a greeting. */
const GREETING_MAX_BYTES = 4096;

/** What a secure session is for: a greeting that names anything else is refused. */
export interface Binding {
  readonly vm: VmId;
  readonly generation: Epoch;
}

/**
 * Bytes to messages, without resynchronising: what is wrong ends the stream before any of it is given out. The
 * first message has to be the greeting that binds the connection.
 */
export class MessageStream {
  readonly #greeting: 'hello' | 'welcome';
  readonly #binding: Binding | undefined;
  readonly #reader = new FrameReader(GREETING_MAX_BYTES);
  #greeted = false;
  #failure: string | undefined;

  constructor(greeting: 'hello' | 'welcome', binding?: Binding) {
    this.#greeting = greeting;
    this.#binding = binding;
  }

  get greeted(): boolean {
    return this.#greeted;
  }

  /** Every whole message in the bytes so far; an error stands for all that follows. */
  push(chunk: Uint8Array): Result<readonly Message[]> {
    if (this.#failure !== undefined) return failed(this.#failure);
    const messages = this.#read(chunk);
    if (!messages.ok) this.#failure = messages.error;
    return messages;
  }

  #read(chunk: Uint8Array): Result<readonly Message[]> {
    this.#reader.push(chunk);
    const messages: Message[] = [];
    for (;;) {
      const frame = this.#reader.next();
      if (!frame.ok) return frame;
      if (!frame.value) return ok(messages);
      const taken =
        frame.value.tag === FRAME_TAG.compressed
          ? this.#batch(frame.value.body, messages)
          : this.#message(frame.value, messages);
      if (!taken.ok) return taken;
    }
  }

  /** A batch holds whole frames, none of them a batch, and is never first. */
  #batch(compressed: Uint8Array, messages: Message[]): Result<undefined> {
    if (!this.#greeted) return failed(`a compressed batch before ${this.#greeting}`);
    const frames = inflatedBatch(compressed);
    if (!frames.ok) return frames;
    const reader = new FrameReader(BATCH_MAX_BYTES);
    reader.push(frames.value);
    for (;;) {
      const frame = reader.next();
      if (!frame.ok) return frame;
      if (!frame.value) break;
      const taken = this.#message(frame.value, messages);
      if (!taken.ok) return taken;
    }
    return reader.atFrameBoundary ? ok(undefined) : failed('a compressed batch ends within a frame');
  }

  #message(frame: Frame, messages: Message[]): Result<undefined> {
    const message = decodeMessage(frame);
    if (!message.ok) return message;
    const kind = message.value.kind === 'other-version' ? message.value.greeting : message.value.kind;
    if (!this.#greeted && kind !== 'over' && kind !== this.#greeting)
      return failed(`${kind} before ${this.#greeting}`);
    if ('vm' in message.value && !this.#fits(message.value))
      return failed(`${kind} of another VM or generation than its session`);
    this.#greeted = true;
    this.#reader.bodyMax = FRAME_BODY_MAX_BYTES;
    messages.push(message.value);
    return ok(undefined);
  }

  #fits({ vm, generation }: Binding): boolean {
    return !this.#binding || (vm === this.#binding.vm && generation === this.#binding.generation);
  }
}
