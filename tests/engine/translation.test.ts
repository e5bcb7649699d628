import { describe, expect, it } from 'vitest';
import { expectAgreement } from './agreement.ts';
import { type Assembler, CONDITION, REG } from './assembler.ts';
import {
  A,
  CODE,
  D,
  DATA,
  DIRECTORY,
  DIRECTORY_B,
  GDT,
  guestWith,
  KERNEL_SS,
  LARGE,
  LOW_TABLE,
  NX,
  P,
  PAGE,
  PDPT,
  PML4,
  PML4_B,
  PS,
  STACKS,
  TSS,
  U,
  USER_STACK,
  W,
  WINDOW,
  WINDOW_TABLE,
  WINDOW_TABLE_B,
} from './small-guest.ts';

/** What is cached of a translation always equals what a walk would give now: no INVLPG is ever needed [design 3]. */

const { rax, rbx, rcx, rdx, rsi, rdi, rbp, r8 } = REG;
const ENTRY = WINDOW_TABLE;

/** Writes an entry of the window's table. */
function setEntry(out: Assembler, page: number, value: bigint, table = WINDOW_TABLE): Assembler {
  return out.set(r8, value).store({ displacement: table + page * 8 }, r8);
}

function values(image: { view: DataView }): void {
  for (let page = 0; page < 8; page++)
    image.view.setBigUint64(DATA + page * PAGE, BigInt(0x1000 + page), true);
}

