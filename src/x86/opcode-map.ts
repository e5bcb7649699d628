import { assert } from '../base/assert.ts';
import type { Row } from './instruction.ts';

/** Which of the prefixes 66, F2 and F3 counts as a mandatory prefix: F2 and F3 win over 66 [SDM 2 2.1.2]. */
export const PREFIX_CLASS = { np: 0, '66': 1, f3: 2, f2: 3 } as const;

/** All rows that share one opcode. */
export interface OpcodeSlots {
  readonly modrm: boolean;
  /** Indexed by slotIndex: (mode, prefix class, ModRM.reg, register or memory). */
  readonly rows: readonly (Row | undefined)[];
}

/** The opcode map, ready for look-up. Indexed by opcodeIndex. */
export type OpcodeMap = readonly (OpcodeSlots | undefined)[];

/** Packs the four opcode maps (one byte, 0F, 0F38, 0F3A) into 0..1023. */
export function opcodeIndex(opcode: number): number {
  const low = opcode & 0xff;
  switch (opcode >> 8) {
    case 0:
      return low;
    case 0x0f:
      return 0x100 | low;
    case 0x0f38:
      return 0x200 | low;
    default:
      assert(opcode >> 8 === 0x0f3a, `no opcode map holds ${opcode.toString(16)}`);
      return 0x300 | low;
  }
}

export function slotIndex(long: boolean, prefixClass: number, digit: number, register: boolean): number {
  return (long ? 64 : 0) | (prefixClass << 4) | (digit << 1) | (register ? 1 : 0);
}

const SLOTS = 128;

/** The slots that a row answers for. */
function slotsOf(row: Row): number[] {
  const found: number[] = [];
  for (let slot = 0; slot < SLOTS; slot += 1) {
    const long = (slot & 64) !== 0;
    const register = (slot & 1) !== 0;
    if (row.modes !== undefined && (row.modes === 'long') !== long) continue;
    if (row.prefix !== undefined && PREFIX_CLASS[row.prefix] !== ((slot >> 4) & 3)) continue;
    if (row.digit !== undefined && row.digit !== ((slot >> 1) & 7)) continue;
    if (row.operand !== undefined && (row.operand === 'register') !== register) continue;
    found.push(slot);
  }
  return found;
}

/**
 * Builds the map. Two rows may share an encoding only when one names a mandatory prefix and the other none: the
 * one that names it wins.
 */
export function buildOpcodeMap(...families: readonly (readonly Row[])[]): OpcodeMap {
  const map: { modrm: boolean; rows: (Row | undefined)[] }[] = [];
  for (const named of [false, true]) {
    for (const row of families.flat()) {
      if ((row.prefix !== undefined) !== named) continue;
      const index = opcodeIndex(row.opcode);
      const slots = (map[index] ??= { modrm: row.modrm, rows: new Array(SLOTS).fill(undefined) });
      const where = `${row.mnemonic} (${row.opcode.toString(16)})`;
      assert(slots.modrm === row.modrm, `${where} disagrees about ModRM`);
      assert(row.modrm || (row.digit === undefined && row.operand === undefined), `${where} has no ModRM`);
      for (const slot of slotsOf(row)) {
        const other = slots.rows[slot];
        assert(
          other === undefined || (named && other.prefix === undefined),
          `${where} overlaps ${other?.mnemonic}`,
        );
        slots.rows[slot] = row;
      }
    }
  }
  return map;
}
