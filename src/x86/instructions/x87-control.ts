import { ABORTED, type Cpu, DONE, type Outcome, systemOperation } from '../cpu.ts';
import {
  environmentBytes,
  initializeX87,
  loadEnvironment,
  registersFromBytes,
  registersToBytes,
} from '../float/x87-environment.ts';
import { probeArea } from '../float/x87-operand.ts';
import { loadControlWord, loadStatusWord, X87Unit } from '../float/x87-unit.ts';
import type { Row } from '../instruction.ts';
import { FCW, FSW, RAX } from '../state.ts';
import { FABS, FCHS, FPREM, FPREM1, FRNDINT, FSCALE, FSQRT, FXTRACT } from './x87-arithmetic.ts';
import { FTST, FXAM } from './x87-compare.ts';
import { X87_CONSTANTS } from './x87-move.ts';
import { x87Control, x87Group, x87Memory, x87Operation, x87Stack } from './x87-row.ts';
import { F2XM1, FCOS, FPATAN, FPTAN, FSIN, FSINCOS, FYL2X, FYL2XP1 } from './x87-transcendental.ts';

/** Control words, the environment, and the register groups of D9 and DB, which mix everything. */

const ALL_MASKED = 0x3f;
/** `i` of a control instruction with a memory operand has the operand size: 2 chooses the 16-bit layout. */
const isWide = (i: number): boolean => (i & 15) !== 2;
const addressSize = (i: number): number => i >> 4;

const FLDCW = x87Control('fldcw', true, (unit, _i, address): Outcome | undefined => {
  const value = unit.cpu.load(2, address);
  if (value === undefined) return ABORTED;
  loadControlWord(unit.state, Number(value));
  return undefined;
});
const FNSTCW = x87Control('fnstcw', false, (unit, _i, address): Outcome | undefined => {
  const stored = unit.cpu.store(2, address, BigInt(unit.state.get32(FCW)));
  return stored ? undefined : ABORTED;
});
const FNSTSW = x87Control('fnstsw', false, (unit, _i, address): Outcome | undefined => {
  const stored = unit.cpu.store(2, address, BigInt(unit.state.get32(FSW)));
  return stored ? undefined : ABORTED;
});
const FNSTSW_AX = x87Control('fnstsw ax', false, ({ state }) => {
  state.set(RAX, 2, BigInt(state.get32(FSW)));
  return undefined;
});
const FNCLEX = x87Control('fnclex', false, ({ state }) => {
  loadStatusWord(state, state.get32(FSW) & 0x7f00);
  return undefined;
});
const FNINIT = x87Control('fninit', false, ({ state }) => {
  initializeX87(state);
  return undefined;
});
/** Stores the environment, then masks all exceptions. */
const FNSTENV = x87Control('fnstenv', false, (unit, i, address): Outcome | undefined => {
  if (!probeArea(unit.cpu, address, addressSize(i), isWide(i) ? 4 : 2, isWide(i) ? 28 : 14, 'write'))
    return ABORTED;
  if (!unit.cpu.storeBytes(address, environmentBytes(unit.state, isWide(i)))) return ABORTED;
  loadControlWord(unit.state, unit.state.get32(FCW) | ALL_MASKED);
  return undefined;
});
const FLDENV = x87Control('fldenv', true, (unit, i, address): Outcome | undefined => {
  if (!probeArea(unit.cpu, address, addressSize(i), isWide(i) ? 4 : 2, isWide(i) ? 28 : 14, 'read'))
    return ABORTED;
  const bytes = unit.cpu.loadBytes(address, isWide(i) ? 28 : 14);
  if (bytes === undefined) return ABORTED;
  loadEnvironment(unit.state, bytes, isWide(i));
  return undefined;
});
const FNSAVE = x87Control('fnsave', false, (unit, i, address): Outcome | undefined => {
  const head = environmentBytes(unit.state, isWide(i));
  const bytes = new Uint8Array(head.length + 80);
  bytes.set(head);
  registersToBytes(unit.state, bytes, head.length);
  if (!probeArea(unit.cpu, address, addressSize(i), isWide(i) ? 4 : 2, bytes.length, 'write')) return ABORTED;
  if (!unit.cpu.storeBytes(address, bytes)) return ABORTED;
  initializeX87(unit.state);
  return undefined;
});
const FRSTOR = x87Control('frstor', true, (unit, i, address): Outcome | undefined => {
  const head = isWide(i) ? 28 : 14;
  if (!probeArea(unit.cpu, address, addressSize(i), isWide(i) ? 4 : 2, head + 80, 'read')) return ABORTED;
  const bytes = unit.cpu.loadBytes(address, head + 80);
  if (bytes === undefined) return ABORTED;
  loadEnvironment(unit.state, bytes, isWide(i));
  registersFromBytes(unit.state, bytes, head);
  return undefined;
});
/** FENI, FDISI and FSETPM of older coprocessors. */
const IGNORED = x87Control('x87 nop', false, () => undefined);
const FNOP = x87Operation('fnop', () => undefined);
const FWAIT = systemOperation('fwait', (cpu: Cpu): Outcome => {
  return new X87Unit(cpu).pending ? cpu.fault(16) : DONE;
});

function rotation(name: string, by: number): ReturnType<typeof x87Operation> {
  return x87Operation(name, (unit) => {
    unit.rotate(by);
    unit.setC1(false);
    return undefined;
  });
}
const FDECSTP = rotation('fdecstp', -1);
const FINCSTP = rotation('fincstp', 1);
const FFREE = x87Operation('ffree', (unit, i) => {
  unit.setC1(false);
  unit.free(i);
  return undefined;
});
const FFREEP = x87Operation('ffreep', (unit, i) => {
  unit.setC1(false);
  unit.free(i);
  unit.pop();
  return undefined;
});

export const X87_CONTROL_ROWS: readonly Row[] = [
  x87Memory(0xd9, 4, FLDENV),
  x87Memory(0xd9, 5, FLDCW),
  x87Memory(0xd9, 6, FNSTENV),
  x87Memory(0xd9, 7, FNSTCW),
  x87Memory(0xdd, 4, FRSTOR),
  x87Memory(0xdd, 6, FNSAVE),
  x87Memory(0xdd, 7, FNSTSW),
  x87Stack(0xdd, 0, FFREE),
  x87Stack(0xdf, 0, FFREEP),
  x87Group(0xd9, 2, [FNOP]),
  x87Group(0xd9, 4, [FCHS, FABS, undefined, undefined, FTST, FXAM]),
  x87Group(0xd9, 5, X87_CONSTANTS),
  x87Group(0xd9, 6, [F2XM1, FYL2X, FPTAN, FPATAN, FXTRACT, FPREM1, FDECSTP, FINCSTP]),
  x87Group(0xd9, 7, [FPREM, FYL2XP1, FSQRT, FSINCOS, FRNDINT, FSCALE, FSIN, FCOS]),
  x87Group(0xdb, 4, [IGNORED, IGNORED, FNCLEX, FNINIT, IGNORED]),
  x87Group(0xdf, 4, [FNSTSW_AX]),
  {
    opcode: 0x9b,
    mnemonic: 'fwait',
    modrm: false,
    immediate: 'none',
    unit: 'wait',
    lower: (_instruction, out) => out.call(FWAIT),
  },
];
