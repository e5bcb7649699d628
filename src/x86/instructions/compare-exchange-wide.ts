import { emitOperandAddress } from '../address.ts';
import { ABORTED, DONE, type Outcome, systemOperation } from '../cpu.ts';
import type { Instruction, Lowering, Row } from '../instruction.ts';
import { FLAG, RAX, RBX, RCX, RDX } from '../state.ts';
import { modrmRow } from './operand.ts';

/** CMPXCHG8B [SDM 2A CMPXCHG8B]; b holds the linear address. CMPXCHG16B is not offered. */
export const COMPARE_EXCHANGE_8B = systemOperation('cmpxchg8b', (cpu, b): Outcome => {
  const { state } = cpu;
  const linear = state.get64(b);
  // Memory is written in both cases, so it must be writable before anything changes.
  if (!cpu.probe(linear, 8, 'write')) return ABORTED;
  const old = cpu.load(8, linear);
  if (old === undefined) return ABORTED;
  const equal = old === ((state.get(RDX, 4) << 32n) | state.get(RAX, 4));
  if (!cpu.store(8, linear, equal ? (state.get(RCX, 4) << 32n) | state.get(RBX, 4) : old)) return ABORTED;
  if (!equal) {
    state.set(RAX, 4, old & 0xffff_ffffn);
    state.set(RDX, 4, old >> 32n);
  }
  state.rflags = (state.rflags & ~BigInt(FLAG.zf)) | (equal ? BigInt(FLAG.zf) : 0n);
  return DONE;
});

function lower(instruction: Instruction, out: Lowering): void {
  // With REX.W it would be CMPXCHG16B.
  if (instruction.rexW) {
    out.fault(6);
    return;
  }
  out.call(COMPARE_EXCHANGE_8B, { b: emitOperandAddress(instruction, out) });
}

export const COMPARE_EXCHANGE_WIDE_ROWS: readonly Row[] = [
  modrmRow(0x0fc7, 'cmpxchg8b', lower, { digit: 1, operand: 'memory', lockable: true }),
];
