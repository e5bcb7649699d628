/** Just enough of an assembler for guests made in tests: 64-bit code, absolute or based addresses, labels. */

export const REG = {
  rax: 0,
  rcx: 1,
  rdx: 2,
  rbx: 3,
  rsp: 4,
  rbp: 5,
  rsi: 6,
  rdi: 7,
  r8: 8,
  r9: 9,
  r10: 10,
  r11: 11,
  r12: 12,
  r13: 13,
  r14: 14,
  r15: 15,
} as const;

export type OperandSize = 1 | 2 | 4 | 8;

/** [base + displacement], [rip + displacement to a label], or [displacement] alone. */
export interface Memory {
  readonly base?: number;
  readonly displacement?: number;
  readonly label?: string;
}

export const ALU = { add: 0, or: 1, adc: 2, sbb: 3, and: 4, sub: 5, xor: 6, cmp: 7 } as const;
export const CONDITION = { o: 0, b: 2, ae: 3, e: 4, ne: 5, be: 6, a: 7, s: 8, l: 12, ge: 13 } as const;

interface Fixup {
  readonly at: number;
  readonly label: string;
  /** Bytes of the instruction behind the displacement. */
  readonly behind: number;
}

export class Assembler {
  readonly origin: number;
  readonly #bytes: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #fixups: Fixup[] = [];

  constructor(origin: number) {
    this.origin = origin;
  }

  /** The address of the next byte. */
  get here(): number {
    return this.origin + this.#bytes.length;
  }

  label(name: string): this {
    if (this.#labels.has(name)) throw new Error(`the label ${name} stands twice`);
    this.#labels.set(name, this.here);
    return this;
  }

  /** Where a label stands; it must be behind. */
  addressOf(name: string): number {
    const address = this.#labels.get(name);
    if (address === undefined) throw new Error(`no label ${name}`);
    return address;
  }

  has(name: string): boolean {
    return this.#labels.has(name);
  }

  raw(...bytes: number[]): this {
    for (const byte of bytes) this.#bytes.push(byte & 0xff);
    return this;
  }

  u32(value: number): this {
    return this.raw(value, value >> 8, value >> 16, value >> 24);
  }

  u64(value: bigint): this {
    return this.u32(Number(BigInt.asIntN(32, value))).u32(Number(BigInt.asIntN(32, value >> 32n)));
  }

  /** Bytes of 0x90 up to a multiple. */
  align(multiple: number): this {
    while (this.here % multiple !== 0) this.raw(0x90);
    return this;
  }

  /** Bytes of 0x90 up to an address. */
  padTo(address: number): this {
    if (this.here > address) throw new Error(`already at ${this.here.toString(16)}`);
    while (this.here < address) this.raw(0x90);
    return this;
  }

  /** Prefixes, REX, opcode and ModRM. `behind`: bytes of immediate that follow. */
  op(
    opcode: readonly number[],
    reg: number,
    rm: number | Memory,
    size: OperandSize = 8,
    options: { readonly prefix?: readonly number[]; readonly behind?: number } = {},
  ): this {
    this.raw(...(options.prefix ?? []));
    if (size === 2) this.raw(0x66);
    const base = typeof rm === 'number' ? rm : (rm.base ?? 0);
    let rex = (size === 8 ? 8 : 0) | (reg & 8 ? 4 : 0) | (base & 8 ? 1 : 0);
    // SPL..DIL need one.
    if (size === 1 && (reg >= 4 || (typeof rm === 'number' && rm >= 4))) rex |= 0x40;
    if (rex !== 0) this.raw(0x40 | rex);
    this.raw(...opcode);
    const field = (reg & 7) << 3;
    if (typeof rm === 'number') return this.raw(0xc0 | field | (rm & 7));
    if (rm.label !== undefined) {
      this.raw(field | 5);
      this.#fixups.push({ at: this.#bytes.length, label: rm.label, behind: options.behind ?? 0 });
      return this.u32(rm.displacement ?? 0);
    }
    if (rm.base === undefined) return this.raw(field | 4, 0x25).u32(rm.displacement ?? 0);
    this.raw(0x80 | field | (base & 7));
    if ((base & 7) === 4) this.raw(0x24);
    return this.u32(rm.displacement ?? 0);
  }

  mov(to: number, from: number, size: OperandSize = 8): this {
    return this.op([size === 1 ? 0x88 : 0x89], from, to, size);
  }

  load(to: number, from: Memory, size: OperandSize = 8): this {
    return this.op([size === 1 ? 0x8a : 0x8b], to, from, size);
  }

  store(to: Memory, from: number, size: OperandSize = 8): this {
    return this.op([size === 1 ? 0x88 : 0x89], from, to, size);
  }

  storeImmediate(to: Memory, value: number, size: 1 | 4 | 8): this {
    this.op([size === 1 ? 0xc6 : 0xc7], 0, to, size, { behind: size === 1 ? 1 : 4 });
    return size === 1 ? this.raw(value) : this.u32(value);
  }

  /** The shortest of the forms that load any constant. */
  set(register: number, value: number | bigint): this {
    const wide = BigInt.asUintN(64, BigInt(value));
    if (wide < 1n << 32n) {
      if (register & 8) this.raw(0x41);
      return this.raw(0xb8 | (register & 7)).u32(Number(BigInt.asIntN(32, wide)));
    }
    return this.raw(register & 8 ? 0x49 : 0x48, 0xb8 | (register & 7)).u64(wide);
  }

  lea(register: number, address: Memory): this {
    return this.op([0x8d], register, address, 8);
  }

  /** Register or memory, and a register. */
  alu(kind: number, to: number | Memory, from: number, size: OperandSize = 8, prefix: number[] = []): this {
    return this.op([(kind << 3) | (size === 1 ? 0 : 1)], from, to, size, { prefix });
  }

  /** Register, and register or memory. */
  aluMemory(kind: number, to: number, from: Memory, size: OperandSize = 8): this {
    return this.op([(kind << 3) | (size === 1 ? 2 : 3)], to, from, size);
  }

  aluImmediate(kind: number, to: number | Memory, value: number, size: OperandSize = 8): this {
    this.op([size === 1 ? 0x80 : 0x83], kind, to, size, { behind: 1 });
    return this.raw(value);
  }

  inc(to: number | Memory, size: OperandSize = 8): this {
    return this.op([size === 1 ? 0xfe : 0xff], 0, to, size);
  }

  dec(to: number | Memory, size: OperandSize = 8): this {
    return this.op([size === 1 ? 0xfe : 0xff], 1, to, size);
  }

  push(register: number): this {
    if (register & 8) this.raw(0x41);
    return this.raw(0x50 | (register & 7));
  }

  pop(register: number): this {
    if (register & 8) this.raw(0x41);
    return this.raw(0x58 | (register & 7));
  }

  jump(label: string): this {
    return this.raw(0xe9).#relative(label);
  }

  jumpIf(condition: number, label: string): this {
    return this.raw(0x0f, 0x80 | condition).#relative(label);
  }

  call(label: string): this {
    return this.raw(0xe8).#relative(label);
  }

  #relative(label: string): this {
    this.#fixups.push({ at: this.#bytes.length, label, behind: 0 });
    return this.u32(0);
  }

