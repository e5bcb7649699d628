import type { Privilege } from '../x86/cpu.ts';
import { ACCESS_READ, ACCESS_WRITE } from '../x86/paging.ts';
import { type CpuState, RIP } from '../x86/state.ts';
import { code64 } from '../x86/system/mode.ts';
import type { CodeCache } from './code-cache.ts';
import type { EngineParts } from './engine-parts.ts';
import { type EngineLayout, PAGE, PAGE_FLAG } from './layout.ts';
import { highHalf, lowHalf, runsAsUser } from './linear-address.ts';
import type { Mmu } from './mmu.ts';
import type { Pending } from './pending.ts';
import type { PhysicalMap } from './physical-map.ts';

/** What is shorter is not worth dropping all that hangs on a page. */
const BULK = 64;
/** No instruction is longer [SDM 2A 2.3.11]. */
const INSTRUCTION_BYTES = 15n;

/** Guest memory within a page as plain bytes, which repeated strings copy and fill at once where nobody can tell it. */
export class BulkSpans {
  readonly #u8: Uint8Array;
  readonly #layout: EngineLayout;
  readonly #state: CpuState;
  readonly #map: PhysicalMap;
  readonly #mmu: Mmu;
  readonly #code: CodeCache;
  readonly #pending: Pending;
  /** RAM pages of the tables that the last span to be read was found through. */
  #sourceTables: readonly number[] = [];

  constructor({ buffer, layout, state, map, mmu, code, pending }: EngineParts) {
    this.#u8 = new Uint8Array(buffer);
    this.#layout = layout;
    this.#state = state;
    this.#map = map;
    this.#mmu = mmu;
    this.#code = code;
    this.#pending = pending;
  }

  /** The bytes themselves; undefined: they have to be accessed one part after the other. */
  of(
    linear: bigint,
    length: number,
    access: 'read' | 'write',
    privilege?: Privilege,
  ): Uint8Array | undefined {
    const low = lowHalf(linear);
    const high = highHalf(linear);
    if (this.#mmu.segmented && privilege !== 'supervisor') return undefined;
    if (length === 0 || (low & 0xfff) + length > PAGE || this.#mmu.alignmentChecked || this.#mmu.watched)
      return undefined;
    const kind = access === 'write' ? ACCESS_WRITE : ACCESS_READ;
    const user = runsAsUser(this.#state, privilege);
    const page = this.#mmu.translate(low, high, kind, user);
    if (page < 0) return undefined;
    const offset = this.#map.ramOffset(page);
    if (offset < 0) return undefined;
    // Bytes stored in bulk may be entries of the very tables that the accesses go through.
    this.#mmu.watchTables(low, high);
    const index = Math.floor(offset / PAGE);
    if (access === 'read') this.#sourceTables = this.#mmu.walkedTables();
    if (access === 'write') {
      if (this.#mmu.flags[index] !== 0 && !this.#becomesData(index, low & 0xfff, length)) return undefined;
      this.#mmu.dirty[index] = 1;
    }
    const from = this.#layout.ram + offset + (low & 0xfff);
    return this.#u8.subarray(from, from + length);
  }

  /**
   * May these bytes of a watched page be stored at once? Pages of tables and code that were given up are cleared and
   * filled like any other, so what hangs on them is dropped; but not the storing instruction, or the tables that it
   * is fetched through, or this very access, or the source's: those take effect from one iteration to the next.
   */
  #becomesData(page: number, inPage: number, length: number): boolean {
    const flags = this.#mmu.flags[page]!;
    const code = (flags & PAGE_FLAG.code) !== 0 && this.#code.touches(page, inPage, length);
    const table =
      (flags & PAGE_FLAG.table) !== 0 && this.#mmu.tableStores.mayChangeTranslation(page, inPage, length);
    if (!code && !table) return true;
    if (!this.#pending.stepping || length < BULK) return false;
    if (table && (this.#mmu.walkedTables().includes(page) || this.#sourceTables.includes(page))) return false;
    if (!this.#isFetchedElsewhere(page)) return false;
    if (table) {
      this.#mmu.tableStores.letGo(page);
      // It may have let everything go, and there may be more to store before the instruction is fetched again.
      this.#isFetchedElsewhere(page);
    }
    if (code) this.#code.invalidate(page, inPage, length);
    return true;
  }

  /**
   * Is it certain that the instruction before RIP has no byte in the RAM page, and is not fetched through it as a
   * table? The tables that it is fetched through are watched from now on.
   */
  #isFetchedElsewhere(page: number): boolean {
    if (!code64(this.#state)) return false;
    const rip = this.#state.get64(RIP);
    for (const back of [1n, INSTRUCTION_BYTES]) {
      const offset = this.#mmu.codeOffset(BigInt.asUintN(64, rip - back), true);
      // Its first byte may be anywhere between: what cannot be fetched holds none.
      if (offset < 0 && back === 1n) return false;
      if (offset >= 0 && (offset === page * PAGE || this.#mmu.walkedTables().includes(page))) return false;
    }
    return true;
  }
}
