import type { Form } from './form.ts';
import type { NativeCase } from './native.ts';

/**
 * Where cases may have memory, as harness.c maps it. Every page of both arenas is mapped in every case. Code is where
 * no edge value points: what stands around it is not the same everywhere.
 */
export const CODE_ARENA = { start: 0x17a5_3000, end: 0x17a5_4000 } as const;
export const DATA_ARENA = { start: 0x2000_0000, end: 0x2000_4000 } as const;
export const PAGE = 4096;

/** A case together with what the comparison must know about it. */
export interface SiliconCase extends NativeCase {
  readonly form: Form;
  /** The case is remade from the form and this. */
  readonly seed: number;
  /** RFLAGS bits without a defined value afterwards. */
  readonly undefinedFlags: number;
  /** The same when an exception ended a sequence. */
  readonly undefinedAtFault?: number;
  readonly operandKind: 'register' | 'memory' | 'none';
  /** Registers that ModRM names; `rm` when it is one. */
  readonly reg: number;
  readonly rm: number | undefined;
  /** Linear address of the memory operand, if any. */
  readonly operand: number | undefined;
  readonly operandSize: 2 | 4 | 8;
}
