import { ABORTED, type Outcome, type SystemOperation } from '../cpu.ts';
import { BCD_INDEFINITE, BCD_LIMIT, fromBcd, toBcd } from '../float/bcd.ts';
import { convert, toInteger } from '../float/convert.ts';
import { defaultNan, F32, F64, F80, type Float, type FloatFormat } from '../float/format.ts';
import { roundShift } from '../float/round.ts';
import { EXCEPTION, type FloatStatus, isMasked, ROUND } from '../float/status.ts';
import {
  OPERAND_SIZE,
  readExtended,
  readOperand,
  writeExtended,
  type X87Operand,
} from '../float/x87-operand.ts';
import { INDEFINITE, type X87Unit } from '../float/x87-unit.ts';
import type { Row } from '../instruction.ts';
import { x87Memory, x87Operation, x87Stack } from './x87-row.ts';

/** Loads, stores, exchanges, conditional moves and constants. */

/** Pushes what `value` gives, or the indefinite when there is no room. */
function push(unit: X87Unit, value: (status: FloatStatus) => bigint): void {
  if (!unit.isEmpty(7)) {
    if (unit.stackFault(true)) unit.push(INDEFINITE);
    return;
  }
  const bits = value(unit.status);
  const { flags, masks } = unit.status;
  unit.complete();
  // An unmasked denormal operand is reported, but loaded.
  if ((flags & ~masks & EXCEPTION.invalid) === 0) unit.push(bits);
}

/** Exact conversion to the register format. */
function widen(value: Float, status: FloatStatus): bigint {
  status.precision = F80.precision;
  const { denormal } = value;
  const bits = convert(F80, denormal ? { ...value, denormal: false } : value, status);
  if (denormal) status.flags |= EXCEPTION.denormal;
  return bits;
}

function load(operand: Exclude<X87Operand, 'm80'>): SystemOperation {
  const name = operand.startsWith('i') ? 'fild' : 'fld';
  return x87Operation(`${name} ${operand}`, (unit, _i, address): Outcome | undefined => {
    const value = readOperand(unit.cpu, operand, address);
    if (value === undefined) return ABORTED;
    push(unit, (status) => widen(value, status));
    return undefined;
  });
}
/** FLD m80 moves bits and looks at nothing. */
const LOAD_EXTENDED = x87Operation('fld m80', (unit, _i, address): Outcome | undefined => {
  const bits = readExtended(unit.cpu, address);
  if (bits === undefined) return ABORTED;
  push(unit, () => bits);
  return undefined;
});
const FBLD = x87Operation('fbld', (unit, _i, address): Outcome | undefined => {
  const bits = readExtended(unit.cpu, address);
  if (bits === undefined) return ABORTED;
  const value = fromBcd(bits);
  push(unit, (status) => (value.kind === 'zero' ? bits & (1n << 79n) : widen(value, status)));
  return undefined;
});
const FLD_STI = x87Operation('fld sti', (unit, i) => {
  if (unit.isEmpty(i)) {
    if (unit.stackFault(false)) unit.push(INDEFINITE);
  } else {
    push(unit, () => unit.get(i));
  }
  return undefined;
});

/** What a store writes for an empty register, and what it writes for a number. */
interface Target {
  readonly indefinite: bigint;
  readonly bytes: number;
  convert(x: Float, status: FloatStatus): bigint;
  write(unit: X87Unit, address: bigint, bits: bigint): boolean;
}

/**
 * A store to memory: the access comes first, so that a page fault leaves everything as it was; an unmasked
 * exception other than inexact prevents it.
 */
function store(name: string, target: Target, pops: boolean): SystemOperation {
  return x87Operation(name, (unit, _i, address): Outcome | undefined => {
    const { status } = unit;
    if (unit.isEmpty(0)) {
      const masked = isMasked(status, EXCEPTION.invalid);
      const reached = masked
        ? target.write(unit, address, target.indefinite)
        : unit.cpu.probe(address, target.bytes, 'write');
      if (!reached) return ABORTED;
      unit.stackFault(false);
      if (masked && pops) unit.pop();
      return undefined;
    }
    const bits = target.convert(unit.float(0), status);
    const prevented = (status.flags & ~status.masks & ~EXCEPTION.inexact) !== 0;
    const reached = prevented
      ? unit.cpu.probe(address, target.bytes, 'write')
      : target.write(unit, address, bits);
    if (!reached) return ABORTED;
    if (prevented) {
      // Nothing was rounded into memory.
      status.flags &= ~EXCEPTION.inexact;
      status.roundedUp = false;
    }
    unit.complete();
    if (pops && !prevented) unit.pop();
    return undefined;
  });
}

