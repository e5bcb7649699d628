import type { Family } from './cases.ts';
import type { OperandSource } from './operands.ts';
import type { SiliconRecord } from './record.ts';

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
  // With the inexact flag set already, the quick way of the engines is taken.
  const sticky = source.below(6) === 0 ? source.below(64) : source.below(2) * 0x20;
  record.mxcsr = (masks << 7) | (source.below(4) << 13) | special | sticky;
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

const VECTOR_66 = {
  20: 'unpcklpd',
  21: 'unpckhpd',
  84: 'andpd',
  85: 'andnpd',
  86: 'orpd',
  87: 'xorpd',
  96: 'punpcklbw',
  97: 'punpcklwd',
  98: 'punpckldq',
  99: 'packsswb',
  100: 'pcmpgtb',
  101: 'pcmpgtw',
  102: 'pcmpgtd',
  103: 'packuswb',
  104: 'punpckhbw',
  105: 'punpckhwd',
  106: 'punpckhdq',
  107: 'packssdw',
  108: 'punpcklqdq',
  109: 'punpckhqdq',
  111: 'movdqa',
  116: 'pcmpeqb',
  117: 'pcmpeqw',
  118: 'pcmpeqd',
  209: 'psrlw',
  210: 'psrld',
  211: 'psrlq',
  212: 'paddq',
  213: 'pmullw',
  214: 'movq',
  216: 'psubusb',
  217: 'psubusw',
  218: 'pminub',
  219: 'pand',
  220: 'paddusb',
  221: 'paddusw',
  222: 'pmaxub',
  223: 'pandn',
  224: 'pavgb',
  225: 'psraw',
  226: 'psrad',
  227: 'pavgw',
  228: 'pmulhuw',
  229: 'pmulhw',
  232: 'psubsb',
  233: 'psubsw',
  234: 'pminsw',
  235: 'por',
  236: 'paddsb',
  237: 'paddsw',
  238: 'pmaxsw',
  239: 'pxor',
  241: 'psllw',
  242: 'pslld',
  243: 'psllq',
  244: 'pmuludq',
  245: 'pmaddwd',
  246: 'psadbw',
  248: 'psubb',
  249: 'psubw',
  250: 'psubd',
  251: 'psubq',
  252: 'paddb',
  253: 'paddw',
  254: 'paddd',
} as const;

/** An instruction for each of some values of its immediate byte. */
function immediates(name: string, code: readonly number[], values: readonly number[]) {
  return Object.fromEntries(values.map((imm) => [`${name},${imm}`, [...code, imm]]));
}
const COUNTS = [0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 255];
const SHUFFLES = [0x00, 0x1b, 0x4e, 0xe4, 0x93, 0xff, 0x72];

export const SSE_INTEGER: Family = {
  name: 'sse-integer',
  codes: {
    ...Object.fromEntries(
      Object.entries(VECTOR_66).map(([opcode, name]) => [name, [0x66, 0x0f, Number(opcode), 0xc1]]),
    ),
    ...immediates('psrlw', [0x66, 0x0f, 0x71, 0xd1], COUNTS),
    ...immediates('psraw', [0x66, 0x0f, 0x71, 0xe1], COUNTS),
    ...immediates('psllw', [0x66, 0x0f, 0x71, 0xf1], COUNTS),
    ...immediates('psrld', [0x66, 0x0f, 0x72, 0xd1], COUNTS),
    ...immediates('psrad', [0x66, 0x0f, 0x72, 0xe1], COUNTS),
    ...immediates('pslld', [0x66, 0x0f, 0x72, 0xf1], COUNTS),
    ...immediates('psrlq', [0x66, 0x0f, 0x73, 0xd1], COUNTS),
    ...immediates('psrldq', [0x66, 0x0f, 0x73, 0xd9], COUNTS),
    ...immediates('psllq', [0x66, 0x0f, 0x73, 0xf1], COUNTS),
    ...immediates('pslldq', [0x66, 0x0f, 0x73, 0xf9], COUNTS),
    ...immediates('pshufd', [0x66, 0x0f, 0x70, 0xc1], SHUFFLES),
    ...immediates('pshuflw', [0xf2, 0x0f, 0x70, 0xc1], SHUFFLES),
    ...immediates('pshufhw', [0xf3, 0x0f, 0x70, 0xc1], SHUFFLES),
    ...immediates('shufps', [0x0f, 0xc6, 0xc1], SHUFFLES),
    ...immediates('shufpd', [0x66, 0x0f, 0xc6, 0xc1], [0, 1, 2, 3, 255]),
    ...immediates('pinsrw', [0x66, 0x0f, 0xc4, 0xc0], [0, 3, 4, 7, 255]),
    ...immediates('pextrw', [0x66, 0x0f, 0xc5, 0xc1], [0, 3, 4, 7, 255]),
    movss: [0xf3, 0x0f, 0x10, 0xc1],
    movsd: [0xf2, 0x0f, 0x10, 0xc1],
    'movss store': [0xf3, 0x0f, 0x11, 0xc1],
    movhlps: [0x0f, 0x12, 0xc1],
    movlhps: [0x0f, 0x16, 0xc1],
    unpcklps: [0x0f, 0x14, 0xc1],
    unpckhps: [0x0f, 0x15, 0xc1],
    movmskps: [0x0f, 0x50, 0xc1],
    movmskpd: [0x66, 0x0f, 0x50, 0xc1],
    pmovmskb: [0x66, 0x0f, 0xd7, 0xc1],
    movd: [0x66, 0x0f, 0x6e, 0xc0],
    'movq r': [0x66, 0x48, 0x0f, 0x6e, 0xc0],
    'movd store': [0x66, 0x0f, 0x7e, 0xc0],
    'movq store r': [0x66, 0x48, 0x0f, 0x7e, 0xc0],
    'movq x': [0xf3, 0x0f, 0x7e, 0xc1],
  },
  fill(record, source, mnemonic) {
    for (const register of [0, 1]) {
      let value = 0n;
      for (let lane = 0; lane < 16; lane++) {
        const byte = source.pick([0, 1, 0x7f, 0x80, 0xff, source.below(256), source.below(256)]);
        value |= BigInt(byte) << BigInt(lane * 8);
      }
      record.setXmm(register, value);
    }
    if (/^ps[rl][la]/.test(mnemonic) && !mnemonic.includes(',') && source.below(4) > 0) {
      record.setXmm(1, BigInt(source.below(80)) | (source.bits64() << 64n));
    }
    record.rax = source.bits64();
  },
};
