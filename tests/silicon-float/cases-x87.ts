import type { Family } from './cases.ts';
import type { OperandSource } from './operands.ts';
import type { SiliconRecord } from './record.ts';

/** Register forms: `i` is 1 or 3. */
function stack(name: string, first: number, second: number): Record<string, readonly number[]> {
  return { [`${name} 1`]: [first, second + 1], [`${name} 3`]: [first, second + 3] };
}

/** Memory forms at [rdi]. */
function memory(name: string, opcode: number, digit: number): Record<string, readonly number[]> {
  return { [name]: [opcode, (digit << 3) | 7] };
}

function arithmeticForms(): Record<string, readonly number[]> {
  const kinds = ['fadd', 'fmul', '', '', 'fsub', 'fsubr', 'fdiv', 'fdivr'];
  const forms: Record<string, readonly number[]> = {};
  for (const [digit, kind] of kinds.entries()) {
    if (kind === '') continue;
    Object.assign(
      forms,
      memory(`${kind} m32`, 0xd8, digit),
      memory(`${kind} m64`, 0xdc, digit),
      memory(`${kind} i32`, 0xda, digit),
      memory(`${kind} i16`, 0xde, digit),
      stack(`${kind} st`, 0xd8, 0xc0 + digit * 8),
      stack(`${kind} dc`, 0xdc, 0xc0 + digit * 8),
      stack(`${kind}p de`, 0xde, 0xc0 + digit * 8),
    );
  }
  return forms;
}

function x87Value(record: SiliconRecord, source: OperandSource, index: number): bigint {
  if (index > 0 && source.below(8) === 0) return record.st(0) ^ (source.below(2) ? 1n << 79n : 0n);
  switch (source.below(8)) {
    case 0: {
      // Whole numbers, also halves.
      const magnitude = source.bits64() >> BigInt(source.below(64));
      if (magnitude === 0n) return 0n;
      const length = magnitude.toString(2).length;
      const field = BigInt(16383 + length - 1 - source.below(3));
      return (field << 64n) | BigInt.asUintN(64, magnitude << BigInt(64 - length));
    }
    case 1: {
      // Exactly a number of the narrower format, or next to one.
      const bits = source.f64();
      const field = (bits >> 52n) & 0x7ffn;
      if (field === 0n || field === 0x7ffn) return 0n;
      const significand = (1n << 63n) | ((bits & ((1n << 52n) - 1n)) << 11n) | BigInt(source.below(4));
      return ((bits >> 63n) << 79n) | ((field + 15360n) << 64n) | significand;
    }
    default:
      return source.f80();
  }
}

function fillX87(record: SiliconRecord, source: OperandSource, mnemonic: string): void {
  const masks = source.below(3) === 0 ? source.below(64) : 0x3f;
  const precision = source.pick([3, 3, 3, 2, 0]);
  record.fcw = 0x40 | masks | (precision << 8) | (source.below(4) << 10);
  const top = source.below(8);
  const conditions = source.below(16);
  const sticky = source.below(6) === 0 ? source.below(64) & (source.below(4) ? masks : 63) : 0;
  record.fsw = (top << 11) | ((conditions & 7) << 8) | ((conditions >> 3) << 14) | sticky;
  const depth = source.pick([8, 7, 4, 4, 4, 4, 4, 4, 2, 1, 0]);
  let tags = 0;
  for (let i = 0; i < 8; i++) {
    record.setSt(i, x87Value(record, source, i));
    if (i < depth) tags |= 1 << ((top + i) & 7);
  }
  record.ftw = source.below(16) === 0 ? source.below(256) : tags;
  record.rflags = 0x202n | (BigInt(source.below(0x10000)) & 0x8d5n);
  record.rax = source.bits64();
  const view = new DataView(record.memory.buffer, record.memory.byteOffset);
  const operand = mnemonic.split(' ')[1] ?? '';
  for (let i = 0; i < 128; i++) view.setUint8(i, source.below(256));
  if (operand === 'm32') view.setUint32(0, Number(source.f32()), true);
  if (operand === 'm64') view.setBigUint64(0, source.f64(), true);
  if (operand === 'm80') {
    const bits = source.f80();
    view.setBigUint64(0, BigInt.asUintN(64, bits), true);
    view.setUint16(8, Number(bits >> 64n), true);
  }
  if (operand.startsWith('i')) {
    const magnitude = source.bits64() >> BigInt(source.below(64));
    view.setBigUint64(0, BigInt.asUintN(64, source.below(2) ? magnitude : -magnitude), true);
  }
  if (mnemonic === 'fbld') {
    for (let i = 0; i < 9; i++) view.setUint8(i, source.below(10) * 16 + source.below(10));
    view.setUint8(9, source.below(2) * 128);
    if (source.below(3) === 0) for (let i = source.below(9); i < 9; i++) view.setUint8(i, 0);
  }
}

