import { failed, ok, type Result } from '../base/result.ts';
import type { Message } from '../ft/message.ts';
import { decodeMessage } from '../ft/message-codec.ts';
import { FRAME_BODY_MAX_BYTES, FrameReader } from '../replay/frame.ts';

/** Until the other side has said who it is, no frame may be longer than a greeting. */
const GREETING_MAX_BYTES = 4096;

/**
 * Bytes to messages, without resynchronising: what is wrong ends the stream before any of it is given out. The
 * first message has to be the greeting that binds the connection.
 */
export class MessageStream {
  readonly #greeting: 'hello' | 'welcome';
  readonly #reader = new FrameReader(GREETING_MAX_BYTES);
  #greeted = false;

  constructor(greeting: 'hello' | 'welcome') {
    this.#greeting = greeting;
  }

  get greeted(): boolean {
    return this.#greeted;
  }

  /** Every whole message in the bytes so far; an error stands for all that follows. */
  push(chunk: Uint8Array): Result<readonly Message[]> {
    this.#reader.push(chunk);
    const messages: Message[] = [];
    for (;;) {
      const frame = this.#reader.next();
      if (!frame.ok) return frame;
      if (!frame.value) return ok(messages);
      const message = decodeMessage(frame.value);
      if (!message.ok) return message;
      const refused = message.value.kind === 'over' || message.value.kind === this.#greeting;
      if (!this.#greeted && !refused) return failed(`${message.value.kind} before ${this.#greeting}`);
      this.#greeted = true;
      this.#reader.bodyMax = FRAME_BODY_MAX_BYTES;
      messages.push(message.value);
    }
  }
}
