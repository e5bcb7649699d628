import { Assembler, type Memory, type OperandSize, REG } from './assembler.ts';
import { Random } from './random.ts';
import {
  A,
  APIC,
  CODE,
  D,
  DATA,
  DIRECTORY,
  GDT,
  GuestImage,
  HANDLERS,
  IDT,
  KERNEL_CS,
  KERNEL_SS,
  LARGE,
  LOW_TABLE,
  NX,
  P,
  PAGE,
  PML4,
  PML4_B,
  PS,
  STACK_TOP,
  TICKS,
  TSS,
  U,
  USER_STACK,
  W,
  WINDOW,
  WINDOW_TABLE,
  WINDOW_TABLE_B,
} from './small-guest.ts';

/**
 * Random guests that stay alive: code in pieces of 32 bytes, handlers that go on at the next piece after a fault,
 * and pointers that mostly point somewhere. What they do is chosen to hurt: stores into code, page tables changed
 * without INVLPG, accesses over page ends, interrupts, single steps, faults everywhere.
 */

const PIECE = 32;
const CODE_PAGES = 3;
const WINDOW_PAGES = 24;
/** Data until a directory names them. */
const SPARE_TABLES = [DATA + 4 * PAGE, DATA + 5 * PAGE];
/** Handlers: the number of faults, and where to begin again. */
const FAULTS = 0xe020;
const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi } = REG;
/** Registers that hold data; RSP and the pointers are apart. */
const GENERAL = [rax, rcx, rdx, 8, 9, 10, 11, 12, 13];
/** RBP twice: compiled code keeps what its page translates to. */
const POINTERS = [rbx, rbp, rbp, rsi, rdi, 14, 15];
const SIZES: OperandSize[] = [1, 2, 4, 8];

export function randomGuest(seed: number): GuestImage {
  return new RandomGuest(seed).image;
}

class RandomGuest {
  readonly image = new GuestImage();
  readonly #random: Random;

