import { ABORTED, type Cpu, DONE, type Outcome, type SystemFunction } from '../cpu.ts';
import { type CpuState, MXCSR } from '../state.ts';
import { convert, fromInteger, toInteger } from './convert.ts';
import { type FloatFormat, unpack } from './format.ts';
import { readLane, report, writeLane } from './sse.ts';
import { type FloatStatus, ROUND, sseStatus } from './status.ts';

/** SSE conversions: b is the result, c the operand; offsets of vector or general registers in the state. */

export type IntegerSize = 4 | 8;

function readInteger(state: CpuState, size: IntegerSize, offset: number, lane: number): bigint {
  return size === 4 ? BigInt(state.i32[(offset >> 2) + lane]!) : BigInt.asIntN(64, state.get64(offset));
}

/** Computes all results, reports, and only then writes. `clear` zeroes the upper half of the target. */
function lanewise(
  lanes: number,
  compute: (state: CpuState, c: number, lane: number, status: FloatStatus) => bigint,
  write: (state: CpuState, b: number, lane: number, bits: bigint) => void,
  clear: boolean,
): SystemFunction {
  return (cpu: Cpu, b, c): Outcome => {
    const { state } = cpu;
    const status = sseStatus(state.get32(MXCSR));
    const results: bigint[] = [];
    for (let lane = 0; lane < lanes; lane++) results.push(compute(state, c, lane, status));
    if (report(cpu, status) !== DONE) return ABORTED;
    for (let lane = 0; lane < lanes; lane++) write(state, b, lane, results[lane]!);
    if (clear) state.set64(b + 8, 0n);
    return DONE;
  };
}

/** CVTSS2SD, CVTSD2SS, CVTPS2PD, CVTPD2PS. */
export function formatConversion(from: FloatFormat, to: FloatFormat, lanes: 1 | 2): SystemFunction {
  return lanewise(
    lanes,
    (state, c, lane, status) =>
      convert(to, unpack(from, readLane(state, from, c, lane), status.denormalsAreZero), status),
    (state, b, lane, bits) => writeLane(state, to, b, lane, bits),
    lanes === 2 && to.width === 32,
  );
}

/** CVTSI2SS, CVTSI2SD, CVTDQ2PS, CVTDQ2PD. */
export function integerToFloat(from: IntegerSize, to: FloatFormat, lanes: 1 | 2 | 4): SystemFunction {
  return lanewise(
    lanes,
    (state, c, lane, status) => fromInteger(to, readInteger(state, from, c, lane), status),
    (state, b, lane, bits) => writeLane(state, to, b, lane, bits),
    false,
  );
}

function asInteger(
  from: FloatFormat,
  to: IntegerSize,
  truncate: boolean,
): (state: CpuState, c: number, lane: number, status: FloatStatus) => bigint {
  return (state, c, lane, status) => {
    const x = unpack(from, readLane(state, from, c, lane), status.denormalsAreZero);
    return toInteger(x, to * 8, truncate ? ROUND.zero : status.rounding, status);
  };
}

/** CVTPS2DQ, CVTPD2DQ and their truncating forms. */
export function floatToIntegers(from: FloatFormat, lanes: 2 | 4, truncate: boolean): SystemFunction {
  return lanewise(
    lanes,
    asInteger(from, 4, truncate),
    (state, b, lane, bits) => state.set32(b + lane * 4, Number(bits)),
    lanes === 2,
  );
}

/** CVTSS2SI, CVTSD2SI and their truncating forms: b is a general register. */
export function floatToGeneral(from: FloatFormat, to: IntegerSize, truncate: boolean): SystemFunction {
  return lanewise(1, asInteger(from, to, truncate), (state, b, _lane, bits) => state.set(b, to, bits), false);
}
