import { describe, expect, it } from 'vitest';
import { expectAgreement } from './agreement.ts';
import { REG } from './assembler.ts';
import {
  A,
  CODE,
  D,
  DATA,
  DIRECTORY,
  type GuestImage,
  guestWith,
  LARGE,
  LOW_TABLE,
  NX,
  P,
  PAGE,
  PDPT,
  PS,
  RESUME,
  U,
  W,
  WINDOW,
  WINDOW_TABLE,
} from './small-guest.ts';

/**
 * A repeated string that fills pages of tables or of code does it in bulk where nobody can tell. Whatever it
 * overwrites, it is the same for every budget: what an iteration changes is in force at the next one.
 */

const { rax, rbx, rcx, rdx, rsi, rdi } = REG;
const REP_STOSQ = [0xf3, 0x48, 0xab];
const REP_MOVSQ = [0xf3, 0x48, 0xa5];
const NOP = 0x90;
/** Where the handlers go on: a page that the tests leave mapped. */
const AFTER = 0xf000;
/** The first GiB once more, through one page that only the level above knows. */
const HUGE = 0x4000_0000;

/** A guest that ends at AFTER, whatever happens to its code. */
function guestThatStops(write: Parameters<typeof guestWith>[0]): GuestImage {
  const { image } = guestWith(write);
  image.code(AFTER, (out) => out.set(rbx, 77).hlt());
  image.view.setUint32(RESUME, AFTER, true);
  image.entry64(PDPT, 1, P | W | PS);
  return image;
}

describe('a repeated string over the tables that its own code is fetched through', () => {
  it('faults at the iteration behind the one that takes its page away', () => {
    for (const down of [false, true]) {
      const entry = (CODE >> 12) + (down ? 3 : 0);
      const image = guestThatStops((out) => {
        out
          .load(rdx, { displacement: LARGE + DATA })
          .set(rax, 0)
          .set(rcx, 20);
        out.set(rdi, LARGE + LOW_TABLE + entry * 8);
        if (down) out.raw(0xfd); // std
        out.raw(...REP_STOSQ).hlt();
      });
      const machine = expectAgreement(image, 60);
      expect(machine.log).toMatchObject([{ vector: 14, errorCode: 0x10 }]);
      expect([machine.register(rcx), machine.register(rbx)]).toEqual([down ? 16n : 19n, 77n]);
    }
  });

  it('notices it in the directory above too', () => {
    const image = guestThatStops((out) => {
      out
        .set(rdi, HUGE + DIRECTORY)
        .load(rdx, { base: rdi })
        .set(rsi, HUGE + DATA)
        .set(rcx, 64);
      out.raw(...REP_MOVSQ).hlt();
    });
    // Entry 0 is as it was, but not to be executed.
    image.put(DATA, image.ram.slice(DIRECTORY, DIRECTORY + PAGE));
    image.entry64(DATA, 0, BigInt(LOW_TABLE) | P | W | U | A | NX);
    // The handler cannot be fetched either: the guest stops for good, at the second iteration.
    expect(expectAgreement(image, 60).register(rcx)).toBe(63n);
  });

  it('notices it when a table before that one was known at more than one place', () => {
    const M = 0x5_0000;
    const image = guestThatStops((out) => {
      out.load(rdx, { displacement: WINDOW }).load(rdx, { displacement: WINDOW + PAGE });
      out.set(rax, 0x60_0000).load(rdx, { base: rax }).set(rax, 0x80_0000).load(rdx, { base: rax });
      out
        .set(rsi, WINDOW + 3 * PAGE - 64)
        .set(rdi, WINDOW + PAGE - 64)
        .set(rcx, 8 + 64)
        .raw(...REP_MOVSQ)
        .hlt();
    });
    image.window(0, M, P | W);
    image.window(1, LOW_TABLE, P | W);
    image.window(2, DATA, P);
    image.window(3, DATA + PAGE, P);
    for (const entry of [3, 4]) image.entry64(DIRECTORY, entry, BigInt(M) | P | W);
    image.entry64(M, 0, BigInt(DATA) | P);
    image.entry64(M, 511, BigInt(DATA) | P);
    image.put(DATA + PAGE, image.ram.slice(LOW_TABLE, LOW_TABLE + PAGE));
    for (let page = 0; page < 16; page++)
      image.entry64(DATA + PAGE, page, BigInt(page * PAGE) | P | W | A | D);
    image.entry64(DATA + PAGE, CODE >> 12, BigInt(CODE) | P | W | NX);
    const machine = expectAgreement(image, 100);
    expect(machine.log[0]).toMatchObject({ vector: 14, errorCode: 0x11 });
    expect([machine.register(rcx), machine.register(rbx)]).toEqual([64n - 17n, 77n]);
  });
});

