import { expect, test } from 'vitest';
import { guestNanoseconds, type InstructionCount, instructionCount } from '../src/base/units.ts';
import { createMachine, type LockstepMachine } from '../src/machine/machine.ts';
import { CR2 } from '../src/x86/state.ts';
import { assembledGuest } from './assembled-guest.ts';

/** Two machines at one count: where they differ, and what makes no difference. */

const config = {
  memoryBytes: 16 * 2 ** 20,
  disks: [],
  nics: [{ mac: '525400123456' }],
  startEpochSeconds: 1_700_000_000,
  seed: '07'.repeat(32),
  debugExit: false,
};

/** A guest that counts in a loop and takes an interrupt now and then. */
async function busy(): Promise<LockstepMachine> {
  const image = { kernel: await assembledGuest('ticker'), initrd: undefined, commandLine: 'b' };
  const jit = { threshold: 50, batch: 1 };
  const made = createMachine(config, image, { output: () => {} }, { jit });
  if (!made.ok) throw new Error(made.error);
  const [guestTime, cap] = [guestNanoseconds(0n), guestNanoseconds(3_600_000_000_000n)];
  made.value.apply({ kind: 'clock', guestTime, rate: 200n << 32n, cap });
  return made.value;
}

/** Halts between its ticks: time goes on at the next one. */
function runTo(machine: LockstepMachine, count: number): void {
  const until = instructionCount(BigInt(count));
  while (machine.count < until) {
    if (machine.runUntil(until) !== 'halted') continue;
    const guestTime = guestNanoseconds(machine.nextDeadline ?? machine.guestTime);
    machine.apply({
      kind: 'clock',
      guestTime,
      rate: 200n << 32n,
      cap: guestNanoseconds(guestTime + 10n ** 12n),
    });
  }
}

test('a stretch that is interpreted uses no compiled code, and nobody can tell it by the state', async () => {
  const [plain, switched] = [await busy(), await busy()];
  for (const machine of [plain, switched]) runTo(machine, 600_000);
  expect(switched.compiledCount).toBeGreaterThan(100_000n);

  const compiled = switched.compiledCount;
  switched.interpretUntil(1_000_000n as InstructionCount);
  for (const machine of [plain, switched]) runTo(machine, 990_000);
  expect(switched.compiledCount).toBe(compiled);
  expect(plain.compiledCount).toBeGreaterThan(compiled);
  expect(switched.digest()).toBe(plain.digest());

  // Afterwards the code that was compiled before is used again.
  const { dropped } = switched.jitStatistics!;
  for (const machine of [plain, switched]) runTo(machine, 1_600_000);
  expect(switched.compiledCount).toBeGreaterThan(compiled + 400_000n);
  expect(switched.jitStatistics!.dropped).toBe(dropped);
  expect(switched.digest()).toBe(plain.digest());
});

test('what differs is named: a register, a device, one page of RAM, several', async () => {
  const [one, other] = [await busy(), await busy()];
  const differing = (): string | undefined => {
    one.digest();
    other.digest();
    return one.differingParts(other.digestParts());
  };
  for (const machine of [one, other]) runTo(machine, 100_000);
  expect(differing()).toBeUndefined();

  other.memory.write(0x7b_c123, Uint8Array.of(1));
  expect(differing()).toBe('RAM page 1980 (at 0x7bc000)');
  other.memory.write(0x7b_c123, Uint8Array.of(0));
  expect(differing()).toBeUndefined();
  other.memory.write(0, Uint8Array.of(1));
  expect(differing()).toBe('RAM page 0 (at 0x0)');
  other.memory.write(0x10_0000, Uint8Array.of(1));
  expect(differing()).toBe('several RAM pages');

  other.memory.write(0, Uint8Array.of(0));
  other.processor.set32(CR2, 1);
  other.apply({ kind: 'console', port: 0, bytes: Uint8Array.of(0x78) });
  expect(differing()).toMatch(/^registers, .*serial.*, RAM page 256 \(at 0x100000\)$/);
  expect(one.differingParts(Uint8Array.of(1, 2, 3))).toBeUndefined();
});
