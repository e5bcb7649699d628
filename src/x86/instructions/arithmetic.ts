import type { Instruction, Lowering, Row } from '../instruction.ts';
import {
  ADC,
  ADD,
  AND,
  type BinaryOperation,
  COMPARE,
  COMPARE_EXCHANGE_FINISH,
  COMPARE_EXCHANGE_VALUE,
  DEC,
  INC,
  NEG,
  NOT,
  OR,
  SBB,
  SUB,
  TEST,
  XOR,
} from '../micro-operations/arithmetic.ts';
import type { BySize } from '../micro-operations/by-size.ts';
import { MOVE64_IF } from '../micro-operations/control.ts';
import { MOVE } from '../micro-operations/move.ts';
import { GPR, RAX } from '../state.ts';
import {
  closePlace,
  modrmRow,
  openPlace,
  plainRow,
  regOperand,
  rmRegister,
  rowsOf,
  source,
  T0,
  T1,
  widthOf,
} from './operand.ts';

/** Binary arithmetic and logic [SDM 1 5.1.2, 5.1.4]. */

type Lower = Row['lower'];

/** Operations without a result only read their first operand. */
function hasResult(operation: BinaryOperation): boolean {
  return operation !== COMPARE && operation !== TEST;
}

/** r/m = r/m op r. */
function rmWithRegister(operation: BinaryOperation): Lower {
  return (instruction, out) => {
    const size = widthOf(instruction);
    const c = regOperand(instruction, size);
    if (!hasResult(operation)) {
      out.emit(operation.register[size], { b: source(instruction, out, size), c });
      return;
    }
    const place = openPlace(instruction, out, size);
    out.emit(operation.register[size], { a: place.to, b: place.from, c });
    closePlace(place, out, size);
  };
}

/** r = r op r/m. */
function registerWithRm(operation: BinaryOperation): Lower {
  return (instruction, out) => {
    const size = widthOf(instruction);
    const register = regOperand(instruction, size);
    const c = source(instruction, out, size);
    out.emit(operation.register[size], { a: register, b: register, c });
  };
}

/** r/m = r/m op immediate. */
function rmWithImmediate(operation: BinaryOperation): Lower {
  return (instruction, out) => {
    const size = widthOf(instruction);
    const imm = instruction.immediate;
    if (!hasResult(operation)) {
      out.emit(operation.immediate[size], { b: source(instruction, out, size), imm });
      return;
    }
    const place = openPlace(instruction, out, size);
    out.emit(operation.immediate[size], { a: place.to, b: place.from, imm });
    closePlace(place, out, size);
  };
}

/** Accumulator = accumulator op immediate. */
function accumulatorWithImmediate(operation: BinaryOperation): Lower {
  return (instruction, out) => {
    const size = widthOf(instruction);
    out.emit(operation.immediate[size], { a: RAX, b: RAX, imm: instruction.immediate });
  };
}

/** The eight operations that share an encoding scheme, in its order [SDM 2 table A-2]. */
const SCHEME: readonly (readonly [string, BinaryOperation])[] = [
  ['add', ADD],
  ['or', OR],
  ['adc', ADC],
  ['sbb', SBB],
  ['and', AND],
  ['sub', SUB],
  ['xor', XOR],
  ['cmp', COMPARE],
];

function schemeRows(): Row[] {
  return SCHEME.flatMap(([mnemonic, operation], digit) => {
    const base = digit * 8;
    const lockable = operation !== COMPARE;
    return [
      modrmRow(base, mnemonic, rmWithRegister(operation), { lockable }),
      modrmRow(base + 1, mnemonic, rmWithRegister(operation), { lockable }),
      modrmRow(base + 2, mnemonic, registerWithRm(operation)),
      modrmRow(base + 3, mnemonic, registerWithRm(operation)),
      plainRow(base + 4, mnemonic, accumulatorWithImmediate(operation), { immediate: 'b' }),
      plainRow(base + 5, mnemonic, accumulatorWithImmediate(operation), { immediate: 'z' }),
      modrmRow(0x80, mnemonic, rmWithImmediate(operation), { digit, lockable, immediate: 'b' }),
      modrmRow(0x81, mnemonic, rmWithImmediate(operation), { digit, lockable, immediate: 'z' }),
      modrmRow(0x82, mnemonic, rmWithImmediate(operation), {
        digit,
        lockable,
        immediate: 'b',
        modes: 'legacy',
      }),
      modrmRow(0x83, mnemonic, rmWithImmediate(operation), { digit, lockable, immediate: 'b' }),
    ];
  });
}

