/**
 * Layout of one vCPU's state in the shared wasm memory, as byte offsets from the vCPU base pointer. Records of
 * micro-operations name registers by these offsets, so an 8-bit register is just an offset (AH is RAX + 1).
 */

/** RAX RCX RDX RBX RSP RBP RSI RDI R8..R15, 8 bytes each. */
export const GPR = 0x000;
export const RAX = 0x00;
export const RCX = 0x08;
export const RDX = 0x10;
export const RBX = 0x18;
export const RSP = 0x20;
export const RBP = 0x28;
export const RSI = 0x30;
export const RDI = 0x38;
export const R11 = 0x58;
/** Eight temporaries of 8 bytes; dead between instructions. */
export const TEMP = 0x080;
export const RIP = 0x0c0;
/** Virtual address of the first instruction of the running block; RIP inside a block is this plus an offset. */
export const BLOCK_PC = 0x0c8;
/**
 * The six arithmetic flags, canonical at every moment but never spelt out until read:
 *   ZF = result == 0; SF = result<63> ^ aux<0>; PF = even parity of (result<7:0> ^ aux<15:8>);
 *   CF = aux<63>; OF = aux<63> ^ aux<62>; AF = aux<3>.
 * `result` is sign-extended from the operand size; every other bit of `aux` is zero.
 */
export const FLAGS_RESULT = 0x0d0;
export const FLAGS_AUX = 0x0d8;
/** RFLAGS without the six arithmetic flags: bit 1 set, TF IF DF IOPL NT RF VM AC VIF VIP ID. */
export const FLAGS_REST = 0x0e0;
/** Always zero: the base or index of an address that has none. */
export const ZERO = 0x0e8;
/** Linear bases, 8 bytes each, in the order of SEGMENT below. */
export const SEGMENT_BASE = 0x0f0;
/** Order of the segment arrays. */
export const SEGMENT = { es: 0, cs: 1, ss: 2, ds: 3, fs: 4, gs: 5, ldtr: 6, tr: 7 } as const;
export type SegmentName = keyof typeof SEGMENT;
/** 32-bit slots: selector; limit in bytes (granularity applied); access word = descriptor bits 55:40 (type, S,
 * DPL, P, limit<19:16> as zero, AVL, L, D/B, G). An unusable (null) segment has P = 0. */
export const SEGMENT_SELECTOR = 0x130;
export const SEGMENT_LIMIT = 0x150;
export const SEGMENT_ACCESS = 0x170;
export const GDTR_BASE = 0x190;
export const GDTR_LIMIT = 0x198;
export const IDTR_BASE = 0x1a0;
export const IDTR_LIMIT = 0x1a8;
export const CR0 = 0x1b0;
export const CR2 = 0x1b8;
export const CR3 = 0x1c0;
export const CR4 = 0x1c8;
export const EFER = 0x1d0;
export const STAR = 0x1d8;
export const LSTAR = 0x1e0;
export const CSTAR = 0x1e8;
export const SFMASK = 0x1f0;
export const KERNEL_GS_BASE = 0x1f8;
export const SYSENTER_CS = 0x200;
export const SYSENTER_ESP = 0x208;
export const SYSENTER_EIP = 0x210;
export const TSC_AUX = 0x218;
/** Added to the timestamp derived from guest time (IA32_TSC writes and TSC_ADJUST). */
export const TSC_OFFSET = 0x220;
export const PAT = 0x228;
export const MISC_ENABLE = 0x230;
export const DR0 = 0x240;
export const DR6 = 0x260;
export const DR7 = 0x268;
/** 32-bit: current privilege level. */
export const CPL = 0x270;
/** 32-bit: nonzero for one instruction after a load of SS (1) or STI (2): interrupts are held. */
export const INTERRUPT_SHADOW = 0x274;
/** 32-bit: nonzero while HLT waits. */
export const HALTED = 0x278;
/**
 * 32-bit: nonzero between an instruction that was completed and the #DB that follows it. Bit 0: TF was set; bits 4:1:
 * it met the data breakpoints 3 to 0.
 */
