/** Exception flags, as in MXCSR and the x87 status word; masks stand in the same order [SDM 1 4.9.1]. */
export const EXCEPTION = {
  invalid: 0x01,
  denormal: 0x02,
  zeroDivide: 0x04,
  overflow: 0x08,
  underflow: 0x10,
  inexact: 0x20,
} as const;
/** Found before the operation is carried out; when one of them is unmasked, nothing is computed. */
export const BEFORE_OPERATION = EXCEPTION.invalid | EXCEPTION.denormal | EXCEPTION.zeroDivide;

/** Rounding control as encoded in MXCSR<14:13> and FCW<11:10>. */
export const ROUND = { nearest: 0, down: 1, up: 2, zero: 3 } as const;
export type Rounding = (typeof ROUND)[keyof typeof ROUND];

/** How an operation is to be done, and what it reports. One object may serve many operations: flags add up. */
export interface FloatStatus {
  rounding: Rounding;
  /** Bit set: the exception is masked. */
  masks: number;
  flags: number;
  /** Denormal inputs count as zero; denormal results become zero (SSE only). */
  denormalsAreZero: boolean;
  flushToZero: boolean;
  /** x87 NaN choice, and wrapped exponents for unmasked overflow and underflow. */
  x87: boolean;
  /** Significand bits of x87 register results: 24, 53 or 64. Not used by SSE. */
  precision: number;
  /** The last rounding went away from zero (x87 C1). */
  roundedUp: boolean;
}

export function sseStatus(mxcsr: number): FloatStatus {
  return {
    rounding: ((mxcsr >> 13) & 3) as Rounding,
    masks: (mxcsr >> 7) & 0x3f,
    flags: 0,
    denormalsAreZero: (mxcsr & 0x40) !== 0,
    flushToZero: (mxcsr & 0x8000) !== 0,
    x87: false,
    precision: 0,
    roundedUp: false,
  };
}

/** Precision control; the reserved value 1 counts as 64 bits. */
const PRECISION = [24, 64, 53, 64] as const;

export function x87Status(controlWord: number): FloatStatus {
  return {
    rounding: ((controlWord >> 10) & 3) as Rounding,
    masks: controlWord & 0x3f,
    flags: 0,
    denormalsAreZero: false,
    flushToZero: false,
    x87: true,
    precision: PRECISION[(controlWord >> 8) & 3]!,
    roundedUp: false,
  };
}

export function isMasked(status: FloatStatus, exception: number): boolean {
  return (status.masks & exception) !== 0;
}
