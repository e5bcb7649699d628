import { type AddressFields, linearAddress } from '../address.ts';
import type { Instruction, Lowering, Row } from '../instruction.ts';
import { LOAD, LOAD_FOR_WRITE, MOVE, STORE } from '../micro-operations/move.ts';
import { GPR, gprOffset, type Size, TEMP } from '../state.ts';

/** Operands of general-purpose instructions. Temporaries 0..3 are the families'; 7 is address.ts's. */
export const T0 = TEMP;
export const T1 = TEMP + 8;
export const T2 = TEMP + 16;
export const T3 = TEMP + 24;

/** Register numbers that name a temporary where a MemoryOperand wants a general register. */
export const T0_AS_REGISTER = (T0 - GPR) / 8;
export const T3_AS_REGISTER = (T3 - GPR) / 8;

/** Size of the operand: even opcodes of most families are the byte forms. */
export function widthOf(instruction: Instruction): Size {
  return instruction.opcode & 1 ? instruction.operandSize : 1;
}

/** The register named by ModRM.reg, by ModRM.rm (or the opcode), and the accumulator. */
export function regOperand(instruction: Instruction, size: Size): number {
  return gprOffset(instruction.reg, size, instruction.rex);
}
export function rmRegister(instruction: Instruction, size: Size): number {
  return gprOffset(instruction.rm, size, instruction.rex);
}

/** Reads r/m: the register itself, or a temporary that was loaded. */
export function source(instruction: Instruction, out: Lowering, size: Size, temporary = T0): number {
  if (instruction.memory === undefined) return rmRegister(instruction, size);
  out.emit32(LOAD[size], { a: temporary, ...linearAddress(instruction, out) });
  return temporary;
}

/** Writes the register `value` to r/m. */
export function store(instruction: Instruction, out: Lowering, size: Size, value: number): void {
  if (instruction.memory === undefined) {
    out.emit(MOVE[size], { a: rmRegister(instruction, size), b: value });
  } else {
    out.emit32(STORE[size], { a: value, ...linearAddress(instruction, out) });
  }
}

/** What a read-modify-write works on: `from` holds the old value, the new one belongs into `to`. */
export interface Place {
  readonly from: number;
  readonly to: number;
  readonly memory: AddressFields | undefined;
}

/**
 * Opens r/m for reading and writing: memory is loaded so that the store cannot fault any more, and the new value
 * gathers in temporary 1.
 */
export function openPlace(instruction: Instruction, out: Lowering, size: Size): Place {
  if (instruction.memory === undefined) {
    const register = rmRegister(instruction, size);
    return { from: register, to: register, memory: undefined };
  }
  const memory = linearAddress(instruction, out);
  out.emit32(LOAD_FOR_WRITE[size], { a: T0, ...memory });
  return { from: T0, to: T1, memory };
}

/** Stores what was gathered. */
export function closePlace(place: Place, out: Lowering, size: Size): void {
  if (place.memory !== undefined) out.emit32(STORE[size], { a: place.to, ...place.memory });
}

/** A row with ModRM and no immediate. */
export function modrmRow(
  opcode: number,
  mnemonic: string,
  lower: Row['lower'],
  more: Partial<Row> = {},
): Row {
  return { opcode, mnemonic, modrm: true, immediate: 'none', lower, ...more };
}

/** A row without ModRM and immediate. */
export function plainRow(
  opcode: number,
  mnemonic: string,
  lower: Row['lower'],
  more: Partial<Row> = {},
): Row {
  return { opcode, mnemonic, modrm: false, immediate: 'none', lower, ...more };
}

/** One row for each of several consecutive opcodes. */
export function rowsOf(first: number, count: number, make: (opcode: number) => Row): Row[] {
  return Array.from({ length: count }, (_, index) => make(first + index));
}
