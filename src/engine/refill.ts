import { Code } from '../wasm/code.ts';
import type { ModuleBuilder } from '../wasm/module.ts';
import type { ValueType } from '../wasm/opcode.ts';
import { CPL, CR0, REFILL_ROOT, type Size, SLOW_ADDRESS, SLOW_VALUE, TLB_POINTER } from '../x86/state.ts';
import { LOAD, STORE } from './expression.ts';
import { type EngineLayout, PAGE, TLB_CHUNK, TLB_ENTRY } from './layout.ts';
import { HIGH_START, HOLE_START } from './physical-map.ts';
import { PLACE_MANY, PLACE_ROOT, PLACE_SHIFT } from './table-place.ts';
import { WRITERS_MANY } from './tlb.ts';
import { ACCESS } from './wasm-semantics.ts';

/**
 * The walk of 4-level tables [SDM 3A 4.5] for a miss of the translation cache, generated: it handles what nearly all
 * misses are, and leaves everything else to Mmu, as if it had not been there. It goes on only where a walk changes
 * nothing (accessed and dirty flags are set), where every table is already watched at the very place where it is used
 * now, and where the page is RAM that nothing watches, if it is written. Then it fills the entry by the rules of
 * Tlb.fill.
 */

const PRESENT = 0x1n;
const WRITABLE = 0x2;
const USER = 0x4;
const ACCESSED = 0x20;
const LARGE = 0x80n;
const DIRTY_SHIFT = 6n;
/** Bits 51:40: beyond the physical address width. REFILL_ROOT is 0 while bit 63 is reserved. */
const RESERVED = 0x000f_ff00_0000_0000n;
const FRAME = 0xff_ffff_f000n;
const CR0_WP_SHIFT = 16;

/**
 * Adds translate(address, write): wasm address of the filled entry, or 0. `write`: 1 when the access stores.
 */
