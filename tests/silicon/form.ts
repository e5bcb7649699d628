/**
 * The encodings that are compared with a real processor, written as the manual writes them [SDM 2 3.1.1]:
 *
 *   `66 0F 6F /r`   mandatory prefix, opcode, any ModRM        `NP 0F 28 /r`  no 66, F2 or F3
 *   `/3`            ModRM.reg is part of the opcode            `m`, `r`       ModRM names memory / a register
 *   `50+r`          register in the opcode                     `D9 C0+r`      x87 stack position
 *   `ib iw iz iv`   immediate: byte, word, by operand size (at most 4 bytes), by operand size
 *   `cb cz`         branch distance                            `mo`           offset as long as an address
 *   `xx`            bytes that the instruction may take or leave
 */
export interface Form {
  readonly mnemonic: string;
  readonly encoding: string;
  readonly prefix: 'any' | 'np' | '66' | 'f2' | 'f3';
  readonly opcode: readonly number[];
  /** The last opcode byte takes a register number in its low bits. */
  readonly plusRegister: boolean;
  readonly modrm: boolean;
  readonly digit: number | undefined;
  readonly operand: 'memory' | 'register' | undefined;
  readonly immediates: readonly ImmediateKind[];
  readonly lock: boolean;
  /** Arithmetic flags (RFLAGS bits) that the manual leaves undefined. */
  readonly undefinedFlags: number;
  readonly setup: Setup | undefined;
  readonly data: DataKind | undefined;
  readonly modes: 'both' | 'long' | 'legacy';
  /** Results of the status word that are undefined: x87 condition bits. */
  readonly undefinedStatus: number;
  /** Results that need not have the same bits. */
  readonly inexact: 'reciprocal' | 'transcendental' | undefined;
}

export type ImmediateKind = 'ib' | 'iw' | 'iz' | 'iv' | 'cb' | 'cz' | 'mo' | 'xx';

/** What the registers must look like for the instruction to do something worth comparing. */
export type Setup =
  | 'string'
  | 'divide'
  | 'shift'
  | 'bit-offset'
  | 'table'
  | 'compare-exchange'
  | 'frame'
  | 'branch'
  | 'push-flags'
  | 'pop-flags'
  | 'fxrstor'
  | 'fxsave'
  | 'ldmxcsr'
  | 'environment'
  | 'mask-store'
  | 'ascii'
  | 'count';

/** What memory and vector registers are mostly filled with. */
export type DataKind = 'f32' | 'f64' | 'f80' | 'bcd' | 'i16' | 'i32' | 'i64' | 'shift-count';

export interface FormOptions {
  readonly lock?: boolean;
  /** Letters of o s z a p c. */
  readonly undefined?: string;
  readonly setup?: Setup;
  readonly data?: DataKind;
  readonly modes?: 'long' | 'legacy';
  readonly undefinedStatus?: number;
  readonly inexact?: 'reciprocal' | 'transcendental';
}

const FLAG_LETTERS: Readonly<Record<string, number>> = {
  o: 0x800,
  s: 0x80,
  z: 0x40,
  a: 0x10,
  p: 0x4,
  c: 0x1,
};

export function form(mnemonic: string, encoding: string, options: FormOptions = {}): Form {
  const words = encoding.split(' ');
  let prefix: Form['prefix'] = 'any';
  if (words[0] === 'NP') prefix = 'np';
  else if (words[1] === '0F' && words[0] !== '0F') prefix = words[0]!.toLowerCase() as Form['prefix'];
  if (prefix !== 'any') words.shift();

  const opcode: number[] = [];
  const immediates: ImmediateKind[] = [];
  let modrm = false;
  let digit: number | undefined;
  let operand: Form['operand'];
  let plusRegister = false;
  for (const word of words) {
    if (/^[0-9A-F]{2}(\+r)?$/.test(word)) {
      opcode.push(Number.parseInt(word, 16));
      plusRegister = word.endsWith('+r');
    } else if (word === '/r') modrm = true;
    else if (/^\/[0-7]$/.test(word)) {
      modrm = true;
      digit = Number(word[1]);
    } else if (word === 'm') operand = 'memory';
    else if (word === 'r') operand = 'register';
    else if (/^(i[bwzv]|c[bz]|mo|xx)$/.test(word)) immediates.push(word as ImmediateKind);
    else throw new Error(`cannot read the encoding ${encoding}`);
  }
  return {
    mnemonic,
    encoding,
    prefix,
    opcode,
    plusRegister,
    modrm,
    digit,
    operand,
    immediates,
    lock: options.lock ?? false,
    undefinedFlags: [...(options.undefined ?? '')].reduce((sum, letter) => sum | FLAG_LETTERS[letter]!, 0),
    setup: options.setup,
    data: options.data,
    modes: options.modes ?? 'both',
    undefinedStatus: options.undefinedStatus ?? 0,
    inexact: options.inexact,
  };
}