describe('an entry changed without INVLPG', () => {
  it('maps another page at once, for reads, writes and code', () => {
    const { image } = guestWith((out) => {
      out.load(rax, { displacement: WINDOW });
      setEntry(out, 0, BigInt(DATA + PAGE) | P | W);
      out.load(rbx, { displacement: WINDOW }).storeImmediate({ displacement: WINDOW }, 7, 8);
      setEntry(out, 0, BigInt(DATA + 2 * PAGE) | P | W);
      out.storeImmediate({ displacement: WINDOW }, 8, 8).load(rcx, { displacement: WINDOW });
      out.set(rsi, WINDOW + PAGE).call('go');
      setEntry(out, 1, BigInt(DATA + 4 * PAGE) | P | W);
      out.call('go').hlt().label('go').raw(0xff, 0xe6);
    });
    values(image);
    image.window(0, DATA, P | W);
    image.window(1, DATA + 3 * PAGE, P | W);
    image.put(DATA + 3 * PAGE, Uint8Array.of(0x48, 0xff, 0xc2, 0xc3)); // inc rdx; ret
    image.put(DATA + 4 * PAGE, Uint8Array.of(0x48, 0xff, 0xc5, 0xc3)); // inc rbp; ret
    const machine = expectAgreement(image, 21);
    expect([rax, rbx, rcx, rdx, rbp].map((register) => machine.register(register))).toEqual([
      0x1000n,
      0x1001n,
      8n,
      1n,
      1n,
    ]);
    expect([0, 1, 2].map((page) => machine.read64(DATA + page * PAGE))).toEqual([0x1000n, 7n, 8n]);
  });

  it('gets its accessed and dirty flags again when they were cleared', () => {
    const { image } = guestWith((out) => {
      out.inc({ displacement: WINDOW }).load(rax, { displacement: ENTRY });
      setEntry(out, 0, BigInt(DATA) | P | W | A);
      out.load(rbx, { displacement: WINDOW }).load(rbx, { displacement: ENTRY });
      out.inc({ displacement: WINDOW }).load(rcx, { displacement: ENTRY });
      setEntry(out, 0, BigInt(DATA) | P | W);
      out.load(rdx, { displacement: WINDOW }).load(rdx, { displacement: ENTRY });
      // The same for the page that the code runs from, and for the directory above it.
      out
        .op([0x80], 4, { displacement: LOW_TABLE + (CODE >> 12) * 8 }, 1, { behind: 1 })
        .raw(0x9f)
        .nop();
      out.load(rsi, { displacement: LOW_TABLE + (CODE >> 12) * 8 });
      out.op([0x80], 4, { displacement: DIRECTORY }, 1, { behind: 1 }).raw(0x9f);
      out.load(rdi, { displacement: DIRECTORY }).hlt();
    });
    image.window(0, DATA, P | W);
    const machine = expectAgreement(image, 19);
    const flags = [rax, rbx, rcx, rdx, rsi, rdi].map((register) => machine.register(register) & 0x60n);
    expect(flags).toEqual([A | D, A, A | D, A, A, A]);
  });

  it('takes rights away and gives them back, one by one', () => {
    const { image } = guestWith((out) => {
      out.storeImmediate({ displacement: WINDOW }, 1, 8);
      setEntry(out, 0, BigInt(DATA) | P | A | D); // read only
      out.lea(rax, { label: 'after-write' }).store({ displacement: 0xe008 }, rax);
      out.label('write').storeImmediate({ displacement: WINDOW }, 2, 8).label('after-write');
      setEntry(out, 0, BigInt(DATA) | P | W | A | D);
      out.storeImmediate({ displacement: WINDOW }, 3, 8);
      setEntry(out, 0, BigInt(DATA) | W | A | D); // not present
      out.lea(rax, { label: 'after-read' }).store({ displacement: 0xe008 }, rax);
      out.label('read').load(rbx, { displacement: WINDOW }).label('after-read');
      setEntry(out, 0, BigInt(DATA) | P | W | A | D | NX);
      out.lea(rax, { label: 'end' }).store({ displacement: 0xe008 }, rax).set(rcx, WINDOW).raw(0xff, 0xe1);
      out.label('end').hlt();
    });
    image.window(0, DATA, P | W);
    const machine = expectAgreement(image, 130);
    expect(machine.log.map(({ vector, errorCode, cr2 }) => [vector, errorCode, cr2])).toEqual([
      [14, 3, BigInt(WINDOW)],
      [14, 0, BigInt(WINDOW)],
      [14, 0x11, BigInt(WINDOW)],
    ]);
    expect(machine.read64(DATA)).toBe(3n);
  });

  it('makes a page read-only while CR0.WP says so', () => {
    const { image } = guestWith((out) => {
      out.raw(0x0f, 0x20, 0xc3).mov(rcx, rbx).raw(0x48, 0x0f, 0xba, 0xf1, 16); // mov rbx, cr0; btr rcx, 16
      out
        .setCr0(rcx)
        .inc({ displacement: WINDOW })
        .setCr0(rbx)
        .inc({ displacement: WINDOW })
        .label('resume')
        .hlt();
    });
    image.window(0, DATA, P);
    const machine = expectAgreement(image, 40);
    expect(machine.log.map(({ vector, errorCode }) => [vector, errorCode])).toEqual([[14, 3]]);
    expect(machine.read64(DATA)).toBe(1n);
  });

  it('counts in the directories above too, and when a large page is split', () => {
    const { image } = guestWith((out) => {
      out.load(rax, { displacement: LARGE + DATA });
      out.set(rdx, 0xf000 | 3).store({ displacement: DIRECTORY + 2 * 8 }, rdx); // a table at 0xf000 instead
      out.load(rbx, { displacement: LARGE + DATA });
      out
        .set(rdx, BigInt(PS | P | W))
        .store({ displacement: DIRECTORY + 2 * 8 }, rdx)
        .load(rcx, { displacement: LARGE + DATA });
      out.load(rsi, { displacement: PDPT }).store({ displacement: PDPT + 8 }, rsi);
      out
        .set(rdi, 0x4000_0000 + DATA)
        .load(rdi, { base: rdi })
        .set(rdx, 0)
        .store({ displacement: PDPT + 8 }, rdx);
      out
        .set(rdx, 0x4000_0000 + DATA)
        .load(rdx, { base: rdx })
        .label('resume')
        .hlt();
    });
    values(image);
    image.entry64(0xf000, DATA >> 12, BigInt(DATA + 5 * PAGE) | P);
    const machine = expectAgreement(image, 60);
    expect([rax, rbx, rcx, rdi].map((register) => machine.register(register))).toEqual([
      0x1000n,
      0x1005n,
      0x1000n,
      0x1000n,
    ]);
    expect(machine.log.map(({ cr2 }) => cr2)).toEqual([0x4000_0000n + BigInt(DATA)]);
  });

  it('is seen when the store goes through the mapping that it changes', () => {
    const { image } = guestWith((out) => {
      // Window page 0 maps the window's table itself; its own entry is redirected through it.
      out.set(rdx, BigInt(DATA) | P | W).store({ displacement: WINDOW }, rdx);
      out
        .load(rax, { displacement: WINDOW })
        .storeImmediate({ displacement: WINDOW + 8 }, 5, 8)
        .hlt();
    });
    values(image);
    image.window(0, WINDOW_TABLE, P | W);
    const machine = expectAgreement(image, 5);
    expect([machine.register(rax), machine.read64(DATA + 8)]).toEqual([0x1000n, 5n]);
  });

  it('is seen between two iterations of a repeated string that writes its own page tables', () => {
    const { image } = guestWith((out) => {
      // Window page 1 is the table of the window. The sixth quadword copied there redirects page 5, the source.
      out
        .set(rsi, WINDOW + 5 * PAGE)
        .set(rdi, WINDOW + PAGE + 0)
        .set(rcx, 12)
        .raw(0xf3, 0x48, 0xa5)
        .hlt();
    });
    image.window(1, WINDOW_TABLE, P | W);
    image.window(5, DATA, P);
    for (let word = 0; word < 12; word++) {
      image.view.setBigUint64(DATA + word * 8, BigInt(word === 1 ? WINDOW_TABLE : DATA + PAGE) | P | W, true);
      image.view.setBigUint64(DATA + PAGE + word * 8, BigInt(0x100 * word), true);
    }
    const machine = expectAgreement(image, 3 + 12 + 1);
    expect([machine.read64(WINDOW_TABLE + 6 * 8), machine.read64(WINDOW_TABLE + 11 * 8)]).toEqual([
      0x600n,
      0xb00n,
    ]);
  });

  /**
   * Code in window page 7 does `write`, then points its own entry to a page where INC RBP is INC RBX. What it did
   * before must not have made anybody forget what the code hangs on.
   */
  const underItself = (counts: number, write: (out: Assembler) => void): void => {
    const { image } = guestWith((out) =>
      out
        .set(rbx, WINDOW + 7 * PAGE)
        .set(rsi, 0)
        .raw(0xff, 0xe3),
    );
    image.window(0, WINDOW_TABLE, P | W);
    image.window(7, DATA, P | W);
    image.entry64(PDPT, 1, BigInt(DATA + 3 * PAGE) | P | W);
    image.entry64(DATA + 3 * PAGE, 0, P | W | PS);
    image.entry64(DATA + 3 * PAGE, 5, P | W | PS);
    image.code(DATA, (out) => {
      write(out);
      out.set(rax, BigInt(DATA + PAGE) | P | W).store({ displacement: WINDOW_TABLE + 7 * 8 }, rax);
      out.label('next').inc(rbp).hlt();
    });
    image.put(DATA + PAGE, image.ram.slice(DATA, DATA + PAGE));
    const other = image.ram.subarray(DATA + PAGE, DATA + PAGE + 128);
    other[other.findIndex((byte, index) => byte === 0xff && other[index + 1] === 0xc5) + 1] = 0xc3;
    const machine = expectAgreement(image, 3 + counts + 4);
    expect([machine.register(rbp), machine.register(rbx)]).toEqual([0n, BigInt(WINDOW + 7 * PAGE) + 1n]);
  };

  it('is seen by the code that it maps after very many stores to other entries', () => {
    for (const table of [WINDOW, WINDOW_TABLE]) {
      underItself(3 + 300 * 4, (out) => {
        out.set(rdi, table).set(rcx, 300).set(rdx, 64).label('loop');
        out.raw(0x48, 0x89, 0xb4, 0xd7).u32(0); // mov [rdi + rdx * 8], rsi: entries that are not present stay so
        out.inc(rdx).dec(rcx).jumpIf(CONDITION.ne, 'loop');
      });
    }
  });

  it('is seen by the code that it maps after a store that changes the directory of its own path', () => {
    underItself(2, (out) => {
      out.set(rdi, 0x4000_0000 + DATA + 3 * PAGE + 5 * 8).store({ base: rdi }, rsi);
    });
  });
});

