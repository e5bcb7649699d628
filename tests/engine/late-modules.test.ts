import { expect, it } from 'vitest';
import { lateModules } from './late-modules.ts';
import { GuestMachine, guestWith } from './small-guest.ts';

const LOOPS = 400;
const TURNS = 40;
const AT = 0x5_0000;
const COUNTS = 1 + LOOPS * (2 + 2 * TURNS);

/** Loops one after the other, each hot at once. */
function loops(value: number) {
  const { image } = guestWith((out) => out.raw(0xe9).u32(AT - out.here - 4));
  for (let loop = 0, at = AT; loop < LOOPS; loop++, at += 13) {
    // mov ecx, TURNS; l: add al, value; dec ecx; jnz l; jmp to the next
    image.put(at, Uint8Array.of(0xb9, TURNS, 0, 0, 0, 0x04, value, 0xff, 0xc9, 0x75, 0xfa, 0xeb, 0x00));
  }
  image.put(AT + LOOPS * 13, Uint8Array.of(0xf4));
  return image;
}

it('modules that are ready when the guest is another one are of no use to it', () => {
  const modules = lateModules(7);
  const late = new GuestMachine({ engine: 'jit', jit: { threshold: 2, patience: 0, batch: 2, modules } });
  for (const value of [3, 5, 7]) {
    const plain = new GuestMachine({ engine: 'interpreter' });
    late.load(loops(value));
    plain.load(loops(value));
    // It ends while modules are under way.
    for (let count = 50; count < COUNTS / 2; count += 50) late.runTo(count);
    plain.runTo(Number(late.count));
    expect(late.digest()).toBe(plain.digest());
  }
  expect(late.machine.jitStatistics!.regions).toBeGreaterThan(50);
});

it('machines that follow each other have one compiler, and take only what is theirs', () => {
  const modules = lateModules(5);
  for (const value of [3, 5, 7]) {
    const late = new GuestMachine({ engine: 'jit', jit: { threshold: 2, patience: 0, batch: 2, modules } });
    const plain = new GuestMachine({ engine: 'interpreter' });
    late.load(loops(value));
    plain.load(loops(value));
    for (let count = 50; count < COUNTS / 2; count += 50) late.runTo(count);
    plain.runTo(Number(late.count));
    expect(late.digest()).toBe(plain.digest());
    expect(late.machine.jitStatistics!.regions).toBeGreaterThan(10);
  }
});
