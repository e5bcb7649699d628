import { describe, expect, it } from 'vitest';
import { OracleSemantics } from '../../src/engine/oracle-semantics.ts';
import { GuestTime } from '../../src/machine/guest-time.ts';
import { DONE } from '../../src/x86/cpu.ts';
import {
  QUICK_INTERRUPT_RETURN,
  QUICK_SYSCALL,
  QUICK_SYSRET,
  QUICK_TIMESTAMP,
  QUICK_TIMESTAMP_AUX,
} from '../../src/x86/micro-operations/system.ts';
import {
  ARCHITECTURAL_END,
  BLOCK_PC,
  CLOCK_KNOWN,
  CPL,
  CpuState,
  CR4,
  EFER,
  EPOCH,
  EPOCH_HIGH,
  FLAGS_AUX,
  FLAGS_RESULT,
  GDTR_LIMIT,
  LSTAR,
  NMI_BLOCKED,
  PARTNER_EPOCH,
  PARTNER_EPOCH_HIGH,
  PARTNER_TLB,
  QUIET,
  R11,
  RAX,
  RCX,
  RDX,
  RIP,
  SEGMENT,
  SEGMENT_ACCESS,
  SFMASK,
  STAR,
  STATE_SIZE,
  TLB_POINTER,
  TSC_AUX,
  TSC_OFFSET,
} from '../../src/x86/state.ts';
import { SYSCALL, SYSRET } from '../../src/x86/system/fast-call.ts';
import { writeFlags } from '../../src/x86/system/flags.ts';
import { INTERRUPT_RETURN } from '../../src/x86/system/interrupt.ts';
import { AT, enterUser, longModeCpu } from '../../src/x86/system/test-machine.ts';
import { expectAgreement, machineWith } from './agreement.ts';
import { ALU, type Assembler, REG } from './assembler.ts';
import { Random } from './random.ts';
import {
  APIC,
  DATA,
  type GuestImage,
  GuestMachine,
  guestWith,
  LOW_TABLE,
  P,
  PAGE,
  PML4,
  PML4_B,
  RESUME,
  STACK_TOP,
  TICKS,
  U,
  USER_STACK,
  W,
} from './small-guest.ts';

/**
 * System instructions that are done within a block. A machine that is stepped count by count does each of them the
 * slow way, one that runs freely the quick way: nobody may see a difference, wherever a run ends and whenever an
 * interrupt arrives.
 */

const { rax, rbx, rcx, rdx, rdi, rsi, r9 } = REG;

/** The local APIC's timer, one shot or (bit 17) periodic, in guest nanoseconds (10 to a count). */
function arm(out: Assembler, nanoseconds: number, periodic = false): void {
  out.set(rdi, APIC).storeImmediate({ base: rdi, displacement: 0xf0 }, 0x1ff, 4);
  out.storeImmediate({ base: rdi, displacement: 0x3e0 }, 0xb, 4);
  out.storeImmediate({ base: rdi, displacement: 0x320 }, periodic ? 0x2_0030 : 0x30, 4);
  out.storeImmediate({ base: rdi, displacement: 0x380 }, nanoseconds, 4);
}

const popf = (out: Assembler): Assembler => out.raw(0x9d);
const pushf = (out: Assembler): Assembler => out.raw(0x9c);
/** MOV CR8, RAX. */
const setPriority = (out: Assembler): Assembler => out.raw(0x44, 0x0f, 0x22, 0xc0);
const rdtscp = (out: Assembler): Assembler => out.raw(0x0f, 0x01, 0xf9);
/** To the privilege of the page tables' user pages: code and stack of the guest, one GiB of them. */
function userPages(image: GuestImage): void {
  for (let page = 0x10; page < 0x40; page++) image.entry64(LOW_TABLE, page, BigInt(page * PAGE) | P | W | U);
}

/** All that a digest has of the state, RIP and flags apart. */
function architectural({ bytes }: CpuState): string {
  const copy = bytes.slice(0, ARCHITECTURAL_END);
  copy.fill(0, RIP, BLOCK_PC + 8).fill(0, FLAGS_RESULT, FLAGS_AUX + 8);
  return Buffer.from(copy).toString('hex');
}

