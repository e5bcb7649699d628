import { expect, it } from 'vitest';
import { JIT_DEFAULTS } from '../../src/engine/jit/jit.ts';
import type { EngineOptions } from '../../src/machine/config.ts';
import { ALU, REG } from './assembler.ts';
import { GuestMachine, guestWith } from './small-guest.ts';

const { rax, rbx } = REG;
const COUNTS = JIT_DEFAULTS.threshold * 6;

/** A block becomes hot, or its permit is asked for, also where nothing is left of the budget to enter it. */
it.each([1, 2, 3, 5])('a run in pieces of %i ends where it would without a compiler', (piece) => {
  const { image } = guestWith((out) => {
    out.label('first').inc(rax).jump('second');
    out.label('third').aluImmediate(ALU.add, rbx, 3).jump('first');
    out.label('second').inc(rbx).jump('third');
  });
  const machines = (['interpreter', 'jit'] satisfies EngineOptions['engine'][]).map((engine) => {
    const machine = new GuestMachine({ engine });
    machine.load(image);
    return machine;
  });
  for (let count = piece; count <= COUNTS; count += piece) {
    const [plain, compiled] = machines.map((machine) => {
      machine.runTo(count);
      return [
        machine.count,
        machine.machine.processor.get64(0xc0),
        machine.register(rax),
        machine.register(rbx),
      ];
    });
    if (plain?.join() !== compiled?.join())
      expect([count, ...(compiled ?? [])]).toEqual([count, ...(plain ?? [])]);
  }
  expect(machines[1]?.machine.compiledCount).toBeGreaterThan(0n);
});
