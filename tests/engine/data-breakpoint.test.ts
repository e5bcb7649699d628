import { describe, expect, it } from 'vitest';
import { expectAgreement } from './agreement.ts';
import { type Assembler, REG } from './assembler.ts';
import { DATA, guestWith, LOG } from './small-guest.ts';

/** Data breakpoints [SDM 3B 17.2]: a trap after the instruction, with DR6 telling which. */

const { rax, rbx, rcx, rdi } = REG;
/** R/W and LEN of breakpoint 0, with its global enable. */
const WRITES_OF_4 = 0x000d_0002;
const ACCESSES_OF_4 = 0x000f_0002;

/** Sets breakpoint 0, runs `body`; what was noted: vectors and the offsets of the instructions behind, then DR6. */
function trapsOf(control: number, body: (out: Assembler) => void, at = DATA + 8) {
  const { image, code } = guestWith((out) => {
    out.set(rbx, DATA).set(rcx, 3);
    out.set(rax, at).raw(0x0f, 0x23, 0xc0); // mov dr0, rax
    out.set(rax, control).raw(0x0f, 0x23, 0xf8); // mov dr7, rax
    out.label('body');
    body(out);
    out.label('end').raw(0x0f, 0x21, 0xf0).hlt(); // mov rax, dr6
  });
  const machine = expectAgreement(image, 150);
  const log = new DataView(machine.machine.memory.read(LOG, 256)!.slice().buffer);
  const traps: [number, number][] = [];
  for (let entry = 0; entry < 256 && log.getUint32(entry + 16, true) !== 0; entry += 32)
    traps.push([log.getUint32(entry, true), log.getUint32(entry + 16, true) - code.addressOf('body')]);
  return { traps, status: Number(machine.register(rax) & 0xe00fn) };
}

describe('a breakpoint on writes', () => {
  it('traps behind the store, once', () => {
    const { traps, status } = trapsOf(WRITES_OF_4, (out) => {
      out.raw(0x89, 0x43, 0x08).nop(); // mov [rbx + 8], eax
    });
    expect(traps).toEqual([[1, 3]]);
    expect(status).toBe(1);
  });

  it('is met by any byte of the access, and not by its neighbours or by loads', () => {
    const { traps } = trapsOf(WRITES_OF_4, (out) => {
      out.raw(0x8b, 0x43, 0x08); // mov eax, [rbx + 8]
      out.raw(0x89, 0x43, 0x0c); // mov [rbx + 12], eax
      out.raw(0x89, 0x43, 0x04); // mov [rbx + 4], eax
      out.raw(0x89, 0x43, 0x05); // mov [rbx + 5], eax
      out.raw(0xff, 0x43, 0x08); // inc dword [rbx + 8]
    });
    expect(traps).toEqual([
      [1, 12],
      [1, 15],
    ]);
  });

  it('traps between two iterations of a repeated string', () => {
    const { traps } = trapsOf(WRITES_OF_4, (out) => {
      out.lea(rdi, { base: rbx, displacement: 4 }).label('string').raw(0xf3, 0xab).nop(); // rep stosd
    });
    expect(traps).toHaveLength(1);
  });

  it('is met by PUSH and CALL', () => {
    const { traps } = trapsOf(
      WRITES_OF_4,
      (out) => {
        out.push(rax).pop(rax).call('there').label('there').pop(rax);
      },
      0xfff8,
    );
    expect(traps.map(([vector]) => vector)).toEqual([1, 1]);
  });
});

it('a breakpoint on accesses is met by loads too', () => {
  const { traps, status } = trapsOf(ACCESSES_OF_4, (out) => {
    out.raw(0x8b, 0x43, 0x08); // mov eax, [rbx + 8]
    out.raw(0x0f, 0x10, 0x03); // movups xmm0, [rbx]
  });
  expect(traps.map(([vector]) => vector)).toEqual([1, 1]);
  expect(status).toBe(1);
});

it('one that is not enabled is never met', () => {
  expect(trapsOf(WRITES_OF_4 & ~3, (out) => out.raw(0x89, 0x43, 0x08)).traps).toEqual([]);
});
