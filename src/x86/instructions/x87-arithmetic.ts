import { ABORTED, type Outcome, type SystemOperation } from '../cpu.ts';
import { add, type Binary, divide, multiply, squareRoot, subtract } from '../float/arithmetic.ts';
import { F80, type Float } from '../float/format.ts';
import { exponentAndSignificand, partialRemainder, scale, toIntegral } from '../float/x87-exponent.ts';
import { readOperand, type X87Operand } from '../float/x87-operand.ts';
import { INDEFINITE, type X87Unit } from '../float/x87-unit.ts';
import type { Row } from '../instruction.ts';
import { x87Memory, x87Operation, x87Stack } from './x87-row.ts';

/** FADD, FMUL, FSUB, FDIV in all their forms, and the arithmetic instructions without operands. */

/** ST(target) = x operation y; an empty operand is a stack fault. */
function compute(unit: X87Unit, target: number, operation: Binary, x: Float, y: Float): boolean {
  const bits = operation(F80, x, y, unit.status);
  if (!unit.complete()) return false;
  unit.set(target, bits);
  return true;
}

/** ST(target) with the indefinite, when the stack fault is masked. */
function underflow(unit: X87Unit, target: number): boolean {
  if (!unit.stackFault(false)) return false;
  unit.set(target, INDEFINITE);
  return true;
}

interface Kind {
  readonly name: string;
  readonly operation: Binary;
  /** The operands change places. */
  readonly reversed: boolean;
}
/** In the order of ModRM.reg; 2 and 3 are comparisons. */
const KINDS: readonly (Kind | undefined)[] = [
  { name: 'fadd', operation: add, reversed: false },
  { name: 'fmul', operation: multiply, reversed: false },
  undefined,
  undefined,
  { name: 'fsub', operation: subtract, reversed: false },
  { name: 'fsubr', operation: subtract, reversed: true },
  { name: 'fdiv', operation: divide, reversed: false },
  { name: 'fdivr', operation: divide, reversed: true },
];

function fromMemory(kind: Kind, operand: X87Operand): SystemOperation {
  return x87Operation(`${kind.name} ${operand}`, (unit, _i, address): Outcome | undefined => {
    const value = readOperand(unit.cpu, operand, address);
    if (value === undefined) return ABORTED;
    if (unit.isEmpty(0)) underflow(unit, 0);
    else if (kind.reversed) compute(unit, 0, kind.operation, value, unit.float(0));
    else compute(unit, 0, kind.operation, unit.float(0), value);
    return undefined;
  });
}

/** ST(0) = ST(0) operation ST(i), or with `toI` the other way round. */
function betweenRegisters(kind: Kind, toI: boolean, pops: boolean): SystemOperation {
  return x87Operation(`${kind.name}${pops ? 'p' : ''} ${toI ? 'sti' : 'st'}`, (unit, i) => {
    const target = toI ? i : 0;
    const other = toI ? 0 : i;
    let done: boolean;
    if (unit.isEmpty(0) || unit.isEmpty(i)) done = underflow(unit, target);
    else {
      const [x, y] = kind.reversed ? [other, target] : [target, other];
      done = compute(unit, target, kind.operation, unit.float(x), unit.float(y));
    }
    if (done && pops) unit.pop();
    return undefined;
  });
}

const ROWS: Row[] = [];
for (const [digit, kind] of KINDS.entries()) {
  if (kind === undefined) continue;
  ROWS.push(
    x87Memory(0xd8, digit, fromMemory(kind, 'm32')),
    x87Memory(0xdc, digit, fromMemory(kind, 'm64')),
    x87Memory(0xda, digit, fromMemory(kind, 'i32')),
    x87Memory(0xde, digit, fromMemory(kind, 'i16')),
    x87Stack(0xd8, digit, betweenRegisters(kind, false, false)),
  );
  // With ST(i) as the target the encodings of the plain and the reversed form are exchanged for SUB and DIV.
  const other = digit >= 4 ? digit ^ 1 : digit;
  ROWS.push(
    x87Stack(0xdc, other, betweenRegisters(kind, true, false)),
    x87Stack(0xde, other, betweenRegisters(kind, true, true)),
  );
}

/** ST(0) = operation(ST(0)). */
function unary(name: string, operation: (unit: X87Unit, x: Float) => bigint): SystemOperation {
  return x87Operation(name, (unit) => {
    if (unit.isEmpty(0)) underflow(unit, 0);
    else {
      const bits = operation(unit, unit.float(0));
      if (unit.complete()) unit.set(0, bits);
    }
    return undefined;
  });
}

/** The sign alone: no exceptions but the stack's, whatever the register holds. */
function signOperation(name: string, change: (bits: bigint) => bigint): SystemOperation {
  return x87Operation(name, (unit) => {
    if (unit.isEmpty(0)) underflow(unit, 0);
    else {
      unit.setC1(false);
      unit.set(0, change(unit.get(0)));
    }
    return undefined;
  });
}
const SIGN = 1n << 79n;
export const FCHS = signOperation('fchs', (bits) => bits ^ SIGN);
export const FABS = signOperation('fabs', (bits) => bits & ~SIGN);

/** ST(0) scaled by the integral part of ST(1). */
export const FSCALE = x87Operation('fscale', (unit) => {
  if (unit.isEmpty(0) || unit.isEmpty(1)) underflow(unit, 0);
  else compute(unit, 0, scale, unit.float(0), unit.float(1));
  return undefined;
});

export const FXTRACT = x87Operation('fxtract', (unit) => {
  if (unit.isEmpty(0) || !unit.isEmpty(7)) {
    const overflow = !unit.isEmpty(0);
    if (unit.stackFault(overflow)) {
      unit.set(0, INDEFINITE);
      unit.push(INDEFINITE);
    }
    return undefined;
  }
  const { exponent, significand } = exponentAndSignificand(unit.float(0), unit.status);
  if (!unit.complete()) return undefined;
  unit.set(0, exponent);
  unit.push(significand);
  return undefined;
});

function remainder(name: string, nearest: boolean): SystemOperation {
  return x87Operation(name, (unit) => {
    unit.setC2(false);
    if (unit.isEmpty(0) || unit.isEmpty(1)) {
      underflow(unit, 0);
      return undefined;
    }
    const { bits, conditions } = partialRemainder(unit.float(0), unit.float(1), nearest, unit.status);
    if (!unit.complete()) return undefined;
    if (conditions !== undefined) unit.setConditions(conditions);
    unit.set(0, bits);
    return undefined;
  });
}
export const FPREM = remainder('fprem', false);
export const FPREM1 = remainder('fprem1', true);
export const FSQRT = unary('fsqrt', (unit, x) => squareRoot(F80, x, unit.status));
export const FRNDINT = unary('frndint', (unit, x) => toIntegral(x, unit.status));

export const X87_ARITHMETIC_ROWS: readonly Row[] = ROWS;
