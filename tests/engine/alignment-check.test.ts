import { describe, expect, it } from 'vitest';
import { expectAgreement } from './agreement.ts';
import { REG } from './assembler.ts';
import { guestWith, LOG, P, RESUME, U, W, WINDOW } from './small-guest.ts';

/** #AC: a misaligned access at privilege 3 with CR0.AM and RFLAGS.AC set [SDM 3A 6.15, interrupt 17]. */

const USER_CODE = 0x5_0000;
const USER_DATA = 0x5_1000;
const AC = 0x4_0000;
const { rax, rcx, rsi } = REG;

/** What the handler of exceptions noted after a user program made one access to `address`: vector and error code. */
function noted(access: readonly number[], address: number, options: { am?: boolean; flags?: number } = {}) {
  const { image } = guestWith((out) => {
    out.set(rax, 0x8001_0033 + (options.am === false ? 0 : AC)).setCr0(rax);
    out.set(rsi, address).set(rcx, 1);
    out.enterUser(WINDOW, WINDOW + 0x1ff0, options.flags ?? AC | 2);
  });
  image.window(0, USER_CODE, P | U);
  image.window(1, USER_DATA, P | W | U);
  const code = image.code(USER_CODE, (out) => {
    out.raw(...access);
    out.label('over').jump('over');
  });
  image.view.setUint32(RESUME, WINDOW + code.addressOf('over') - USER_CODE, true);
  const machine = expectAgreement(image, 60);
  const log = machine.machine.memory.read(LOG, 16)!;
  return [log[0], log[8]];
}

const DATA_PAGE = WINDOW + 0x1000;
const LOAD = [0x8b, 0x06]; // mov eax, [rsi]
const NONE = [0, 0];
const ALIGNMENT = [17, 0];

describe('a misaligned access is #AC(0)', () => {
  it.each([
    ['mov eax, m32', LOAD, 2],
    ['mov m16, ax', [0x66, 0x89, 0x06], 1],
    ['add m64, rax', [0x48, 0x01, 0x06], 4],
    ['rep stosd', [0x48, 0x89, 0xf7, 0xf3, 0xab], 1],
    ['movups xmm0, m128', [0x0f, 0x10, 0x06], 8],
    ['fld m80', [0xdb, 0x2e], 4],
    ['fnstenv m28', [0xd9, 0x36], 2],
  ])('%s', (_, access, offset) => expect(noted(access, DATA_PAGE + offset)).toEqual(ALIGNMENT));

  it('before the page is looked for', () => {
    expect(noted(LOAD, WINDOW + 0x2001)).toEqual(ALIGNMENT);
    expect(noted(LOAD, WINDOW + 0x1ffe)).toEqual(ALIGNMENT);
  });
});

describe('nothing is raised', () => {
  it('by an aligned access', () => {
    expect(noted(LOAD, DATA_PAGE + 4)).toEqual(NONE);
    expect(noted([0xdb, 0x2e], DATA_PAGE + 8)).toEqual(NONE); // fld m80
    expect(noted([0xd9, 0x36], DATA_PAGE + 4)).toEqual(NONE); // fnstenv m28
  });

  it('without RFLAGS.AC, and without CR0.AM', () => {
    expect(noted(LOAD, DATA_PAGE + 1, { flags: 2 })).toEqual(NONE);
    expect(noted(LOAD, DATA_PAGE + 1, { am: false })).toEqual(NONE);
  });
});

describe('an address that is not canonical is #SS(0) where the stack is accessed, #GP(0) elsewhere', () => {
  const FAR = 0x9000_0000_0000;
  it.each([
    ['push rax', [0x48, 0x89, 0xf4, 0x50], 12],
    ['pop rax', [0x48, 0x89, 0xf4, 0x58], 12],
    ['ret', [0x48, 0x89, 0xf4, 0xc3], 12],
    ['call', [0x48, 0x89, 0xf4, 0xe8, 0, 0, 0, 0], 12],
    ['pushfq', [0x48, 0x89, 0xf4, 0x9c], 12],
    ['leave', [0x48, 0x89, 0xf5, 0xc9], 12],
    ['mov eax, [rbp]', [0x48, 0x89, 0xf5, 0x8b, 0x45, 0], 12],
    ['mov [rsp], eax', [0x48, 0x89, 0xf4, 0x89, 0x04, 0x24], 12],
    ['mov eax, [rsi]', LOAD, 13],
    ['mov eax, gs:[rbp]', [0x48, 0x89, 0xf5, 0x65, 0x8b, 0x45, 0], 13],
  ])('%s', (_, access, vector) => expect(noted(access, FAR, { flags: 2 })).toEqual([vector, 0]));
});