export const SINGLE_STEP_TRAP = 0x27c;
/** MTRR and other plain storage MSRs, 8 bytes each; the system code owns the meaning. */
export const MSR_STORAGE = 0x280;
export const XMM = 0x300;
/** Four vector temporaries of 16 bytes. */
export const XMM_TEMP = 0x400;
/** Physical x87 registers R0..R7: 80 bits in the low 10 bytes of 16. */
export const X87 = 0x440;
export const FCW = 0x4c0;
/** 16-bit status word, TOP included. */
export const FSW = 0x4c4;
/** Abridged tag: bit n set when physical register n is not empty. */
export const FTW = 0x4c8;
export const FOP = 0x4cc;
export const FIP = 0x4d0;
export const FDP = 0x4d8;
export const MXCSR = 0x4e0;
/** i32: nonzero from the delivery of an NMI to the next IRET [SDM 3A 6.7.1]. */
export const NMI_BLOCKED = 0x4e4;
/** 64-bit number of entropy bytes drawn etc. belongs to devices; nothing architectural from here on. */
export const ARCHITECTURAL_END = 0x500;

/** Words of the engine, not part of the guest's state. */
export const ENGINE = 0x600;
/** i32: instructions that may still be charged before the engine must stop. */
export const REMAINING = 0x600;
/** i32: why the engine left its loop (EXIT in engine). */
export const EXIT_REASON = 0x604;
/** i32: wasm address of the record at which it left. */
export const EXIT_RECORD = 0x608;
/** i32: nonzero when a slow path wants the engine to leave at this record. */
export const ABORT = 0x60c;
/** i64: linear address handed to a slow path. */
export const SLOW_ADDRESS = 0x610;
/** i64 (or 2 x i64): value handed to or from a slow path. */
export const SLOW_VALUE = 0x618;
/** i32: wasm address of the current translation cache. */
export const TLB_POINTER = 0x62c;
/** i32: vector and error code (-1: none) of a fault raised by a micro-operation. */
export const FAULT_VECTOR = 0x630;
export const FAULT_ERROR = 0x634;
/** i32: instructions that a compiled region charged and left to the interpreter. */
export const UNDONE = 0x638;
/** i64: instructions that retired in compiled regions. */
export const COMPILED_COUNT = 0x640;
/** i32: wasm address of the root of the page tables, when misses may be looked up in generated code; else 0. */
export const REFILL_ROOT = 0x648;
/**
 * Two of i32: identify (address space, privilege, mode, flush generation) for the jump cache, for code whose address
 * has bit 63 clear, then set.
 */
export const EPOCH = 0x650;
export const EPOCH_HIGH = EPOCH + 4;
/** i32: nonzero while no interrupt or NMI is pending, so that opening the interrupt window changes nothing else. */
export const QUIET = 0x660;
/**
 * How guest time follows from REMAINING, for RDTSC (machine/guest-time.ts): whether the four words say so, the count
 * from the clock's last entry to where REMAINING is 0, the time of that entry, nanoseconds per count in 32.32 fixed
 * point, and the cap.
 */
export const CLOCK_KNOWN = 0x664;
export const CLOCK_END = 0x668;
export const CLOCK_BASE = 0x670;
export const CLOCK_RATE = 0x678;
export const CLOCK_CAP = 0x680;
/**
 * i32: TLB_POINTER and the epochs of the same address space at the other privilege, while SYSCALL and SYSRET may go over to
 * it by exchanging them (Semantics.switchContext); PARTNER_TLB is 0 while they may not.
 */
export const PARTNER_TLB = 0x688;
export const PARTNER_EPOCH = 0x68c;
export const PARTNER_EPOCH_HIGH = 0x690;
/** What is exchanged. */
export const CONTEXT_WORDS: readonly (readonly [number, number])[] = [
  [TLB_POINTER, PARTNER_TLB],
  [EPOCH, PARTNER_EPOCH],
  [EPOCH_HIGH, PARTNER_EPOCH_HIGH],
];
/**
 * i32: in code whose segments are checked (system/segment-check.ts), the segment that the next access goes through;
 * SEGMENT_UNNAMED when it goes through none.
 */
export const ACCESS_SEGMENT = 0x7f0;
export const SEGMENT_UNNAMED = -1;
export const STATE_SIZE = 0x1000;

export type Size = 1 | 2 | 4 | 8;

/** Offset of general register `index` for an operand of `size`; `rex` tells SPL..DIL from AH..BH. */
export function gprOffset(index: number, size: Size, rex: boolean): number {
  return size === 1 && !rex && index >= 4 && index < 8 ? GPR + (index - 4) * 8 + 1 : GPR + index * 8;
}

