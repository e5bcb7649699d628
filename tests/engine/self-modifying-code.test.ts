import { describe, expect, it } from 'vitest';
import { expectAgreement, machineWith } from './agreement.ts';
import { ALU, type Assembler, CONDITION, REG } from './assembler.ts';
import { CODE, DATA, GuestImage, guestWith, LARGE, P, PAGE, W, WINDOW, WINDOW_TABLE } from './small-guest.ts';

/** A store into code takes effect at the next instruction, in every engine [design 3]. */

const { rax, rbx, rcx, rdx, rdi, rsi } = REG;
const NOP = 0x90;

describe('a store into code', () => {
  it('changes the very next instruction', () => {
    const { image } = guestWith((out) => {
      out.set(rax, 0).set(rcx, 0);
      out.storeImmediate({ label: 'next', displacement: 1 }, 0x42, 1);
      out.label('next').set(rcx, 0x11).hlt();
    });
    expect(expectAgreement(image, 5).register(rcx)).toBe(0x42n);
  });

  it('changes the same block ahead and behind, and its loop', () => {
    const { image } = guestWith((out) => {
      out.set(rcx, 5).set(rax, 0).set(rdx, 0);
      out.label('loop').label('behind').aluImmediate(ALU.add, rax, 1);
      out.op([0x80], 0, { label: 'behind', displacement: 3 }, 1, { behind: 1 }).raw(1); // add byte, 1
      out.op([0x80], 0, { label: 'ahead', displacement: 3 }, 1, { behind: 1 }).raw(2);
      out.label('ahead').aluImmediate(ALU.add, rdx, 0);
      out.dec(rcx).jumpIf(CONDITION.ne, 'loop').hlt();
    });
    const machine = expectAgreement(image, 3 + 5 * 6 + 1);
    expect(machine.register(rax)).toBe(1n + 2n + 3n + 4n + 5n);
    expect(machine.register(rdx)).toBe(2n + 4n + 6n + 8n + 10n);
  });

  it('changes the same block many times, and each time the one that is living runs', () => {
    const { image } = guestWith((out) => {
      out.set(rcx, 40).set(rax, 0).set(rdx, 0);
      out.label('loop').op([0xfe], 0, { label: 'changed', displacement: 3 }, 1); // inc byte
      out.jump('changed').label('changed').aluImmediate(ALU.add, rax, 0).inc(rdx);
      out.dec(rcx).jumpIf(CONDITION.ne, 'loop').hlt();
    });
    const machine = expectAgreement(image, 3 + 40 * 6 + 1);
    expect([machine.register(rax), machine.register(rdx)]).toEqual([(40n * 41n) / 2n, 40n]);
  });

  it('counts through an alias of the page, and through a large page', () => {
    for (const alias of [WINDOW + (CODE & 0xfff), LARGE + CODE]) {
      const { image } = guestWith((out) => {
        out
          .set(rbx, alias - CODE)
          .set(rcx, 3)
          .set(rax, 0);
        out.label('loop').lea(rdx, { label: 'changed' });
        out.alu(ALU.add, rdx, rbx).op([0xfe], 0, { base: rdx, displacement: 3 }, 1); // inc byte
        out.label('changed').aluImmediate(ALU.add, rax, 1).dec(rcx).jumpIf(CONDITION.ne, 'loop').hlt();
      });
      image.window(0, CODE, P | W);
      expect(expectAgreement(image, 3 + 3 * 6 + 1).register(rax)).toBe(2n + 3n + 4n);
    }
  });

  it('of a repeated string overwrites what follows it', () => {
    const { image } = guestWith((out) => {
      out.lea(rdi, { label: 'behind' }).set(rcx, 12).set(rax, NOP).raw(0xf3, 0xaa);
      out.label('behind');
      for (let index = 0; index < 4; index++) out.inc(rdx);
      out.inc(rbx).hlt();
    });
    const machine = expectAgreement(image, 3 + 12 + 12 + 2);
    expect([machine.register(rdx), machine.register(rbx)]).toEqual([0n, 1n]);
  });

  it('of a repeated string overwrites the repeated string itself, and leaves the page without code', () => {
    const { image } = guestWith((out) => {
      out.set(rdi, 0x1_2001).set(rcx, 30).set(rax, NOP).jump('string');
      out.padTo(0x1_2000).label('string').raw(0xf3, 0xaa);
      for (let index = 0; index < 40; index++) out.raw(NOP);
      out.inc(rbx).hlt();
    });
    // F3 90 is PAUSE: one iteration.
    expect(expectAgreement(image, 4 + 1 + 1 + 40 + 2).register(rcx)).toBe(29n);
  });

  it('of a vector that spans two instructions and two pages takes effect', () => {
    const { image } = guestWith((out) => {
      out.op([0x0f, 0x10], 0, { displacement: DATA }, 4); // movups xmm0
      out.jump('end');
      out.padTo(CODE + PAGE - 8).label('end');
      out.op([0x0f, 0x11], 0, { base: rbx, displacement: CODE + PAGE - 1 }, 4); // movups, 7 bytes, up to the byte before
      out.inc(rcx).inc(rcx).inc(rcx).hlt();
    });
    for (let at = 0; at < 16; at++) image.ram[DATA + at] = NOP;
    // One byte of nop, then 15 more over the three increments (9 bytes), HLT and what follows.
    expect(expectAgreement(image, 3 + 15 + 1).register(rcx)).toBe(0n);
  });

  it('makes a valid instruction of an undefined one, by a byte behind its first', () => {
    for (const { bytes, at, value } of [
      { bytes: [0x0f, 0x0b, 0x00], at: 1, value: 0x1f }, // UD2: NOP [RAX]
      { bytes: [0xf0, 0x01, 0xc0, 0, 0, 0, 0], at: 2, value: 0x05 }, // LOCK ADD EAX, EAX: LOCK ADD [RIP], EAX
    ]) {
      const { image, code } = guestWith((out) =>
        out
          .set(rax, 0)
          .label('changed')
          .raw(...bytes)
          .inc(rcx)
          .hlt(),
      );
      const handler = image.code(0xf000, (out) => {
        out.inc({ displacement: DATA });
        out.storeImmediate({ displacement: code.addressOf('changed') + at }, value, 1).iretq();
      });
      image.gate(6, handler.origin, { ist: 1 });
      const machine = expectAgreement(image, 1 + 4 + 3);
      expect([machine.read64(DATA), machine.register(rcx)]).toEqual([1n, 1n]);
    }
  });

  it('into the bytes of an undefined instruction on the next page is seen', () => {
    const image = new GuestImage();
    image.entry = CODE + PAGE - 2;
    const undefinedAt = CODE + PAGE - 1;
    image.put(CODE + PAGE - 2, Uint8Array.of(NOP, 0x0f, 0x0b));
    image.gate(
      6,
      image.code(0xf000, (out) => {
        out.inc({ displacement: DATA }).storeImmediate({ displacement: undefinedAt + 2 }, 0xc0, 1);
        out.storeImmediate({ displacement: undefinedAt + 1 }, 0x1f, 1).iretq();
      }).origin,
      { ist: 1 },
    );
    image.code(CODE + PAGE + 2, (out) => out.inc(rcx).hlt());
    const machine = expectAgreement(image, 1 + 5 + 3);
    expect([machine.read64(DATA), machine.register(rcx)]).toEqual([1n, 1n]);
  });
});