function floatTarget(format: FloatFormat, size: 4 | 8): Target {
  return {
    indefinite: defaultNan(format),
    bytes: size,
    // A denormal register is not reported.
    convert: (x, status) => convert(format, { ...x, denormal: false }, status),
    write: (unit, address, bits) => unit.cpu.store(size, address, BigInt.asUintN(size * 8, bits)),
  };
}
function integerTarget(operand: 'i16' | 'i32' | 'i64'): Target {
  const size = OPERAND_SIZE[operand];
  return {
    indefinite: 1n << BigInt(size * 8 - 1),
    bytes: size,
    convert: (x, status) => toInteger(x, size * 8, status.rounding, status),
    write: (unit, address, bits) => unit.cpu.store(size, address, bits),
  };
}
const BCD_TARGET: Target = {
  indefinite: BCD_INDEFINITE,
  bytes: 10,
  convert: (x, status) => {
    if (x.kind === 'zero') return toBcd(x.negative, 0n);
    if (x.kind === 'finite' && x.exponent <= 0) {
      const rounded = roundShift(x.significand, -x.exponent, x.negative, status.rounding);
      if (rounded.significand < BCD_LIMIT) {
        if (rounded.inexact) status.flags |= EXCEPTION.inexact;
        status.roundedUp = rounded.up;
        return toBcd(x.negative, rounded.significand);
      }
    }
    status.flags |= EXCEPTION.invalid;
    return BCD_INDEFINITE;
  },
  write: (unit, address, bits) => writeExtended(unit.cpu, address, bits),
};

const EXTENDED_BYTES = 10;
/** FSTP m80 moves bits as well. */
const STORE_EXTENDED = x87Operation('fstp m80', (unit, _i, address): Outcome | undefined => {
  const empty = unit.isEmpty(0);
  if (empty && !isMasked(unit.status, EXCEPTION.invalid)) {
    // Nothing is stored, but the access is checked first, as for every other store.
    if (!unit.cpu.probe(address, EXTENDED_BYTES, 'write')) return ABORTED;
    unit.stackFault(false);
    return undefined;
  }
  if (!writeExtended(unit.cpu, address, empty ? INDEFINITE : unit.get(0))) return ABORTED;
  if (empty) unit.stackFault(false);
  else unit.setC1(false);
  unit.pop();
  return undefined;
});

function storeRegister(name: string, pops: boolean): SystemOperation {
  return x87Operation(name, (unit, i) => {
    if (unit.isEmpty(0)) {
      if (!unit.stackFault(false)) return undefined;
      unit.set(i, INDEFINITE);
    } else {
      unit.setC1(false);
      unit.set(i, unit.get(0));
    }
    if (pops) unit.pop();
    return undefined;
  });
}
/** D9 D8+i: like FSTP, but an empty register is popped without complaint. */
const FSTPNCE = x87Operation('fstpnce', (unit, i) => {
  unit.setC1(false);
  if (!unit.isEmpty(0)) unit.set(i, unit.get(0));
  unit.pop();
  return undefined;
});
const FST = storeRegister('fst sti', false);
const FSTP = storeRegister('fstp sti', true);

const FXCH = x87Operation('fxch', (unit, i) => {
  const zeroEmpty = unit.isEmpty(0);
  const otherEmpty = unit.isEmpty(i);
  if (zeroEmpty || otherEmpty) {
    if (!unit.stackFault(false)) return undefined;
  } else {
    unit.setC1(false);
  }
  const first = zeroEmpty ? INDEFINITE : unit.get(0);
  const second = otherEmpty ? INDEFINITE : unit.get(i);
  unit.set(0, second);
  unit.set(i, first);
  return undefined;
});

