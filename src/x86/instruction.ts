import type { SystemOperation } from './cpu.ts';
import type { MicroOperation } from './semantics.ts';
import type { SegmentName, Size } from './state.ts';

/** Code size of the current code segment: 16, 32 or (long mode, L bit) 64. */
export type CodeSize = 16 | 32 | 64;

/** A memory operand as encoded. `base` and `index` are register numbers; `ripRelative` is from the next instruction. */
export interface MemoryOperand {
  readonly base: number | undefined;
  readonly index: number | undefined;
  /** log2 of the scale: 0..3. */
  readonly scale: number;
  /** Sign-extended. */
  readonly displacement: number;
  /** Absolute 64-bit offset of the MOV moffs forms; then nothing else is set. */
  readonly absolute: bigint | undefined;
  readonly ripRelative: boolean;
  /** Segment after overrides and defaults. In 64-bit code only fs and gs have a base. */
  readonly segment: SegmentName;
}

/** One decoded instruction. Register numbers include the REX bits. */
export interface Instruction {
  readonly codeSize: CodeSize;
  /** 0x00..0xff one byte; 0x0f00..0x0fff two bytes; 0x0f38xx and 0x0f3axx three. */
  readonly opcode: number;
  readonly length: number;
  /** 0xf2, 0xf3 or 0: the last repeat prefix. */
  readonly repeat: 0 | 0xf2 | 0xf3;
  readonly operandSizePrefix: boolean;
  readonly lock: boolean;
  /** Any REX prefix present: SPL..DIL instead of AH..BH. */
  readonly rex: boolean;
  readonly rexW: boolean;
  /** Size of v-operands: 2, 4 or 8. */
  readonly operandSize: 2 | 4 | 8;
  readonly addressSize: 2 | 4 | 8;
  /** ModRM.reg with REX.R; without ModRM, 0. */
  readonly reg: number;
  /** ModRM.rm with REX.B when it names a register; without ModRM, opcode<2:0> with REX.B. */
  readonly rm: number;
  /** The ModRM byte as encoded; without one, 0. */
  readonly modrm: number;
  /** Set when ModRM names memory, and for moffs and string forms that need a segment. */
  readonly memory: MemoryOperand | undefined;
  /** Sign-extended as the form says; 0n when there is none. */
  readonly immediate: bigint;
  /** Second immediate (ENTER, far pointers' selector). */
  readonly immediate2: number;
}

/** Immediate forms: b signed byte; w 16 bits; z 16 or 32 by operand size, sign-extended; v full operand size. */
export type ImmediateForm = 'none' | 'b' | 'w' | 'z' | 'v' | 'wb' | 'far' | 'offset';

/** One row of the opcode map together with what the instruction does. */
export interface Row {
  readonly opcode: number;
  readonly mnemonic: string;
  readonly modrm: boolean;
  readonly immediate: ImmediateForm;
  /** ModRM.reg must be this (opcode groups). */
  readonly digit?: number;
  /** Mandatory prefix: 'np' none of 66 F2 F3. Absent: prefixes do not choose the row. */
  readonly prefix?: 'np' | '66' | 'f3' | 'f2';
  /** ModRM must name a register / memory. */
  readonly operand?: 'register' | 'memory';
  /** Operand size is 8 in 64-bit code without REX.W (push, pop, near branches), or always 8/4. */
  readonly defaults64?: boolean;
  /** Only in 64-bit code, or never there. */
  readonly modes?: 'long' | 'legacy';
  /** LOCK is allowed (memory destination). Otherwise LOCK raises #UD. */
  readonly lockable?: boolean;
  /**
   * The unit that must be usable. The block builder keeps what it depends on in the mode key and lowers the row to
   * a fault otherwise: `sse` #UD unless CR4.OSFXSR and not CR0.EM, else #NM when CR0.TS; `x87` #NM when CR0.EM or
   * CR0.TS; `wait` #NM when both CR0.MP and CR0.TS; `mmx` #UD when CR0.EM, else #NM when CR0.TS [SDM 3A 2.5, 12.1].
   */
  readonly unit?: 'sse' | 'x87' | 'wait' | 'mmx';
  readonly lower: (instruction: Instruction, out: Lowering) => void;
}

/** Where an instruction's micro-operations go. Offsets are those of state.ts. */
export interface Lowering {
  /** Appends a micro-operation. Fields default to ZERO, the immediate to 0. */
  emit(operation: MicroOperation, fields?: { a?: number; b?: number; c?: number; imm?: bigint }): void;
  /** Appends one that takes two signed 32-bit immediates. */
  emit32(
    operation: MicroOperation,
    fields: { a?: number; b?: number; c?: number; low: number; high: number },
  ): void;
  /**
   * Calls slow-path code in the middle of a block: it may fault and write state, but not RIP, the mode, control
   * registers or interrupts. Its arguments are b, c and imm.
   */
  call(operation: SystemOperation, fields?: { b?: number; c?: number; imm?: bigint }): void;
  /**
   * Calls slow-path code that ends the block: RIP is the next instruction's address when it runs, and it may
   * change anything.
   */
  system(operation: SystemOperation, fields?: { b?: number; c?: number; imm?: bigint }): void;
  /** As system, but the block goes on: the micro-operation before it has skipped it when all was well. */
  orSystem(operation: SystemOperation, fields?: { b?: number; c?: number; imm?: bigint }): void;
  /** Raises an exception when executed; ends the block. */
  fault(vector: number, errorCode?: number): void;
  /** How wide the stack pointer is: as the code, unless SS.B differs from CS.D. */
  readonly stackSize: 2 | 4 | 8;
  /** Accesses are checked against their segment, which has to be named (address.ts). */
  readonly checksSegments: boolean;
  /** FS or GS is null, outside 64-bit code. */
  isNull(segment: SegmentName): boolean;
  /** Offset of this instruction's first byte from BLOCK_PC. */
  readonly offset: number;
  /** Offset of the next instruction from BLOCK_PC. */
  readonly nextOffset: number;
}

export type { Size };
