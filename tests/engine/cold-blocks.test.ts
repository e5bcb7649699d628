import { expect, it } from 'vitest';
import { CONDITION, REG } from './assembler.ts';
import { GuestMachine, guestWith } from './small-guest.ts';

const { rax, rcx } = REG;
/** Iterations of the inner loop; the function is called once for so many. */
const INNER = 1000;
const CALLS = 200;
const COUNTS = 1 + CALLS * (INNER * 2 + 6);
const JIT = { threshold: 100, batch: 1, patience: 0 };

/** A function that is called often, but seldom in what else runs. */
const { image } = guestWith((out) => {
  out.set(rax, 0).label('outer').set(rcx, INNER).label('inner');
  out.dec(rcx).jumpIf(CONDITION.ne, 'inner');
  out.call('seldom').jump('outer').label('seldom');
  out.raw(0x48, 0xff, 0xc0, 0xc3); // inc rax; ret
});

it('what runs seldom in much else is not compiled, however long it goes on', () => {
  const [plain, ever, cooled] = [
    new GuestMachine({ engine: 'interpreter' }),
    new GuestMachine({ engine: 'jit', jit: { ...JIT, window: Number.POSITIVE_INFINITY } }),
    new GuestMachine({ engine: 'jit', jit: { ...JIT, window: 10_000 } }),
  ].map((machine) => {
    machine.load(image);
    for (let at = 2000; at <= COUNTS; at += 2000) machine.runTo(at);
    machine.runTo(COUNTS);
    return machine;
  }) as [GuestMachine, GuestMachine, GuestMachine];
  expect([ever.digest(), cooled.digest()]).toEqual([plain.digest(), plain.digest()]);
  expect(plain.register(rax)).toBeGreaterThan(BigInt(CALLS - 2));
  // The inner loop is one block; the other machine has compiled the call and the function as well.
  expect(cooled.machine.jitStatistics!.blocks).toBe(1);
  expect(ever.machine.jitStatistics!.blocks).toBeGreaterThan(3);
});
