import { describe, expect, it } from 'vitest';
import { expectAgreement } from './agreement.ts';
import { ALU, type Assembler, CONDITION, REG } from './assembler.ts';
import {
  APIC,
  CODE,
  DATA,
  GuestImage,
  guestWith,
  KERNEL_CS,
  KERNEL_SS,
  RESUME,
  STACK_TOP,
  TICKS,
  WINDOW,
} from './small-guest.ts';

/** What counts, and that a run stops exactly there [design 2]. */

const { rax, rbx, rcx, rdx, rsi, rdi, rsp } = REG;

describe('the count', () => {
  it('is one for each instruction, also where a branch leaves the middle of a block', () => {
    const { image } = guestWith((out) => {
      out.set(rcx, 10).set(rax, 0);
      out.label('loop').aluImmediate(ALU.cmp, rcx, 3).jumpIf(CONDITION.e, 'skip');
      out.inc(rax).inc(rax).label('skip').dec(rcx).jumpIf(CONDITION.ne, 'loop').hlt();
    });
    const machine = expectAgreement(image, 10 * 6 - 2 + 3);
    expect(machine.count).toBe(61n);
    expect(machine.register(rax)).toBe(18n);
    expect(machine.machine.runUntil(100n as never)).toBe('halted');
    expect(machine.count).toBe(61n);
  });

  it('is one for each iteration of a repeated string, and one for none at all', () => {
    const { image } = guestWith((out) => {
      out
        .set(rcx, 40)
        .set(rdi, DATA + 4090)
        .set(rax, 0x1234_5678);
      out.raw(0xf3, 0xab); // rep stosd: 40, over the end of a page
      out.raw(0xf3, 0xab); // none: 1
      out.hlt();
    });
    const machine = expectAgreement(image, 3 + 40 + 1 + 1);
    expect(machine.count).toBe(45n);
    expect(machine.register(rdi)).toBe(BigInt(DATA + 4090 + 160));
    machine.load(image);
    machine.runTo(3 + 17);
    expect(machine.register(rcx)).toBe(23n);
    expect(machine.machine.processor.get64(0xc0)).toBe(BigInt(CODE + 15));
  });

  it('is one for the delivery of an exception, and none for the instruction that raised it', () => {
    const { image, code } = guestWith((out) => {
      out.set(rax, 1).ud2().label('next').hlt();
    });
    image.view.setUint32(RESUME, code.addressOf('next'), true);
    // mov, delivery, 2 pushes and a jump, common: 15 or so; then hlt.
    const machine = expectAgreement(image, 1 + 1 + 3 + 18 + 6 + 1);
    expect(machine.log).toEqual([{ vector: 6, errorCode: 0, rip: CODE + 5, cr2: 0n }]);
    machine.load(image);
    machine.runTo(2);
    expect(machine.machine.processor.get64(0xc0) >> 12n).toBe(0xdn);
  });

  it('goes on in an endless loop of exceptions', () => {
    const image = new GuestImage();
    image.code(CODE, (out) => {
      out.label('again').ud2();
      image.gate(6, out.addressOf('again'), { ist: 1 });
    });
    const machine = expectAgreement(image, 200);
    expect(machine.count).toBe(200n);
  });

  it('is exact for RDTSC in the middle of a block', () => {
    const { image } = guestWith((out) => {
      out.nop().nop().nop().rdtsc().mov(rbx, rax).nop().rdtsc().nop().hlt();
    });
    const machine = expectAgreement(image, 9);
    expect(machine.register(rbx)).toBe(30n);
    expect(machine.register(rax)).toBe(60n);
  });

  it('is exact for a fault in the middle of a block', () => {
    const { image, code } = guestWith((out) => {
      out.set(rax, 7).inc(rax).store({ displacement: WINDOW }, rax).label('next').inc(rax).hlt();
    });
    image.view.setUint32(RESUME, code.addressOf('next'), true);
    const machine = expectAgreement(image, 40);
    expect(machine.log.map(({ vector, rip }) => [vector, rip])).toEqual([[14, CODE + 8]]);
    expect(machine.register(rax)).toBe(9n);
  });
});

