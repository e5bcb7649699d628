import { describe, expect, it } from 'vitest';
import { EngineStep } from './engine-step.ts';
import { parseCase, printCase, printOutcome } from './json.ts';

const LINE =
  '{"code":"0f6fc1","mode":64,"at":"0x10000800","regs":{"rax":"0x1","rflags":"0x202"},"mem":{"0x20000000":"00ff"}}';

function refused(line: string): string {
  const parsed = parseCase(line);
  if (parsed.ok) throw new Error('was taken');
  return parsed.error;
}

describe('the lines of debug step', () => {
  it('fill in what is left out', () => {
    const parsed = parseCase(LINE);
    if (!parsed.ok) throw new Error(parsed.error);
    expect(parsed.value.gpr[0]).toBe(1n);
    expect(parsed.value.mxcsr).toBe(0x1f80);
    expect(parsed.value.x87).toEqual({ fcw: 0x37f, fsw: 0, ftw: 0, st: new Array(8).fill(0n) });
    expect(parsed.value.memory).toEqual([{ address: 0x2000_0000n, bytes: Uint8Array.of(0, 255) }]);
  });

  it('are read as they were printed', () => {
    const parsed = parseCase(LINE);
    if (!parsed.ok) throw new Error(parsed.error);
    expect(parseCase(printCase(parsed.value))).toEqual(parsed);
  });

  it('are refused with a reason when they are wrong', () => {
    expect(refused('nonsense')).toMatch(/not JSON/);
    expect(refused('[]')).toMatch(/not an object/);
    expect(refused('{"code":"xyz"}')).toMatch(/hexadecimal bytes/);
    expect(refused('{"code":""}')).toMatch(/1 to 15/);
    expect(refused('{"code":"90","mode":8}')).toMatch(/mode/);
    expect(refused('{"code":"90","regs":{"eax":"0x1"}}')).toMatch(/no register eax/);
    expect(refused('{"code":"90","regs":{"rax":"0x1ffffffffffffffff"}}')).toMatch(/64 bits/);
    expect(refused('{"code":"90","mxcsr":"0x10000"}')).toMatch(/reserved/);
    expect(refused('{"code":"90","mem":{"x":"00"}}')).toMatch(/not a number/);
    expect(refused('{"code":"90","xmm":{}}')).toMatch(/list/);
  });

  it('come back with the outcome of one instruction', () => {
    const parsed = parseCase('{"code":"660fefc0","xmm":["0x12345"],"regs":{"rbx":"0x7"}}');
    if (!parsed.ok) throw new Error(parsed.error);
    const printed = JSON.parse(printOutcome(parsed.value, new EngineStep().step(parsed.value)));
    expect(printed).toMatchObject({ rip: '0x10000804', retired: 1, exception: null, mode: 64 });
    expect(printed.xmm[0]).toBe(`0x${'0'.repeat(32)}`);
    expect(printed.regs.rbx).toBe('0x7');
  });

  it('are run in 16-bit code too', () => {
    // ADD AX, BX; and a push through SP alone.
    const outcome = (text: string) => {
      const parsed = parseCase(text);
      if (!parsed.ok) throw new Error(parsed.error);
      return JSON.parse(printOutcome(parsed.value, new EngineStep().step(parsed.value)));
    };
    expect(outcome('{"code":"01d8","mode":16,"regs":{"rax":"0x1ffff","rbx":"0x1"}}')).toMatchObject({
      mode: 16,
      rip: '0x10000802',
      regs: { rax: '0x10000', rflags: '0x257' },
    });
    expect(
      outcome('{"code":"50","mode":16,"regs":{"rax":"0x1234","rsp":"0x50002"},"mem":{"0x0":"0000"}}'),
    ).toMatchObject({ regs: { rsp: '0x50000' }, mem: { '0x0': '3412' } });
  });

  it('are run in compiled code when the JIT is asked', () => {
    const parsed = parseCase('{"code":"4801d8","regs":{"rax":"0x1","rbx":"0x5"}}');
    if (!parsed.ok) throw new Error(parsed.error);
    const engine = new EngineStep('step', 'jit');
    expect(engine.step(parsed.value)).toEqual(new EngineStep().step(parsed.value));
    expect(engine.compiledCount).toBe(1n);
  });

  it('report a page fault with its address', () => {
    const parsed = parseCase('{"code":"0f1000","regs":{"rax":"0x1234"}}');
    if (!parsed.ok) throw new Error(parsed.error);
    const printed = JSON.parse(printOutcome(parsed.value, new EngineStep().step(parsed.value)));
    expect(printed.exception).toEqual({ vector: 14, errorCode: '0x4', cr2: '0x1234' });
    expect(printed.rip).toBe('0x10000800');
  });
});