describe('an instruction that crosses into the next page', () => {
  /** MOV ECX, imm32 with two bytes on the first window page and three on the second; then HLT. */
  const crossing = (write: (out: Assembler) => void) => {
    const { image, code } = guestWith((out) => {
      out
        .set(rax, WINDOW + PAGE - 2)
        .call('go')
        .mov(rbx, rcx);
      write(out);
      out.call('go').hlt();
      out.label('go').raw(0xff, 0xe0); // jmp rax
    });
    image.window(0, DATA, P | W);
    image.window(1, DATA + PAGE, P | W);
    image.window(2, DATA + PAGE, P | W);
    image.put(DATA + PAGE - 2, Uint8Array.of(0xb9, 0x01, 0x02, 0x03, 0x04, 0xc3));
    image.put(DATA + 2 * PAGE, Uint8Array.of(0x22, 0x33, 0x44, 0xc3));
    return { image, code };
  };

  it('sees new content of the second page, also through an alias', () => {
    const { image } = crossing((out) => out.storeImmediate({ displacement: WINDOW + 2 * PAGE }, 0x77, 1));
    const machine = expectAgreement(image, 13);
    expect([machine.register(rbx), machine.register(rcx)]).toEqual([0x0403_0201n, 0x0403_7701n]);
  });

  it('sees new content when both its parts lie in one page that is mapped twice', () => {
    const { image } = crossing((out) => out.storeImmediate({ displacement: DATA }, 0x66, 1));
    image.window(1, DATA, P | W);
    image.put(DATA, Uint8Array.of(0x03, 0x04, 0x05, 0xc3));
    const machine = expectAgreement(image, 13);
    expect([machine.register(rbx), machine.register(rcx)]).toEqual([0x0504_0301n, 0x0504_6601n]);
  });

  it('sees another page mapped behind it', () => {
    const { image } = crossing((out) =>
      out.set(rdx, DATA + 2 * PAGE + 3).store({ displacement: WINDOW_TABLE + 8 }, rdx),
    );
    const machine = expectAgreement(image, 14);
    expect([machine.register(rbx), machine.register(rcx)]).toEqual([0x0403_0201n, 0x4433_2201n]);
  });

  it('faults at the second page when that goes away, with RIP at its start', () => {
    const { image } = crossing((out) =>
      out
        .set(rdx, 0)
        .store({ displacement: WINDOW_TABLE + 8 }, rdx)
        .label('resume'),
    );
    const machine = expectAgreement(image, 60);
    expect(machine.log[0]).toEqual({
      vector: 14,
      errorCode: 0x10,
      rip: WINDOW + PAGE - 2,
      cr2: BigInt(WINDOW + PAGE),
    });
  });

  it('sees RAM where there was none', () => {
    const { image } = crossing((out) =>
      out
        .set(rdx, DATA + 2 * PAGE + 3)
        .store({ displacement: WINDOW_TABLE + 8 }, rdx)
        .call('go')
        .mov(rsi, rcx),
    );
    // Nothing there: all ones, so MOV ECX, 0xffffff01 and then an undefined instruction.
    image.window(1, 0x5000_0000, P | W);
    const back = image.code(0xf000, (out) => {
      out.mov(rbx, rcx).store({ displacement: DATA + 0x100 }, rcx);
      // Return as the RET would have.
      out.pop(rdi).pop(rdi).pop(rdi).raw(0x5c).raw(0xc3); // ..., pop rsp, ret
    });
    image.gate(6, back.origin);
    const machine = expectAgreement(image, 26);
    expect(machine.read64(DATA + 0x100)).toBe(0xffff_ff01n);
    expect([machine.register(rsi), machine.register(rcx)]).toEqual([0x4433_2201n, 0x4433_2201n]);
  });
});