  constructor(seed: number) {
    this.#random = new Random(seed);
    this.#handlers();
    const random = this.#random;
    for (let at = 0; at < 8 * PAGE; at += 4) {
      if (random.chance(30)) this.image.view.setUint32(DATA + at, random.below(0x1_0000_0000), true);
    }
    for (const table of [WINDOW_TABLE, WINDOW_TABLE_B]) {
      for (let page = 0; page < WINDOW_PAGES; page++) this.image.entry64(table, page, this.#entry());
    }
    // The user's way in: the first window page is always the first page of code.
    for (const table of [WINDOW_TABLE, WINDOW_TABLE_B]) {
      for (let page = 0; page < CODE_PAGES; page++)
        this.image.entry64(
          table,
          page,
          BigInt(CODE + page * PAGE) | P | W | U | (random.chance(50) ? A | D : 0n),
        );
    }
    const end = CODE + CODE_PAGES * PAGE;
    const out = this.image.code(CODE, (code) => {
      while (code.here < end - 64) this.#piece(code);
    });
    if (out.here > end) throw new Error('the code grew out of its pages');
  }

  // ------------------------------------------------------------------------------------------ handlers

  #handlers(): void {
    const { image } = this;
    image.loggingHandlers();
    const ist = () => this.#random.pick([0, 1, 1, 1]);
    image.code(HANDLERS, (out) => {
      const ends: number[] = [];
      for (let vector = 0; vector < 32; vector++) {
        out.align(16);
        image.gate(vector, out.here, {
          ist: vector === 8 ? 2 : ist(),
          user: vector === 3,
          trap: vector === 3,
        });
        ends.push(vector);
        if (![8, 10, 11, 12, 13, 14, 17].includes(vector)) out.raw(0x6a, 0);
        out.jump(vector === 1 || vector === 3 ? 'trap' : 'fault');
      }
      // Traps go on where they are; TF ends after a few.
      out.label('trap').push(rax).inc({ displacement: FAULTS }).load(rax, { displacement: FAULTS }, 4);
      out.raw(0xa8, 3).jumpIf(5, 'on').raw(0x81, 0xa4, 0x24).u32(32).u32(~0x100); // and dword [rsp + 32], ~TF
      out.label('on').pop(rax).aluImmediate(0, rsp, 8).iretq();
      // Faults: the next piece; every eighth, and when RIP is nowhere, the kernel begins again somewhere.
      out.label('fault').push(rax).inc({ displacement: FAULTS });
      out.load(rax, { displacement: FAULTS }, 4).raw(0xa8, 7).jumpIf(4, 'anew');
      out.load(rax, { base: rsp, displacement: 16 }).op([0x81], 5, rax, 8).u32(CODE);
      out
        .op([0x81], 7, rax, 8)
        .u32(CODE_PAGES * PAGE - 64)
        .jumpIf(2, 'next');
      out
        .op([0x81], 5, rax, 8)
        .u32(WINDOW - CODE)
        .op([0x81], 7, rax, 8)
        .u32(WINDOW_PAGES * PAGE)
        .jumpIf(3, 'anew');
      out.label('next').load(rax, { base: rsp, displacement: 16 });
      out
        .raw(0x48, 0x83, 0xc8, PIECE - 1)
        .inc(rax)
        .store({ base: rsp, displacement: 16 }, rax);
      out.pop(rax).aluImmediate(0, rsp, 8).iretq();
      out
        .label('anew')
        .load(rax, { displacement: FAULTS }, 4)
        .op([0x69], rax, rax, 4)
        .u32(PIECE * 37);
      out
        .raw(0x25)
        .u32((0xfff ^ (PIECE - 1)) | 0x1000)
        .op([0x81], 0, rax, 8)
        .u32(CODE); // and eax; add rax
      out.store({ base: rsp, displacement: 16 }, rax);
      out.storeImmediate({ base: rsp, displacement: 24 }, KERNEL_CS, 8);
      out.storeImmediate({ base: rsp, displacement: 40 }, STACK_TOP - 64, 8);
      out.storeImmediate({ base: rsp, displacement: 48 }, KERNEL_SS, 8);
      out.pop(rax).aluImmediate(0, rsp, 8).iretq();
      // Interrupts; SYSCALL; INT 0x80.
      out.align(16);
      for (let vector = 0x30; vector < 0x40; vector++)
        image.gate(vector, out.here, { ist: this.#random.pick([0, 2]) });
      out
        .push(rax)
        .inc({ displacement: TICKS })
        .set(rax, APIC)
        .storeImmediate({ base: rax, displacement: 0xb0 }, 0, 4);
      out.pop(rax).iretq();
      out.align(16);
      image.gate(0x80, out.here, { user: true });
      out.inc({ displacement: FAULTS + 8 }).iretq();
      out
        .align(16)
        .label('syscall')
        .op([0xff], 0, { displacement: FAULTS + 8 }, 8)
        .raw(0x48, 0x0f, 0x07); // sysretq
      image.view.setUint32(0xe030, out.addressOf('syscall'), true);
      if (out.here > HANDLERS + PAGE) throw new Error('the handlers grew out of their page');
    });
  }

  // ------------------------------------------------------------------------------------------ operands

  #entry(): bigint {
    const random = this.#random;
    const frame = random.pick([
      DATA,
      DATA + PAGE,
      DATA + 2 * PAGE,
      DATA + 3 * PAGE,
      CODE,
      CODE + PAGE,
      CODE + 2 * PAGE,
      WINDOW_TABLE,
      WINDOW_TABLE_B,
      random.chance(20) ? 0x5000_0000 : DATA,
      random.chance(20) ? APIC : DATA + PAGE,
    ]);
    let entry = BigInt(frame);
    if (random.chance(90)) entry |= P;
    if (random.chance(80)) entry |= W;
    if (random.chance(60)) entry |= U;
    if (random.chance(40)) entry |= A;
    if (random.chance(40)) entry |= D;
    if (random.chance(10)) entry |= NX;
    if (random.chance(3)) entry |= 1n << 50n;
    return entry;
  }

  #address(): number {
    const random = this.#random;
    const near = random.pick([0, 8, 64, 0x123, 0x7f0, PAGE - 1, PAGE - 3, PAGE - 7, PAGE - 15, PAGE - 16]);
    switch (random.below(10)) {
      case 0:
      case 1:
      case 2:
        return DATA + random.below(4) * PAGE + near;
      case 3:
      case 4:
      case 5:
        return WINDOW + random.below(WINDOW_PAGES) * PAGE + near;
      case 6:
        return LARGE + DATA + random.below(4) * PAGE + near;
      case 7:
        return random.pick([WINDOW, CODE, LARGE + CODE]) + random.below(CODE_PAGES * PAGE);
      case 8:
        return (
          random.pick([WINDOW_TABLE, WINDOW_TABLE_B]) +
          random.below(WINDOW_PAGES) * 8 +
          random.pick([0, 0, 0, 4])
        );
      default:
        return random.pick([
          USER_STACK - 64,
          STACK_TOP - 128,
          GDT + 8,
          TSS + 4,
          IDT + 0xe0,
          LOW_TABLE + 0x80,
        ]);
    }
  }

