import { describe, expect, it } from 'vitest';
import { expectAgreement } from './agreement.ts';
import { type Assembler, REG } from './assembler.ts';
import { A, D, type GuestImage, guestWith, P, PAGE, PML4, PML4_B, W } from './small-guest.ts';

/**
 * Address spaces with equal upper entries in their roots share what is known of the code there (docs/ENGINE.md). Each
 * test makes two of them alike and then different, in one of the ways in which that can come about, and runs code at
 * the same upper address in both.
 */

const { rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, rsp } = REG;
const PDPT = [0x5_0000, 0x5_3000] as const;
const DIRECTORY = [0x5_1000, 0x5_4000] as const;
const TABLE = [0x5_2000, 0x5_5000] as const;
/** Code pages: inc rbx; ret, and inc rcx; ret. */
const PAGES = [0x5_6000, 0x5_7000] as const;
const THIRD_ROOT = 0x5_8000;
const SLOT = 300;
const HIGH = 0xffff_9600_0000_0000n;
const SET = P | W | A | D;

/** Two tables' worth of upper half: the first leads to the first page of code, the second to the second. */
function mapped(image: GuestImage): void {
  for (const which of [0, 1] as const) {
    image.entry64(PDPT[which], 0, BigInt(DIRECTORY[which]) | SET);
    image.entry64(DIRECTORY[which], 0, BigInt(TABLE[which]) | SET);
    image.entry64(TABLE[which], 0, BigInt(PAGES[which]) | SET);
  }
  image.put(PAGES[0], Uint8Array.of(0x48, 0xff, 0xc3, 0xc3));
  image.put(PAGES[1], Uint8Array.of(0x48, 0xff, 0xc1, 0xc3));
}

/** Code with the subroutine `go`, which jumps to rsi; rdx and rdi are the two roots, rbx and rcx count. */
function guest(write: (out: Assembler) => void): { image: GuestImage } {
  const { image } = guestWith((out) => {
    out.set(rdx, PML4).set(rdi, PML4_B).set(rsi, HIGH).set(rbx, 0).set(rcx, 0);
    write(out);
    out.hlt().label('go').raw(0xff, 0xe6);
  });
  mapped(image);
  return { image };
}

function setEntry(out: Assembler, table: number, index: number, value: bigint): Assembler {
  return out.set(r8, value).store({ displacement: table + index * 8 }, r8);
}

const counted = (machine: ReturnType<typeof expectAgreement>) =>
  [rbx, rcx].map((register) => Number(machine.register(register)));