export const X87_ARITHMETIC: Family = {
  name: 'x87-arithmetic',
  codes: {
    ...arithmeticForms(),
    fchs: [0xd9, 0xe0],
    fabs: [0xd9, 0xe1],
    fxtract: [0xd9, 0xf4],
    fprem1: [0xd9, 0xf5],
    fprem: [0xd9, 0xf8],
    fsqrt: [0xd9, 0xfa],
    frndint: [0xd9, 0xfc],
    fscale: [0xd9, 0xfd],
  },
  fill: fillX87,
};

export const X87_COMPARE: Family = {
  name: 'x87-compare',
  codes: {
    ...memory('fcom m32', 0xd8, 2),
    ...memory('fcomp m32', 0xd8, 3),
    ...memory('fcom m64', 0xdc, 2),
    ...memory('fcomp m64', 0xdc, 3),
    ...memory('ficom i32', 0xda, 2),
    ...memory('ficomp i32', 0xda, 3),
    ...memory('ficom i16', 0xde, 2),
    ...memory('ficomp i16', 0xde, 3),
    ...stack('fcom', 0xd8, 0xd0),
    ...stack('fcomp', 0xd8, 0xd8),
    ...stack('fcom dc', 0xdc, 0xd0),
    ...stack('fcomp dc', 0xdc, 0xd8),
    ...stack('fcomp de', 0xde, 0xd0),
    fcompp: [0xde, 0xd9],
    fucompp: [0xda, 0xe9],
    ...stack('fucom', 0xdd, 0xe0),
    ...stack('fucomp', 0xdd, 0xe8),
    ...stack('fucomi', 0xdb, 0xe8),
    ...stack('fcomi', 0xdb, 0xf0),
    ...stack('fucomip', 0xdf, 0xe8),
    ...stack('fcomip', 0xdf, 0xf0),
    ftst: [0xd9, 0xe4],
    fxam: [0xd9, 0xe5],
  },
  fill: fillX87,
};

