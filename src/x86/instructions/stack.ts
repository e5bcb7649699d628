import { linearAddress, SET64, STACK_ADDRESS_TEMP } from '../address.ts';
import { ABORTED, type Cpu, DONE, type Outcome, systemOperation } from '../cpu.ts';
import type { Instruction, Lowering, Row } from '../instruction.ts';
import { LEAVE, PUSH_IMMEDIATE } from '../micro-operations/control.ts';
import { LOAD, MOVE, STORE } from '../micro-operations/move.ts';
import { ACCESS_SEGMENT, GPR, RBP, RSP, SEGMENT, SEGMENT_BASE, type Size } from '../state.ts';
import { modrmRow, plainRow, rmRegister, rowsOf, source, T0, T1 } from './operand.ts';
import { emitPop, emitPush, emitSetStackPointer, stackAddress } from './stack-access.ts';

/** Stack instructions of general registers [SDM 1 6.2]. */

const RSP_NUMBER = (RSP - GPR) / 8;
const RBP_NUMBER = (RBP - GPR) / 8;

function pushRm(instruction: Instruction, out: Lowering): void {
  const { operandSize } = instruction;
  emitPush(instruction, out, operandSize, source(instruction, out, operandSize, T1));
}

function pushImmediate(instruction: Instruction, out: Lowering): void {
  if (instruction.codeSize === 64 && instruction.operandSize === 8) {
    out.emit(PUSH_IMMEDIATE, { imm: instruction.immediate });
    return;
  }
  out.emit(SET64, { a: T1, imm: instruction.immediate });
  emitPush(instruction, out, instruction.operandSize, T1);
}

/** POP to memory: an address that uses the stack pointer sees it after the pop [SDM 2B POP]. */
function popRm(instruction: Instruction, out: Lowering): void {
  const size = instruction.operandSize;
  if (instruction.memory === undefined) {
    emitPop(instruction, out, size, rmRegister(instruction, size));
    return;
  }
  out.emit32(LOAD[size], { a: T1, ...stackAddress(instruction, out, RSP_NUMBER, 0) });
  const { memory } = instruction;
  const moved = memory.base === RSP_NUMBER ? { ...memory, displacement: memory.displacement + size } : memory;
  out.emit32(STORE[size], { a: T1, ...linearAddress({ ...instruction, memory: moved }, out) });
  emitSetStackPointer(out, RSP, size);
}

function leave(instruction: Instruction, out: Lowering): void {
  const { codeSize, operandSize } = instruction;
  if (codeSize === 64 && operandSize === 8) {
    out.emit(LEAVE);
    return;
  }
  out.emit32(LOAD[operandSize], { a: T0, ...stackAddress(instruction, out, RBP_NUMBER, 0) });
  emitSetStackPointer(out, RBP, operandSize);
  out.emit(MOVE[operandSize], { a: RBP, b: T0 });
}

/** A stack as slow-path code sees it. */
class Stack {
  readonly #cpu: Cpu;
  readonly #size: Size;
  readonly #width: number;
  pointer: bigint;

  constructor(cpu: Cpu, width: number, size: Size) {
    this.#cpu = cpu;
    this.#size = size;
    this.#width = width;
    this.pointer = BigInt.asUintN(width, cpu.state.get64(RSP));
  }