describe('a page-table page', () => {
  it('that becomes data, and data that becomes a page table', () => {
    const { image } = guestWith((out) => {
      out.load(rax, { displacement: WINDOW });
      out.set(rdx, (DATA + 0x3000) | 3).store({ displacement: DIRECTORY + 8 }, rdx); // the directory points to data
      out.load(rbx, { displacement: WINDOW });
      setEntry(out, 0, 0x1234n).load(rcx, { displacement: WINDOW }); // the old table is data now
      setEntry(out, 0, BigInt(DATA + 2 * PAGE) | P, DATA + 0x3000)
        .load(rcx, { displacement: WINDOW })
        .hlt();
    });
    values(image);
    image.window(0, DATA, P | W);
    image.entry64(DATA + 0x3000, 0, BigInt(DATA + PAGE) | P | W);
    const machine = expectAgreement(image, 12);
    expect([rax, rbx, rcx].map((register) => machine.register(register))).toEqual([
      0x1000n,
      0x1001n,
      0x1002n,
    ]);
  });
});

describe('data that becomes a page table', () => {
  it('is watched from then on, also where stores to it were quick before', () => {
    const { image } = guestWith((out) => {
      const entry = (page: number) => setEntry(out, 0, BigInt(DATA + page * PAGE) | P | W, DATA + 0x4000);
      entry(1);
      entry(2);
      out
        .set(rdx, (DATA + 0x4000) | 3)
        .store({ displacement: DIRECTORY + 8 }, rdx)
        .load(rax, { displacement: WINDOW });
      entry(3);
      out.load(rbx, { displacement: WINDOW }).hlt();
    });
    values(image);
    const machine = expectAgreement(image, 11);
    expect([machine.register(rax), machine.register(rbx)]).toEqual([0x1002n, 0x1003n]);
  });
});

