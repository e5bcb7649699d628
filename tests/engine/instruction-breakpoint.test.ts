import { describe, expect, it } from 'vitest';
import { expectAgreement } from './agreement.ts';
import { type Assembler, CONDITION, REG } from './assembler.ts';
import { DATA, GuestMachine, guestWith, LOG_POINTER } from './small-guest.ts';

/** Breakpoints on instructions and on ports, and RFLAGS.RF [SDM 3B 17.2.4, 17.3.1.1]. */

const { rax, rbx, rcx, rdi, rsp } = REG;
const DEBUG_HANDLER = 0xd800;
const DIVIDE_HANDLER = 0xd900;
/** Global enables of breakpoints 0 and 1, both on instructions. */
const FIRST = 0x2;
const BOTH = 0xa;
const PORT_80 = 0x0002_0002;

/** #DB notes where it came from and DR6, clears DR6, and returns with RF. */
function guest(control: number, body: (out: Assembler) => void, more: { cr4?: number } = {}) {
  const { image, code } = guestWith((out) => {
    out.set(rbx, DATA).set(rcx, 3);
    if (more.cr4 !== undefined) out.set(rax, more.cr4).raw(0x0f, 0x22, 0xe0); // mov cr4, rax
    out.load(rax, { displacement: DATA + 0x100 }).raw(0x0f, 0x23, 0xc0); // mov dr0, rax
    out.load(rax, { displacement: DATA + 0x108 }).raw(0x0f, 0x23, 0xc8); // mov dr1, rax
    out.set(rax, control).raw(0x0f, 0x23, 0xf8); // mov dr7, rax
    out.label('body');
    body(out);
    out.label('end').hlt();
  });
  for (const [index, name] of ['first', 'second'].entries())
    if (code.has(name)) image.view.setUint32(DATA + 0x100 + index * 8, code.addressOf(name), true);
  if (control === PORT_80) image.view.setUint32(DATA + 0x100, 0x80, true);
  image.code(DEBUG_HANDLER, (out) => {
    out.push(rax).push(rcx).load(rcx, { displacement: LOG_POINTER });
    out.storeImmediate({ base: rcx, displacement: 0 }, 1, 4);
    out.load(rax, { base: rsp, displacement: 16 }).store({ base: rcx, displacement: 16 }, rax);
    out.raw(0x0f, 0x21, 0xf0).store({ base: rcx, displacement: 24 }, rax); // mov rax, dr6
    out.aluImmediate(0, rcx, 32).store({ displacement: LOG_POINTER }, rcx);
    out.set(rax, 0).raw(0x0f, 0x23, 0xf0); // mov dr6, rax
    out.pop(rcx).pop(rax).raw(0x80, 0x4c, 0x24, 0x12, 0x01).iretq(); // or byte [rsp + 18], 1
  });
  image.gate(1, DEBUG_HANDLER);
  return { image, code };
}

/** What met a breakpoint: the label's offset in the body, and DR6's low bits. */
function breaksOf(control: number, body: (out: Assembler) => void, more: { cr4?: number } = {}) {
  const { image, code } = guest(control, body, more);
  const machine = expectAgreement(image, 250);
  const start = code.addressOf('body');
  return {
    machine,
    breaks: machine.log.map(({ vector, rip, cr2 }) => [vector, rip - start, Number(cr2 & 0xe00fn)]),
  };
}