describe('STI and POPF', () => {
  it('let an interrupt in at the same count, whenever it comes', () => {
    for (let due = 20; due < 340; due += 20) {
      const { image } = guestWith((out) => {
        arm(out, due);
        for (let round = 0; round < 2; round++) {
          out.nop().sti().inc(rbx).inc(rcx).cli().inc(rbx).sti().nop();
          pushf(out).cli().inc(rbx);
          popf(out).inc(rcx).inc(rbx).cli();
        }
        out.sti().nop().hlt();
      });
      const machine = expectAgreement(image, 62);
      expect(machine.read64(TICKS)).toBe(1n);
    }
  });

  it('see what a change of the task priority has let through', () => {
    const { image } = guestWith((out) => {
      out.set(rax, 15);
      setPriority(out);
      arm(out, 30);
      out.nop().nop().nop().sti().inc(rbx).cli().set(rax, 0);
      setPriority(out);
      out.inc(rbx).sti().inc(rcx).inc(rcx).cli().hlt();
    });
    const machine = expectAgreement(image, 40);
    expect(machine.read64(TICKS)).toBe(1n);
  });

  it('at the end of a block, before a branch, a fault, a device and another STI', () => {
    const { image } = guestWith((out) => {
      arm(out, 130);
      out.sti().jump('on').label('on').cli().sti().label('resume').ud2();
    });
    expectAgreement(image, 80);
    const other = guestWith((out) => {
      arm(out, 200);
      out.label('loop').sti().load(rax, { base: rdi, displacement: 0x390 }, 4);
      out.cli().sti().sti().inc(rbx).cli().sti().hlt().jump('loop');
    });
    expectAgreement(other.image, 60);
  });

  it('change what the privilege allows, and every other flag', () => {
    for (const [enter, privilege] of [
      [0x2, 3],
      [0x3202, 3],
      [0, 0],
    ] as const) {
      const { image, code } = guestWith((out) => {
        if (privilege === 3) out.label('kernel').set(rbx, 1);
        out.label('start');
        const random = new Random(enter + 7);
        for (let round = 0; round < 24; round++) {
          const flags = random.below(2 ** 31) & 0x3f_7ed5;
          out.set(rax, flags & (round % 5 === 0 ? -1 : ~0x4_0000)).push(rax);
          popf(out);
          pushf(out).pop(rdx).alu(ALU.add, rbx, rdx);
          out.raw(0x0f, 0x9a, 0xc1).alu(ALU.adc, rsi, rcx);
        }
        out.label('resume').hlt();
      });
      userPages(image);
      if (privilege === 3) {
        const start = code.addressOf('start');
        const entry = 0x1_f000;
        image.code(entry, (out) => out.enterUser(start, USER_STACK, enter));
        image.entry = entry;
      }
      expectAgreement(image, 150);
    }
  });

  it('as the last of a block leave the shadow to who looks at it there', () => {
    for (let before = 13; before < 26; before++) {
      const { image } = guestWith((out) => {
        for (let index = 0; index < before; index++) out.nop();
        out.sti().nop().nop().hlt();
      });
      expectAgreement(image, before + 3);
    }
  });

  it('start and end alignment checks', () => {
    const { image, code } = guestWith((out) => {
      out
        .label('start')
        .set(rbx, DATA + 1)
        .set(rcx, 0x4_0202);
      out.load(rax, { base: rbx }).push(rcx);
      popf(out).load(rax, { base: rbx }).label('resume');
      out.load(rdx, { base: rbx, displacement: 7 }).inc(rsi);
      out.set(rcx, 0x202).push(rcx);
      popf(out).load(rax, { base: rbx }).hlt();
    });
    userPages(image);
    const start = code.addressOf('start');
    image.entry = 0x1_f000;
    image.code(image.entry, (out) => {
      out.raw(0x0f, 0x20, 0xc0).set(rcx, 0x4_0000).alu(ALU.or, rax, rcx).setCr0(rax); // CR0.AM
      out.enterUser(start, USER_STACK, 0x202);
    });
    const machine = expectAgreement(image, 60);
    expect(machine.log.map(({ vector }) => vector)[0]).toBe(17);
  });

  it('and RDTSC are the same in compiled regions', () => {
    const { image } = guestWith((out) => {
      arm(out, 7770, true);
      out.sti().label('loop');
      pushf(out).cli().inc({ displacement: DATA });
      out.rdtsc().alu(ALU.add, rbx, rax);
      popf(out).cli().alu(ALU.add, rsi, rbx).sti().nop();
      rdtscp(out).alu(ALU.xor, rbx, rdx).set(rcx, 0);
      out.inc(r9).jump('loop');
    });
    const cuts = [9000, 23_456, 45_678, 70_001, 70_002, 70_003, 90_000];
    const plain = machineWith({ tlbEntries: 256 });
    const compiled = new GuestMachine({ engine: 'jit', jit: { threshold: 100, batch: 1, patience: 0 } });
    const digests = [plain, compiled].map((machine) => {
      machine.load(image);
      return cuts.map((count) => {
        machine.runTo(count);
        return machine.digest();
      });
    });
    expect(digests[1]).toEqual(digests[0]);
    expect(Number(compiled.machine.compiledCount)).toBeGreaterThan(5000);
    const stepped = machineWith({ tlbEntries: 1024 });
    stepped.load(image);
    for (let count = 1; count <= 23_456; count++) stepped.runTo(count);
    expect(stepped.digest()).toBe(digests[0]![1]);
  });
});

