import { describe, expect, it } from 'vitest';
import { expectAgreement } from './agreement.ts';
import { CONDITION, REG } from './assembler.ts';
import { DATA, guestWith, P, PAGE, W, WINDOW } from './small-guest.ts';

/** Compiled code looks the page of RBP and RSP up once, as long as accesses stay in it. */

const { rax, rbx, rcx, rdx, rbp, rsp } = REG;
const LOOPS = 20;

describe('an access by RBP or RSP over the end of a page', () => {
  // Two pages of the window that are neighbours there and not in memory; the second one was looked up last.
  const FIRST = DATA + 4 * PAGE;
  const SECOND = DATA;

  it('reads what is at the end of the page before the one that was looked up', () => {
    for (const size of [2, 4, 8] as const) {
      const { image } = guestWith((out) => {
        out
          .set(rbp, WINDOW + PAGE)
          .set(rcx, LOOPS)
          .set(rbx, 0)
          .set(rax, 0)
          .label('loop');
        out.load(rdx, { base: rbp, displacement: 0 });
        out.load(rax, { base: rbp, displacement: -1 }, size).alu(0, rbx, rax);
        out.dec(rcx).jumpIf(CONDITION.ne, 'loop').hlt();
      });
      image.window(0, FIRST, P | W);
      image.window(1, SECOND, P | W);
      image.ram.fill(0x55, FIRST - 16, FIRST + 2 * PAGE);
      image.ram.fill(0x11, SECOND - 16, SECOND + 16);
      const machine = expectAgreement(image, 4 + LOOPS * 5);
      const once = BigInt.asUintN(size * 8, 0x1111_1111_1111_1155n);
      expect(machine.register(rbx)).toBe(BigInt.asUintN(64, once * BigInt(LOOPS)));
    }
  });

  it('writes there', () => {
    const { image } = guestWith((out) => {
      out
        .set(rsp, WINDOW + PAGE + 4)
        .set(rcx, LOOPS)
        .set(rax, 0x1111_2222_3333_4444n)
        .label('loop');
      out.storeImmediate({ base: rsp, displacement: 12 }, 7, 8).push(rax).pop(rbx);
      out.dec(rcx).jumpIf(CONDITION.ne, 'loop').hlt();
    });
    image.window(0, FIRST, P | W);
    image.window(1, SECOND, P | W);
    const machine = expectAgreement(image, 3 + LOOPS * 5);
    expect([FIRST + PAGE - 4, SECOND, SECOND - 4].map((at) => machine.read64(at) & 0xffff_ffffn)).toEqual([
      0x3333_4444n,
      0x1111_2222n,
      0n,
    ]);
  });
});
