import { LEA32, LEA64, linearAddress } from '../address.ts';
import type { Instruction, Lowering } from '../instruction.ts';
import { POP, PUSH } from '../micro-operations/control.ts';
import { LOAD, MOVE, STORE } from '../micro-operations/move.ts';
import { GPR, RSP, type Size, ZERO } from '../state.ts';
import { T0, T3 } from './operand.ts';

/** Pushes and pops of any code size. The stack pointer changes after the access that may fault. */

/** The address `displacement` from the register `base` (a general register's number) in the stack segment. */
export function stackAddress(instruction: Instruction, out: Lowering, base: number, displacement: number) {
  return linearAddress(
    {
      ...instruction,
      addressSize: out.stackSize,
      memory: {
        base,
        index: undefined,
        scale: 0,
        displacement,
        absolute: undefined,
        ripRelative: false,
        segment: 'ss',
      },
    },
    out,
  );
}

/** The stack pointer becomes the register at offset `from` plus `displacement`. */
export function emitSetStackPointer(out: Lowering, from: number, displacement: number): void {
  const fields = { b: from, c: ZERO, low: displacement, high: 0 };
  switch (out.stackSize) {
    case 8:
      out.emit32(LEA64, { a: RSP, ...fields });
      return;
    case 4:
      out.emit32(LEA32, { a: RSP, ...fields });
      return;
    case 2:
      out.emit32(LEA32, { a: T3, ...fields });
      out.emit(MOVE[2], { a: RSP, b: T3 });
      return;
  }
}

const RSP_NUMBER = (RSP - GPR) / 8;

/** Pushes the low `size` bytes of the register at offset `value`. */
export function emitPush(instruction: Instruction, out: Lowering, size: Size, value: number): void {
  if (instruction.codeSize === 64 && size === 8) {
    out.emit(PUSH, { a: value });
    return;
  }
  out.emit32(STORE[size], { a: value, ...stackAddress(instruction, out, RSP_NUMBER, -size) });
  emitSetStackPointer(out, RSP, -size);
}

/** Pops `size` bytes into the register at offset `target`; `extra` more bytes are dropped. */
export function emitPop(
  instruction: Instruction,
  out: Lowering,
  size: Size,
  target: number,
  extra = 0,
): void {
  if (instruction.codeSize === 64 && size === 8 && extra === 0) {
    out.emit(POP, { a: target });
    return;
  }
  out.emit32(LOAD[size], { a: T0, ...stackAddress(instruction, out, RSP_NUMBER, 0) });
  emitSetStackPointer(out, RSP, size + extra);
  out.emit(MOVE[size], { a: target, b: T0 });
}