describe('code at an upper address', () => {
  it('is the same in both address spaces, and after a change of what both use', () => {
    const { image } = guest((out) => {
      out.call('go').setCr3(rdi).call('go');
      setEntry(out, TABLE[0], 0, BigInt(PAGES[1]) | SET);
      out.call('go').setCr3(rdx).call('go').setCr3(rdi);
      setEntry(out, DIRECTORY[0], 0, BigInt(TABLE[0]) | W | A);
      setEntry(out, TABLE[0], 0, BigInt(PAGES[0]) | SET);
      setEntry(out, DIRECTORY[0], 0, BigInt(TABLE[0]) | SET);
      out.call('go').setCr3(rdx).call('go');
    });
    for (const root of [PML4, PML4_B]) image.entry64(root, SLOT, BigInt(PDPT[0]) | SET);
    expect(counted(expectAgreement(image, 50))).toEqual([4, 2]);
  });

  it('is another one where the entries differ', () => {
    const { image } = guest((out) => {
      for (let round = 0; round < 3; round++) out.setCr3(rdx).call('go').setCr3(rdi).call('go');
    });
    image.entry64(PML4, SLOT, BigInt(PDPT[0]) | SET);
    image.entry64(PML4_B, SLOT, BigInt(PDPT[1]) | SET);
    expect(counted(expectAgreement(image, 42))).toEqual([3, 3]);
  });

  it.each([
    ['while it is in use', true],
    ['while the other is', false],
  ])('is another one when an entry of one is changed %s', (_, inUse) => {
    const { image } = guest((out) => {
      out.call('go').setCr3(rdi).call('go');
      if (!inUse) out.setCr3(rdx).call('go');
      setEntry(out, PML4_B, SLOT, BigInt(PDPT[1]) | SET);
      out
        .call('go')
        .setCr3(inUse ? rdx : rdi)
        .call('go');
      // And back: they are alike once more.
      setEntry(out, PML4_B, SLOT, BigInt(PDPT[0]) | SET);
      out
        .call('go')
        .setCr3(inUse ? rdi : rdx)
        .call('go');
    });
    for (const root of [PML4, PML4_B]) image.entry64(root, SLOT, BigInt(PDPT[0]) | SET);
    expect(counted(expectAgreement(image, inUse ? 39 : 43))).toEqual(inUse ? [5, 1] : [6, 1]);
  });

  it.each([
    ['while it is in use', true],
    ['while the other is', false],
  ])('is missing in the other when an entry of one becomes present %s', (_, inUse) => {
    const { image } = guest((out) => {
      // Both have been found to share what is below.
      out.set(rsi, HIGH).call('go').setCr3(rdi).call('go').setCr3(rdx).call('go');
      if (!inUse) out.setCr3(rdi);
      setEntry(out, PML4, SLOT + 1, BigInt(PDPT[1]) | SET);
      if (!inUse) out.setCr3(rdx);
      out
        .set(rsi, HIGH + (1n << 39n))
        .mov(rbp, rsp)
        .call('go')
        .call('go')
        .setCr3(rdi)
        .call('go')
        .inc(rbx);
      out.label('resume').mov(rsp, rbp);
    });
    for (const root of [PML4, PML4_B]) image.entry64(root, SLOT, BigInt(PDPT[0]) | SET);
    const machine = expectAgreement(image, 80);
    expect(counted(machine)).toEqual([3, 2]);
    expect(machine.log.map(({ vector, errorCode, cr2 }) => [vector, errorCode, cr2])).toEqual([
      [14, 0x10, HIGH + (1n << 39n)],
    ]);
  });

  it('marks the entries of both as accessed', () => {
    const { image } = guest((out) => {
      out
        .call('go')
        .load(rax, { displacement: PML4_B + SLOT * 8 })
        .setCr3(rdi)
        .call('go');
    });
    for (const root of [PML4, PML4_B]) image.entry64(root, SLOT, BigInt(PDPT[0]) | P | W);
    const machine = expectAgreement(image, 20);
    expect(counted(machine)).toEqual([2, 0]);
    expect(machine.register(rax) & A).toBe(0n);
    for (const root of [PML4, PML4_B]) expect(machine.read64(root + SLOT * 8) & A).toBe(A);
  });

  it('follows a root that is copied, used, rewritten and used again', () => {
    const { image } = guest((out) => {
      out.raw(0xfc).mov(rbp, rdi);
      const copy = () => {
        out.set(rsi, PML4).set(rdi, THIRD_ROOT).set(r8, 0).mov(rax, rcx).set(rcx, 512).raw(0xf3, 0x48, 0xa5);
        out.mov(rcx, rax).set(rsi, HIGH).set(rax, THIRD_ROOT);
      };
      copy();
      out.call('go').setCr3(rax).call('go').setCr3(rbp).call('go');
      // While it is not in use it becomes zeroes, then a root with another upper half.
      out.mov(r8, rcx).set(rdi, THIRD_ROOT).set(rax, 0).set(rcx, 512).raw(0xf3, 0x48, 0xab).mov(rcx, r8);
      copy();
      setEntry(out, THIRD_ROOT, SLOT, BigInt(PDPT[1]) | SET);
      out.setCr3(rax).call('go').setCr3(rbp).call('go');
      // Then a last-level table of the upper half, in use as a root still.
      copy();
      out.setCr3(rax).call('go');
      setEntry(out, THIRD_ROOT, 0x100, BigInt(PAGES[1]) | SET);
      setEntry(out, DIRECTORY[0], 0, BigInt(THIRD_ROOT) | SET);
      out
        .set(rsi, HIGH + 0x10_0000n)
        .call('go')
        .setCr3(rdx)
        .call('go');
    });
    for (const root of [PML4, PML4_B]) image.entry64(root, SLOT, BigInt(PDPT[0]) | SET);
    expect(counted(expectAgreement(image, 2700))).toEqual([5, 3]);
  });

  it('that goes on at address 0 is found anew when what is there has changed', () => {
    const last = 0xffff_ffff_ffff_ffffn;
    const { image } = guest((out) => {
      out.set(rsi, last).call('go').setCr3(rdi).call('go');
      setEntry(out, 0x4000, 0, BigInt(PAGE * 0x59) | P | W);
      out.call('go').setCr3(rdx).call('go');
    });
    for (const root of [PML4, PML4_B]) image.entry64(root, 511, BigInt(PDPT[0]) | SET);
    image.entry64(PDPT[0], 511, BigInt(DIRECTORY[0]) | SET);
    image.entry64(DIRECTORY[0], 511, BigInt(TABLE[0]) | SET);
    image.entry64(TABLE[0], 511, 0x5_a000n | SET);
    // 48 | ff c3 c3 and 48 | ff c1 c3
    image.put(0x5_afff, Uint8Array.of(0x48));
    image.put(0, Uint8Array.of(0xff, 0xc3, 0xc3));
    image.put(PAGE * 0x59, Uint8Array.of(0xff, 0xc1, 0xc3));
    expect(counted(expectAgreement(image, 35))).toEqual([2, 2]);
  });
});