describe('a breakpoint on an instruction', () => {
  it('is met before it runs, in the middle of straight code', () => {
    const { breaks, machine } = breaksOf(FIRST, (out) => {
      out.nop().inc({ base: rbx }).label('first').inc({ base: rbx }).nop();
    });
    expect(breaks).toEqual([[1, 8, 1]]);
    expect(machine.read64(DATA)).toBe(2n);
  });

  it('is met each time that the instruction comes to run', () => {
    const { breaks } = breaksOf(FIRST, (out) => {
      out.label('loop').nop().label('first').inc({ base: rbx });
      out.aluImmediate(5, rcx, 1).jumpIf(CONDITION.ne, 'loop');
    });
    expect(breaks).toHaveLength(3);
  });

  it('holds for one instruction only, with the next one watched too', () => {
    const { breaks } = breaksOf(BOTH, (out) => {
      out.label('first').nop().label('second').nop().nop();
    });
    expect(breaks).toEqual([
      [1, 0, 1],
      [1, 1, 2],
    ]);
  });

  it('is met once by a repeated string', () => {
    const { breaks, machine } = breaksOf(FIRST, (out) => {
      out.set(rcx, 20).set(rax, 7).lea(rdi, { base: rbx, displacement: 0x20 });
      out.label('first').raw(0xf3, 0xaa).nop(); // rep stosb
    });
    expect(breaks).toHaveLength(1);
    expect(machine.read64(DATA + 0x30) & 0xffff_ffffn).toBe(0x0707_0707n);
    expect(machine.register(rcx)).toBe(0n);
  });

  it('is met once by an instruction that faults and runs again: faults push RF', () => {
    const { image, code } = guest(FIRST, (out) => {
      out.set(rax, 8).set(REG.rdx, 0).set(rcx, 0);
      out.label('first').raw(0x48, 0xf7, 0xf1).nop(); // div rcx
    });
    image.code(DIVIDE_HANDLER, (out) => out.inc({ base: rbx }).set(rcx, 2).iretq());
    image.gate(0, DIVIDE_HANDLER);
    const machine = expectAgreement(image, 250);
    expect(machine.log.map(({ rip }) => rip)).toEqual([code.addressOf('first')]);
    expect([machine.read64(DATA), machine.register(rax)]).toEqual([1n, 4n]);
  });

  it('is not met behind a load of SS', () => {
    const { breaks } = breaksOf(FIRST, (out) => {
      out.raw(0x8c, 0xd0, 0x8e, 0xd0).label('first').nop().nop(); // mov eax, ss; mov ss, eax
    });
    expect(breaks).toEqual([]);
  });

  it('is met where a branch within the page leads', () => {
    const { breaks } = breaksOf(FIRST, (out) => {
      out.jump('first').nop().nop().label('first').nop();
    });
    expect(breaks).toHaveLength(1);
  });

  it('that is not enabled, or not met, changes nothing', () => {
    const body = (out: Assembler) => out.nop().label('first').nop().label('second').nop();
    expect(breaksOf(0, body).breaks).toEqual([]);
    // Breakpoint 0 watches writes of these bytes.
    expect(breaksOf(0x0001_0002, body).breaks).toEqual([]);
  });

  it('is met in code that was compiled before', () => {
    const { image } = guest(0, (out) => {
      out.set(rcx, 2000).label('loop').nop().label('first').nop();
      out.aluImmediate(5, rcx, 1).jumpIf(CONDITION.ne, 'loop');
      out.raw(0x0f, 0x21, 0xf8).aluImmediate(1, rax, FIRST).raw(0x0f, 0x23, 0xf8); // dr7 |= FIRST
      out.label('armed').inc({ base: rbx });
      out.aluImmediate(7, rax, 0).set(rcx, 2).load(rdi, { base: rbx }).aluImmediate(7, rdi, 2);
      out.jumpIf(CONDITION.ne, 'loop');
    });
    const reference = new GuestMachine({ engine: 'interpreter' });
    const compiled = new GuestMachine({ engine: 'jit', jit: { threshold: 100, batch: 1, patience: 0 } });
    for (const machine of [reference, compiled]) {
      machine.load(image);
      machine.runTo(20_000);
    }
    expect(Number(compiled.machine.compiledCount)).toBeGreaterThan(3000);
    expect(compiled.log.map(({ vector }) => vector)).toEqual([1, 1]);
    expect(compiled.digest()).toBe(reference.digest());
  });
});

describe('a breakpoint on a port', () => {
  const body = (out: Assembler) => out.raw(0xe6, 0x80).raw(0xe6, 0x81).nop(); // out 80h, al; out 81h, al

  it('traps behind the access when CR4.DE is set', () => {
    const { breaks } = breaksOf(PORT_80, body, { cr4: 0x6a8 });
    expect(breaks).toEqual([[1, 2, 1]]);
  });

  it('is none without CR4.DE', () => {
    expect(breaksOf(PORT_80, body).breaks).toEqual([]);
  });
});