describe('data that becomes code', () => {
  it('and is written again: the store that was quick before is noticed', () => {
    const { image } = guestWith((out) => {
      out.set(rcx, 0).set(rsi, DATA).set(rdi, 3).label('loop');
      // inc ecx; ret, written as data, and stored to twice so that the second store is a quick one.
      out.storeImmediate({ base: rsi }, 0xc3_c1ff, 4).storeImmediate({ base: rsi, displacement: 8 }, 1, 4);
      out.raw(0xff, 0xd6); // call rsi
      out.storeImmediate({ base: rsi, displacement: 1 }, 0xc2, 1).raw(0xff, 0xd6); // inc edx
      out.dec(rdi).jumpIf(CONDITION.ne, 'loop').hlt();
    });
    const machine = expectAgreement(image, 3 + 3 * (2 + 3 + 1 + 3 + 2) + 1);
    expect([machine.register(rcx), machine.register(rdx)]).toEqual([3n, 3n]);
  });
});

describe('other ways to change code', () => {
  it('devices: a store between runs', () => {
    const { image, code } = guestWith((out) => out.label('loop').set(rcx, 1).jump('loop'));
    for (const options of [{}, { tlbEntries: 16 }, { engine: 'oracle' }] as const) {
      const machine = machineWith(options);
      machine.load(image);
      machine.runTo(11);
      machine.machine.memory.write(code.addressOf('loop') + 1, Uint8Array.of(9));
      machine.runTo(12);
      expect(machine.register(rcx)).toBe(1n);
      machine.runTo(13);
      expect(machine.register(rcx)).toBe(9n);
    }
  });

  it('the page walker: accessed and dirty flags in an entry that is executed as code', () => {
    // Entry 8 of the window's table is 03 00 02 00 ... as code: ADD EAX, [RAX]; ADD AL, [RAX]; ... The accessed
    // flag makes AND of the first, the dirty flag MOVSXD. The access that sets them stands just before.
    for (const [access, result] of [
      [[0x8b, 0x16], 0n], // mov edx, [rsi]
      [[0x89, 0x16], 5n], // mov [rsi], edx
    ] as const) {
      const { image } = guestWith((out) => {
        out
          .set(rsi, WINDOW + 8 * PAGE)
          .set(rax, DATA + 0x800)
          .set(rdi, WINDOW_TABLE + 7 * 8)
          .raw(0xff, 0xe7);
      });
      image.put(WINDOW_TABLE + 7 * 8, Uint8Array.of(NOP, NOP, NOP, NOP, NOP, NOP, ...access));
      image.window(8, DATA, P | W);
      image.put(WINDOW_TABLE + 9 * 8, Uint8Array.of(0xf4));
      image.view.setUint32(DATA + 0x800, 5, true);
      const machine = expectAgreement(image, 4 + 7 + 4 + 1);
      expect(machine.register(rax)).toBe(result);
    }
  });
});
