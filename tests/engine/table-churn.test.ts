import { describe, expect, it } from 'vitest';
import type { EngineOptions } from '../../src/machine/config.ts';
import { EAGER } from './agreement.ts';
import { ALU, type Assembler, CONDITION, REG } from './assembler.ts';
import { Random } from './random.ts';
import {
  DIRECTORY,
  type GuestImage,
  GuestMachine,
  guestWith,
  LARGE,
  P,
  PAGE,
  PML4,
  W,
  WINDOW,
  WINDOW_TABLE,
} from './small-guest.ts';

/**
 * Random guests whose loops change page tables, by every kind of store and through every alias, between and within
 * the code that hangs on them.
 */

const { rax, rbx, rcx, rdx, rsi, rdi, rsp, r8, r12 } = REG;
const r15 = REG.r15;
/** Window pages: the table itself, data, code. */
const SELF = 0;
const DATA_PAGES = [1, 2, 3];
const CODE_PAGES = [4, 5, 6, 7];
/** Where they are in memory: each has two places to be. */
const place = (page: number, which: number) => 0x5_0000 + (page * 2 + which) * PAGE;
const SAVED = 0x7_0000;
const OTHER_TABLE = 0x7_1000;
const OTHER_ROOT = 0x7_2000;
const SAVED_CODE = 0x8_0000;
const COUNTS = 2600;
const SEEDS = 8;

function churn(seed: number): GuestImage {
  const random = new Random(seed * 2654435761);
  const { image } = guestWith((out) => {
    const actions = new Actions(random, out, undefined);
    out.set(r12, 14).set(r15, 0).label('loop');
    for (let count = 6 + random.below(8); count > 0; count--) actions.write();
    out.label('resume').dec(r12).jumpIf(CONDITION.ne, 'loop').hlt();
  });
  image.window(SELF, WINDOW_TABLE, P | W);
  for (const page of [...DATA_PAGES, ...CODE_PAGES]) image.window(page, place(page, 0), P | W);
  for (const page of CODE_PAGES) {
    for (const which of [0, 1]) {
      image.code(place(page, which), (out) => {
        // The same in both but for constants, so that what goes on in the other one is an instruction.
        const actions = new Actions(new Random(page * 7919 + seed), out, page);
        out.aluImmediate(ALU.add, r15, 1 + page * 2 + which);
        for (let count = 1 + (page % 3); count > 0; count--) actions.write();
        out.aluImmediate(ALU.xor, r15, 0x11 * (which + 1)).raw(0xc3);
      });
    }
  }
  image.put(SAVED_CODE, image.ram.slice(0x5_0000, 0x6_0000));
  image.put(SAVED, image.ram.slice(WINDOW_TABLE, WINDOW_TABLE + PAGE));
  image.put(OTHER_TABLE, image.ram.slice(WINDOW_TABLE, WINDOW_TABLE + PAGE));
  for (const page of DATA_PAGES) image.entry64(OTHER_TABLE, page, BigInt(place(page, 1)) | P | W);
  image.put(OTHER_ROOT, image.ram.slice(PML4, PML4 + PAGE));
  return image;
}

class Actions {
  readonly #random: Random;
  readonly #out: Assembler;
  /** The window page that the code is in: it calls nobody. */
  readonly #inside: number | undefined;

  constructor(random: Random, out: Assembler, inside: number | undefined) {
    this.#random = random;
    this.#out = out;
    this.#inside = inside;
  }

  #table(): number {
    return [WINDOW_TABLE, LARGE + WINDOW_TABLE, WINDOW + SELF * PAGE][this.#random.below(3)]!;
  }

  #entry(page: number): { displacement: number } {
    return { displacement: this.#table() + page * 8 };
  }

