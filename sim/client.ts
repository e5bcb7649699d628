import { HEAD_WORDS, OPERATION } from './guest.ts';
import { bytesOf, wordsOf } from './words.ts';
import type { World } from './world.ts';

const RETRY_MS = 45;
const THINK_MS = 6;
const PATIENCE_MS = 80;

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
  /** What its block may hold: more than one value while it does not know whether a write took effect. */
  #possible: readonly number[] = [0];
  #life = 0;
  /** What it asks next, out of turn: after a reboot it looks whether everything is there. */
  #checks: number[] = [];
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
    // A guest that was booted again has lost its memory, and nothing that it acknowledged as written.
    const life = words[HEAD_WORDS - 1]!;
    if (life > this.#life) {
      this.#counter = 0;
      this.#checks = [OPERATION.get, OPERATION.peek];
    }
    this.#life = Math.max(this.#life, life);
    this.#waiting = false;
    this.answers += 1;
    this.longest = Math.max(this.longest, this.#world.now - this.#askedAt);
    this.#judge(value, life < this.#life);
    this.#nextSoon();
  }

  #judge(value: number, late: boolean): void {
    const name = `client ${this.#number}`;
    const world = this.#world;
    if (this.#operation === OPERATION.count && late) return;
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
      this.#possible = [value];
    } else {
      if (!this.#possible.includes(value))
        world.violated(
          'nothing acknowledged is lost',
          `${name} reads ${value}, and its block can only hold ${this.#possible.join(' or ')}`,
        );
      // What was read once is the truth from then on.
      this.#possible = [value];
    }
  }

  #nextSoon(): void {
    const world = this.#world;
    world.schedule(world.random.between(0.2, 2 * THINK_MS), () => this.#next());
  }

  #next(): void {
    if (this.#world.silent) return;
    const { random } = this.#world;
    this.#id += 1;
    const kind = random.below(9);
    this.#operation =
      this.#checks.shift() ??
      (kind < 3 ? OPERATION.count : kind < 6 ? OPERATION.put : kind < 8 ? OPERATION.get : OPERATION.peek);
    this.#argument = this.#id;
    this.#waiting = true;
    this.#askedAt = this.#world.now;
    this.#send();
  }

  /** It asks for so long only; then it does not know, and reads. */
  #giveUp(): void {
    if (this.#operation === OPERATION.put) this.#possible = [...this.#possible, this.#argument];
    if (this.#operation === OPERATION.count) return;
    this.#id += 1;
    this.#operation = this.#world.random.chance(0.5) ? OPERATION.get : OPERATION.peek;
  }

  #send(): void {
    if (this.#world.silent && !this.#waiting) return;
    if (this.#world.now - this.#askedAt > PATIENCE_MS && this.#world.random.chance(0.3)) this.#giveUp();
    this.#sentAt = this.#world.now;
    const id = this.#id;
    this.#world.network.toGuest(bytesOf(Int32Array.of(this.#number, id, this.#operation, this.#argument)));
    this.#world.schedule(RETRY_MS, () => {
      if (this.#waiting && this.#id === id && this.#world.now - this.#sentAt >= RETRY_MS - 1) this.#send();
    });
  }
}