/** Arithmetic flag bits of RFLAGS. */
export const FLAG = {
  cf: 0x1,
  pf: 0x4,
  af: 0x10,
  zf: 0x40,
  sf: 0x80,
  tf: 0x100,
  if: 0x200,
  df: 0x400,
  of: 0x800,
  iopl: 0x3000,
  nt: 0x4000,
  rf: 0x10000,
  vm: 0x20000,
  ac: 0x40000,
  vif: 0x80000,
  vip: 0x100000,
  id: 0x200000,
} as const;
const ARITHMETIC = 0x8d5n;

/** Views over one vCPU's state. Slow-path code reads and writes through it; 64-bit values as unsigned bigint. */
export class CpuState {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly u64: BigUint64Array;

  /** `buffer` is the wasm memory (or any buffer in tests), `base` the vCPU base pointer, 8-byte aligned. */
  constructor(buffer: ArrayBufferLike, base: number) {
    this.bytes = new Uint8Array(buffer, base, STATE_SIZE);
    this.view = new DataView(buffer, base, STATE_SIZE);
    this.u32 = new Uint32Array(buffer, base, STATE_SIZE / 4);
    this.i32 = new Int32Array(buffer, base, STATE_SIZE / 4);
    this.u64 = new BigUint64Array(buffer, base, STATE_SIZE / 8);
  }

  get64(offset: number): bigint {
    return this.u64[offset >>> 3]!;
  }

  set64(offset: number, value: bigint): void {
    this.u64[offset >>> 3] = value;
  }

  get32(offset: number): number {
    return this.u32[offset >>> 2]!;
  }

  set32(offset: number, value: number): void {
    this.u32[offset >>> 2] = value;
  }

  /** Zero-extended value of `size` bytes at any offset. */
  get(offset: number, size: Size): bigint {
    switch (size) {
      case 1:
        return BigInt(this.bytes[offset]!);
      case 2:
        return BigInt(this.view.getUint16(offset, true));
      case 4:
        return BigInt(this.view.getUint32(offset, true));
      case 8:
        return this.view.getBigUint64(offset, true);
    }
  }

  /** Writes a general register as the processor does: 32-bit results clear the upper half [SDM 1 3.4.1.1]. */
  set(offset: number, size: Size, value: bigint): void {
    switch (size) {
      case 1:
        this.bytes[offset] = Number(value & 0xffn);
        return;
      case 2:
        this.view.setUint16(offset, Number(value & 0xffffn), true);
        return;
      case 4:
        this.view.setBigUint64(offset, value & 0xffff_ffffn, true);
        return;
      case 8:
        this.view.setBigUint64(offset, BigInt.asUintN(64, value), true);
        return;
    }
  }

  get rflags(): bigint {
    const result = this.get64(FLAGS_RESULT);
    const aux = this.get64(FLAGS_AUX);
    let low = Number((result ^ (aux >> 8n)) & 0xffn);
    low ^= low >> 4;
    low ^= low >> 2;
    low ^= low >> 1;
    let flags = this.get64(FLAGS_REST);
    if (aux >> 63n) flags |= 1n;
    if ((low & 1) === 0) flags |= 4n;
    if (aux & 8n) flags |= 0x10n;
    if (result === 0n) flags |= 0x40n;
    if ((result >> 63n) ^ (aux & 1n)) flags |= 0x80n;
    if ((aux >> 63n) ^ ((aux >> 62n) & 1n)) flags |= 0x800n;
    return flags;
  }

  /** Stores all of RFLAGS; the caller has masked what the instruction may not change. */
  set rflags(value: bigint) {
    const zf = (value & 0x40n) !== 0n;
    const sf = (value & 0x80n) !== 0n;
    // A result of 0 has even parity and no sign; 1 has odd parity and no sign: aux carries the difference.
    const result = zf ? 0n : 1n;
    const evenParity = (value & 4n) !== 0n;
    let aux = 0n;
    if (sf) aux |= 1n;
    if (evenParity !== zf) aux |= 0x100n;
    if (value & 0x10n) aux |= 8n;
    const cf = value & 1n;
    const of = (value >> 11n) & 1n;
    aux |= cf << 63n;
    aux |= (cf ^ of) << 62n;
    this.set64(FLAGS_RESULT, result);
    this.set64(FLAGS_AUX, aux);
    this.set64(FLAGS_REST, (value & ~ARITHMETIC & 0x3f_7fd7n) | 2n);
  }
}