/** r/m = op r/m. */
function unary(operation: BySize): Lower {
  return (instruction, out) => {
    const size = widthOf(instruction);
    const place = openPlace(instruction, out, size);
    out.emit(operation[size], { a: place.to, b: place.from });
    closePlace(place, out, size);
  };
}

/** 40..4F in legacy code. */
function shortStep(operation: BySize): Lower {
  return (instruction, out) => {
    const register = GPR + instruction.rm * 8;
    out.emit(operation[instruction.operandSize], { a: register, b: register });
  };
}

/** XADD: the sum goes to r/m last, so a register exchanged with itself holds the sum. */
function exchangeAdd(instruction: Instruction, out: Lowering): void {
  const size = widthOf(instruction);
  const register = regOperand(instruction, size);
  if (instruction.memory === undefined) {
    const rm = rmRegister(instruction, size);
    out.emit(ADD.register[size], { a: T1, b: rm, c: register });
    out.emit(MOVE[size], { a: register, b: rm });
    out.emit(MOVE[size], { a: rm, b: T1 });
    return;
  }
  const place = openPlace(instruction, out, size);
  out.emit(ADD.register[size], { a: place.to, b: place.from, c: register });
  closePlace(place, out, size);
  out.emit(MOVE[size], { a: register, b: T0 });
}

/** Condition code E. */
const IF_EQUAL = 4;

/**
 * CMPXCHG writes memory in both cases, and the accumulator after it (it may be part of the address). A register
 * destination of 32 bits keeps its upper half when it was not equal (AMD Zen, measured).
 */
function compareExchange(instruction: Instruction, out: Lowering): void {
  const size = widthOf(instruction);
  const b = regOperand(instruction, size);
  if (instruction.memory === undefined) {
    const rm = rmRegister(instruction, size);
    out.emit(MOVE[size], { a: T0, b: rm });
    // The accumulator first: when it is also r/m, the two are equal and it is not written.
    if (size === 4) {
      out.emit(COMPARE_EXCHANGE_FINISH[4], { c: T0 });
      out.emit(MOVE[4], { a: T1, b });
      out.emit(MOVE64_IF[IF_EQUAL]!, { a: rm, b: T1 });
    } else {
      out.emit(COMPARE_EXCHANGE_VALUE[size], { a: T1, b, c: T0 });
      out.emit(COMPARE_EXCHANGE_FINISH[size], { c: T0 });
      out.emit(MOVE[size], { a: rm, b: T1 });
    }
    return;
  }
  const place = openPlace(instruction, out, size);
  out.emit(COMPARE_EXCHANGE_VALUE[size], { a: place.to, b, c: place.from });
  closePlace(place, out, size);
  out.emit(COMPARE_EXCHANGE_FINISH[size], { c: place.from });
}

export const ARITHMETIC_ROWS: readonly Row[] = [
  ...schemeRows(),
  modrmRow(0x84, 'test', rmWithRegister(TEST)),
  modrmRow(0x85, 'test', rmWithRegister(TEST)),
  plainRow(0xa8, 'test', accumulatorWithImmediate(TEST), { immediate: 'b' }),
  plainRow(0xa9, 'test', accumulatorWithImmediate(TEST), { immediate: 'z' }),
  // F6 /1 and F7 /1 behave as /0 [SDM 2 table A-6 marks them reserved; processors of both makers agree].
  ...[0, 1].flatMap((digit) => [
    modrmRow(0xf6, 'test', rmWithImmediate(TEST), { digit, immediate: 'b' }),
    modrmRow(0xf7, 'test', rmWithImmediate(TEST), { digit, immediate: 'z' }),
  ]),
  ...[0xf6, 0xf7].flatMap((opcode) => [
    modrmRow(opcode, 'not', unary(NOT), { digit: 2, lockable: true }),
    modrmRow(opcode, 'neg', unary(NEG), { digit: 3, lockable: true }),
  ]),
  ...[0xfe, 0xff].flatMap((opcode) => [
    modrmRow(opcode, 'inc', unary(INC), { digit: 0, lockable: true }),
    modrmRow(opcode, 'dec', unary(DEC), { digit: 1, lockable: true }),
  ]),
  ...rowsOf(0x40, 8, (opcode) => plainRow(opcode, 'inc', shortStep(INC), { modes: 'legacy' })),
  ...rowsOf(0x48, 8, (opcode) => plainRow(opcode, 'dec', shortStep(DEC), { modes: 'legacy' })),
  modrmRow(0x0fc0, 'xadd', exchangeAdd, { lockable: true }),
  modrmRow(0x0fc1, 'xadd', exchangeAdd, { lockable: true }),
  modrmRow(0x0fb0, 'cmpxchg', compareExchange, { lockable: true }),
  modrmRow(0x0fb1, 'cmpxchg', compareExchange, { lockable: true }),
];
