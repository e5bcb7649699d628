import { HEAD_WORDS, OPERATION } from './guest.ts';
import { bytesOf, wordsOf } from './words.ts';
import type { World } from './world.ts';

const RETRY_MS = 45;
const THINK_MS = 6;

/**
 * A client: one request at a time, sent again until it is answered. It remembers everything it was told, and says
 * when an answer contradicts that: a counter that does not go on by one, a value read that was overwritten by an
 * acknowledged one or never written.
 */
export class Client {
  readonly #world: World;
  readonly #number: number;
  #id = 0;
  #operation = 0;
  #argument = 0;
  #sentAt = 0;
  #waiting = false;
  #counter = 0;
  #value = 0;
  answers = 0;
  /** The longest that an answer took, in milliseconds. */
  longest = 0;
  #askedAt = 0;

  constructor(world: World, number: number) {
    this.#world = world;
    this.#number = number;
  }

  get waitingSince(): number | undefined {
    return this.#waiting ? this.#askedAt : undefined;
  }

  start(): void {
    this.#nextSoon();
  }

  /** A frame of the guest arrived here. */
  receive(frame: Uint8Array): void {
    const words = wordsOf(frame);
    const [client, id, value = 0] = [words[HEAD_WORDS], words[HEAD_WORDS + 1], words[HEAD_WORDS + 2]];
    if (client !== this.#number || id !== this.#id || !this.#waiting) return;
    this.#waiting = false;
    this.answers += 1;
    this.longest = Math.max(this.longest, this.#world.now - this.#askedAt);
    this.#judge(value);
    this.#nextSoon();
  }

  #judge(value: number): void {
    const name = `client ${this.#number}`;
    const { world } = { world: this.#world };
    if (this.#operation === OPERATION.count) {
      if (value !== this.#counter + 1)
        world.violated(
          'nothing acknowledged is lost',
          `${name} was told ${this.#counter} and then ${value} by its counter`,
        );
      this.#counter = value;
    } else if (this.#operation === OPERATION.put) {
      if (value !== this.#argument)
        world.violated(
          'nothing acknowledged is lost',
          `${name} wrote ${this.#argument} and was told ${value}`,
        );
      this.#value = value;
    } else if (value !== this.#value) {
      world.violated(
        'nothing acknowledged is lost',
        `${name} had ${this.#value} acknowledged and reads ${value}`,
      );
    }
  }

  #nextSoon(): void {
    const { world } = { world: this.#world };
    world.schedule(world.random.between(0.2, 2 * THINK_MS), () => this.#next());
  }

  #next(): void {
    const { random } = this.#world;
    this.#id += 1;
    const kind = random.below(8);
    this.#operation = kind < 3 ? OPERATION.count : kind < 6 ? OPERATION.put : OPERATION.get;
    this.#argument = this.#id;
    this.#waiting = true;
    this.#askedAt = this.#world.now;
    this.#send();
  }

  #send(): void {
    this.#sentAt = this.#world.now;
    const id = this.#id;
    this.#world.network.toGuest(bytesOf(Int32Array.of(this.#number, id, this.#operation, this.#argument)));
    this.#world.schedule(RETRY_MS, () => {
      if (this.#waiting && this.#id === id && this.#world.now - this.#sentAt >= RETRY_MS - 1) this.#send();
    });
  }
}