  linear(offset: bigint): bigint {
    const cut = BigInt.asUintN(this.#width, offset);
    if (this.#width === 64) return cut;
    this.#cpu.state.set32(ACCESS_SEGMENT, SEGMENT.ss);
    return BigInt.asUintN(32, cut + this.#cpu.state.get64(SEGMENT_BASE + SEGMENT.ss * 8));
  }

  push(value: bigint): boolean {
    this.pointer = BigInt.asUintN(this.#width, this.pointer - BigInt(this.#size));
    return this.#cpu.store(this.#size, this.linear(this.pointer), value);
  }

  pop(): bigint | undefined {
    const value = this.#cpu.load(this.#size, this.linear(this.pointer));
    this.pointer = BigInt.asUintN(this.#width, this.pointer + BigInt(this.#size));
    return value;
  }

  /** Makes the moved pointer the register. */
  commit(): void {
    this.#cpu.state.set(RSP, (this.#width / 8) as Size, this.pointer);
  }
}

/** imm: operand size in bytes, then the stack's width in bits, bytes of locals << 16, nesting level << 32. */
export const ENTER = systemOperation('enter', (cpu, _b, _c, imm): Outcome => {
  const size = Number(imm & 0xffn) as Size;
  const stackBits = Number((imm >> 8n) & 0xffn);
  const locals = (imm >> 16n) & 0xffffn;
  const level = Number((imm >> 32n) & 31n);
  const stack = new Stack(cpu, stackBits, size);
  const width = (stackBits / 8) as Size;
  let frame = cpu.state.get(RBP, width);
  if (!stack.push(cpu.state.get(RBP, size))) return ABORTED;
  const newFrame = stack.pointer;
  for (let index = 1; index < level; index++) {
    frame = BigInt.asUintN(stackBits, frame - BigInt(size));
    const link = cpu.load(size, stack.linear(frame));
    if (link === undefined || !stack.push(link)) return ABORTED;
  }
  if (level > 0 && !stack.push(BigInt.asUintN(size * 8, newFrame))) return ABORTED;
  stack.pointer = BigInt.asUintN(stackBits, stack.pointer - locals);
  // The new top must be writable, or the next push would fault with a frame half made [SDM 2A ENTER].
  if (!cpu.probe(stack.linear(stack.pointer), size, 'write')) return ABORTED;
  cpu.state.set(RBP, size, newFrame);
  stack.commit();
  return DONE;
});

function enter(instruction: Instruction, out: Lowering): void {
  const { operandSize, immediate, immediate2 } = instruction;
  const stackBits = out.stackSize * 8;
  const imm =
    BigInt(operandSize | (stackBits << 8)) |
    ((immediate & 0xffffn) << 16n) |
    (BigInt(immediate2 & 31) << 32n);
  // With links to copy it reads what it may have overwritten, so it must not be begun again in the middle.
  const end = (immediate2 & 31) > 1 ? 'system' : 'call';
  out[end](ENTER, { b: STACK_ADDRESS_TEMP, imm });
}

/** PUSHA: the eight registers, with the stack pointer as it was before. imm as for ENTER. */
export const PUSH_ALL = systemOperation('push-all', (cpu, _b, _c, imm): Outcome => {
  const size = Number(imm & 0xffn) as Size;
  const stack = new Stack(cpu, Number((imm >> 8n) & 0xffn), size);
  for (let register = 0; register < 8; register++) {
    if (!stack.push(cpu.state.get(GPR + register * 8, size))) return ABORTED;
  }
  stack.commit();
  return DONE;
});

/** POPA: the slot of the stack pointer is skipped. Registers popped before a fault keep what they got. */
export const POP_ALL = systemOperation('pop-all', (cpu, _b, _c, imm): Outcome => {
  const size = Number(imm & 0xffn) as Size;
  const stack = new Stack(cpu, Number((imm >> 8n) & 0xffn), size);
  for (let register = 7; register >= 0; register--) {
    const value = stack.pop();
    if (value === undefined) return ABORTED;
    if (register !== RSP_NUMBER) cpu.state.set(GPR + register * 8, size, value);
  }
  stack.commit();
  return DONE;
});

/** b says that the accesses are to the stack. */
const sizes = ({ operandSize }: Instruction, out: Lowering) => ({
  b: STACK_ADDRESS_TEMP,
  imm: BigInt(operandSize | ((out.stackSize * 8) << 8)),
});

export const STACK_ROWS: readonly Row[] = [
  ...rowsOf(0x50, 8, (opcode) => plainRow(opcode, 'push', pushRm, { defaults64: true })),
  ...rowsOf(0x58, 8, (opcode) => plainRow(opcode, 'pop', popRm, { defaults64: true })),
  modrmRow(0xff, 'push', pushRm, { digit: 6, defaults64: true }),
  modrmRow(0x8f, 'pop', popRm, { digit: 0, defaults64: true }),
  plainRow(0x68, 'push', pushImmediate, { immediate: 'z', defaults64: true }),
  plainRow(0x6a, 'push', pushImmediate, { immediate: 'b', defaults64: true }),
  plainRow(0xc8, 'enter', enter, { immediate: 'wb', defaults64: true }),
  plainRow(0xc9, 'leave', leave, { defaults64: true }),
  plainRow(0x60, 'pusha', (instruction, out) => out.call(PUSH_ALL, sizes(instruction, out)), {
    modes: 'legacy',
  }),
  plainRow(0x61, 'popa', (instruction, out) => out.call(POP_ALL, sizes(instruction, out)), {
    modes: 'legacy',
  }),
];
