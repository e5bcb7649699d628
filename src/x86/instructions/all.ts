import type { Row } from '../instruction.ts';
import { buildOpcodeMap, type OpcodeMap } from '../opcode-map.ts';

/** Every family's rows. Families are independent: an overlap is an error found when the map is built. */
const FAMILIES: readonly (readonly Row[])[] = [];

/** The opcode map of the processor that Lockstep offers. */
export const OPCODES: OpcodeMap = buildOpcodeMap(...FAMILIES);