  nop(): this {
    return this.raw(0x90);
  }
  hlt(): this {
    return this.raw(0xf4);
  }
  cli(): this {
    return this.raw(0xfa);
  }
  sti(): this {
    return this.raw(0xfb);
  }
  iretq(): this {
    return this.raw(0x48, 0xcf);
  }
  rdtsc(): this {
    return this.raw(0x0f, 0x31);
  }
  ud2(): this {
    return this.raw(0x0f, 0x0b);
  }
  /** Enters user code at a label or address with a stack of its own. */
  enterUser(target: number, stack: number, flags = 2): this {
    const { rax } = REG;
    for (const value of [0x1b, stack, flags, 0x23, target]) this.set(rax, value).push(rax);
    return this.iretq();
  }
  /** CR3 = register. */
  setCr3(register: number): this {
    return this.raw(...(register & 8 ? [0x41] : []), 0x0f, 0x22, 0xd8 | (register & 7));
  }
  setCr0(register: number): this {
    return this.raw(...(register & 8 ? [0x41] : []), 0x0f, 0x22, 0xc0 | (register & 7));
  }
  wrmsr(index: number, value: number): this {
    return this.set(REG.rcx, index).set(REG.rax, value).set(REG.rdx, 0).raw(0x0f, 0x30);
  }

  finish(): Uint8Array {
    for (const { at, label, behind } of this.#fixups) {
      const target = this.addressOf(label);
      const added =
        this.#bytes[at]! |
        (this.#bytes[at + 1]! << 8) |
        (this.#bytes[at + 2]! << 16) |
        (this.#bytes[at + 3]! << 24);
      const value = target + added - (this.origin + at + 4 + behind);
      for (let index = 0; index < 4; index++) this.#bytes[at + index] = (value >> (8 * index)) & 0xff;
    }
    this.#fixups.length = 0;
    return Uint8Array.from(this.#bytes);
  }
}