describe('address spaces', () => {
  it('are switched by CR3, and change while they are not in use', () => {
    const { image } = guestWith((out) => {
      out.set(rsi, PML4).set(rdi, PML4_B).load(rax, { displacement: WINDOW }).setCr3(rdi);
      out.load(rbx, { displacement: WINDOW });
      setEntry(out, 0, BigInt(DATA + 3 * PAGE) | P | W);
      out.setCr3(rsi).load(rcx, { displacement: WINDOW });
      setEntry(out, 0, BigInt(DATA + 4 * PAGE) | P | W, WINDOW_TABLE_B);
      out.setCr3(rdi).load(rdx, { displacement: WINDOW }).hlt();
    });
    values(image);
    image.window(0, DATA, P | W);
    image.entry64(WINDOW_TABLE_B, 0, BigInt(DATA + PAGE) | P | W);
    const machine = expectAgreement(image, 14);
    expect([rax, rbx, rcx, rdx].map((register) => machine.register(register))).toEqual([
      0x1000n,
      0x1001n,
      0x1003n,
      0x1004n,
    ]);
    expect(machine.read64(DIRECTORY_B) & A).toBe(A);
  });

  it('more than are kept at once', () => {
    const { image } = guestWith((out) => {
      out.set(rcx, 3).set(rbx, 0).label('round');
      for (let index = 0; index < 12; index++) {
        out
          .set(rax, 0x5_0000 + index * PAGE)
          .setCr3(rax)
          .aluMemory(0, rbx, { displacement: WINDOW });
        out.inc({ displacement: WINDOW });
      }
      out.dec(rcx).jumpIf(CONDITION.ne, 'round').hlt();
    });
    image.window(0, DATA, P | W);
    for (let index = 0; index < 12; index++) {
      image.put(0x5_0000 + index * PAGE, image.ram.slice(PML4, PML4 + PAGE));
    }
    const machine = expectAgreement(image, 2 + 3 * (12 * 4 + 2) + 1);
    expect(machine.register(rbx)).toBe(BigInt((35 * 36) / 2));
  });
});

describe('privilege', () => {
  /** User code in window page 1; the stack below it. */
  const user = (write: (out: Assembler) => void, kernel: (out: Assembler) => void = () => {}) => {
    const { image, code } = guestWith((out) => {
      kernel(out);
      out.enterUser(WINDOW + PAGE, USER_STACK);
      out.label('resume').hlt();
    });
    image.window(1, DATA + PAGE, P | W | U);
    const inUser = image.code(DATA + PAGE, write);
    // An exception ends the guest in the kernel.
    return { image, code, inUser };
  };

  it('keeps the user out of pages that the kernel used before', () => {
    const { image } = user(
      (out) => out.load(rax, { displacement: WINDOW }).hlt(),
      (out) => out.load(rbx, { displacement: WINDOW }).inc({ displacement: WINDOW }),
    );
    image.window(0, DATA, P | W);
    const machine = expectAgreement(image, 40);
    expect(machine.log[0]).toMatchObject({
      vector: 14,
      errorCode: 5,
      cr2: BigInt(WINDOW),
      rip: WINDOW + PAGE,
    });
  });

  it('keeps the user out of what the processor itself read and wrote for it: GDT, TSS and stacks', () => {
    for (const address of [GDT + 8, TSS + 4, STACKS[1] - 8]) {
      const { image } = user((out) => {
        // Twice the same exception: the second time everything is in the caches.
        out.ud2().nop().nop().ud2().load(rax, { displacement: address }).label('end').jump('end');
      });
      const handler = image.code(0xf000, (out) => {
        // Skips the two bytes of UD2 and returns to the user.
        out.aluImmediate(0, { base: REG.rsp }, 2).iretq();
      });
      image.gate(6, handler.origin);
      image.view.setUint32(0xe008, WINDOW + PAGE, true);
      const machine = expectAgreement(image, 60);
      expect(machine.log[0]).toMatchObject({ vector: 14, errorCode: 5, cr2: BigInt(address) });
      const writes = user((out) => out.ud2().ud2().inc({ displacement: address }).label('end').jump('end'));
      writes.image.gate(
        6,
        writes.image.code(0xf000, (out) => out.aluImmediate(0, { base: REG.rsp }, 2).iretq()).origin,
      );
      expect(expectAgreement(writes.image, 60).log[0]).toMatchObject({
        vector: 14,
        errorCode: 7,
        cr2: BigInt(address),
      });
    }
  });

  it('of the kernel reaches user pages, without WP also for writing', () => {
    const { image } = guestWith((out) => {
      out
        .load(rax, { displacement: WINDOW })
        .inc({ displacement: WINDOW })
        .label('resume')
        .set(rdx, KERNEL_SS)
        .hlt();
    });
    values(image);
    image.window(0, DATA, P | U);
    expect(expectAgreement(image, 40).log[0]).toMatchObject({ vector: 14, errorCode: 3 });
  });
});