describe('SYSCALL and SYSRET', () => {
  const MSR = { star: 0xc000_0081, lstar: 0xc000_0082, sfmask: 0xc000_0084 };
  /** A program at the label `user` and a kernel that answers its calls, written by the test. */
  function guest(
    user: (out: Assembler) => void,
    kernel: (out: Assembler) => void,
    mask = 0x700,
    before: (out: Assembler) => void = () => {},
  ): GuestImage {
    const program = 0x1_2000;
    const { image } = guestWith((out) => {
      before(out);
      // SYSRET takes CS 0x23 and SS 0x1b; SYSCALL CS 8 and SS 0x10.
      out.set(rcx, MSR.star).set(rax, 0).set(rdx, 0x13_0008).raw(0x0f, 0x30);
      out.wrmsr(MSR.lstar, 0x1_0200).wrmsr(MSR.sfmask, mask);
      out.enterUser(program, USER_STACK, 0x202);
    });
    image.code(0x1_0200, kernel);
    image.code(program, user);
    userPages(image);
    // The kernel's own page is not the program's.
    image.entry64(LOW_TABLE, 0x10, 0x1_0000n | P | W);
    return image;
  }
  const syscall = (out: Assembler): Assembler => out.raw(0x0f, 0x05);
  const sysret = (out: Assembler): Assembler => out.raw(0x48, 0x0f, 0x07);

  it('keep flags, stacks and selectors as the slow way does, at every cut', () => {
    for (const mask of [0x4_7700, 0x700, 0x4_7fd5, 0]) {
      const image = guest(
        (out) => {
          out.set(rbx, 5).label('loop').alu(ALU.sub, rax, rbx);
          syscall(out).alu(ALU.add, rsi, rax);
          pushf(out).pop(rdx).alu(ALU.adc, rsi, rdx).dec(rbx).jumpIf(5, 'loop').ud2();
        },
        (out) => {
          pushf(out).pop(rdx).alu(ALU.add, rsi, rdx).raw(0x8c, 0xd2).alu(ALU.add, rsi, rdx);
          out.raw(0x0f, 0x01, 0xf8).inc({ displacement: DATA });
          out.raw(0x0f, 0x01, 0xf8);
          sysret(out);
        },
        mask,
      );
      expectAgreement(image, 160);
    }
  });

  it('let an interrupt in where IF comes back, whenever it comes', () => {
    for (let due = 60; due < 520; due += 20) {
      const image = guest(
        (out) => {
          out.label('loop').inc(rbx);
          syscall(out).inc(rsi).jump('loop');
        },
        (out) => {
          out.inc(r9).sti().inc(r9).cli().inc(r9);
          sysret(out);
        },
        0x200,
        (out) => arm(out, due),
      );
      expectAgreement(image, 100);
    }
  });

  it('see only what their privilege may, and tables that change between them', () => {
    const image = guest(
      (out) => {
        out.label('loop').load(rax, { displacement: DATA }, 4);
        syscall(out).load(rax, { displacement: DATA + PAGE }, 4);
        syscall(out).jump('loop');
      },
      (out) => {
        // Every call takes the program's page away, or gives it back.
        out.set(rdx, 4).alu(ALU.xor, { displacement: LOW_TABLE + (DATA / PAGE) * 8 }, rdx, 4);
        out.load(rax, { displacement: DATA }, 4).load(rax, { displacement: 0xf000 }, 4);
        sysret(out);
      },
    );
    image.entry64(LOW_TABLE, DATA / PAGE + 1, BigInt(DATA + PAGE) | P | W);
    const machine = expectAgreement(image, 150);
    expect(machine.log.map(({ errorCode }) => errorCode)).toContain(5);
  });

  it('do what the slow way does, or nothing', () => {
    // SYSCALL ends its block, so that a stepped machine does it quickly too: here the two ways are compared.
    const random = new Random(23);
    const wide = () => (BigInt(random.below(2 ** 32)) << 32n) | BigInt(random.below(2 ** 32));
    const never = () => {
      throw new Error('no memory is needed');
    };
    const done = { syscall: 0, sysret: 0 };
    const partner = [7, 9, 11];
    const cpu = longModeCpu();
    const fresh = cpu.state.bytes.slice();
    const quick = new CpuState(new ArrayBuffer(STATE_SIZE), 0);
    for (let round = 0; round < 20_000; round++) {
      const { state } = cpu;
      state.bytes.set(fresh);
      const call = random.chance(50);
      if (call || random.chance(10)) enterUser(cpu, 2n);
      state.set64(EFER, state.get64(EFER) | (random.chance(95) ? 1n : 0n));
      for (const offset of [STAR, LSTAR, SFMASK, RCX, R11]) state.set64(offset, wide());
      if (random.chance(80)) state.set64(RCX, BigInt.asUintN(64, BigInt.asIntN(48, wide())));
      const ordinary = random.chance(80) ? ~0x4_0100 : -1;
      state.set64(R11, state.get64(R11) & BigInt.asUintN(64, BigInt(ordinary)));
      state.set64(SFMASK, state.get64(SFMASK) & 0xffff_ffffn);
      writeFlags(state, random.below(2 ** 22) & ordinary);
      state.set32(QUIET, random.below(2));
      state.set32(PARTNER_TLB, random.chance(90) ? partner[0]! : 0);
      state.set32(PARTNER_EPOCH, partner[1]!);
      state.set32(PARTNER_EPOCH_HIGH, partner[2]!);
      state.set32(TLB_POINTER, 5);
      state.set32(EPOCH, 6);
      state.set32(EPOCH_HIGH, 8);
      state.set64(BLOCK_PC, wide());
      const offset = random.below(60);
      state.set64(RIP, BigInt.asUintN(64, state.get64(BLOCK_PC) + BigInt(offset)));
      quick.bytes.set(state.bytes);
      const memory = { load: never, loadForWrite: never, store: never };
      const semantics = new OracleSemantics(quick, memory);
      const record = { a: 0, b: 0, c: 0, imm: BigInt(offset) };
      const outcome = semantics.run((s) => (call ? QUICK_SYSCALL : QUICK_SYSRET).meaning(s), record);
      const opened = (state.rflags & 0x200n) === 0n;
      const pending = state.get32(QUIET) === 0;
      const slow = (call ? SYSCALL : SYSRET).run(cpu, 0, 8, 0n);
      if (outcome.kind === 'next') continue;
      if (outcome.kind !== 'jump') throw new Error(outcome.kind);
      done[call ? 'syscall' : 'sysret']++;
      expect(slow).toBe(DONE);
      expect(outcome.target).toBe(state.get64(RIP));
      expect(state.rflags & (call ? 0x100n : 0x4_0100n)).toBe(0n);
      if (opened && (state.rflags & 0x200n) !== 0n) expect(pending).toBe(false);
      const words = [TLB_POINTER, EPOCH, EPOCH_HIGH, PARTNER_TLB, PARTNER_EPOCH, PARTNER_EPOCH_HIGH];
      expect(words.map((at) => quick.get32(at))).toEqual([...partner, 5, 6, 8]);
      expect(quick.rflags).toBe(state.rflags);
      expect(architectural(quick)).toBe(architectural(state));
    }
    expect(done.syscall).toBeGreaterThan(5000);
    expect(done.sysret).toBeGreaterThan(1500);
  });

  it('start single steps and alignment checks of programs', () => {
    for (const flags of [0x100, 0x4_0000]) {
      const image = guest(
        (out) => {
          out
            .set(rbx, DATA + 1)
            .label('loop')
            .inc(rsi);
          syscall(out).load(rax, { base: rbx }).inc(rsi).jump('loop');
        },
        (out) => {
          out.inc(r9).set(rdx, flags).alu(ALU.xor, 11, rdx);
          sysret(out);
        },
        0x100,
        (out) => out.raw(0x0f, 0x20, 0xc0).set(rcx, 0x4_0000).alu(ALU.or, rax, rcx).setCr0(rax),
      );
      const machine = expectAgreement(image, 150);
      expect(machine.log.map(({ vector }) => vector)).toContain(flags === 0x100 ? 1 : 17);
    }
  });

  it('are the same in compiled regions, with the address space changing', () => {
    const image = guest(
      (out) => {
        out.label('loop').inc({ displacement: DATA }).alu(ALU.add, rbx, rax);
        syscall(out).inc(rsi);
        pushf(out).pop(rdx).alu(ALU.add, rbx, rdx).load(rdx, { displacement: DATA }).jump('loop');
      },
      (out) => {
        out.inc({ displacement: DATA + 8 }).load(r9, { displacement: DATA + 8 });
        out.rdtsc().aluImmediate(ALU.and, r9, 63).jumpIf(5, 'stay');
        out.raw(0x41, 0x0f, 0x20, 0xd8).set(rdx, PML4 ^ PML4_B); // mov r8, cr3
        out.alu(ALU.xor, 8, rdx).setCr3(8).label('stay').sti().nop().cli();
        sysret(out);
      },
      0x200,
      (out) => arm(out, 3330, true),
    );
    const cuts = [9000, 23_456, 45_678, 70_001, 70_002, 70_003, 120_000];
    const plain = machineWith({ tlbEntries: 256 });
    const compiled = new GuestMachine({ engine: 'jit', jit: { threshold: 100, batch: 1, patience: 0 } });
    const digests = [plain, compiled].map((machine) => {
      machine.load(image);
      return cuts.map((count) => {
        machine.runTo(count);
        return machine.digest();
      });
    });
    expect(digests[1]).toEqual(digests[0]);
    expect(Number(compiled.machine.compiledCount)).toBeGreaterThan(5000);
    const stepped = machineWith({ tlbEntries: 1024 });
    stepped.load(image);
    for (let count = 1; count <= 23_456; count++) stepped.runTo(count);
    expect(stepped.digest()).toBe(digests[0]![1]);
    expect(stepped.read64(DATA + 8)).toBeGreaterThan(500n);
  });
});