describe('a repeated string', () => {
  it('can be cut between any two iterations: copies that overlap, both directions', () => {
    const { image } = guestWith((out) => {
      out
        .set(rsi, DATA)
        .set(rdi, DATA + 3)
        .set(rcx, 30)
        .raw(0xf3, 0xa4);
      out
        .raw(0xfd)
        .set(rsi, DATA + 60)
        .set(rdi, DATA + 58)
        .set(rcx, 20)
        .raw(0xf3, 0xa4);
      out.raw(0xf3, 0x66, 0xa5).raw(0xfc).hlt();
    });
    for (let at = 0; at < 256; at++) image.ram[DATA + at] = at * 7;
    expectAgreement(image, 80);
  });

  it('that faults has done its iterations before', () => {
    const { image, code } = guestWith((out) => {
      out
        .set(rdi, WINDOW + 4096 - 8 * 5)
        .set(rcx, 9)
        .set(rax, 0x11)
        .raw(0xf3, 0x48, 0xab)
        .label('next')
        .hlt();
    });
    image.window(0, DATA, 3n);
    image.view.setUint32(RESUME, code.addressOf('next'), true);
    const machine = expectAgreement(image, 60);
    expect(machine.register(rcx)).toBe(4n);
    expect(machine.log.map(({ vector, cr2 }) => [vector, cr2])).toEqual([[14, BigInt(WINDOW + 4096)]]);
  });

  it('ends a comparison at the same iteration', () => {
    const { image } = guestWith((out) => {
      out
        .set(rdi, DATA + 4000)
        .set(rcx, 500)
        .set(rax, 0x55)
        .raw(0xf2, 0xae)
        .hlt();
    });
    image.ram[DATA + 4000 + 200] = 0x55;
    const machine = expectAgreement(image, 4 + 201);
    expect(machine.register(rcx)).toBe(299n);
  });
});

describe('interrupts', () => {
  /** The local APIC's timer, one shot, in guest nanoseconds (10 to a count). */
  const arm = (out: Assembler, nanoseconds: number): void => {
    out.set(rbx, APIC).storeImmediate({ base: rbx, displacement: 0xf0 }, 0x1ff, 4);
    out.storeImmediate({ base: rbx, displacement: 0x3e0 }, 0xb, 4); // divide by one
    out.storeImmediate({ base: rbx, displacement: 0x320 }, 0x30, 4);
    out.storeImmediate({ base: rbx, displacement: 0x380 }, nanoseconds, 4);
  };

  it('of a timer come at the exact count', () => {
    const { image } = guestWith((out) => {
      out.sti();
      arm(out, 500);
      out.label('busy').inc(rax).jump('busy');
    });
    const machine = expectAgreement(image, 120);
    expect(machine.read64(TICKS)).toBe(1n);
    // Armed by the instruction that goes from count 5 to 6, at 50 ns: due at 550.
    machine.load(image);
    machine.runTo(55);
    expect(machine.machine.processor.get64(0xc0) >> 12n).toBe(0x10n);
    machine.runTo(56);
    expect(machine.machine.processor.get64(0xc0) >> 12n).toBe(0xdn);
  });

  it('wait one instruction behind STI and MOV SS, at every cut', () => {
    const { image } = guestWith((out) => {
      arm(out, 100);
      out.set(rdx, KERNEL_SS);
      for (let round = 0; round < 8; round++) out.nop();
      out.sti().inc(rax).inc(rax).inc(rax).cli();
      arm(out, 30);
      out.nop().nop().nop().nop().sti().nop();
      out.raw(0x8e, 0xd2).inc(rcx).inc(rcx).hlt();
    });
    const machine = expectAgreement(image, 70);
    expect(machine.read64(TICKS)).toBe(2n);
  });

  it('are not taken between STI and the HLT behind it', () => {
    const { image } = guestWith((out) => {
      arm(out, 40);
      for (let round = 0; round < 8; round++) out.nop();
      out.sti().hlt().inc(rdx).cli().hlt();
    });
    const machine = expectAgreement(image, 40);
    expect(machine.read64(TICKS)).toBe(1n);
    expect(machine.register(rdx)).toBe(1n);
  });

  it('are opened by POPF and IRET at the same boundary', () => {
    const { image } = guestWith((out) => {
      arm(out, 40);
      for (let round = 0; round < 8; round++) out.nop();
      out.set(rax, 0x202).push(rax).raw(0x9d).inc(rcx).inc(rcx).cli();
      arm(out, 20);
      out.nop().nop().nop();
      out.set(rax, KERNEL_SS).push(rax).set(rax, STACK_TOP).push(rax).set(rax, 0x202).push(rax);
      out.set(rax, KERNEL_CS).push(rax).lea(rax, { label: 'back' }).push(rax).iretq();
      out.label('back').inc(rdx).inc(rdx).hlt();
    });
    const machine = expectAgreement(image, 60);
    expect(machine.read64(TICKS)).toBe(2n);
  });

  it('come between the iterations of a repeated string', () => {
    const { image, code } = guestWith((out) => {
      out.sti();
      arm(out, 300);
      out.set(rdi, DATA).set(rcx, 100).label('string').raw(0xf3, 0xaa).hlt();
    });
    const machine = expectAgreement(image, 110);
    expect(machine.read64(TICKS)).toBe(1n);
    // The handler's frame holds the instruction itself, with iterations to go.
    machine.load(image);
    machine.runTo(36);
    expect(machine.register(rcx)).toBe(73n);
    expect(machine.read64(Number(machine.register(rsp)))).toBe(BigInt(code.addressOf('string')));
  });
});