describe('an access over the end of a page', () => {
  it('that faults on the second page writes nothing, and CR2 is the second page', () => {
    const { image } = guestWith((out) => {
      out.set(rax, -1n).set(rbx, 5).set(rcx, 6).aluImmediate(7, rcx, 6); // ZF
      out
        .store({ displacement: WINDOW + PAGE - 3 }, rax)
        .label('resume')
        .hlt();
    });
    image.window(0, DATA, P | W);
    const machine = expectAgreement(image, 40);
    expect(machine.log[0]).toMatchObject({ vector: 14, errorCode: 2, cr2: BigInt(WINDOW + PAGE) });
    expect(machine.read64(DATA + PAGE - 8)).toBe(0n);
    // The first page's dirty flag stays set.
    expect(machine.read64(ENTRY) & (A | D)).toBe(A | D);
    expect(machine.machine.processor.rflags & 0x40n).toBe(0x40n);
  });

  it('reads, modifies and writes all or nothing, and keeps the flags', () => {
    const writes: ((out: Assembler) => void)[] = [
      (out) => out.alu(0, { displacement: WINDOW + PAGE - 4 }, rax),
      (out) => out.inc({ displacement: WINDOW + PAGE - 1 }, 2),
      (out) => out.op([0x0f, 0xc1], rax, { displacement: WINDOW + PAGE - 2 }, 4), // xadd
      (out) => out.op([0x0f, 0xb1], rbx, { displacement: WINDOW + PAGE - 2 }, 4), // cmpxchg
      (out) => out.op([0xd3], 4, { displacement: WINDOW + PAGE - 2 }, 4), // shl by cl
      (out) => out.op([0x87], rax, { displacement: WINDOW + PAGE - 2 }, 4), // xchg
      (out) => out.op([0x0f, 0x11], 0, { displacement: WINDOW + PAGE - 8 }, 4), // movups
    ];
    for (const write of writes) {
      const { image } = guestWith((out) => {
        out.set(rax, -1n).set(rbx, 1).set(rcx, 3).aluImmediate(7, rcx, 3);
        write(out);
        out.label('resume').raw(0x9c).pop(rdx).hlt();
      });
      image.window(0, DATA, P | W);
      image.window(1, DATA + PAGE, P); // read only
      image.put(DATA + PAGE - 8, new Uint8Array(16).fill(0xff));
      const machine = expectAgreement(image, 45);
      expect(machine.log[0]).toMatchObject({ vector: 14, errorCode: 3, cr2: BigInt(WINDOW + PAGE) });
      expect(machine.read64(DATA + PAGE - 8)).toBe(0xffff_ffff_ffff_ffffn);
      expect([machine.register(rax), machine.register(rdx) & 0x8d5n]).toEqual([
        0xffff_ffff_ffff_ffffn,
        0x44n,
      ]);
    }
  });

  it('works when both pages are there, whatever is cached of them', () => {
    const { image } = guestWith((out) => {
      out.set(rax, 0x1122_3344_5566_7788n).store({ displacement: WINDOW + PAGE - 3 }, rax);
      out.load(rbx, { displacement: WINDOW + PAGE - 3 }).inc({ displacement: WINDOW }, 1);
      out.inc({ displacement: WINDOW + PAGE }, 1).store({ displacement: WINDOW + PAGE - 5 }, rax);
      out.load(rcx, { displacement: WINDOW + PAGE - 5 }).hlt();
    });
    image.window(0, DATA, P | W);
    image.window(1, DATA + 5 * PAGE, P | W);
    const machine = expectAgreement(image, 8);
    expect([machine.register(rbx), machine.register(rcx)]).toEqual([
      machine.register(rax),
      machine.register(rax),
    ]);
    expect(machine.read64(DATA + 5 * PAGE) & 0xffffffn).toBe(0x11_2233n);
  });
});
