import { OperandSource } from './operands.ts';
import { SiliconRecord } from './record.ts';

/** Random cases of one instruction family. */
export interface Family {
  readonly name: string;
  /** Encoded instructions. */
  readonly codes: Readonly<Record<string, readonly number[]>>;
  fill(record: SiliconRecord, source: OperandSource, mnemonic: string): void;
}

const SSE_PREFIX = { ps: [], pd: [0x66], ss: [0xf3], sd: [0xf2] } as const;

/** xmm0, xmm1 register forms. */
function sse(name: string, opcode: number, shapes: readonly (keyof typeof SSE_PREFIX)[], ...tail: number[]) {
  return Object.fromEntries(
    shapes.map((shape) => [`${name}${shape}`, [...SSE_PREFIX[shape], 0x0f, opcode, 0xc1, ...tail]]),
  );
}
const ALL = ['ps', 'pd', 'ss', 'sd'] as const;

const F64_OPERANDS = /pd$|sd$|pd2|sd2/;

function fillVectors(record: SiliconRecord, source: OperandSource, mnemonic: string): void {
  const wide = F64_OPERANDS.test(mnemonic);
  const lanes = wide ? 2 : 4;
  for (const register of [0, 1]) {
    let value = 0n;
    for (let lane = 0; lane < lanes; lane++) {
      let bits = wide ? source.f64() : source.f32();
      // Now and then both operands are equal, or differ in the sign only.
      if (register === 1 && source.below(8) === 0) {
        bits = (record.xmm(0) >> BigInt(lane * (wide ? 64 : 32))) & ((1n << (wide ? 64n : 32n)) - 1n);
        if (source.below(2) === 0) bits ^= 1n << (wide ? 63n : 31n);
      }
      value |= bits << BigInt(lane * (wide ? 64 : 32));
    }
    record.setXmm(register, value);
  }
  const masks = source.below(4) === 0 ? source.below(64) : 0x3f;
  const special = source.below(3) === 0 ? source.pick([0x40, 0x8000, 0x8040]) : 0;
  record.mxcsr =
    (masks << 7) | (source.below(4) << 13) | special | (source.below(6) === 0 ? source.below(64) : 0);
  record.rflags = 0x202n | (BigInt(source.below(0x10000)) & 0x8d5n);
}

/** Integers near the edges of conversion. */
function integer64(source: OperandSource): bigint {
  const magnitude = source.bits64() >> BigInt(source.below(64));
  return BigInt.asUintN(64, source.below(2) ? magnitude : -magnitude);
}

export const SSE_ARITHMETIC: Family = {
  name: 'sse-arithmetic',
  codes: {
    ...sse('sqrt', 0x51, ALL),
    ...sse('rsqrt', 0x52, ['ps', 'ss']),
    ...sse('rcp', 0x53, ['ps', 'ss']),
    ...sse('add', 0x58, ALL),
    ...sse('mul', 0x59, ALL),
    ...sse('sub', 0x5c, ALL),
    ...sse('min', 0x5d, ALL),
    ...sse('div', 0x5e, ALL),
    ...sse('max', 0x5f, ALL),
  },
  fill: fillVectors,
};

export const SSE_COMPARE: Family = {
  name: 'sse-compare',
  codes: {
    ...Object.fromEntries(
      [0, 1, 2, 3, 4, 5, 6, 7].flatMap((imm) => Object.entries(sse(`cmp${imm}`, 0xc2, ALL, imm))),
    ),
    ucomiss: [0x0f, 0x2e, 0xc1],
    ucomisd: [0x66, 0x0f, 0x2e, 0xc1],
    comiss: [0x0f, 0x2f, 0xc1],
    comisd: [0x66, 0x0f, 0x2f, 0xc1],
  },
  fill: fillVectors,
};

export const SSE_CONVERT: Family = {
  name: 'sse-convert',
  codes: {
    cvtps2pd: [0x0f, 0x5a, 0xc1],
    cvtpd2ps: [0x66, 0x0f, 0x5a, 0xc1],
    cvtss2sd: [0xf3, 0x0f, 0x5a, 0xc1],
    cvtsd2ss: [0xf2, 0x0f, 0x5a, 0xc1],
    cvtdq2ps: [0x0f, 0x5b, 0xc1],
    cvtps2dq: [0x66, 0x0f, 0x5b, 0xc1],
    cvttps2dq: [0xf3, 0x0f, 0x5b, 0xc1],
    cvttpd2dq: [0x66, 0x0f, 0xe6, 0xc1],
    cvtdq2pd: [0xf3, 0x0f, 0xe6, 0xc1],
    cvtpd2dq: [0xf2, 0x0f, 0xe6, 0xc1],
    cvtsi2ss: [0xf3, 0x0f, 0x2a, 0xc0],
    cvtsi2ss64: [0xf3, 0x48, 0x0f, 0x2a, 0xc0],
    cvtsi2sd: [0xf2, 0x0f, 0x2a, 0xc0],
    cvtsi2sd64: [0xf2, 0x48, 0x0f, 0x2a, 0xc0],
    cvttss2si: [0xf3, 0x0f, 0x2c, 0xc1],
    cvttss2si64: [0xf3, 0x48, 0x0f, 0x2c, 0xc1],
    cvttsd2si: [0xf2, 0x0f, 0x2c, 0xc1],
    cvttsd2si64: [0xf2, 0x48, 0x0f, 0x2c, 0xc1],
    cvtss2si: [0xf3, 0x0f, 0x2d, 0xc1],
    cvtss2si64: [0xf3, 0x48, 0x0f, 0x2d, 0xc1],
    cvtsd2si: [0xf2, 0x0f, 0x2d, 0xc1],
    cvtsd2si64: [0xf2, 0x48, 0x0f, 0x2d, 0xc1],
  },
  fill(record, source, mnemonic) {
    fillVectors(record, source, mnemonic);
    if (mnemonic.startsWith('cvtdq')) {
      record.setXmm(1, integer64(source) | (integer64(source) << 64n));
    }
    record.rax = integer64(source);
  },
};

export const FAMILIES: readonly Family[] = [SSE_ARITHMETIC, SSE_COMPARE, SSE_CONVERT];

export function makeCases(
  family: Family,
  perCode: number,
  seed: number,
): { name: string; record: SiliconRecord }[] {
  const source = new OperandSource(seed);
  const cases = [];
  for (const [name, code] of Object.entries(family.codes)) {
    for (let i = 0; i < perCode; i++) {
      const record = new SiliconRecord();
      record.code = code;
      record.mxcsr = 0x1f80;
      record.fcw = 0x37f;
      record.rflags = 0x202n;
      family.fill(record, source, name);
      cases.push({ name, record });
    }
  }
  return cases;
}
