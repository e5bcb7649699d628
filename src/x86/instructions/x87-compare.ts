import { ABORTED, type Outcome, type SystemOperation } from '../cpu.ts';
import { compare, type Order } from '../float/compare.ts';
import { F80, type Float, unpack, zero } from '../float/format.ts';
import { readOperand, type X87Operand } from '../float/x87-operand.ts';
import { STATUS, type X87Unit } from '../float/x87-unit.ts';
import type { Row } from '../instruction.ts';
import { x87Group, x87Memory, x87Operation, x87Stack } from './x87-row.ts';

/** Comparisons: FCOM, FUCOM, FICOM, FTST into the condition codes, FCOMI into RFLAGS, and FXAM. */

const CONDITION = {
  greater: 0,
  less: STATUS.c0,
  equal: STATUS.c3,
  unordered: STATUS.c0 | STATUS.c2 | STATUS.c3,
} as const satisfies Record<Order, number>;
/** ZF, PF and CF; OF, SF and AF are cleared. */
const FLAGS = { greater: 0n, less: 0x01n, equal: 0x40n, unordered: 0x45n } as const satisfies Record<
  Order,
  bigint
>;
const ARITHMETIC_FLAGS = 0x8d5n;

function toConditions(unit: X87Unit, order: Order): void {
  unit.setConditions(CONDITION[order]);
}
function toFlags(unit: X87Unit, order: Order): void {
  unit.state.rflags = (unit.state.rflags & ~ARITHMETIC_FLAGS) | FLAGS[order];
}

interface Form {
  readonly quiet: boolean;
  readonly pops: 0 | 1 | 2;
  readonly answer: (unit: X87Unit, order: Order) => void;
  /** FCOMI and its kin leave C1 alone. */
  readonly keepsC1?: boolean;
}

/** Compares ST(0) with `other` (undefined: an empty register). Unmasked exceptions only prevent the pop. */
function relate(unit: X87Unit, other: Float | undefined, { quiet, pops, answer, keepsC1 }: Form): void {
  if (unit.isEmpty(0) || other === undefined) {
    const masked = unit.stackFault(false);
    answer(unit, 'unordered');
    if (!masked) return;
  } else {
    const order = compare(unit.float(0), other, quiet, unit.status);
    const completed = unit.complete(keepsC1);
    answer(unit, order);
    if (!completed) return;
  }
  for (let count = 0; count < pops; count++) unit.pop();
}

function withRegister(name: string, form: Form): SystemOperation {
  return x87Operation(name, (unit, i) => {
    relate(unit, unit.isEmpty(i) ? undefined : unit.float(i), form);
    return undefined;
  });
}
function withMemory(name: string, operand: X87Operand, pops: 0 | 1): SystemOperation {
  return x87Operation(`${name} ${operand}`, (unit, _i, address): Outcome | undefined => {
    const value = readOperand(unit.cpu, operand, address);
    if (value === undefined) return ABORTED;
    relate(unit, value, { quiet: false, pops, answer: toConditions });
    return undefined;
  });
}

const FCOM = withRegister('fcom', { quiet: false, pops: 0, answer: toConditions });
const FCOMP = withRegister('fcomp', { quiet: false, pops: 1, answer: toConditions });
const FCOMPP = withRegister('fcompp', { quiet: false, pops: 2, answer: toConditions });
const FUCOM = withRegister('fucom', { quiet: true, pops: 0, answer: toConditions });
const FUCOMP = withRegister('fucomp', { quiet: true, pops: 1, answer: toConditions });
const FUCOMPP = withRegister('fucompp', { quiet: true, pops: 2, answer: toConditions });
const FCOMI = withRegister('fcomi', { quiet: false, pops: 0, answer: toFlags, keepsC1: true });
const FCOMIP = withRegister('fcomip', { quiet: false, pops: 1, answer: toFlags, keepsC1: true });
const FUCOMI = withRegister('fucomi', { quiet: true, pops: 0, answer: toFlags, keepsC1: true });
const FUCOMIP = withRegister('fucomip', { quiet: true, pops: 1, answer: toFlags, keepsC1: true });

export const FTST = x87Operation('ftst', (unit) => {
  relate(unit, zero(false), { quiet: false, pops: 0, answer: toConditions });
  return undefined;
});

const CLASS = {
  unsupported: 0,
  nan: STATUS.c0,
  infinity: STATUS.c0 | STATUS.c2,
  zero: STATUS.c3,
  normal: STATUS.c2,
  denormal: STATUS.c2 | STATUS.c3,
  empty: STATUS.c0 | STATUS.c3,
} as const;
/** Says what ST(0) holds; C1 is its sign, even when it is empty. */
export const FXAM = x87Operation('fxam', (unit) => {
  const bits = unit.get(0);
  const x = unpack(F80, bits);
  let conditions: number = CLASS.empty;
  if (!unit.isEmpty(0)) {
    conditions = x.kind === 'finite' ? (x.denormal ? CLASS.denormal : CLASS.normal) : CLASS[x.kind];
  }
  unit.setConditions(conditions | (bits >> 79n ? STATUS.c1 : 0));
  return undefined;
});

export const X87_COMPARE_ROWS: readonly Row[] = [
  x87Memory(0xd8, 2, withMemory('fcom', 'm32', 0)),
  x87Memory(0xd8, 3, withMemory('fcomp', 'm32', 1)),
  x87Memory(0xdc, 2, withMemory('fcom', 'm64', 0)),
  x87Memory(0xdc, 3, withMemory('fcomp', 'm64', 1)),
  x87Memory(0xda, 2, withMemory('ficom', 'i32', 0)),
  x87Memory(0xda, 3, withMemory('ficomp', 'i32', 1)),
  x87Memory(0xde, 2, withMemory('ficom', 'i16', 0)),
  x87Memory(0xde, 3, withMemory('ficomp', 'i16', 1)),
  x87Stack(0xd8, 2, FCOM),
  x87Stack(0xd8, 3, FCOMP),
  // Encodings that the 8087 left open and its successors kept as aliases.
  x87Stack(0xdc, 2, FCOM),
  x87Stack(0xdc, 3, FCOMP),
  x87Stack(0xde, 2, FCOMP),
  x87Group(0xde, 3, [undefined, FCOMPP]),
  x87Group(0xda, 5, [undefined, FUCOMPP]),
  x87Stack(0xdd, 4, FUCOM),
  x87Stack(0xdd, 5, FUCOMP),
  x87Stack(0xdb, 5, FUCOMI),
  x87Stack(0xdb, 6, FCOMI),
  x87Stack(0xdf, 5, FUCOMIP),
  x87Stack(0xdf, 6, FCOMIP),
];
