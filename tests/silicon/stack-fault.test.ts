import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { EngineStep, STEP_EXECUTORS } from '../../src/host/debug-step/engine-step.ts';
import { parseCase } from '../../src/host/debug-step/json.ts';
import type { StepCase } from '../../src/host/debug-step/stepped-state.ts';
import { Campaign } from './campaign.ts';
import { formName } from './captured.ts';
import type { SiliconCase } from './case.ts';
import { disassemble } from './compare.ts';
import { X87_FORMS } from './forms-x87.ts';
import { generateCase } from './generator.ts';
import { buildHarness, followedFamily, NativeProcessor, nativeAvailable } from './native.ts';

/** Random cases seldom have an empty register, an unmasked exception and an operand that faults all at once. */

const [PAGE_FAULT, ALIGNMENT] = [14, 17];
const MISALIGNED = 0x2000_0401;
const UNMAPPED = 0x3000_0000;
/** IE, SF, ES, B. */
const UNDERFLOW = 0x80c1;

/** Stores of ST(0) to [RBX], which is empty; no exception is masked. */
const STORES = {
  'fst m32': 'd913',
  'fstp m32': 'd91b',
  'fst m64': 'dd13',
  'fstp m64': 'dd1b',
  'fstp m80': 'db3b',
  'fist m16': 'df13',
  'fistp m16': 'df1b',
  'fist m32': 'db13',
  'fistp m32': 'db1b',
  'fistp m64': 'df3b',
  'fbstp m80': 'df33',
};

function storeOfNothing(code: string, to: number, rflags: number): StepCase {
  const parsed = parseCase(
    JSON.stringify({
      code,
      regs: { rbx: `0x${to.toString(16)}`, rflags: `0x${rflags.toString(16)}` },
      x87: { fcw: '0x340', fsw: '0x0', ftw: '0xfe' },
      mem: { '0x20000400': '11'.repeat(16) },
    }),
  );
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

describe.each(STEP_EXECUTORS)('an unmasked stack fault of a store, %s', (executor) => {
  const engine = new EngineStep('block', executor);

  it.each(Object.entries(STORES))('%s: the access is checked before', (_, code) => {
    const absent = engine.step(storeOfNothing(code, UNMAPPED, 0x202));
    expect(absent.exception).toEqual({ vector: PAGE_FAULT, errorCode: 6, cr2: BigInt(UNMAPPED) });
    expect(absent.x87.fsw).toBe(0);
    const misaligned = engine.step(storeOfNothing(code, MISALIGNED, 0x4_0202));
    expect(misaligned.exception?.vector).toBe(ALIGNMENT);
    expect(misaligned.x87.fsw).toBe(0);
  });

  it.each(Object.entries(STORES))('%s: nothing is stored or popped', (_, code) => {
    const { exception, x87, memory } = engine.step(storeOfNothing(code, MISALIGNED, 0x202));
    expect([exception, x87.fsw, x87.ftw]).toEqual([null, UNDERFLOW, 0xfe]);
    expect([...memory[0]!.bytes].every((byte) => byte === 0x11)).toBe(true);
  });
});

const SEED = 9_000_000;
const OF_A_FORM = 128;
const PENDING = 0x80ff;
const TIMEOUT = 300_000;

/** The case with the top of the stack empty, full, or all of it, and with few exceptions masked. */
function withStackFault(form: SiliconCase['form'], index: number): SiliconCase {
  const given = generateCase(form, SEED + index);
  const { x87, rflags } = given;
  const fsw = x87.fsw & ~PENDING;
  const top = (fsw >> 11) & 7;
  const tags = [0, 0xff, x87.ftw & ~(1 << top), x87.ftw | (1 << ((top + 7) & 7))];
  const fcw = (x87.fcw & ~0x3f) | (index & 4 ? 0 : (index >> 3) & 0x3f);
  return {
    ...given,
    rflags: index & 64 ? rflags | 0x4_0000n : rflags,
    x87: { ...x87, fcw, fsw, ftw: tags[index & 3]! },
  };
}

describe.skipIf(nativeAvailable() !== undefined)("stack faults on this host's processor", () => {
  it('are what the engines make of them', { timeout: TIMEOUT }, async () => {
    const native = new NativeProcessor(buildHarness(join(import.meta.dirname, '../..')));
    const wrong: string[] = [];
    const campaign = new Campaign({
      native,
      executors: ['interpreter', 'oracle'],
      modes: ['step', 'block'],
      sameFamily: followedFamily(),
      onDifference: ({ given, executor, mode, found }) => {
        const what = `${formName(given.form)}, seed ${given.seed}, ${executor}, ${mode}`;
        if (wrong.length < 10) wrong.push(`${what}: ${disassemble(given)}: ${found.join('; ')}`);
      },
    });
    await campaign.run(X87_FORMS.length * OF_A_FORM, (index) =>
      withStackFault(X87_FORMS[Math.floor(index / OF_A_FORM)]!, index % OF_A_FORM),
    );
    native.close();
    expect(wrong).toEqual([]);
  });
});
