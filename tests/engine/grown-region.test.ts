import { expect, it } from 'vitest';
import { CONDITION, REG } from './assembler.ts';
import { CODE, GuestMachine, guestWith } from './small-guest.ts';

const { rax, rbx, rcx, rdx } = REG;
/** Calls of the first function, then of the second. */
const FIRST = 300;
const SECOND = 2000;
const COUNTS = 4 + (FIRST + SECOND) * 5 + 1;
const JIT = { threshold: 100, batch: 1, patience: 0 };

/** A loop that calls what RBX points at, which is another function from one moment on. */
const { image } = guestWith((out) => {
  out
    .set(rbx, CODE + 0x800)
    .set(rcx, FIRST)
    .set(rax, 0)
    .label('loop');
  out.raw(0xff, 0xd3); // call rbx
  out.dec(rcx).jumpIf(CONDITION.ne, 'loop');
  out.set(rcx, SECOND).raw(0x48, 0x81, 0xc3).u32(0x100); // add rbx, 0x100
  out.jump('loop');
});
image.put(CODE + 0x800, Uint8Array.of(0x48, 0xff, 0xc0, 0xc3)); // inc rax; ret
image.put(CODE + 0x900, Uint8Array.of(0x48, 0xff, 0xc2, 0xc3)); // inc rdx; ret

it('a region that is entered often is grown anew, with what its calls lead to by now', () => {
  const [plain, never, grown] = [
    new GuestMachine({ engine: 'interpreter' }),
    new GuestMachine({ engine: 'jit', jit: { ...JIT, regrow: 1_000_000 } }),
    new GuestMachine({ engine: 'jit', jit: { ...JIT, regrow: 150 } }),
  ].map((machine) => {
    machine.load(image);
    machine.runTo(COUNTS);
    return machine;
  }) as [GuestMachine, GuestMachine, GuestMachine];
  expect([never.digest(), grown.digest()]).toEqual([plain.digest(), plain.digest()]);
  expect(plain.register(rdx)).toBeGreaterThan(1900n);
  const regions = (machine: GuestMachine) => machine.machine.jitStatistics!.regions;
  // The loop and each function; then the loop once more, with the second function in it.
  expect(regions(grown)).toBe(regions(never) + 1);
});