export function addTranslate(module: ModuleBuilder, layout: EngineLayout): number {
  const locals: ValueType[] = [];
  const local = (type: ValueType): number => locals.push(type) + 1;
  const address = 0;
  const write = 1;
  const table = local('i32');
  const page = local('i32');
  const rights = local('i32');
  const writable = local('i32');
  const slot = local('i32');
  const at = local('i32');
  const noted = local('i32');
  const entry = local('i64');
  const physical = local('i64');
  const tag = local('i64');
  const { cpu } = layout;
  const code = new Code();

  const give = (): void => {
    code.open('if');
    code.i32(0).op('return').close();
  };
  const lowBytes = Math.min(layout.ramBytes, HOLE_START);
  /** From a physical address to the number of the RAM page. */
  const toPage = (): void => {
    code.get(physical).i64(BigInt(lowBytes)).op('i64.lt_u').op('i32.eqz').open('if');
    if (layout.ramBytes > lowBytes) {
      code.get(physical).i64(BigInt(HIGH_START)).op('i64.lt_u');
      give();
      code
        .get(physical)
        .i64(BigInt(HIGH_START - lowBytes))
        .op('i64.sub')
        .set(physical);
      code.get(physical).i64(BigInt(layout.ramBytes)).op('i64.lt_u').op('i32.eqz');
      give();
    } else {
      code.i32(0).op('return');
    }
    code.close();
    code.get(physical).i64(12n).op('i64.shr_u').op('i32.wrap_i64').set(page);
  };
  const toHost = (): void => {
    code.get(page).i32(12).op('i32.shl').i32(layout.ram).op('i32.add');
  };

  code.i32(cpu).memory('i32.load', REFILL_ROOT).tee(table).op('i32.eqz');
  give();
  code.get(address).get(address).i64(16n).op('i64.shl').i64(16n).op('i64.shr_s').op('i64.ne');
  give();
  code.get(table).i32(layout.ram).op('i32.sub').i32(12).op('i32.shr_u').set(page);
  code.i32(-1).set(rights);
  const leaf = code.open('block');
  for (let level = 4; level >= 1; level--) {
    // The table is watched, and known to be used here.
    const above = BigInt(12 + 9 * level);
    code.get(page).i32(2).op('i32.shl').memory('i32.load', layout.pagePlaces).tee(at);
    if (level === 4) {
      code.i32(PLACE_ROOT);
    } else {
      code.get(address).i64(above).op('i64.shr_u').op('i32.wrap_i64');
      code
        .i32((1 << (48 - Number(above))) - 1)
        .op('i32.and')
        .i32(level << PLACE_SHIFT)
        .op('i32.or');
    }
    code.op('i32.ne').get(at).i32(PLACE_MANY).op('i32.ne').op('i32.and');
    give();
    code
      .get(address)
      .i64(above - 12n)
      .op('i64.shr_u')
      .op('i32.wrap_i64')
      .i32(0xff8)
      .op('i32.and');
    code.get(table).op('i32.add').memory('i64.load', 0).tee(entry);
    code
      .i64(RESERVED | PRESENT)
      .op('i64.and')
      .i64(PRESENT)
      .op('i64.ne');
    give();
    code.get(entry).op('i32.wrap_i64').get(rights).op('i32.and').set(rights);
    code.get(entry).i64(FRAME).op('i64.and').set(physical);
    if (level === 1) break;
    code.get(entry).i64(LARGE).op('i64.and').op('i64.eqz').op('i32.eqz').open('if');
    if (level === 4) {
      code.i32(0).op('return');
    } else {
      // Bit 12 is PAT; the bits above it up to the page's size are reserved.
      const inside = (1n << (above - 9n)) - 1n;
      code
        .get(entry)
        .i64(inside & ~0x1fffn)
        .op('i64.and')
        .op('i64.eqz')
        .op('i32.eqz');
      give();
      code
        .get(physical)
        .i64(~inside)
        .op('i64.and')
        .get(address)
        .i64(inside & ~0xfffn)
        .op('i64.and');
      code.op('i64.or').set(physical).branch(leaf);
    }
    code.close();
    toPage();
    toHost();
    code.set(table);
  }
  code.close(); // leaf

  // Rights, as in paging.ts.
  code.get(rights).i32(ACCESSED).op('i32.and').op('i32.eqz');
  give();
  code.i32(cpu).memory('i32.load', CPL).i32(3).op('i32.eq').open('if', 'i32');
  code.get(rights).i32(USER).op('i32.and').op('i32.eqz');
  give();
  code.i32(0);
  code.otherwise();
  // The supervisor may write anything while CR0.WP is clear.
  code.i32(cpu).memory('i32.load', CR0).i32(CR0_WP_SHIFT).op('i32.shr_u').i32(1).op('i32.and').op('i32.eqz');
  code.close();
  code.get(rights).i32(WRITABLE).op('i32.and').i32(1).op('i32.shr_u').op('i32.or');
  code.get(entry).i64(DIRTY_SHIFT).op('i64.shr_u').op('i32.wrap_i64').op('i32.and').set(writable);
  toPage();
  code.get(writable).get(page).memory('i32.load8_u', layout.pageFlags).op('i32.eqz').op('i32.and');
  code.tee(writable).op('i32.eqz').get(write).op('i32.and');
  give();

  code.get(address).i64(7n).op('i64.shr_u').op('i32.wrap_i64');
  code
    .i32((layout.tlbEntries - 1) << 5)
    .op('i32.and')
    .set(slot);
  code.get(address).i64(-4096n).op('i64.and').set(tag);
  const filled = local('i32');
  code.get(slot).i32(cpu).memory('i32.load', TLB_POINTER).op('i32.add').set(filled);
  code.get(writable).open('if');
  noteWriter();
  code.get(page).i64(1n).memory('i64.store8', layout.pageDirty);
  code.get(filled).get(tag).memory('i64.store', TLB_ENTRY.writeTag);
  code.otherwise();
  code.get(filled).memory('i64.load', TLB_ENTRY.readTag).get(tag).op('i64.ne').open('if');
  code.get(filled).i64(-1n).memory('i64.store', TLB_ENTRY.writeTag);
  code.close();
  code.close();
  code.get(filled).get(tag).memory('i64.store', TLB_ENTRY.readTag);
  code.get(filled);
  toHost();
  code.get(tag).op('i32.wrap_i64').op('i32.sub').memory('i32.store', TLB_ENTRY.addend);
  code.get(filled).i32(layout.tlb).op('i32.sub').i32(TLB_CHUNK).op('i32.div_u');
  code.i64(1n).memory('i64.store8', layout.tlbTouched);
  code.get(filled);
  return module.addFunction(undefined, { parameters: ['i64', 'i32'], results: ['i32'] }, locals, code);

  /** Tlb.#noteWriter, but for a third slot. */
  function noteWriter(): void {
    const name = at;
    const known = code.open('block');
    code.get(slot).i32(TLB_ENTRY.size).op('i32.div_u').i32(1).op('i32.add').set(name);
    code.get(page).i32(2).op('i32.shl').tee(table).memory('i32.load', layout.pageWriters).set(noted);
    code.get(noted).i32(0xffff).op('i32.and').get(name).op('i32.eq').branchIf(known);
    code.get(noted).i32(16).op('i32.shr_u').get(name).op('i32.eq').branchIf(known);
    code.get(noted).i32(0xffff).op('i32.and').i32(WRITERS_MANY).op('i32.eq').branchIf(known);
    code.get(noted).i32(16).op('i32.shr_u');
    give();
    code.get(table).get(noted).get(name);
    code.i32(0).i32(16).get(noted).op('i32.eqz').op('select').op('i32.shl');
    code.op('i32.or').memory('i32.store', layout.pageWriters);
    code.close();
  }
}