export const X87_MOVE: Family = {
  name: 'x87-move',
  codes: {
    ...memory('fld m32', 0xd9, 0),
    ...memory('fst m32', 0xd9, 2),
    ...memory('fstp m32', 0xd9, 3),
    ...memory('fld m64', 0xdd, 0),
    ...memory('fst m64', 0xdd, 2),
    ...memory('fstp m64', 0xdd, 3),
    ...memory('fld m80', 0xdb, 5),
    ...memory('fstp m80', 0xdb, 7),
    ...memory('fild i16', 0xdf, 0),
    ...memory('fist i16', 0xdf, 2),
    ...memory('fistp i16', 0xdf, 3),
    ...memory('fild i32', 0xdb, 0),
    ...memory('fist i32', 0xdb, 2),
    ...memory('fistp i32', 0xdb, 3),
    ...memory('fild i64', 0xdf, 5),
    ...memory('fistp i64', 0xdf, 7),
    ...memory('fbld', 0xdf, 4),
    ...memory('fbstp', 0xdf, 6),
    ...stack('fld', 0xd9, 0xc0),
    ...stack('fxch', 0xd9, 0xc8),
    ...stack('fst', 0xdd, 0xd0),
    ...stack('fstp', 0xdd, 0xd8),
    ...stack('fstp d9', 0xd9, 0xd8),
    ...stack('fxch dd', 0xdd, 0xc8),
    ...stack('fxch df', 0xdf, 0xc8),
    ...stack('fstp df', 0xdf, 0xd0),
    ...stack('fstp df8', 0xdf, 0xd8),
    ...stack('fcmovb', 0xda, 0xc0),
    ...stack('fcmove', 0xda, 0xc8),
    ...stack('fcmovbe', 0xda, 0xd0),
    ...stack('fcmovu', 0xda, 0xd8),
    ...stack('fcmovnb', 0xdb, 0xc0),
    ...stack('fcmovne', 0xdb, 0xc8),
    ...stack('fcmovnbe', 0xdb, 0xd0),
    ...stack('fcmovnu', 0xdb, 0xd8),
    fld1: [0xd9, 0xe8],
    fldl2t: [0xd9, 0xe9],
    fldl2e: [0xd9, 0xea],
    fldpi: [0xd9, 0xeb],
    fldlg2: [0xd9, 0xec],
    fldln2: [0xd9, 0xed],
    fldz: [0xd9, 0xee],
  },
  fill: fillX87,
};

export const X87_CONTROL: Family = {
  name: 'x87-control',
  codes: {
    fldcw: [0xd9, 0x2f],
    fnstcw: [0xd9, 0x3f],
    fnstsw: [0xdd, 0x3f],
    'fnstsw ax': [0xdf, 0xe0],
    fnclex: [0xdb, 0xe2],
    fninit: [0xdb, 0xe3],
    feni: [0xdb, 0xe0],
    fdisi: [0xdb, 0xe1],
    fsetpm: [0xdb, 0xe4],
    fnop: [0xd9, 0xd0],
    fdecstp: [0xd9, 0xf6],
    fincstp: [0xd9, 0xf7],
    fwait: [0x9b],
    ...stack('ffree', 0xdd, 0xc0),
    ...stack('ffreep', 0xdf, 0xc0),
    undefined1: [0xd9, 0xd1],
    undefined2: [0xd9, 0xe2],
    undefined3: [0xd9, 0xef],
    undefined4: [0xda, 0xe0],
    undefined5: [0xdb, 0xe5],
    undefined6: [0xdd, 0xf0],
    undefined7: [0xde, 0xd8],
    undefined8: [0xdf, 0xe1],
    undefined9: [0xdf, 0xf8],
    undefined10: [0xdb, 0xf8],
    fldenv: [0xd9, 0x27],
    fldenv16: [0x66, 0xd9, 0x27],
    frstor: [0xdd, 0x27],
    frstor16: [0x66, 0xdd, 0x27],
  },
  fill: fillX87,
};

/** Compared to one unit in the last place. */
export const X87_TRANSCENDENTAL: Family = {
  name: 'x87-transcendental',
  codes: {
    f2xm1: [0xd9, 0xf0],
    fyl2x: [0xd9, 0xf1],
    fptan: [0xd9, 0xf2],
    fpatan: [0xd9, 0xf3],
    fyl2xp1: [0xd9, 0xf9],
    fsincos: [0xd9, 0xfb],
    fsin: [0xd9, 0xfe],
    fcos: [0xd9, 0xff],
  },
  fill(record, source, mnemonic) {
    fillX87(record, source, mnemonic);
    // Mostly moderate arguments.
    for (const i of [0, 1]) {
      if (source.below(3) === 0) continue;
      const field = 16383 + source.below(24) - (mnemonic === 'f2xm1' || mnemonic === 'fyl2xp1' ? 25 : 12);
      const sign = BigInt(source.below(2)) << 79n;
      record.setSt(i, sign | (BigInt(field) << 64n) | (1n << 63n) | source.fraction(63));
    }
  },
};
