import { describe, expect, it } from 'vitest';
import { expectAgreement } from './agreement.ts';
import { REG } from './assembler.ts';
import { A, D, DATA, GDT, type GuestImage, guestWith, P, U, W, WINDOW } from './small-guest.ts';

/** Segments of compatibility code that are not flat [SDM 3A 5.3, 5.5; 1 6.2.3]: `segments-32` of the programs, in small. */

const { rax, rbx } = REG;
const COUNTS = 120;
/** In the window: code, then data. */
const DATA_PAGE = WINDOW + 0x1000;
const UNDEFINED = 6;

const DATA_ACCESS = 0xf3;
const READ_ONLY = 0xf1;
const DOWNWARD = 0xf7;
const CODE_ACCESS = 0xfb;
const WIDE = 4;
const PAGES = 8;

function descriptor(base: number, limit: number, access: number, flags: number): bigint {
  const low = (limit & 0xffff) | ((base & 0xffff) << 16);
  const high =
    ((base >>> 16) & 0xff) | (access << 8) | (limit & 0xf_0000) | (flags << 20) | (base & 0xff00_0000);
  return BigInt(low >>> 0) | (BigInt(high >>> 0) << 32n);
}

/** Selectors, from 38h on. */
const TABLE = [
  ['code', 0, 0xf_ffff, CODE_ACCESS, WIDE | PAGES],
  ['flat', 0, 0xf_ffff, DATA_ACCESS, WIDE | PAGES],
  ['short', DATA_PAGE, 0x7f, DATA_ACCESS, WIDE],
  ['readOnly', DATA_PAGE, 0x7f, READ_ONLY, WIDE],
  ['downward', DATA_PAGE, 0x7f, DOWNWARD, WIDE],
  ['stack16', DATA_PAGE, 0xffff, DATA_ACCESS, 0],
  ['shortCode', WINDOW, 0x1f, CODE_ACCESS, WIDE],
] as const;
type Name = (typeof TABLE)[number][0] | 'null';

function selector(name: Name): number {
  const index = TABLE.findIndex(([each]) => each === name);
  return index < 0 ? 0 : 0x38 + index * 8 + 3;
}

interface Segments {
  readonly cs?: Name;
  readonly ds?: Name;
  readonly ss?: Name;
  readonly fs?: Name;
  readonly sp?: number;
}

/** Runs compatibility code with these segments up to its first exception: vector, error code, offset. */
function faultOf(segments: Segments, code: readonly number[]) {
  const { cs = 'code', ds = 'flat', ss = 'flat', fs = 'null', sp = DATA_PAGE + 0x800 } = segments;
  const { image } = guestWith((out) => {
    out.set(rbx, DATA).storeImmediate({ base: rbx, displacement: 0 }, 0xff, 4);
    out.set(rax, GDT).store({ base: rbx, displacement: 2 }, rax).raw(0x0f, 0x01, 0x13); // lgdt [rbx]
    out.set(rax, selector(ds)).raw(0x8e, 0xd8); // mov ds, eax
    out.set(rax, selector('flat')).raw(0x8e, 0xc0); // mov es, eax
    out.set(rax, selector(fs)).raw(0x8e, 0xe0); // mov fs, eax
    out.raw(0x6a, selector(ss), 0x68).u32(sp).raw(0x68).u32(0x202).raw(0x6a, selector(cs));
    out
      .raw(0x68)
      .u32(cs === 'shortCode' ? 0 : WINDOW)
      .iretq();
  });
  for (const [index, [, base, limit, access, flags]] of TABLE.entries())
    image.view.setBigUint64(GDT + 0x38 + index * 8, descriptor(base, limit, access, flags), true);
  prepare(image, code);
  const machine = expectAgreement(image, COUNTS);
  const first = machine.log[0]!;
  return {
    fault: [first.vector, first.errorCode, first.rip - (cs === 'shortCode' ? 0 : WINDOW)],
    word: Number(machine.read64(0x5_1100) & 0xffff_ffffn),
  };
}

function prepare(image: GuestImage, code: readonly number[]): void {
  image.window(0, 0x5_0000, P | W | U | A | D);
  image.window(1, 0x5_1000, P | W | U | A | D);
  image.put(0x5_0000, Uint8Array.from([...code, 0x0f, 0x0b])); // ud2
}

