import type { EngineStep } from '../../src/host/debug-step/engine-step.ts';
import { DATA, SIGNAL } from './model.ts';
import { SiliconRecord } from './record.ts';

const CODE = 0x2000_0000n;
const RDI = 7;

/** The status word as FXRSTOR in the harness leaves it: ES and B follow from flags and masks. */
function restoredStatus({ fcw, fsw }: SiliconRecord): number {
  return fsw & ~fcw & 0x3f ? fsw | 0x8080 : fsw & 0x7f7f;
}

/** Does with an engine what harness.c does on the processor. */
export function runOnEngine(engine: EngineStep, before: SiliconRecord): SiliconRecord {
  const gpr = new Array<bigint>(16).fill(0n);
  gpr[0] = before.rax;
  gpr[RDI] = DATA;
  const outcome = engine.step({
    code: before.code,
    mode: 64,
    at: CODE,
    gpr,
    rflags: before.rflags,
    xmm: gpr.map((_, i) => before.xmm(i)),
    mxcsr: before.mxcsr,
    x87: {
      fcw: before.fcw,
      fsw: restoredStatus(before),
      ftw: before.ftw,
      st: [0, 1, 2, 3, 4, 5, 6, 7].map((i) => before.st(i)),
    },
    memory: [{ address: DATA, bytes: before.memory.slice() }],
  });
  const after = new SiliconRecord(before.bytes.slice());
  after.rax = outcome.gpr[0]!;
  after.rflags = outcome.rflags;
  after.mxcsr = outcome.mxcsr;
  after.fcw = outcome.x87.fcw;
  after.fsw = outcome.x87.fsw;
  after.ftw = outcome.x87.ftw;
  for (const [i, bits] of outcome.x87.st.entries()) after.setSt(i, bits);
  for (const [i, bits] of outcome.xmm.entries()) after.setXmm(i, bits);
  after.memory.set(outcome.memory[0]!.bytes);
  const vector = outcome.exception?.vector;
  after.view.setUint32(32, vector === undefined ? 0 : SIGNAL[vector as keyof typeof SIGNAL], true);
  return after;
}
