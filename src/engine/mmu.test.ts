import { describe, expect, it } from 'vitest';
import { sharedMemory } from '../wasm/webassembly.ts';
import { ACCESS_EXECUTE, ACCESS_READ } from '../x86/paging.ts';
import { CpuState, CR0, CR3, CR4, EFER, EPOCH, EPOCH_HIGH, TLB_POINTER } from '../x86/state.ts';
import { MODE } from './code-mode.ts';
import { type EngineLayout, engineLayout, PAGE, TLB_CONTEXTS, TLB_ENTRY } from './layout.ts';
import { Mmu } from './mmu.ts';
import { PhysicalMap } from './physical-map.ts';

const RAM_BYTES = 1 << 20;
const ROOTS = [0x1000, 0x2000, 0x3000] as const;
const PDPT = 0x4000;
const DIRECTORY = 0x5000;
const TABLE = 0x6000;
/** Linear pages 0.. of the lower half and of entry 300 of the upper one are the same RAM pages, from here on. */
const DATA = 0x1_0000;
const SET = 0x63;

class Space {
  readonly layout: EngineLayout;
  readonly state: CpuState;
  readonly mmu: Mmu;
  readonly ram: DataView;
  readonly #i32: Int32Array;

  constructor(tlbEntries = 64) {
    this.layout = engineLayout(RAM_BYTES, tlbEntries, 1 << 10);
    const { buffer } = sharedMemory(this.layout.pages);
    this.state = new CpuState(buffer, this.layout.cpu);
    this.mmu = new Mmu(buffer, this.layout, this.state, new PhysicalMap(RAM_BYTES));
    this.ram = new DataView(buffer, this.layout.ram, RAM_BYTES);
    this.#i32 = new Int32Array(buffer);
    this.state.set64(CR0, 0x8001_0001n);
    this.state.set64(CR4, 0x20n);
    this.state.set64(EFER, 0xd00n);
    for (const root of ROOTS) {
      this.put(root, 0, PDPT | SET);
      this.put(root, 300, PDPT | SET);
    }
    this.put(PDPT, 0, DIRECTORY | SET);
    this.put(DIRECTORY, 0, TABLE | SET);
    for (let page = 0; page < 128; page++) this.put(TABLE, page, (DATA + page * PAGE) | SET);
  }

  put(table: number, index: number, value: number): void {
    this.ram.setBigUint64(table + index * 8, BigInt(value), true);
  }

  /** As a store of the guest is noticed. */
  store(table: number, index: number, value: number): void {
    const before = new Uint8Array(8);
    new DataView(before.buffer).setBigUint64(0, this.ram.getBigUint64(table + index * 8, true), true);
    this.put(table, index, value);
    this.mmu.tableStores.stored(table / PAGE, before, index * 8, true);
    this.mmu.selectEpoch(MODE.code64, 0);
  }

  use(root: number): this {
    this.state.set64(CR3, BigInt(root));
    this.mmu.select(MODE.code64, 0);
    return this;
  }

  /** Makes the page known for reads and writes, as far as that goes. */
  read(page: number): void {
    const address = this.mmu.translate(page * PAGE, 0, ACCESS_READ, false);
    this.mmu.fill(page * PAGE, 0, address, false);
  }

  fetch(low: number, high: number): void {
    this.mmu.translate(low, high, ACCESS_EXECUTE, false);
    this.mmu.watchCode(low, high);
  }

  get epochs(): [number, number] {
    return [this.state.i32[EPOCH >> 2]!, this.state.i32[EPOCH_HIGH >> 2]!];
  }

  /** The present context's tags of a linear page: for reads, for writes. */
  tags(page: number): [boolean, boolean] {
    const slot = page & (this.layout.tlbEntries - 1);
    const entry = (this.state.i32[TLB_POINTER >> 2]! + slot * TLB_ENTRY.size) >> 2;
    const tag = page * PAGE;
    return [
      this.#i32[entry] === tag && this.#i32[entry + 1] === 0,
      this.#i32[entry + 2] === tag && this.#i32[entry + 3] === 0,
    ];
  }
}

const HIGH = 0xffff_9600 | 0;

