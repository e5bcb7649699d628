import type { Random } from '../silicon/random.ts';

/** The places of a start state's tables, in 1 MiB of RAM, before anything is broken. */
export const RAM_BYTES = 0x10_0000;
export const PLACE = {
  vectors: 0x0,
  pml4: 0x1000,
  pdpt: 0x2000,
  directory: 0x3000,
  table: 0x4000,
  deviceDirectory: 0x6000,
  /** For PAE paging: four entries without rights. */
  pdptPae: 0x8000,
  directory32: 0x9000,
  table32: 0xa000,
  gdt: 0xb000,
  tss: 0xb400,
  ldt: 0xb800,
  idt: 0xc000,
  handlers: 0xd000,
  code: 0x1_0000,
  codeBytes: 0x800,
  data: 0x2_0000,
  stack: 0x3_f000,
  stacks: 0x4_0000,
} as const;

/** Selectors of the table that `plainMemory` makes. */
export const SELECTOR = {
  code64: 0x08,
  data: 0x10,
  userData: 0x1b,
  userCode64: 0x23,
  code32: 0x28,
  userCode32: 0x33,
  code16: 0x38,
  data16: 0x40,
  tss: 0x48,
  ldt: 0x58,
  callGate: 0x68,
} as const;

const DESCRIPTORS = [
  0n,
  0x00af_9b00_0000_ffffn,
  0x00cf_9300_0000_ffffn,
  0x00cf_f300_0000_ffffn,
  0x00af_fb00_0000_ffffn,
  0x00cf_9b00_0000_ffffn,
  0x00cf_fb00_0000_ffffn,
  0x0000_9b00_0000_ffffn,
  0x0000_9300_0000_ffffn,
  0x0000_8900_0000_0067n | (BigInt(PLACE.tss) << 16n),
  0n,
  0x0000_8200_0000_00ffn | (BigInt(PLACE.ldt) << 16n),
  0n,
];

export type Width = 16 | 32 | 64;
/** What a handler does: go on at the next slot behind what faulted, go on at it, stop, or something. */
export type HandlerKind = 'skip' | 'again' | 'halt' | 'random';

const ENTRY_RIGHTS = 7n;
const LARGE = 0x80n;
const HANDLER_BYTES = 32;
/** Code stands in slots that end with a jump to the next one: the handler's way past what faulted, and short blocks. */
export const SLOT = 16;
/** Vectors that push an error code. */
const WITH_ERROR = [8, 10, 11, 12, 13, 14, 17];

export class StartMemory {
  readonly bytes = new Uint8Array(RAM_BYTES);
  readonly #view = new DataView(this.bytes.buffer);

  word64(at: number, value: bigint): void {
    this.#view.setBigUint64(at, BigInt.asUintN(64, value), true);
  }

  word32(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }

  /** Tables that a system could run with: low memory mapped onto itself, devices where they are. */
  plain(random: Random, width: Width, handler: HandlerKind): void {
    // Where there is nothing: INT3, and page-table entries that are not present.
    this.bytes.fill(0xcc);
    this.#pageTables();
    for (const [index, value] of DESCRIPTORS.entries()) this.word64(PLACE.gdt + index * 8, value);
    this.#gate(PLACE.gdt + SELECTOR.callGate, PLACE.code, SELECTOR.code64, 0xec, 64);
    if (width === 64) {
      this.word64(PLACE.tss + 4, BigInt(PLACE.stacks));
      for (let ist = 0; ist < 7; ist++)
        this.word64(PLACE.tss + 0x24 + ist * 8, BigInt(PLACE.stacks + (ist + 1) * 0x1000));
    } else {
      this.word32(PLACE.tss + 4, PLACE.stacks);
      this.word32(PLACE.tss + 8, SELECTOR.data);
    }
    const selector = width === 64 ? SELECTOR.code64 : SELECTOR.code32;
    for (let vector = 0; vector < 256; vector++) {
      const target = PLACE.handlers + HANDLER_BYTES * (vector < 0x20 ? vector : 0x20);
      if (width === 16) this.word32(PLACE.vectors + vector * 4, target);
      else this.#gate(PLACE.idt + vector * (width / 4), target, selector, 0xee, width);
    }
    for (let vector = 0; vector <= 0x20; vector++) {
      const code = handler === 'random' ? random.bytes(HANDLER_BYTES) : handlerCode(vector, width, handler);
      this.bytes.set(code, PLACE.handlers + vector * HANDLER_BYTES);
    }
  }

  #pageTables(): void {
    this.word64(PLACE.pml4, BigInt(PLACE.pdpt) | ENTRY_RIGHTS);
    this.word64(PLACE.pml4 + 511 * 8, BigInt(PLACE.pdpt) | ENTRY_RIGHTS);
    for (const [table, rights] of [
      [PLACE.pdpt, ENTRY_RIGHTS],
      [PLACE.pdptPae, 1n],
    ] as const) {
      this.word64(table, BigInt(PLACE.directory) | rights);
      this.word64(table + 3 * 8, BigInt(PLACE.deviceDirectory) | rights);
    }
    this.word64(PLACE.directory, BigInt(PLACE.table) | ENTRY_RIGHTS);
    for (let page = 0; page < RAM_BYTES / 4096; page++) {
      this.word64(PLACE.table + page * 8, BigInt(page * 4096) | ENTRY_RIGHTS);
      this.word32(PLACE.table32 + page * 4, (page * 4096) | Number(ENTRY_RIGHTS));
    }
    this.word32(PLACE.directory32, PLACE.table32 | Number(ENTRY_RIGHTS));
    // PCI, and I/O APIC and local APIC.
    for (const address of [0xe000_0000, 0xfec0_0000, 0xfee0_0000]) {
      this.word64(
        PLACE.deviceDirectory + ((address >>> 21) & 511) * 8,
        BigInt(address) | ENTRY_RIGHTS | LARGE,
      );
      this.word32(PLACE.directory32 + (address >>> 22) * 4, ((address & 0xffc0_0000) | 0x87) >>> 0);
    }
  }

  #gate(at: number, target: number, selector: number, access: number, width: Width): void {
    this.word32(at, (target & 0xffff) | (selector << 16));
    this.word32(at + 4, (target & 0xffff_0000) | (access << 8));
    if (width === 64) this.word64(at + 8, 0n);
  }
}

function handlerCode(vector: number, width: Width, kind: HandlerKind): number[] {
  if (kind === 'halt') return [0xfb, 0xf4, 0xeb, 0xfd];
  const back = width === 64 ? [0x48, 0xcf] : [0xcf];
  // An interrupt is acknowledged at the first PIC.
  if (vector >= 0x20) return [0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, ...back];
  const skip = kind === 'skip';
  if (width === 16)
    return skip ? [0x55, 0x89, 0xe5, 0x83, 0x46, 2, SLOT, 0x83, 0x66, 2, -SLOT & 0xff, 0x5d, 0xcf] : [0xcf];
  const rex = width === 64 ? [0x48] : [];
  const drop = WITH_ERROR.includes(vector) ? [...rex, 0x83, 0xc4, width / 8] : [];
  const next = [...rex, 0x83, 0x04, 0x24, SLOT, ...rex, 0x83, 0x24, 0x24, -SLOT & 0xff];
  return [...drop, ...(skip ? next : []), ...back];
}
