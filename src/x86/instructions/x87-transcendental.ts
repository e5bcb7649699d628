import type { SystemOperation } from '../cpu.ts';
import { F80, type Float, pack } from '../float/format.ts';
import type { FloatStatus } from '../float/status.ts';
import {
  arctangent,
  cosine,
  outOfTrigonometricRange,
  powerMinusOne,
  sine,
  tangent,
  timesLog2,
  timesLog2PlusOne,
} from '../float/transcendental.ts';
import { INDEFINITE, type X87Unit } from '../float/x87-unit.ts';
import { x87Operation } from './x87-row.ts';

/** Transcendental instructions; the rows are in the groups of x87-control.ts. */

type Unary = (x: Float, status: FloatStatus) => bigint;

function underflow(unit: X87Unit, target: number, pops: boolean): undefined {
  if (!unit.stackFault(false)) return undefined;
  unit.set(target, INDEFINITE);
  if (pops) unit.pop();
  return undefined;
}

/** ST(0) = f(ST(0)); angles of 2^63 and more set C2 and stay. */
function unary(name: string, compute: Unary, isAngle: boolean): SystemOperation {
  return x87Operation(name, (unit) => {
    if (isAngle) unit.setC2(false);
    if (unit.isEmpty(0)) return underflow(unit, 0, false);
    const x = unit.float(0);
    if (isAngle && outOfTrigonometricRange(x)) {
      unit.setC1(false);
      unit.setC2(true);
      return undefined;
    }
    const bits = compute(x, unit.status);
    if (unit.complete()) unit.set(0, bits);
    return undefined;
  });
}

/** ST(0) = f(ST(0)), and a second result is pushed. */
function twoResults(name: string, first: Unary, second: Unary): SystemOperation {
  return x87Operation(name, (unit) => {
    unit.setC2(false);
    if (unit.isEmpty(0) || !unit.isEmpty(7)) {
      if (unit.stackFault(!unit.isEmpty(0))) {
        unit.set(0, INDEFINITE);
        unit.push(INDEFINITE);
      }
      return undefined;
    }
    const x = unit.float(0);
    if (outOfTrigonometricRange(x)) {
      unit.setC1(false);
      unit.setC2(true);
      return undefined;
    }
    const low = first(x, unit.status);
    const high = second(x, unit.status);
    if (!unit.complete()) return undefined;
    unit.set(0, low);
    unit.push(high);
    return undefined;
  });
}

/** ST(1) = f(ST(1), ST(0)), and pop. */
function binary(name: string, compute: (y: Float, x: Float, status: FloatStatus) => bigint): SystemOperation {
  return x87Operation(name, (unit) => {
    if (unit.isEmpty(0) || unit.isEmpty(1)) return underflow(unit, 1, true);
    const bits = compute(unit.float(1), unit.float(0), unit.status);
    if (!unit.complete()) return undefined;
    unit.set(1, bits);
    unit.pop();
    return undefined;
  });
}

const ONE = pack(F80, false, F80.bias, 1n << 63n);

export const F2XM1 = unary('f2xm1', powerMinusOne, false);
export const FYL2X = binary('fyl2x', timesLog2);
export const FYL2XP1 = binary('fyl2xp1', timesLog2PlusOne);
export const FPATAN = binary('fpatan', arctangent);
export const FSIN = unary('fsin', sine, true);
export const FCOS = unary('fcos', cosine, true);
export const FSINCOS = twoResults('fsincos', sine, cosine);
/** FPTAN pushes 1, or the NaN again when that is the result. */
export const FPTAN = twoResults('fptan', tangent, (x, status) =>
  x.kind === 'finite' || x.kind === 'zero' ? ONE : tangent(x, status),
);
