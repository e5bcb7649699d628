import type { Encoded } from './encode.ts';
import type { Form } from './form.ts';

/**
 * Which arithmetic flags the manual leaves undefined on the way through a sequence, for processors that are not of
 * the family that Lockstep follows there: nothing may read such a flag, and no one compares it.
 */

const CF = 0x1;
const PF = 0x4;
const AF = 0x10;
const ZF = 0x40;
const SF = 0x80;
const OF = 0x800;
const ALL = CF | PF | AF | ZF | SF | OF;
/** By the upper three bits of a condition [SDM 1 B.1]. */
const CONDITION_READS = [OF, CF, ZF, CF | ZF, SF, PF, SF | OF, ZF | SF | OF] as const;
const SHIFTS = /^(shl|sal|shr|sar|shld|shrd)$/;
const ROTATIONS = /^(rol|ror|rcl|rcr)$/;
/** What sets each of the six. */
const DEFINES_ALL = /^(add|adc|sub|sbb|cmp|neg|cmpxchg|xadd|cmps|scas|comis|comid|fcomi)$/;

/** Flags that a conditional instruction with this opcode reads. */
export function conditionReads(opcode: number): number {
  return CONDITION_READS[(opcode >> 1) & 7]!;
}

/** Forms whose results besides flags are undefined at times, or another family's (vendor-difference.ts). */
export function leftOutOfDefined(form: Form, { operandSize, repeat, memory }: Encoded): boolean {
  switch (form.mnemonic) {
    case 'shld':
    case 'shrd':
      return operandSize === 2;
    case 'bsf':
    case 'bsr':
    case 'fprem':
    case 'fscale':
      return true;
    case 'movsxd':
      return operandSize === 2;
    case 'movs':
    case 'stos':
    case 'lods':
    case 'cmps':
    case 'scas':
      return repeat;
    case 'movntq':
    case 'mmx movd':
    case 'mmx movq':
    case 'fst':
    case 'fist':
    case 'fbstp':
      return memory;
    default:
      return false;
  }
}

export class FlagTaint {
  /** RFLAGS bits that are undefined here. */
  now = 0;
  /** That were at any time: a fault may end the sequence anywhere. */
  ever = 0;

  reads(form: Form): number {
    switch (form.mnemonic) {
      case 'adc':
      case 'sbb':
      case 'rcl':
      case 'rcr':
      case 'cmc':
        return CF;
      case 'cmovcc':
      case 'setcc':
        return conditionReads(form.opcode.at(-1)!);
      case 'fcmov':
        return CF | PF | ZF;
      case 'lahf':
        return ALL & ~OF;
      default:
        return 0;
    }
  }

  /** The instruction ran, or a branch may have gone over it. */
  pass(form: Form, encoded: Encoded, skippable: boolean): void {
    const { defines, undefines } = effects(form, encoded);
    if (!skippable) this.now &= ~defines;
    this.now |= undefines;
    this.ever |= this.now;
  }
}

function effects(form: Form, encoded: Encoded): { defines: number; undefines: number } {
  const { mnemonic, undefinedFlags } = form;
  if (SHIFTS.test(mnemonic) || ROTATIONS.test(mnemonic)) return shiftEffects(form, encoded);
  // What is undefined after it aside, each of these sets all the others.
  if (DEFINES_ALL.test(mnemonic) || /^(and|or|xor|test|mul|imul)$/.test(mnemonic))
    return { defines: ALL & ~undefinedFlags, undefines: undefinedFlags };
  if (/^(inc|dec)$/.test(mnemonic)) return { defines: ALL & ~CF, undefines: 0 };
  if (/^(clc|stc|cmc|bt|bts|btr|btc)$/.test(mnemonic)) return { defines: CF, undefines: undefinedFlags };
  if (mnemonic === 'sahf') return { defines: ALL & ~OF, undefines: 0 };
  return { defines: 0, undefines: undefinedFlags };
}

/** [SDM 2 SHL, RCL, SHLD]; what a count in CL is, the instructions before have a say in. */
function shiftEffects(
  form: Form,
  { operandSize, immediate }: Encoded,
): { defines: number; undefines: number } {
  const rotates = ROTATIONS.test(form.mnemonic);
  const double = form.opcode.length === 2;
  const opcode = form.opcode.at(-1)!;
  const byte = !double && (opcode & 1) === 0;
  const undefinedCarry = !rotates && form.mnemonic !== 'sar' ? CF : 0;
  const undefines = (rotates ? 0 : AF | undefinedCarry) | OF;
  if (form.immediates.length === 0 && (double || (opcode & ~1) === 0xd2)) return { defines: 0, undefines };
  const given = form.immediates.length > 0 ? Number(immediate) : 1;
  const count = given & (operandSize === 8 && !byte ? 63 : 31);
  if (count === 0) return { defines: 0, undefines: 0 };
  const results = rotates ? CF : CF | PF | ZF | SF;
  const bits = byte ? 8 : operandSize * 8;
  const carry = count >= bits ? undefinedCarry : 0;
  const one = count === 1 ? OF : 0;
  return { defines: (results | one) & ~carry, undefines: (rotates ? 0 : AF) | carry | (OF & ~one) };
}