  write(): void {
    const random = this.#random;
    const out = this.#out;
    const inside = this.#inside;
    const page = DATA_PAGES[random.below(DATA_PAGES.length)]!;
    const code =
      inside !== undefined && random.below(2) === 0 ? inside : CODE_PAGES[random.below(CODE_PAGES.length)]!;
    const other = place(page, 0) ^ place(page, 1);
    const offset = [0, 8, 0x100, 0xffc, 0xff8][random.below(5)]!;
    const address = { displacement: WINDOW + page * PAGE + offset };
    switch (random.below(inside === undefined ? 18 : 15)) {
      case 0:
        out.set(rax, other).alu(ALU.xor, this.#entry(page), rax);
        return;
      case 1:
        out.set(rax, place(code, 0) ^ place(code, 1)).alu(ALU.xor, this.#entry(code), rax);
        return;
      case 2:
        out.set(rax, BigInt(place(code, random.below(2))) | P | W).op([0x87], rax, this.#entry(code)); // xchg
        return;
      case 3:
        out.load(rdx, address).alu(ALU.add, r15, rdx);
        return;
      case 4:
        out.inc(address);
        return;
      case 5:
        out.store(address, r15);
        return;
      case 6:
        out.op([0x80], 4, this.#entry(random.below(2) === 0 ? page : code), 1, { behind: 1 }).raw(0x9f); // and byte
        return;
      case 7: {
        // Present or not.
        out.aluImmediate(ALU.xor, this.#entry(page), 1, 4);
        return;
      }
      case 8:
        // The entry is pushed.
        out.mov(rbx, rsp).set(rax, BigInt(place(page, random.below(2))) | P | W);
        out
          .set(rsp, this.#table() + page * 8 + 8)
          .push(rax)
          .mov(rsp, rbx);
        return;
      case 9: {
        // Some entries at once, as they were in the beginning.
        const first = random.below(8);
        out
          .set(rsi, SAVED + first * 8)
          .set(rdi, this.#table() + first * 8)
          .set(rcx, 1 + random.below(12));
        out.raw(0xf3, 0x48, 0xa5);
        return;
      }
      case 10:
        out.inc({ displacement: place(code, random.below(2)) + 3 }, 1); // the constant of its first instruction
        return;
      case 11:
        // An entry by a store over the end of the one before.
        out
          .set(rax, BigInt(place(page, random.below(2))) | P | W)
          .store({ displacement: this.#table() + page * 8 }, rax, 4);
        return;
      case 12: {
        // A function as it was in the beginning, upward or downward.
        const [at, down] = [(code * 2 + random.below(2)) * PAGE, random.below(2) === 0];
        const last = down ? 256 - 8 : 0;
        out
          .set(rsi, SAVED_CODE + at + last)
          .set(rdi, 0x5_0000 + at + last)
          .set(rcx, 32);
        if (down) out.raw(0xfd);
        out.raw(0xf3, 0x48, 0xa5, 0xfc);
        return;
      }
      case 13:
        // Entries that nobody needs, and one of the directory's.
        out
          .set(rdi, this.#table() + 8 * 8)
          .set(rax, 0)
          .set(rcx, 1 + random.below(60))
          .raw(0xf3, 0x48, 0xab);
        return;
      case 14:
        // Over the end of a page, into the table and out of it.
        out.inc({ displacement: WINDOW + (random.below(2) === 0 ? PAGE - 2 : 3 * PAGE - 3) }, 4);
        return;
      case 15:
        out.set(rsi, WINDOW + code * PAGE).raw(0xff, 0xd6); // call rsi
        out.set(rsi, WINDOW + code * PAGE).raw(0xff, 0xd6);
        return;
      case 16:
        out.set(rax, WINDOW_TABLE ^ OTHER_TABLE).alu(ALU.xor, { displacement: DIRECTORY + 8 }, rax);
        return;
      default:
        out.set(r8, random.below(2) === 0 ? PML4 : OTHER_ROOT).setCr3(r8);
    }
  }
}

const WAYS: readonly [EngineOptions, number, 'forgets'?][] = [
  [{ engine: 'interpreter', tlbEntries: 16 }, 23, 'forgets'],
  [{ engine: 'oracle' }, 23],
  [{ engine: 'interpreter', tlbEntries: 16 }, COUNTS],
  [{ engine: 'interpreter', tlbEntries: 1024 }, 7],
  [{ tlbEntries: 64, jit: EAGER }, COUNTS],
  [{ tlbEntries: 16, jit: { ...EAGER, shake: 5 } }, 60],
];

describe('a guest that changes its page tables', () => {
  // Made once: each keeps the caches of the guests before.
  const machines = WAYS.map(([options]) => new GuestMachine(options));
  const reference = new GuestMachine({ engine: 'interpreter', tlbEntries: 256 });
  let long = 0;

  it.each(Array.from({ length: SEEDS }, (_, seed) => seed))(
    'is the same in every engine: seed %i',
    (seed) => {
      const image = churn(seed);
      reference.load(image);
      for (let count = 1; count <= COUNTS && reference.runTo(count); count++);
      if (reference.count > 300n) long++;
      const digest = reference.digest();
      WAYS.forEach(([options, piece, forgets], index) => {
        const machine = machines[index]!;
        machine.load(image);
        for (let count = piece; machine.runTo(Math.min(count, COUNTS)) && count < COUNTS; count += piece)
          if (forgets) machine.forget();
        const what = `${JSON.stringify(options)} in pieces of ${piece}`;
        expect([machine.count, machine.digest()], what).toEqual([reference.count, digest]);
      });
    },
  );

  it('comes far enough in most cases', () => {
    expect(long).toBeGreaterThan(SEEDS / 2);
  });
});
