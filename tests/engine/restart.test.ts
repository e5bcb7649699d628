import { describe, expect, it } from 'vitest';
import { expectAgreement } from './agreement.ts';
import { CONDITION, REG } from './assembler.ts';
import { CODE, DATA, GuestImage, guestWith, P, PAGE, W, WINDOW, WINDOW_TABLE } from './small-guest.ts';

/** An instruction that has to run alone is made as if it had begun alone. */

const { rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp } = REG;

describe('an instruction that has to run alone', () => {
  it('has not overwritten what it reads: ENTER into code, over its own frame links', () => {
    const page = DATA + PAGE;
    const { image } = guestWith((out) => {
      out.set(rbx, page - 32).raw(0xff, 0xd3); // call rbx: there is code in the last bytes of the page
      out.set(rsp, page + 24).set(rbp, page + 8);
      out.raw(0xc8, 0, 0, 3).hlt(); // enter 0, 3
    });
    image.put(page - 32, Uint8Array.of(0xc3));
    image.view.setBigUint64(page, 0x1111n, true);
    image.view.setBigUint64(page - 8, 0x2222n, true);
    const machine = expectAgreement(image, 7);
    expect([16, 8, 0, -8].map((at) => machine.read64(page + at))).toEqual([
      BigInt(page + 8),
      0x1111n,
      0x2222n,
      BigInt(page + 16),
    ]);
  });

  it('leaves the tables of its block watched, when it stores twice into one that is stored to often', () => {
    // Code in window page 7; its table is at window pages 0 and 1, and stored to `before` times. Then one store over
    // the end of the one into the other, and in the same block the code's own entry changes.
    for (const before of [126, 127, 128]) {
      const image = new GuestImage();
      image.loggingHandlers();
      image.code(CODE, (out) =>
        out
          .set(rbx, WINDOW + 7 * PAGE)
          .set(rsi, 0)
          .raw(0xff, 0xe3),
      );
      image.window(0, WINDOW_TABLE, P | W);
      image.window(1, WINDOW_TABLE, P | W);
      image.window(7, DATA, P | W);
      image.code(DATA, (out) => {
        out.set(rdi, WINDOW_TABLE).set(rcx, before).set(rdx, 64).label('loop');
        out.raw(0x48, 0x89, 0xb4, 0xd7).u32(0); // mov [rdi + rdx * 8], rsi: an entry that is not present
        out.inc(rdx).dec(rcx).jumpIf(CONDITION.ne, 'loop');
        out.set(rax, BigInt(DATA + PAGE) | P | W);
        out.load(rdx, { displacement: WINDOW }, 4).raw(0x48, 0xc1, 0xe2, 32); // shl rdx, 32
        out
          .store({ displacement: WINDOW + PAGE - 4 }, rdx)
          .store({ displacement: WINDOW_TABLE + 7 * 8 }, rax);
        out.inc(rbp).hlt();
      });
      image.put(DATA + PAGE, image.ram.slice(DATA, DATA + PAGE));
      const other = image.ram.subarray(DATA + PAGE, DATA + PAGE + 256);
      other[other.findIndex((byte, index) => byte === 0xff && other[index + 1] === 0xc5) + 1] = 0xc3;
      const machine = expectAgreement(image, 3 + 3 + before * 4 + 5 + 2);
      expect([machine.register(rbp), machine.register(rbx)]).toEqual([0n, BigInt(WINDOW + 7 * PAGE) + 1n]);
    }
  });
});