const disp32 = (value: number) => [value, value >> 8, value >> 16, value >> 24].map((byte) => byte & 0xff);
const load = (offset: number) => [0xa1, ...disp32(offset)]; // mov eax, [offset]
const store = (offset: number) => [0xa3, ...disp32(offset)]; // mov [offset], eax
const loadFs = (offset: number) => [0x64, ...load(offset)];

describe('an access within its segment goes on, one beyond it is #GP', () => {
  it.each<[string, Segments, number[], number[]]>([
    ['the last dword', { ds: 'short' }, load(0x7c), [UNDEFINED, 0, 5]],
    ['a dword across the limit', { ds: 'short' }, load(0x7d), [13, 0, 0]],
    ['a store across the limit', { ds: 'short' }, [0x90, ...store(0x7d)], [13, 0, 1]],
    ['far beyond', { ds: 'short' }, load(0xffff_fff0), [13, 0, 0]],
    ['reading what is read-only', { ds: 'readOnly' }, load(0), [UNDEFINED, 0, 5]],
    ['writing what is read-only', { ds: 'readOnly' }, store(0), [13, 0, 0]],
    ['above a limit that grows downward', { ds: 'downward' }, load(0x80), [UNDEFINED, 0, 5]],
    ['below one', { ds: 'downward' }, load(0x7d), [13, 0, 0]],
    ['through a null segment', {}, loadFs(DATA_PAGE), [13, 0, 0]],
    ['through one that is not', { fs: 'short' }, loadFs(0x10), [UNDEFINED, 0, 6]],
    ['DS when only FS is short', { fs: 'short' }, load(DATA_PAGE + 0x400), [UNDEFINED, 0, 5]],
    [
      'a segment that the code loads itself',
      { ds: 'flat' },
      [0x66, 0xb8, selector('short'), 0, 0x8e, 0xd8, ...load(0x7d)],
      [13, 0, 6],
    ],
  ])('%s', (_, segments, code, expected) => {
    expect(faultOf(segments, code).fault).toEqual(expected);
  });

  it('a repeated string stops at the iteration that leaves the segment', () => {
    // mov esi, 70h; mov edi, DATA_PAGE + 200h; mov ecx, 40h; rep movsb
    const code = [
      0xbe,
      ...disp32(0x70),
      0xbf,
      ...disp32(DATA_PAGE + 0x200),
      0xb9,
      ...disp32(0x40),
      0xf3,
      0xa4,
    ];
    expect(faultOf({ ds: 'short' }, code).fault).toEqual([13, 0, 15]);
  });
});

describe('the stack segment', () => {
  it('a push beyond its limit is #SS', () => {
    expect(faultOf({ ss: 'short', sp: 0x80 }, [0x50, 0x58]).fault).toEqual([UNDEFINED, 0, 2]); // push, pop
    expect(faultOf({ ss: 'short', sp: 0x82 }, [0x50]).fault).toEqual([12, 0, 0]);
    expect(faultOf({ ss: 'short', sp: 2 }, [0x50]).fault).toEqual([12, 0, 0]);
  });

  it('of 16 bits: the upper half of ESP stays and means nothing', () => {
    // mov esp, 12340000h; push eax; mov [DATA_PAGE + 100h], esp
    const code = [0xbc, ...disp32(0x1234_0000), 0x50, 0x89, 0x25, ...disp32(DATA_PAGE + 0x100)];
    // SP wraps to FFFCh, where nothing is mapped.
    expect(faultOf({ ss: 'stack16' }, code).fault.slice(0, 1)).toEqual([14]);
    const within = [0xbc, ...disp32(0x1234_0804), 0x50, 0x50, 0x58, 0x89, 0x25, ...disp32(DATA_PAGE + 0x100)];
    const { fault, word } = faultOf({ ss: 'stack16' }, within);
    expect([fault, word]).toEqual([[UNDEFINED, 0, 14], 0x1234_0800]);
  });
});

describe('the code segment', () => {
  const nops = (count: number) => new Array<number>(count).fill(0x90);

  it('an instruction within its limit runs', () => {
    expect(faultOf({ cs: 'shortCode' }, nops(0x1e)).fault).toEqual([UNDEFINED, 0, 0x1e]);
  });

  it('one that ends beyond it, or begins there, is #GP', () => {
    expect(faultOf({ cs: 'shortCode' }, [...nops(0x1f), 0x89, 0xc0]).fault).toEqual([13, 0, 0x1f]); // mov eax, eax
    expect(faultOf({ cs: 'shortCode' }, nops(0x30)).fault).toEqual([13, 0, 0x20]);
  });
});