describe('IRETQ', () => {
  it('does what the slow way does, or nothing', () => {
    const random = new Random(31);
    const cpu = longModeCpu();
    const other = longModeCpu();
    // Beside those of the tests' kernel: a limit in bytes, a base, data that is not writable, not accessed.
    const more = [0x0040_f312_3456_789an, 0x00af_fa00_0000_ffffn, 0x00cf_f100_0000_ffffn];
    for (const { view } of [cpu, other])
      for (const [index, raw] of more.entries()) view.setBigUint64(AT.gdt + 0x60 + index * 8, raw, true);
    const fresh = cpu.state.bytes.slice();
    const selectors = [0x10, 0x18, 0x33, 0x2b, 0x63, 0x6b, 0x73, 0, 3, 0x83, 0x14, 0x20, 0x58];
    const slots = AT.stack + 0x800;
    let [inward, outward] = [0, 0];
    for (let round = 0; round < 20_000; round++) {
      const { state, view } = cpu;
      state.bytes.set(fresh);
      const flags = random.below(2 ** 22) & (random.chance(85) ? ~0x4_0100 : -1);
      const user = random.chance(50);
      const frame = [
        random.chance(95) ? 0x1234_5678 + random.below(100) : 0x8000_0000_0000n,
        random.chance(90) ? (user ? 0x33 : 0x10) : random.pick(selectors),
        flags,
        BigInt(random.below(2 ** 32)) << 20n,
        random.chance(60) ? (user ? 0x2b : random.pick([0, 0x18])) : random.pick(selectors),
      ];
      frame.forEach((value, index) => {
        view.setBigUint64(slots + index * 8, BigInt(value), true);
        other.view.setBigUint64(slots + index * 8, BigInt(value), true);
      });
      if (random.chance(5)) state.set32(CPL, 3);
      if (random.chance(5)) state.set32(GDTR_LIMIT, random.below(0x80));
      if (random.chance(5)) state.set32(NMI_BLOCKED, 1);
      for (const segment of [SEGMENT.es, SEGMENT.ds, SEGMENT.fs, SEGMENT.gs])
        if (random.chance(90)) state.set32(SEGMENT_ACCESS + segment * 4, random.chance(50) ? 0 : 0xc0f3);
      writeFlags(state, random.below(2 ** 22) & (random.chance(90) ? ~0x4000 : -1));
      state.set32(QUIET, random.chance(70) ? 1 : 0);
      state.set32(PARTNER_TLB, random.chance(90) ? 7 : 0);
      state.set32(TLB_POINTER, 5);
      other.state.bytes.set(state.bytes);
      const quick = other.state;
      const semantics = new OracleSemantics(quick, {
        load: (size, linear) => other.load(size, linear),
        loadForWrite: (size, linear) => other.load(size, linear),
        store: () => {
          throw new Error('nothing is stored');
        },
      });
      const outcome = semantics.run((s) => QUICK_INTERRUPT_RETURN.meaning(s), { a: 0, b: 0, c: 0, imm: 0n });
      const opened = (state.rflags & 0x200n) === 0n;
      const pending = state.get32(QUIET) === 0;
      const slow = INTERRUPT_RETURN.run(cpu, 0, 8, 0n);
      const fault = cpu.takeFault();
      if (outcome.kind === 'aborted') expect(other.takeFault()).toEqual(fault);
      if (outcome.kind !== 'jump') continue;
      expect(slow).toBe(DONE);
      const left = state.get32(CPL) === 3;
      if (left) outward++;
      else inward++;
      expect(outcome.target).toBe(state.get64(RIP));
      expect(state.rflags & 0x4_0100n).toBe(0n);
      if (opened && (state.rflags & 0x200n) !== 0n) expect(pending).toBe(false);
      expect(quick.get32(TLB_POINTER)).toBe(left ? 7 : 5);
      expect(quick.rflags).toBe(state.rflags);
      expect(architectural(quick)).toBe(architectural(state));
    }
    expect(inward).toBeGreaterThan(1000);
    expect(outward).toBeGreaterThan(1000);
  });

  it('lets an interrupt in where IF comes back, whenever it comes', () => {
    for (let due = 40; due < 400; due += 30) {
      const { image } = guestWith((out) => {
        arm(out, due);
        out.lea(rsi, { label: 'back' });
        for (let round = 0; round < 2; round++) {
          out.set(rax, 0x10).push(rax).set(rax, STACK_TOP).push(rax).set(rax, 0x202).push(rax);
          out.set(rax, 8).push(rax).push(rsi).inc(rbx).iretq();
          if (round === 0) out.label('back').inc(rcx).cli().lea(rsi, { label: 'end' });
        }
        out.label('end').inc(rcx).inc(rcx).hlt();
      });
      expectAgreement(image, 60);
    }
  });

  it('goes to programs and back, their pages and the kernel’s apart', () => {
    const program = 0x1_2000;
    const { image } = guestWith((out) => {
      arm(out, 700, true);
      out.enterUser(program, USER_STACK, 0x202);
    });
    image.code(program, (out) => {
      out
        .label('loop')
        .inc({ displacement: DATA })
        .load(rax, { displacement: DATA + PAGE }, 4)
        .inc(rbx);
      out.ud2().jump('loop');
    });
    userPages(image);
    image.entry64(LOW_TABLE, DATA / PAGE + 1, BigInt(DATA + PAGE) | P | W);
    image.view.setUint32(RESUME, program, true);
    const machine = expectAgreement(image, 300);
    expect(machine.log.map(({ vector }) => vector)).toContain(14);
  });
});