/**
 * Adds miss(record, access): makes the access at SLOW_ADDRESS through a translation found here, or hands it to
 * `slow`, whose contract it has.
 */
export function addMiss(
  module: ModuleBuilder,
  layout: EngineLayout,
  translate: number,
  slow: number,
): number {
  const [record, access, entry, address, size] = [0, 1, 2, 3, 4];
  const { cpu } = layout;
  const code = new Code();
  const give = code.open('block');
  code
    .i32(cpu)
    .memory('i32.load', SLOW_ADDRESS)
    .tee(address)
    .i32(PAGE - 1)
    .op('i32.and');
  code.get(access).i32(0xff).op('i32.and').tee(size).op('i32.add').i32(PAGE).op('i32.gt_u').branchIf(give);
  code.i32(cpu).memory('i64.load', SLOW_ADDRESS);
  code.get(access).i32(0xff).op('i32.gt_u').call(translate).tee(entry).op('i32.eqz').branchIf(give);
  code.get(entry).memory('i32.load', TLB_ENTRY.addend).get(address).op('i32.add').set(address);
  const stores = code.open('block');
  code.get(access).i32(ACCESS.store).op('i32.and').branchIf(stores);
  // As much as is read is padded with zeroes to 8 bytes.
  each((bytes) => {
    if (bytes === 16)
      code.i32(cpu).get(address).simdMemory('v128.load', 0).simdMemory('v128.store', SLOW_VALUE);
    else code.i32(cpu).get(address).memory(LOAD[bytes], 0).memory('i64.store', SLOW_VALUE);
  });
  code.close();
  each((bytes) => {
    code.get(address).i32(cpu);
    if (bytes === 16) code.simdMemory('v128.load', SLOW_VALUE).simdMemory('v128.store', 0);
    else code.memory(LOAD[bytes], SLOW_VALUE).memory(STORE[bytes], 0);
  });
  code.close();
  code.get(record).get(access).call(slow);
  const signature = { parameters: ['i32', 'i32'], results: ['i32'] } as const;
  return module.addFunction(undefined, signature, ['i32', 'i32', 'i32'], code);

  function each(write: (bytes: Size | 16) => void): void {
    for (const bytes of [8, 4, 1, 2, 16] as const) {
      code.get(size).i32(bytes).op('i32.eq').open('if');
      write(bytes);
      code.i32(0).op('return').close();
    }
    code.op('unreachable');
  }
}