/** Moves when (RFLAGS & mask) is nonzero, or with `negated` when it is zero. */
function conditional(name: string, mask: bigint, negated: boolean): SystemOperation {
  return x87Operation(name, (unit, i) => {
    if (unit.isEmpty(0) || unit.isEmpty(i)) {
      if (unit.stackFault(false)) unit.set(0, INDEFINITE);
    } else if (((unit.state.rflags & mask) !== 0n) !== negated) {
      unit.set(0, unit.get(i));
    }
    return undefined;
  });
}
const CF = 0x01n;
const PF = 0x04n;
const ZF = 0x40n;

/** A constant kept with its bits below the 64th: rounded by rounding control, without any exception. */
function constant(name: string, truncated: bigint, nearestIsUp: boolean): SystemOperation {
  return x87Operation(name, (unit) => {
    push(unit, ({ rounding }) => {
      const up = rounding === ROUND.up || (rounding === ROUND.nearest && nearestIsUp);
      return up ? truncated + 1n : truncated;
    });
    return undefined;
  });
}
function exactConstant(name: string, bits: bigint): SystemOperation {
  return x87Operation(name, (unit) => {
    push(unit, () => bits);
    return undefined;
  });
}
/** D9 E8 to D9 EE. */
export const X87_CONSTANTS: readonly SystemOperation[] = [
  exactConstant('fld1', 0x3fff_8000_0000_0000_0000n),
  constant('fldl2t', 0x4000_d49a_784b_cd1b_8afen, false),
  constant('fldl2e', 0x3fff_b8aa_3b29_5c17_f0bbn, true),
  constant('fldpi', 0x4000_c90f_daa2_2168_c234n, true),
  constant('fldlg2', 0x3ffd_9a20_9a84_fbcf_f798n, true),
  constant('fldln2', 0x3ffe_b172_17f7_d1cf_79abn, true),
  exactConstant('fldz', 0n),
];

export const X87_MOVE_ROWS: readonly Row[] = [
  x87Memory(0xd9, 0, load('m32')),
  x87Memory(0xd9, 2, store('fst m32', floatTarget(F32, 4), false)),
  x87Memory(0xd9, 3, store('fstp m32', floatTarget(F32, 4), true)),
  x87Memory(0xdd, 0, load('m64')),
  x87Memory(0xdd, 2, store('fst m64', floatTarget(F64, 8), false)),
  x87Memory(0xdd, 3, store('fstp m64', floatTarget(F64, 8), true)),
  x87Memory(0xdb, 5, LOAD_EXTENDED),
  x87Memory(0xdb, 7, STORE_EXTENDED),
  x87Memory(0xdf, 0, load('i16')),
  x87Memory(0xdf, 2, store('fist i16', integerTarget('i16'), false)),
  x87Memory(0xdf, 3, store('fistp i16', integerTarget('i16'), true)),
  x87Memory(0xdb, 0, load('i32')),
  x87Memory(0xdb, 2, store('fist i32', integerTarget('i32'), false)),
  x87Memory(0xdb, 3, store('fistp i32', integerTarget('i32'), true)),
  x87Memory(0xdf, 5, load('i64')),
  x87Memory(0xdf, 7, store('fistp i64', integerTarget('i64'), true)),
  x87Memory(0xdf, 4, FBLD),
  x87Memory(0xdf, 6, store('fbstp', BCD_TARGET, true)),
  x87Stack(0xd9, 0, FLD_STI),
  x87Stack(0xd9, 1, FXCH),
  x87Stack(0xdd, 1, FXCH),
  x87Stack(0xdf, 1, FXCH),
  x87Stack(0xdd, 2, FST),
  x87Stack(0xdd, 3, FSTP),
  x87Stack(0xd9, 3, FSTPNCE),
  x87Stack(0xdf, 2, FSTP),
  x87Stack(0xdf, 3, FSTP),
  x87Stack(0xda, 0, conditional('fcmovb', CF, false)),
  x87Stack(0xda, 1, conditional('fcmove', ZF, false)),
  x87Stack(0xda, 2, conditional('fcmovbe', CF | ZF, false)),
  x87Stack(0xda, 3, conditional('fcmovu', PF, false)),
  x87Stack(0xdb, 0, conditional('fcmovnb', CF, true)),
  x87Stack(0xdb, 1, conditional('fcmovne', ZF, true)),
  x87Stack(0xdb, 2, conditional('fcmovnbe', CF | ZF, true)),
  x87Stack(0xdb, 3, conditional('fcmovnu', PF, true)),
];