describe('RDTSC', () => {
  it('is refused to programs by CR4.TSD, and counts writes of the MSR', () => {
    const { image, code } = guestWith((out) => {
      out.wrmsr(0x10, 0x1234).nop().rdtsc().mov(rbx, rax);
      out.raw(0x0f, 0x20, 0xe0).aluImmediate(ALU.or, rax, 4).raw(0x0f, 0x22, 0xe0); // CR4.TSD
      out.rdtsc().alu(ALU.add, rbx, rax).jump('enter');
      out.label('user').nop().nop().rdtsc().label('resume').hlt();
      out.label('enter');
      out.enterUser(code0(), USER_STACK);
      function code0(): number {
        return out.addressOf('user');
      }
    });
    expect(code.has('user')).toBe(true);
    userPages(image);
    const machine = expectAgreement(image, 60);
    expect(machine.log.map(({ vector }) => vector)).toContain(13);
  });

  it('is guest time at its count, to the last nanosecond', () => {
    const random = new Random(11);
    const state = new CpuState(new ArrayBuffer(STATE_SIZE), 0);
    let remaining = 0;
    const never = () => {
      throw new Error('no memory is needed');
    };
    const semantics = new OracleSemantics(state, {
      load: never,
      loadForWrite: never,
      store: never,
      remaining: () => remaining,
    });
    const wide = (bits: number) =>
      ((BigInt(random.below(2 ** 32)) << 32n) | BigInt(random.below(2 ** 32))) >>
      BigInt(63 - random.below(bits));
    let quick = 0;
    for (let round = 0; round < 4000; round++) {
      const time = new GuestTime();
      const at = wide(40);
      const base = wide(63);
      const entry = { kind: 'clock', guestTime: base, rate: wide(63), cap: base + wide(62) } as never;
      time.adjust(at as never, entry);
      const behind = random.below(24);
      remaining = random.below(65_536);
      const count = at + BigInt(random.chance(50) ? random.below(100_000) : random.below(2 ** 31));
      time.publish(state, count + BigInt(remaining + behind + 1));
      if (state.get32(CLOCK_KNOWN) === 0) continue;
      quick++;
      state.set64(TSC_OFFSET, wide(64));
      state.set64(TSC_AUX, 0x77n);
      state.set32(CPL, round & 3);
      state.set64(CR4, 0n);
      const { meaning } = round % 2 === 0 ? QUICK_TIMESTAMP : QUICK_TIMESTAMP_AUX;
      const outcome = semantics.run((s) => meaning(s), { a: 0, b: 0, c: behind, imm: 0n });
      expect(outcome.kind).toBe('skip');
      const stamp = state.get64(RAX) | (state.get64(RDX) << 32n);
      expect(stamp).toBe(BigInt.asUintN(64, time.now(count) + state.get64(TSC_OFFSET)));
      if (round % 2 === 1) expect(state.get64(RCX)).toBe(0x77n);
    }
    expect(quick).toBeGreaterThan(2000);
  });
});