  /** Memory that mostly is there. May load a pointer first. */
  #memory(out: Assembler): Memory {
    const random = this.#random;
    const base = random.pick(POINTERS);
    if (random.chance(55)) out.set(base, this.#address());
    if (random.chance(10)) return { displacement: this.#address() };
    return { base, displacement: random.pick([0, 0, 0, 8, -8, 1, 64, -PAGE, PAGE]) };
  }

  #operand(out: Assembler): number | Memory {
    return this.#random.chance(50) ? this.#random.pick(GENERAL) : this.#memory(out);
  }

  // ------------------------------------------------------------------------------------------ code

  /** Instructions up to the next multiple of PIECE; now and then they run over it. */
  #piece(out: Assembler): void {
    const random = this.#random;
    const end = (Math.floor(out.here / PIECE) + 1) * PIECE;
    while (out.here < end) {
      const trial = new Assembler(out.here);
      this.#instruction(trial);
      const bytes = trial.finish();
      if (out.here + bytes.length > end && !random.chance(8)) {
        while (out.here < end) out.raw(0x90);
        return;
      }
      out.raw(...bytes);
    }
  }

  #instruction(out: Assembler): void {
    const random = this.#random;
    const kinds: [number, () => void][] = [
      [22, () => this.#integer(out)],
      [8, () => this.#shiftOrBit(out)],
      [5, () => this.#multiply(out)],
      [10, () => this.#move(out)],
      [5, () => this.#exchange(out)],
      [7, () => this.#stack(out)],
      [12, () => this.#branch(out)],
      [7, () => this.#string(out)],
      [8, () => this.#vector(out)],
      [3, () => this.#x87(out)],
      [7, () => this.#intoCode(out)],
      [8, () => this.#pageTable(out)],
      [7, () => this.#system(out)],
      [3, () => this.#timer(out)],
      [2, () => this.#privilege(out)],
      [3, () => this.#generated(out)],
      [1, () => out.raw(...Array.from({ length: 1 + random.below(4) }, () => random.below(256)))],
    ];
    let at = random.below(kinds.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, write] of kinds) {
      if (at < weight) {
        write();
        return;
      }
      at -= weight;
    }
  }

  #integer(out: Assembler): void {
    const random = this.#random;
    const kind = random.below(8);
    const size = random.pick(SIZES);
    switch (random.below(5)) {
      case 0:
        out.aluImmediate(kind, this.#operand(out), random.below(256), size);
        return;
      case 1:
        out.aluMemory(kind, random.pick(GENERAL), this.#memory(out), size);
        return;
      case 2:
        out.op([size === 1 ? 0xfe : 0xff], random.below(2), this.#operand(out), size); // inc, dec
        return;
      case 3:
        out.op([size === 1 ? 0xf6 : 0xf7], 2 + random.below(2), this.#operand(out), size); // not, neg
        return;
      default: {
        const to = this.#operand(out);
        const locked = typeof to !== 'number' && random.chance(30) && kind !== 7;
        out.alu(kind, to, random.pick(GENERAL), size, locked ? [0xf0] : []);
      }
    }
  }

  #shiftOrBit(out: Assembler): void {
    const random = this.#random;
    const size = random.pick(SIZES);
    const wide = size === 1 ? 4 : size;
    switch (random.below(5)) {
      case 0: // by an immediate
        out.op([size === 1 ? 0xc0 : 0xc1], random.below(8), this.#operand(out), size, { behind: 1 });
        out.raw(random.below(70));
        return;
      case 1: // by CL
        out.op([size === 1 ? 0xd2 : 0xd3], random.below(8), this.#operand(out), size);
        return;
      case 2: // bt, bts, btr, btc by an immediate
        out
          .op([0x0f, 0xba], 4 + random.below(4), this.#operand(out), wide, { behind: 1 })
          .raw(random.below(64));
        return;
      case 3: // bsf, bsr, popcnt
        out.op([0x0f, random.pick([0xbc, 0xbd])], random.pick(GENERAL), this.#operand(out), wide);
        return;
      default: // shld, shrd
        out.op([0x0f, random.pick([0xa4, 0xac])], random.pick(GENERAL), this.#operand(out), wide, {
          behind: 1,
        });
        out.raw(random.below(40));
    }
  }

  #multiply(out: Assembler): void {
    const random = this.#random;
    const size = random.pick(SIZES);
    if (random.chance(40))
      out.op([0x0f, 0xaf], random.pick(GENERAL), this.#operand(out), size === 1 ? 4 : size);
    else out.op([size === 1 ? 0xf6 : 0xf7], 4 + random.below(4), this.#operand(out), size);
  }

  #move(out: Assembler): void {
    const random = this.#random;
    const size = random.pick(SIZES);
    switch (random.below(6)) {
      case 0:
        out.load(random.pick(GENERAL), this.#memory(out), size);
        return;
      case 1:
        out.store(this.#memory(out), random.pick(GENERAL), size);
        return;
      case 2:
        out.storeImmediate(this.#memory(out), random.below(0x1_0000_0000), random.pick([1, 4, 8]));
        return;
      case 3:
        out.op(
          [0x0f, random.pick([0xb6, 0xb7, 0xbe, 0xbf])],
          random.pick(GENERAL),
          this.#operand(out),
          random.pick([4, 8]),
        );
        return;
      case 4: // cmov, setcc
        if (random.chance(50))
          out.op(
            [0x0f, 0x40 + random.below(16)],
            random.pick(GENERAL),
            this.#operand(out),
            random.pick([2, 4, 8]),
          );
        else out.op([0x0f, 0x90 + random.below(16)], 0, this.#operand(out), 1);
        return;
      default:
        out.set(random.pick(GENERAL), random.chance(50) ? random.below(300) : random.below(0x1_0000_0000));
    }
  }

  #exchange(out: Assembler): void {
    const random = this.#random;
    const size = random.pick(SIZES);
    const low = size === 1 ? 0 : 1;
    switch (random.below(4)) {
      case 0:
        out.op([0x86 + low], random.pick(GENERAL), this.#memory(out), size);
        return;
      case 1:
        out.op([0x0f, 0xc0 + low], random.pick(GENERAL), this.#operand(out), size);
        return;
      case 2: {
        const to = this.#memory(out);
        out.op([0x0f, 0xb0 + low], random.pick(GENERAL), to, size, {
          prefix: random.chance(50) ? [0xf0] : [],
        });
        return;
      }
      default: // cmpxchg8b, cmpxchg16b
        out.op([0x0f, 0xc7], 1, this.#memory(out), random.pick([4, 8]));
    }
  }

  #stack(out: Assembler): void {
    const random = this.#random;
    switch (random.below(8)) {
      case 0:
      case 1:
        out.push(random.pick([...GENERAL, ...POINTERS]));
        return;
      case 2:
      case 3:
        out.pop(random.pick(GENERAL));
        return;
      case 4:
        out.op([0xff], 6, this.#memory(out), 4); // push m
        return;
      case 5:
        out.op([0x8f], 0, this.#memory(out), 4); // pop m
        return;
      case 6:
        out.set(
          rsp,
          random.pick([STACK_TOP - 256, USER_STACK - 256, WINDOW + 6 * PAGE + 4, LARGE + DATA + PAGE]),
        );
        return;
      default: // enter, leave, pushfq, or IRETs' like
        out.raw(...random.pick([[0xc8, 16, 0, 0], [0xc8, 16, 0, 2], [0xc9], [0x9c], [0x9c, 0x9d]]));
    }
  }

  /** To the begin of some piece, mostly forward. */
  #branch(out: Assembler): void {
    const random = this.#random;
    const pages = CODE_PAGES * PAGE - 64;
    const piece = Math.floor((out.here - CODE) / PIECE);
    const ahead = random.chance(80) ? random.below(6) : -random.below(5);
    let target = random.chance(10) ? random.below(Math.floor(pages / PIECE)) : piece + ahead;
    target = Math.max(0, Math.min(target, Math.floor(pages / PIECE) - 1)) * PIECE + CODE;
    const relative = (length: number) => target - (out.here + length);
    switch (random.below(8)) {
      case 0:
        out.raw(0xe9).u32(relative(5) + 1);
        // The displacement counts from the end of the five bytes.
        break;
      case 1:
        out.raw(0xe8).u32(relative(5) + 1);
        break;
      case 2: {
        const near = relative(2);
        if (near >= -128 && near < 128) out.raw(random.pick([0xe0, 0xe1, 0xe2, 0xe3]), near);
        break;
      }
      case 3:
        out.set(rax, target + (random.chance(30) ? WINDOW - CODE : 0)).raw(0xff, random.pick([0xe0, 0xd0]));
        break;
      case 4:
        if (random.chance(30)) out.raw(0xc3);
        break;
      default:
        out.raw(0x0f, 0x80 + random.below(16)).u32(relative(6) + 2);
    }
  }

  #string(out: Assembler): void {
    const random = this.#random;
    if (random.chance(80)) out.set(rcx, random.below(random.chance(20) ? 600 : 24));
    if (random.chance(70)) out.set(rdi, this.#address());
    if (random.chance(70)) out.set(rsi, this.#address());
    if (random.chance(15)) out.raw(0xfd);
    const operation = random.pick([0xa4, 0xa6, 0xaa, 0xac, 0xae]);
    const size = random.below(4);
    const bytes = [operation + (size === 0 ? 0 : 1)];
    if (size === 3) bytes.unshift(0x48);
    if (size === 1) bytes.unshift(0x66);
    if (random.chance(80)) bytes.unshift(random.pick([0xf2, 0xf3]));
    out.raw(...bytes);
    if (random.chance(30)) out.raw(0xfc);
  }

  #vector(out: Assembler): void {
    const random = this.#random;
    const register = random.below(8);
    const from = (): number | Memory => (random.chance(40) ? random.below(8) : this.#memory(out));
    switch (random.below(6)) {
      case 0:
        out.op([0x0f, random.pick([0x10, 0x28])], register, from(), 4); // movups, movaps
        return;
      case 1:
        out.op([0x0f, random.pick([0x11, 0x29])], register, from(), 4);
        return;
      case 2: {
        const rm = from();
        // padd, psub, pand, pxor, pcmpeq, punpck, packuswb, pmaddwd, ...
        const opcode = random.pick([
          0xfc, 0xfd, 0xfe, 0xd4, 0xf8, 0xfa, 0xdb, 0xef, 0x74, 0x76, 0x60, 0x62, 0x67, 0xf5, 0xd5, 0xe4,
        ]);
        out.op([0x0f, opcode], register, rm, 4, { prefix: [0x66] });
        return;
      }
      case 3: {
        const rm = from();
        const prefix = random.pick([[], [0x66], [0xf3], [0xf2]]);
        out.op([0x0f, random.pick([0x58, 0x59, 0x5c, 0x5e, 0x51, 0x5d, 0x5f])], register, rm, 4, { prefix });
        return;
      }
      case 4: {
        const rm = random.chance(50) ? random.pick(GENERAL) : this.#memory(out);
        out.op([0x0f, random.pick([0x2a, 0x2c, 0x2d])], register, rm, random.pick([4, 8]), { prefix: [] });
        return;
      }
      default: {
        const rm = from();
        out.op([0x0f, random.pick([0x6f, 0x7f, 0xd6])], register, rm, 4, {
          prefix: [random.pick([0x66, 0xf3])],
        });
      }
    }
  }

  #x87(out: Assembler): void {
    const random = this.#random;
    if (random.chance(40))
      out.op([random.pick([0xd9, 0xdb, 0xdd, 0xdf])], random.pick([0, 2, 3, 5, 7]), this.#memory(out), 4);
    else if (random.chance(10))
      out.op([0x0f, 0xae], random.below(4), this.#memory(out), 4); // fxsave, fxrstor, ldmxcsr, stmxcsr
    else out.raw(random.pick([0xd8, 0xdc, 0xde, 0xd9]), 0xc0 + random.below(64));
  }

  #intoCode(out: Assembler): void {
    const random = this.#random;
    const base = random.pick([CODE, CODE, WINDOW, LARGE + CODE]);
    const near = out.here - CODE + random.below(90) - 20;
    const at = base + (random.chance(75) ? Math.max(0, near) : random.below(CODE_PAGES * PAGE));
    const opcode = random.pick([
      0x90, 0x90, 0xf8, 0xf9, 0xf5, 0x98, 0x99, 0x50, 0x58, 0xcc, 0x0f, 0x48, 0xc3, 0xeb, 0x06,
    ]);
    switch (random.below(5)) {
      case 0:
        out.inc({ displacement: at }, random.pick(SIZES));
        return;
      case 1:
        out.storeImmediate({ displacement: at }, 0x9090_9090, 4);
        return;
      case 2:
        out.set(rbx, at).op([0x0f, 0x11], random.below(8), { base: rbx }, 4); // movups
        return;
      default:
        out.storeImmediate({ displacement: at }, opcode, 1);
    }
  }

  /** Code written where data was a moment ago, and called. */
  #generated(out: Assembler): void {
    const random = this.#random;
    const at = DATA + random.below(4) * PAGE + random.pick([0, 0x200, PAGE - 2]);
    const body = random.pick([0x90c0_ff48, 0x90c1_ff48, 0x9090_9090, 0xc3c3_c3c3]);
    if (random.chance(70)) out.storeImmediate({ displacement: at }, body, 4);
    if (random.chance(70))
      out.storeImmediate({ displacement: at + random.below(4) }, random.pick([0xc3, 0x90]), 1);
    if (random.chance(70)) out.storeImmediate({ displacement: at + 4 }, 0xc3, 1);
    out.set(rax, at).raw(0xff, 0xd0);
  }

  #pageTable(out: Assembler): void {
    const random = this.#random;
    const table = random.pick([WINDOW_TABLE, WINDOW_TABLE, WINDOW_TABLE_B, ...SPARE_TABLES]);
    const at = table + random.below(random.chance(80) ? 10 : WINDOW_PAGES) * 8;
    const through = random.chance(20) ? LARGE : 0;
    switch (random.below(8)) {
      case 0:
      case 1:
      case 2:
        out.set(rax, this.#entry()).store({ displacement: through + at }, rax);
        return;
      case 3: // clears A and D, or P, or W
        out.aluImmediate(
          4,
          { displacement: through + at },
          random.pick([0x9f, 0xbf, 0xdf, 0xfe, 0xfd, 0xfb]),
          1,
        );
        return;
      case 4: // sets P, W, U
        out.aluImmediate(1, { displacement: through + at }, random.pick([7, 1, 2, 4, 0x60]), 1);
        return;
      case 5: // the directory's entry of the window, or the large page's
        if (random.chance(50))
          out
            .set(
              rax,
              BigInt(random.pick([WINDOW_TABLE, WINDOW_TABLE_B, ...SPARE_TABLES])) |
                P |
                W |
                U |
                (random.chance(50) ? A : 0n),
            )
            .store({ displacement: DIRECTORY + 8 }, rax);
        else
          out
            .set(rax, random.pick([P | W | PS, P | PS, P | W | PS | A | D, BigInt(LOW_TABLE) | P | W]))
            .store({ displacement: DIRECTORY + 16 }, rax);
        return;
      case 6: // accessed flags of what runs now
        out.aluImmediate(
          4,
          {
            displacement:
              through +
              random.pick([LOW_TABLE + (CODE >> 12) * 8, LOW_TABLE + (DATA >> 12) * 8, DIRECTORY, PML4]),
          },
          random.pick([0x9f, 0xdf]),
          1,
        );
        return;
      default:
        if (random.chance(50)) out.set(rax, random.pick([PML4, PML4_B, PML4, PML4_B | 8])).setCr3(rax);
        else out.raw(0x0f, 0x01, 0x38 | rbx); // invlpg [rbx]
    }
  }

  #system(out: Assembler): void {
    const random = this.#random;
    switch (random.below(14)) {
      case 0:
        out.rdtsc();
        return;
      case 1:
        out.raw(0x0f, 0xa2); // cpuid
        return;
      case 2:
        out.raw(0xe4, random.pick([0x40, 0x61, 0x21, 0x70, 0x71])); // in al
        return;
      case 3:
        out.raw(0xe6, random.pick([0x80, 0x42, 0x43, 0x61])); // out al
        return;
      case 4:
      case 5:
        out.sti();
        return;
      case 6:
        out.cli();
        return;
      case 7:
        out.sti().hlt();
        return;
      case 8: // popf, with TF now and then
        out
          .set(rax, random.pick([0x202, 0x2, 0x302, 0x102, 0x602, 0x4_0202]))
          .push(rax)
          .raw(0x9d);
        return;
      case 9:
        out.set(rax, KERNEL_SS).raw(0x8e, 0xd0); // mov ss, ax
        return;
      case 10:
        out.raw(...random.pick([[0xcc], [0xcd, 0x80], [0x0f, 0x0b], [0xf1], [0xcd, 0x33]]));
        return;
      case 11: // CR0.WP
        out.raw(0x0f, 0x20, 0xc0, 0x0f, 0xba, 0xf8, 16, 0x0f, 0x22, 0xc0); // mov rax, cr0; btc eax, 16; mov cr0, rax
        return;
      case 12: // rdrand, rdseed
        out.raw(0x48, 0x0f, 0xc7, random.pick([0xf1, 0xf9]));
        return;
      default:
        out.raw(0x0f, 0x20, 0xd2); // mov rdx, cr2
    }
  }

  #timer(out: Assembler): void {
    const random = this.#random;
    switch (random.below(3)) {
      case 0:
        out.set(rbx, APIC).storeImmediate({ base: rbx, displacement: 0x380 }, 1 + random.below(3000), 4);
        return;
      case 1:
        out
          .set(rbx, APIC)
          .storeImmediate({ base: rbx, displacement: 0x320 }, random.pick([0x31, 0x2_0032, 0x1_0033]), 4);
        return;
      default:
        out
          .set(rbx, APIC)
          .storeImmediate(
            { base: rbx, displacement: random.pick([0xf0, 0x3e0]) },
            random.pick([0x1ff, 0x1fb]),
            4,
          );
    }
  }

  #privilege(out: Assembler): void {
    const random = this.#random;
    switch (random.below(3)) {
      case 0: // into the user's copy of this code
        out.enterUser(
          WINDOW + random.below((CODE_PAGES * PAGE) / PIECE - 4) * PIECE,
          USER_STACK - 128,
          random.pick([0x202, 0x2, 0x302]),
        );
        return;
      case 1:
        out.wrmsr(0xc000_0082, this.image.view.getUint32(0xe030, true)).wrmsr(0xc000_0084, 0x200);
        return;
      default:
        out.raw(0x0f, 0x05); // syscall
    }
  }
}