describe('HLT', () => {
  it('with nothing to wake it is reported, at its count', () => {
    const { image } = guestWith((out) => out.nop().cli().hlt().nop());
    const machine = expectAgreement(image, 10);
    expect(machine.count).toBe(3n);
    expect(machine.machine.runUntil(10n as never)).toBe('halted');
    expect(machine.machine.nextDeadline).toBeUndefined();
  });
});

describe('a triple fault', () => {
  it('ends the run at its count, with one output', () => {
    const image = new GuestImage();
    image.code(CODE, (out) => out.nop().ud2());
    const machine = expectAgreement(image, 10);
    expect(machine.count).toBe(2n);
    expect(machine.outputs).toEqual([{ kind: 'power', state: 'triple-fault', value: 0 }]);
    expect(machine.machine.runUntil(10n as never)).toBe('powered-off');
  });
});

describe('single-stepping', () => {
  it('traps behind each instruction, and a run stops between the instruction and its trap', () => {
    const { image } = guestWith((out) => {
      out.set(rax, 0x102).push(rax).raw(0x9d).inc(rcx).set(rcx, 3).set(rdi, DATA).raw(0xf3, 0xaa);
      out.raw(0x8e, 0xd2).nop().set(rax, 2).push(rax).raw(0x9d).nop().hlt();
      out.set(rdx, KERNEL_SS);
    });
    image.code(CODE - 5, (out) => out.set(rdx, KERNEL_SS));
    image.entry = CODE - 5;
    const machine = expectAgreement(image, 330);
    const traps = machine.log.map(({ vector, rip }) => [vector, rip - CODE]);
    // inc 7, mov 10, mov 15, stosb 20 (three times), mov ss 22 (none of its own), nop 24, ...
    expect(traps).toEqual([10, 15, 20, 20, 20, 22, 25, 30, 31, 32].map((rip) => [1, rip]));
  });

  it('traps behind STI, which only holds interrupts', () => {
    const { image } = guestWith((out) => {
      out.set(rax, 0x102).push(rax).raw(0x9d).sti().nop().hlt();
    });
    const machine = expectAgreement(image, 80);
    expect(machine.log.map(({ vector, rip }) => [vector, rip - CODE]).slice(0, 2)).toEqual([
      [1, 8],
      [1, 9],
    ]);
  });

  it('is not due behind INT n, whose handler runs without it', () => {
    const { image } = guestWith((out) => {
      out.set(rax, 0x102).push(rax).raw(0x9d).raw(0xcc).nop().hlt();
    });
    const machine = expectAgreement(image, 100);
    expect(machine.log.map(({ vector }) => vector).slice(0, 2)).toEqual([3, 1]);
  });
});
