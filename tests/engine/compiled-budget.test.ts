import { expect, it } from 'vitest';
import { JIT_DEFAULTS } from '../../src/engine/jit/jit-options.ts';
import { ALU, REG } from './assembler.ts';
import { GuestMachine, guestWith } from './small-guest.ts';

const { rax, rbx } = REG;
const PIECE = 4;
const COUNTS = JIT_DEFAULTS.threshold * 6;

/**
 * A block becomes hot, or its permit is asked for, also where nothing is left of the budget to enter it. What is run
 * in one go before the pieces decides where in a piece that happens.
 */
it.each([0, 18, 36, 54, 72, 90])('pieces of a run end as without a compiler, after %i counts', (before) => {
  const { image } = guestWith((out) => {
    out.label('first').inc(rax).jump('second');
    out.label('third').aluImmediate(ALU.add, rbx, 3).jump('first');
    out.label('second').inc(rbx).jump('third');
  });
  const machines = (['interpreter', 'jit'] as const).map((engine) => {
    const machine = new GuestMachine({ engine });
    machine.load(image);
    machine.runTo(before);
    return machine;
  });
  for (let count = before + PIECE; count <= COUNTS; count += PIECE) {
    const [plain, compiled] = machines.map((machine) => {
      machine.runTo(count);
      return [machine.machine.processor.get64(0xc0), machine.register(rax), machine.register(rbx)];
    });
    if (plain?.join() !== compiled?.join()) expect([count, compiled]).toEqual([count, plain]);
  }
  expect(machines[1]?.machine.compiledCount).toBeGreaterThan(0n);
});
