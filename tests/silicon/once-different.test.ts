import { describe, expect, it } from 'vitest';
import { EngineStep, STEP_EXECUTORS, type StepMode } from '../../src/host/debug-step/engine-step.ts';
import { parseCase } from '../../src/host/debug-step/json.ts';
import type { StepCase } from '../../src/host/debug-step/stepped-state.ts';

/** What only millions of random cases found, with the answers of AMD Zen. */

function given(line: object): StepCase {
  const parsed = parseCase(JSON.stringify(line));
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

const MODES: readonly StepMode[] = ['step', 'block', 'pieces'];
const ENGINES = STEP_EXECUTORS.flatMap((executor) =>
  MODES.map((mode): [string, EngineStep] => [`${executor}, ${mode}`, new EngineStep(mode, executor)]),
);

describe.each(ENGINES)('cases that once differed: %s', (_, engine) => {
  it.each([
    ['FXSAVE', '0fae00'],
    ['FXRSTOR', '0fae08'],
  ])('%s of an area that goes on from the last address in the first is misaligned first', (_name, code) => {
    const vector = (rax: string, rflags: string) =>
      engine.step(given({ code, regs: { rax, rflags } })).exception?.vector;
    expect(vector('0xffffffffffffffff', '0x202')).toBe(13);
    expect(vector('0xffffffffffffffff', '0x40202')).toBe(17);
    expect(vector('0xfffffffffffffff8', '0x40202')).toBe(13);
    expect(vector('0xfffffffffffffff0', '0x40202')).toBe(14);
  });

  it('what stands behind a near branch that 66 made shorter does not run', () => {
    // JA that is not taken; ENTER would store RBP.
    const bytes = '11'.repeat(160);
    const outcome = engine.step(
      given({
        code: '660f877657c85d',
        regs: { rsp: '0x200011f0', rbp: '0x5', rflags: '0xa42' },
        mem: { '0x200011a0': bytes },
      }),
    );
    expect(outcome.exception).toBeNull();
    expect(outcome.rip).toBe(0x1000_0805n);
    expect(Buffer.from(outcome.memory[0]!.bytes).toString('hex')).toBe(bytes);
  });
});