describe('a repeated string over tables of others', () => {
  it('has changed the translation when it is over, however it was cut', () => {
    const { image } = guestWith((out) => {
      out.load(rdx, { displacement: WINDOW + 5 * PAGE }).set(rax, (DATA + PAGE) | 3);
      out
        .set(rdi, LARGE + WINDOW_TABLE)
        .set(rcx, 40)
        .raw(...REP_STOSQ);
      out.load(rbx, { displacement: WINDOW + 5 * PAGE }).hlt();
    });
    image.window(5, DATA, P | W);
    image.view.setBigUint64(DATA, 5n, true);
    image.view.setBigUint64(DATA + PAGE, 6n, true);
    const machine = expectAgreement(image, 4 + 40 + 2);
    expect([machine.register(rdx), machine.register(rbx)]).toEqual([5n, 6n]);
  });
});

describe('a repeated string over code', () => {
  /** RET at DATA is called, then the page of it is overwritten; RCX elements from WINDOW page 0 or of RAX. */
  const over = (string: readonly number[], down: boolean, target: number) => {
    const { image } = guestWith((out) => {
      out.set(rbx, DATA).raw(0xff, 0xd3); // call rbx
      out.set(rax, 0xc3_c2_ff_48n | (0x9090_9090n << 32n)); // inc rdx; ret; nop ...
      out
        .set(rsi, down ? DATA + 2 * PAGE - 8 : DATA + PAGE)
        .set(rdi, target)
        .set(rcx, 200);
      if (down) out.raw(0xfd);
      out
        .raw(...string)
        .raw(0xff, 0xd3)
        .hlt();
    });
    image.put(DATA, Uint8Array.of(0xc3));
    for (let at = 0; at < PAGE; at += 8)
      image.put(DATA + PAGE + at, Uint8Array.of(0x48, 0xff, 0xc2, 0xc3, NOP, NOP, NOP, NOP));
    return expectAgreement(image, 3 + 4 + (down ? 1 : 0) + 200 + 4);
  };

  it('replaces it at once, upward and downward', () => {
    for (const string of [REP_STOSQ, REP_MOVSQ]) {
      expect(over(string, false, DATA).register(rdx)).toBe(1n);
      expect(over(string, true, DATA + 100 * 8).register(rdx)).toBe(1n);
    }
  });

  it('replaces what stands behind it when it crosses into that page', () => {
    const { image } = guestWith((out) => {
      out
        .set(rax, 0x9090_9090_9090_9090n)
        .set(rcx, 100)
        .set(rdi, CODE + PAGE)
        .jump('string');
      out
        .padTo(CODE + PAGE - 1)
        .label('string')
        .raw(...REP_STOSQ);
      for (let index = 0; index < 200; index++) out.inc(rdx);
      out.inc(rbx).hlt();
    });
    // F3 and then NOP: the first iteration is its last.
    expect(expectAgreement(image, 4 + 1 + 1 + 7 + 3 * 198).register(rcx)).toBe(99n);
  });
});
