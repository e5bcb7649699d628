import { expect, it } from 'vitest';
import { GuestMachine, guestWith } from './small-guest.ts';

/** More hot loops than the table of regions has places. */
const LOOPS = 5000;
const TURNS = 40;
const AT = 0x5_0000;
const COUNTS = 1 + LOOPS * (2 + 2 * TURNS);

it('a guest with more hot loops than there are places for regions is the same guest', () => {
  const { image } = guestWith((out) => out.raw(0xe9).u32(AT - out.here - 4));
  for (let loop = 0, at = AT; loop < LOOPS; loop++, at += 11) {
    // mov ecx, TURNS; l: dec ecx; jnz l; jmp to the next
    image.put(at, Uint8Array.of(0xb9, TURNS, 0, 0, 0, 0xff, 0xc9, 0x75, 0xfc, 0xeb, 0x00));
  }
  image.put(AT + LOOPS * 11, Uint8Array.of(0xf4));
  const plain = new GuestMachine({ engine: 'interpreter' });
  const compiled = new GuestMachine({ engine: 'jit', jit: { threshold: 2, patience: 0 } });
  for (const machine of [plain, compiled]) machine.load(image);
  for (let count = 1000; count < COUNTS; count += 1000) compiled.runTo(count);
  for (const machine of [plain, compiled]) machine.runTo(COUNTS);
  expect(compiled.digest()).toBe(plain.digest());
  const { regions, dropped } = compiled.machine.jitStatistics!;
  expect(regions).toBeGreaterThanOrEqual(LOOPS);
  expect(dropped).toBeGreaterThan(900);
});
