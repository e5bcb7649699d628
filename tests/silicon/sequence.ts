import { CODE_ARENA, DATA_ARENA, PAGE, type SiliconCase } from './case.ts';
import { encode } from './encode.ts';
import { conditionReads, FlagTaint, leftOutOfDefined } from './flag-taint.ts';
import { type Form, form } from './form.ts';
import { FORMS, memory, mxcsr, register, stackPointer, vectors, x87 } from './generator.ts';
import { Random } from './random.ts';
import { fill } from './values.ts';

/**
 * Several instructions in a row: flags that one leaves and another reads, faults in the middle of a block,
 * branches over the next instruction. The case ends at a breakpoint behind the last one, or at a fault.
 */

const AT = CODE_ARENA.start + 0x800;
const LENGTH_MAX = 14;
const NOP = 0x90;
const TRIES = 60;
const RCX = 1;
const RSP = 4;
const RSI = 6;
const RDI = 7;
const NO_BRANCH = new Set(['jmp', 'call', 'ret', 'loop', 'jcc', 'enter', 'leave', 'pushf', 'popf', 'xlat']);
/** What stores pointers of the last x87 instruction or undefined condition bits. */
const TELLS = new Set(['fxsave', 'fxrstor', 'fnsave', 'fnstenv', 'fnstsw', 'frstor', 'fldenv']);
const DULL = new Set(['ud', 'privileged', 'invalid-in-64', 'in', 'out', 'bound', 'int']);

function usable({ mnemonic, modes, inexact, setup }: Form): boolean {
  if (modes === 'legacy' || inexact !== undefined) return false;
  if (setup === 'mask-store' || setup === 'ldmxcsr' || setup === 'environment') return false;
  return !NO_BRANCH.has(mnemonic) && !TELLS.has(mnemonic) && !DULL.has(mnemonic);
}
const USABLE = FORMS.filter(usable);
const INTEGER = USABLE.filter(
  (candidate) => candidate.opcode[0] !== 0x0f || candidate.prefix === 'any',
).filter((candidate) => candidate.opcode[0]! < 0xd8 || candidate.opcode[0]! > 0xdf);

/** Condition bits of the status word may differ; SSE and x87 results may not. */
export const SEQUENCE_FORM: Form = { ...form('sequence', '90'), undefinedStatus: 0x4700 };

/**
 * Without `undefinedResults` nothing in the sequence hangs on what the manual leaves undefined or families of processors
 * do otherwise (vendor-difference.ts): it is another sequence than with them.
 */
export function generateSequence(seed: number, undefinedResults = true): SiliconCase {
  const random = new Random(seed, 0x5e9);
  const gpr = Array.from({ length: 16 }, () => register(random));
  gpr[RSP] = BigInt(stackPointer(random));
  gpr[RSI] = BigInt(DATA_ARENA.start + 0x1000 + random.below(PAGE));
  gpr[RDI] = BigInt(DATA_ARENA.start + 0x2000 + random.below(PAGE));
  gpr[RCX] = BigInt(random.below(70));
  const regions: [number, number, number][] = [
    [Number(gpr[RSP]), 160, 160],
    [Number(gpr[RSI]), 150, 150],
    [Number(gpr[RDI]), 150, 150],
  ];
  const contents: [number, Uint8Array][] = [];

  const count = 2 + random.below(LENGTH_MAX - 1);
  const pieces: Uint8Array[] = [];
  let offset = 0;
  const taint = new FlagTaint();
  const tainted = (reads: number) => !undefinedResults && (taint.now & reads) !== 0;
  // A family is kept for the whole sequence mostly: flags meet their readers.
  const pool = random.chance(60) ? INTEGER : USABLE;
  for (let tries = 0; pieces.length < count && tries < TRIES; tries += 1) {
    const picked = random.pick(pool);
    // Register operands mostly: addresses that earlier instructions changed end the sequence with a fault.
    const operand = picked.modrm && !picked.operand && random.chance(70) ? 'register' : picked.operand;
    const after = gpr.slice();
    const encoded = encode(random, { ...picked, operand }, 64, after);
    const moved = after.some((value, index) => value !== gpr[index]);
    if (encoded.at !== AT || (moved && pieces.length > 0)) continue;
    if (tainted(taint.reads(picked)) || (!undefinedResults && leftOutOfDefined(picked, encoded))) continue;
    for (const [index, value] of after.entries()) gpr[index] = value;
    if (encoded.target !== undefined) {
      regions.push([encoded.target + offset, 64, 64]);
      contents.push([encoded.target + offset, fill(random, 40, picked.data)]);
    }
    // Now and then a branch over the instruction.
    const condition = random.chance(12) ? random.below(16) : undefined;
    const jumps = condition !== undefined && !tainted(conditionReads(condition));
    if (jumps) {
      const jump = Uint8Array.of(0x70 | condition, encoded.code.length);
      pieces.push(jump);
      offset += jump.length;
    }
    taint.pass(picked, encoded, jumps);
    pieces.push(encoded.code);
    offset += encoded.code.length;
  }
  // Code of at most 15 bytes would be taken for one instruction.
  for (; offset < 16; offset += 1) pieces.push(Uint8Array.of(NOP));
  const code = Uint8Array.from(pieces.flatMap((piece) => [...piece]));
  return {
    form: SEQUENCE_FORM,
    seed,
    mode: 64,
    code,
    at: BigInt(AT),
    gpr,
    rflags: BigInt(0x202 | (random.u32() & 0x8d5) | (random.chance(5) && undefinedResults ? 0x40000 : 0)),
    xmm: vectors(random, random.pick(USABLE)),
    mxcsr: mxcsr(random),
    x87: x87(random, random.pick(USABLE)),
    memory: memory({ random, regions, contents }),
    repeated: false,
    noTrapFlag: true,
    undefinedFlags: undefinedResults ? 0 : taint.now,
    ...(undefinedResults ? {} : { undefinedAtFault: taint.ever }),
    operandKind: 'none',
    reg: 0,
    rm: undefined,
    operand: undefined,
    operandSize: 4,
  };
}