describe('the upper half of an address space', () => {
  it('has the epochs of another one with the same upper entries, the lower half its own', () => {
    const space = new Space();
    const first = space.use(ROOTS[0]).epochs;
    const second = space.use(ROOTS[1]).epochs;
    expect(second[1]).toBe(first[1]);
    expect(second[0]).not.toBe(first[0]);
    expect(space.use(ROOTS[0]).epochs).toEqual(first);
  });

  it.each([
    ['other', (space: Space) => space.put(ROOTS[1], 300, DIRECTORY | SET)],
    ['other, far up', (space: Space) => space.put(ROOTS[1], 511, DIRECTORY)],
    [
      'not accessed yet',
      (space: Space) => {
        for (const root of ROOTS) space.put(root, 300, PDPT | 3);
      },
    ],
  ])('has its own epochs when an entry is %s', (_, change) => {
    const space = new Space();
    change(space);
    const first = space.use(ROOTS[0]).epochs;
    expect(space.use(ROOTS[1]).epochs[1]).not.toBe(first[1]);
  });

  it('is at no other privilege, and with no other controls, the same', () => {
    const space = new Space();
    const first = space.use(ROOTS[0]).epochs;
    space.state.set32(0x270, 3);
    const user = space.use(ROOTS[1]).epochs;
    space.state.set32(0x270, 0);
    space.state.set64(CR0, 0x8000_0001n);
    const writing = space.use(ROOTS[1]).epochs;
    expect(new Set([first[1], user[1], writing[1]]).size).toBe(3);
  });

  it.each([
    ['present entry', 300, DIRECTORY | SET],
    ['missing entry', 301, PDPT | SET],
    ['missing entry that stays missing', 302, 0x100],
  ])('is its own from the store to a %s on, and the others go on sharing', (_, index, value) => {
    const space = new Space();
    const high = ROOTS.map((root) => space.use(root).epochs[1]);
    space.use(ROOTS[1]).store(ROOTS[1], index, value);
    const after = ROOTS.map((root) => space.use(root).epochs[1]);
    expect(after[0]).toBe(high[0]);
    expect(after[2]).toBe(high[0]);
    expect(after[1]).not.toBe(high[0]);
  });

  it('ends its epochs for all who share it when code in it moves, and the lower half keeps its own', () => {
    const space = new Space();
    const first = space.use(ROOTS[0]).epochs;
    space.fetch(3 * PAGE, HIGH);
    const second = space.use(ROOTS[1]).epochs;
    space.store(TABLE, 4, DATA | SET);
    expect(space.epochs).toEqual(second);
    space.store(TABLE, 3, DATA | SET);
    expect(space.epochs[0]).toBe(second[0]);
    expect(space.epochs[1]).not.toBe(second[1]);
    const shared = space.epochs[1];
    expect(space.use(ROOTS[0]).epochs).toEqual([first[0], shared]);
  });

  it('is looked at again after everything was dropped', () => {
    const space = new Space();
    space.use(ROOTS[0]);
    space.use(ROOTS[1]).mmu.flush();
    space.put(ROOTS[0], 400, PDPT | SET);
    const second = space.use(ROOTS[1]).epochs;
    expect(space.use(ROOTS[0]).epochs[1]).not.toBe(second[1]);
    expect(space.use(ROOTS[2]).epochs[1]).toBe(second[1]);
  });
});

describe('write tags of a page', () => {
  it('are dropped in every context and at every address, however many there are', () => {
    const space = new Space();
    // Five linear pages, each in another slot, are one page of RAM.
    for (const page of [7, 8, 9, 10, 11]) space.put(TABLE, page, (DATA + 7 * PAGE) | SET);
    for (const count of [1, 2, 3, 5]) {
      const pages = [7, 8, 9, 10, 11].slice(0, count);
      for (const root of ROOTS) {
        space.use(root);
        for (const page of [...pages, 20]) space.read(page);
      }
      for (const root of ROOTS) {
        space.use(root);
        expect(pages.map((page) => space.tags(page))).toEqual(pages.map(() => [true, true]));
      }
      space.mmu.dropWriteTags((DATA + 7 * PAGE) / PAGE);
      for (const root of ROOTS) {
        space.use(root);
        expect(pages.map((page) => space.tags(page))).toEqual(pages.map(() => [true, false]));
        expect(space.tags(20)).toEqual([true, true]);
      }
    }
  });

  it('are known again after their entries were used for other pages', () => {
    const space = new Space(16);
    space.use(ROOTS[0]);
    for (let round = 0; round < 4; round++) {
      // Pages 7 and 8, in slots that other pages take in between, and at last at two other addresses.
      for (const page of [7, 8]) space.put(TABLE, page + 32 + round * 16, (DATA + 7 * PAGE) | SET);
      space.read(7 + 16 * (round & 1));
      space.read(39 + round * 16);
      space.read(40 + round * 16);
    }
    space.mmu.dropWriteTags((DATA + 7 * PAGE) / PAGE);
    for (const page of [7, 39 + 48, 40 + 48]) expect(space.tags(page)[1]).toBe(false);
  });
});

describe('a store to a table', () => {
  it('drops what its entry translates, and lets a table go that is named no more', () => {
    const space = new Space(1024);
    for (const root of ROOTS) {
      space.use(root);
      for (const page of [1, 2]) space.read(page);
    }
    space.store(TABLE, 1, 0);
    for (const root of ROOTS)
      expect([1, 2].map((page) => space.use(root).tags(page)[0])).toEqual([false, true]);
    expect(space.mmu.flags[TABLE / PAGE]).not.toBe(0);
    space.store(DIRECTORY, 0, 0);
    for (const root of ROOTS) expect(space.use(root).tags(2)[0]).toBe(false);
    expect(space.mmu.flags[TABLE / PAGE]).toBe(0);
    expect(space.mmu.flags[DIRECTORY / PAGE]).not.toBe(0);
  });

  it('of the root empties the address spaces that have this root', () => {
    const space = new Space(1024);
    for (const root of ROOTS) space.use(root).read(5);
    space.store(ROOTS[1], 0, 0);
    expect(ROOTS.map((root) => space.use(root).tags(5)[0])).toEqual([true, false, true]);
  });

  it('that has become data drops what hung on it, once', () => {
    const space = new Space(1024);
    space.use(ROOTS[0]).read(5);
    for (let count = 0; count <= 128; count++) {
      expect(space.tags(5)[0]).toBe(true);
      expect(space.mmu.tableStores.mayChangeTranslation(TABLE / PAGE, 4088, 8)).toBe(count === 128);
      space.store(TABLE, 511, 0);
    }
    expect(space.tags(5)[0]).toBe(false);
    expect(space.mmu.flags[TABLE / PAGE]).toBe(0);
  });
});

it('there are as many contexts as the layout has room for', () => {
  const space = new Space(16);
  const pointers = new Set<number>();
  for (let root = 0; root < 2 * TLB_CONTEXTS; root++) {
    space.use(0x2_0000 + root * PAGE);
    pointers.add(space.state.i32[TLB_POINTER >> 2]!);
  }
  expect(pointers.size).toBe(TLB_CONTEXTS);
});
