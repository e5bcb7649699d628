import { assert } from '../base/assert.ts';
import type { SystemOperation } from '../x86/cpu.ts';
import { decode } from '../x86/decoder.ts';
import type { CodeSize, Instruction, Row } from '../x86/instruction.ts';
import type { OpcodeMap } from '../x86/opcode-map.ts';
import type { MicroOperation } from '../x86/semantics.ts';
import { ZERO } from '../x86/state.ts';
import { BlockBuilder, type RecordWriter } from './block-builder.ts';
import { INTERPRETED, MODE, MODES } from './code-mode.ts';
import { type EngineLayout, PAGE, RECORD } from './layout.ts';
import { KEPT, KEPT_BYTES, LoweredInstructions, NO_RECORDS, UNKNOWN } from './lowered-instructions.ts';
import { ENGINE_OPERATION, type OperationTable } from './operation-table.ts';

/**
 * Decoded blocks, keyed by physical address and mode. A block is a header record and the micro-operations of a
 * few instructions of one page. Instructions of a conditional branch's not-taken path belong to the same block.
 */
export interface Block {
  readonly header: number;
  readonly key: number;
  /** RAM offset of the first byte, and one past the last byte in the same page. */
  readonly start: number;
  readonly end: number;
  /** RAM page of the bytes behind the page's end, when the only instruction crosses into it; -2: no RAM; else -1. */
  readonly secondPage: number;
  readonly secondEnd: number;
  readonly mode: number;
  /** Address behind its last record. */
  readonly recordsEnd: number;
}

/** A header with this many instructions is dead: no budget covers it. */
const DEAD = 0x7fff_ffff;
/** Heat of blocks that are never compiled. */
const NEVER_HOT = 0x7fff_ffff;
const BLOCK_INSTRUCTIONS = 16;
/** No instruction lowers to more records than this. */
const RECORDS_PER_INSTRUCTION = 24;
const GRANULE = 64;
/** Dead headers that lead from one to the next. */
const FORWARDS_MAX = 8;
const KNOWN_ENTRIES = 1 << 17;
/** No instruction is longer [SDM 2A 2.3.11]. */
const INSTRUCTION_BYTES = 15;

interface CodePage {
  /** Blocks that have bytes in it. */
  count: number;
  /** For each 64-byte granule the blocks that have bytes in it. */
  readonly granules: (Block[] | undefined)[];
}

/** Bytes of a second page, asked for only when the first instruction of a block needs them. */
export type SecondPage = () => { readonly page: number; readonly bytes: Uint8Array } | undefined;

export class CodeCache implements RecordWriter {
  readonly #layout: EngineLayout;
  readonly #table: OperationTable;
  readonly #map: OpcodeMap;
  readonly #u8: Uint8Array;
  readonly #u16: Uint16Array;
  readonly #i32: Int32Array;
  readonly #i64: BigInt64Array;
  readonly #blocks = new Map<number, Block[]>();
  readonly #pages = new Map<number, CodePage>();
  /** Start, mode and header of blocks that were asked for lately. */
  readonly #known = new Uint32Array(KNOWN_ENTRIES * 4);
  readonly #systemNumbers = new Map<SystemOperation, number>();
  readonly systemOperations: SystemOperation[] = [];
  /** For each record: where its instruction starts after BLOCK_PC, and what is refunded when it does not retire. */
  readonly #offsets: Uint16Array;
  readonly #refunds: Uint8Array;
  readonly #lengths: Uint8Array;
  /** For each header: how many dead ones lead to it, one to the next. */
  readonly #forwards: Uint8Array;
  /** Next free record. */
  #next = 0;
  /** Called when a page begins or ends to hold code. */
  readonly #pageChanged: (page: number, code: boolean) => void;
  readonly #byHeader = new Map<number, Block>();
  /**
   * Offsets within a page where there is, or was, a breakpoint on an instruction. In MODE.breakpoints a block ends before
   * such an offset, so that what begins there is always looked up (Engine).
   */
  readonly stops = new Set<number>();
  readonly #lowered = new LoweredInstructions();
  /** How often every block was forgotten. */
  clears = 0;
  /** How often a new block is interpreted before the interpreter leaves with EXIT.hot. */
  heat = NEVER_HOT;
  onKill: (block: Block) => void = () => {};
  onClear: () => void = () => {};

  constructor(
    buffer: SharedArrayBuffer,
    layout: EngineLayout,
    table: OperationTable,
    map: OpcodeMap,
    pageChanged: (page: number, code: boolean) => void,
  ) {
    this.#layout = layout;
    this.#table = table;
    this.#map = map;
    this.#u8 = new Uint8Array(buffer);
    this.#u16 = new Uint16Array(buffer, layout.arena, (layout.arenaRecords * RECORD.size) / 2);
    this.#i32 = new Int32Array(buffer, layout.arena, (layout.arenaRecords * RECORD.size) / 4);
    this.#i64 = new BigInt64Array(buffer, layout.arena, (layout.arenaRecords * RECORD.size) / 8);
    this.#offsets = new Uint16Array(layout.arenaRecords);
    this.#refunds = new Uint8Array(layout.arenaRecords);
    this.#lengths = new Uint8Array(layout.arenaRecords);
    this.#forwards = new Uint8Array(layout.arenaRecords);
    this.#pageChanged = pageChanged;
  }

  // ---------------------------------------------------------------------------------- about records

  #index(record: number): number {
    return (record - this.#layout.arena) / RECORD.size;
  }

  /** Offset of the record's instruction from BLOCK_PC. */
  offset(record: number): number {
    return this.#offsets[this.#index(record)]!;
  }

  instructionLength(record: number): number {
    return this.#lengths[this.#index(record)]!;
  }

  /** Instructions charged for the block that have not retired when this record's has not. */
  refund(record: number): number {
    return this.#refunds[this.#index(record)]!;
  }

  instructionCount(header: number): number {
    return this.#i32[this.#index(header) * 4 + 2]!;
  }

  operation(record: number): number {
    return this.#u16[this.#index(record) * 8]!;
  }

  fields(record: number): { a: number; b: number; c: number; immediate: bigint } {
    const index = this.#index(record);
    const half = index * 8;
    return {
      a: this.#u16[half + 1]!,
      b: this.#u16[half + 2]!,
      c: this.#u16[half + 3]!,
      immediate: this.#i64[index * 2 + 1]!,
    };
  }

  get living(): Iterable<Block> {
    return this.#byHeader.values();
  }

  /** The living block with this header. */
  blockAt(header: number): Block | undefined {
    return this.#byHeader.get(header);
  }

  isDead(header: number): boolean {
    return this.#i32[this.#index(header) * 4 + 2] === DEAD;
  }

  /**
   * Whoever comes to the dead header goes on at the living one, of a block at the same place and in the same mode. At
   * a place that changes again and again each header leads to the next: after a few the way is found anew each time.
   */
  forward(dead: number, header: number): void {
    const index = this.#index(dead);
    const before = this.#forwards[index]! + 1;
    if (before > FORWARDS_MAX) return;
    const living = this.#index(header);
    this.#forwards[living] = Math.max(this.#forwards[living]!, before);
    this.#u16[index * 8] = ENGINE_OPERATION.forward;
    this.#i32[index * 4 + 3] = header;
  }

  /** Makes a direct branch go straight to a block from now on. */
  link(branch: number, header: number): void {
    this.#i32[this.#index(branch) * 4 + 3] = header;
  }

  // ---------------------------------------------------------------------------------- look-up

  /** Header of the block at a RAM offset that does not leave its page; 0 when it has to be looked for. */
  known(start: number, mode: number): number {
    const known = this.#known;
    const at = knownSlot(start, mode);
    return known[at] === start && known[at + 1] === mode ? known[at + 2]! : 0;
  }

  #note(block: Block): void {
    if (block.secondPage !== -1) return;
    const at = knownSlot(block.start, block.mode);
    this.#known[at] = block.start;
    this.#known[at + 1] = block.mode;
    this.#known[at + 2] = block.header;
  }

  /** The block at a RAM offset, or undefined. A block that crosses pages must continue in `secondPage`. */
  find(start: number, mode: number, secondPage: () => number): Block | undefined {
    const blocks = this.#blocks.get(start * MODES + mode);
    if (blocks === undefined) return undefined;
    for (const block of blocks) {
      if (block.secondPage !== -1 && block.secondPage !== secondPage()) continue;
      this.#note(block);
      return block;
    }
    return undefined;
  }

  get full(): boolean {
    return this.#next + (BLOCK_INSTRUCTIONS + 1) * RECORDS_PER_INSTRUCTION > this.#layout.arenaRecords;
  }

  /** Forgets every block. Links between blocks die with them, so nothing may be running. */
  clear(): void {
    this.onClear();
    this.clears++;
    this.#byHeader.clear();
    for (const page of this.#pages.keys()) this.#pageChanged(page, false);
    this.#pages.clear();
    this.#blocks.clear();
    this.#known.fill(0);
    this.#next = 0;
  }

  /**
   * Decodes the block at RAM offset `start`. When the first instruction needs bytes of the next page and
   * `second` cannot give them (a fetch fault is pending), the result is undefined.
   */
  build(start: number, mode: number, second: SecondPage): Block | undefined {
    assert(!this.full, 'the arena was cleared in time');
    const ram = this.#layout.ram;
    const pageEnd = (Math.floor(start / PAGE) + 1) * PAGE;
    const codeSize: CodeSize = [16, 32, 64][mode & MODE.codeMask] as CodeSize;
    const limit = mode & (MODE.step | MODE.segments) ? 1 : BLOCK_INSTRUCTIONS;
    const header = this.#append(ENGINE_OPERATION.header, 0, 0, 0, 0n);
    this.#forwards[this.#index(header)] = 0;
    this.#i32[this.#index(header) * 4 + 3] = mode & INTERPRETED ? NEVER_HOT : this.heat;
    const watched = (mode & MODE.breakpoints) !== 0;
    const builder = new BlockBuilder(this, codeSize, mode);
    let at = start;
    let secondPage = -1;
    let secondEnd = 0;
    // One past the last byte that decoding looked at: a byte far behind an undefined opcode may make it a defined one.
    let seen = start;
    while (builder.instructions < limit && !builder.ended && at < pageEnd) {
      if (watched && builder.instructions > 0 && this.stops.has(at % PAGE)) break;
      const kept = this.#lowered.find(this.#u8, ram + at, pageEnd - at, mode);
      if (kept !== UNKNOWN) {
        const { length } = this.#lowered;
        builder.begin(length);
        if (kept !== NO_RECORDS) builder.repeat(this.#lowered, kept);
        at += length;
        seen = at;
        continue;
      }
      let bytes = this.#u8.subarray(ram + at, ram + Math.min(pageEnd, at + 15));
      let result = decode(bytes, codeSize, this.#map);
      if (result === 'truncated') {
        if (builder.instructions > 0) break;
        const rest = second();
        if (rest === undefined) {
          this.#next--;
          return undefined;
        }
        const joined = new Uint8Array(15);
        joined.set(bytes);
        joined.set(rest.bytes.subarray(0, 15 - bytes.length), bytes.length);
        bytes = joined;
        result = decode(bytes, codeSize, this.#map);
        secondPage = rest.page;
        assert(result !== 'truncated', '15 bytes always decide');
      }
      let length = 1;
      const known = result !== 'undefined' && result !== 'too-long';
      if (result === 'undefined') {
        builder.begin(1);
        builder.fault(6);
      } else if (result === 'too-long') {
        builder.begin(1);
        builder.fault(13, 0);
      } else {
        length = result.instruction.length;
        builder.begin(length);
        const before = this.#next;
        this.#lower(result.instruction, result.row, builder, mode);
        if (length <= KEPT_BYTES && secondPage === -1 && !builder.placed)
          this.#keep(ram + at, length, mode, before, builder);
      }
      seen = at + (known ? length : INSTRUCTION_BYTES);
      at += length;
      if (secondPage !== -1) {
        secondEnd = Math.max(0, seen - pageEnd);
        break;
      }
    }
    if (!builder.ended) builder.fallThrough();
    const end = Math.min(seen, pageEnd);
    const count = builder.instructions;
    const first = this.#index(header) + 1;
    this.#i32[(first - 1) * 4 + 2] = count;
    for (let index = first; index < this.#next; index++) {
      const retiredBefore = this.#refunds[index]!;
      this.#refunds[index] = count - retiredBefore;
      // A taken conditional branch has retired itself.
      this.#u16[index * 8 + 3] = builder.usesC.has(index)
        ? this.#u16[index * 8 + 3]!
        : count - retiredBefore - 1;
    }
    builder.linkBranches(mode, start, secondPage !== -1);
    const recordsEnd = this.#layout.arena + this.#next * RECORD.size;
    const key = start * MODES + mode;
    const block: Block = { header, key, start, end, secondPage, secondEnd, mode, recordsEnd };
    this.#byHeader.set(header, block);
    this.#note(block);
    const same = this.#blocks.get(block.key);
    if (same === undefined) this.#blocks.set(block.key, [block]);
    else same.push(block);
    this.#register(Math.floor(start / PAGE), block, start % PAGE, end - Math.floor(start / PAGE) * PAGE);
    if (secondPage >= 0) this.#register(secondPage, block, 0, Math.max(secondEnd, 1));
    return block;
  }

  /** Notes what the instruction at this address was lowered to: the records from `first` on. */
  #keep(address: number, length: number, mode: number, first: number, builder: BlockBuilder): void {
    this.#lowered.begin(this.#u8, address, length, mode, this.#next - first);
    for (let index = first; index < this.#next; index++) {
      const last = index === this.#next - 1;
      const marks =
        (builder.usesC.has(index) ? KEPT.usesC : 0) |
        (last ? KEPT.last : 0) |
        (last && builder.ended ? KEPT.ends : 0);
      const word = index * 4;
      const words = this.#i32;
      this.#lowered.add(words[word]!, words[word + 1]!, words[word + 2]!, words[word + 3]!, marks);
    }
  }

  #lower(instruction: Instruction, row: Row, builder: BlockBuilder, mode: number): void {
    if (row.unit === 'sse' && mode & MODE.sseUndefined) builder.fault(6);
    else if (row.unit === 'sse' && mode & MODE.sseUnavailable) builder.fault(7);
    else if (row.unit === 'x87' && mode & MODE.x87Unavailable) builder.fault(7);
    else if (row.unit === 'wait' && mode & MODE.waitUnavailable) builder.fault(7);
    else if (row.unit === 'mmx' && mode & MODE.mmxUndefined) builder.fault(6);
    else if (row.unit === 'mmx' && mode & MODE.sseUnavailable) builder.fault(7);
    else row.lower(instruction, builder);
  }

  // ---------------------------------------------------------------------------------- self-modifying code

  #register(page: number, block: Block, from: number, to: number): void {
    let code = this.#pages.get(page);
    if (code === undefined) {
      code = { count: 0, granules: new Array(PAGE / GRANULE) };
      this.#pages.set(page, code);
      this.#pageChanged(page, true);
    }
    code.count++;
    for (let granule = Math.floor(from / GRANULE); granule * GRANULE < to; granule++) {
      const blocks = code.granules[granule];
      if (blocks === undefined) code.granules[granule] = [block];
      else if (!blocks.includes(block)) blocks.push(block);
    }
  }

  /** Would a store to these bytes of a RAM page touch a granule that holds code? */
  touches(page: number, from: number, length: number): boolean {
    const code = this.#pages.get(page);
    if (code === undefined) return false;
    const last = Math.min(from + length - 1, PAGE - 1);
    for (let granule = Math.floor(from / GRANULE); granule <= Math.floor(last / GRANULE); granule++) {
      if (code.granules[granule] !== undefined) return true;
    }
    return false;
  }

  /** Kills the blocks that hold any of these bytes. */
  invalidate(page: number, from: number, length: number): void {
    const code = this.#pages.get(page);
    if (code === undefined) return;
    const last = Math.min(from + length - 1, PAGE - 1);
    for (let granule = Math.floor(from / GRANULE); granule <= Math.floor(last / GRANULE); granule++) {
      const blocks = code.granules[granule];
      if (blocks === undefined) continue;
      for (const block of blocks.slice()) if (holds(block, page, from, from + length)) this.#kill(block);
    }
  }

  #kill(block: Block): void {
    this.onKill(block);
    this.#byHeader.delete(block.header);
    const known = knownSlot(block.start, block.mode);
    if (this.#known[known + 2] === block.header) this.#known[known + 2] = 0;
    this.#i32[this.#index(block.header) * 4 + 2] = DEAD;
    const same = this.#blocks.get(block.key)!.filter((other) => other !== block);
    if (same.length === 0) this.#blocks.delete(block.key);
    else this.#blocks.set(block.key, same);
    for (const page of [Math.floor(block.start / PAGE), block.secondPage]) {
      const code = this.#pages.get(page);
      if (code === undefined) continue;
      code.count--;
      const [from, to] =
        page === block.secondPage
          ? [0, PAGE]
          : [block.start % PAGE, block.end - Math.floor(block.start / PAGE) * PAGE];
      for (let granule = Math.floor(from / GRANULE); granule * GRANULE < to; granule++) {
        const blocks = code.granules[granule];
        const at = blocks?.indexOf(block) ?? -1;
        if (at < 0) continue;
        if (blocks!.length === 1) code.granules[granule] = undefined;
        else blocks!.splice(at, 1);
      }
      if (code.count === 0) {
        this.#pages.delete(page);
        this.#pageChanged(page, false);
      }
    }
  }

  // ---------------------------------------------------------------------------------- writing records

  #append(operation: number, a: number, b: number, c: number, immediate: bigint): number {
    const index = this.#next++;
    const half = index * 8;
    this.#u16[half] = operation;
    this.#u16[half + 1] = a;
    this.#u16[half + 2] = b;
    this.#u16[half + 3] = c;
    this.#i64[index * 2 + 1] = immediate;
    return this.#layout.arena + index * RECORD.size;
  }

  /** For the block builder: appends a record of the instruction that starts `offset` bytes into the block. */
  record(
    operation: number,
    fields: { a?: number; b?: number; c?: number },
    immediate: bigint,
    place: { offset: number; length: number; retiredBefore: number },
  ): number {
    const address = this.#append(operation, fields.a ?? ZERO, fields.b ?? ZERO, fields.c ?? ZERO, immediate);
    const index = this.#index(address);
    this.#offsets[index] = place.offset;
    this.#lengths[index] = place.length;
    this.#refunds[index] = place.retiredBefore;
    return index;
  }

  copy(kept: Int32Array, at: number, offset: number, length: number, retiredBefore: number): number {
    const index = this.#next++;
    const word = index * 4;
    this.#i32[word] = kept[at]!;
    this.#i32[word + 1] = kept[at + 1]!;
    this.#i32[word + 2] = kept[at + 2]!;
    this.#i32[word + 3] = kept[at + 3]!;
    this.#offsets[index] = offset;
    this.#lengths[index] = length;
    this.#refunds[index] = retiredBefore;
    return index;
  }

  number(operation: MicroOperation): number {
    return this.#table.number(operation);
  }

  branches(operation: MicroOperation): boolean {
    return this.#table.branches(operation);
  }

  systemNumber(operation: SystemOperation): number {
    let number = this.#systemNumbers.get(operation);
    if (number === undefined) {
      number = this.systemOperations.push(operation) - 1;
      this.#systemNumbers.set(operation, number);
    }
    return number;
  }

  setLink(index: number, value: number): void {
    this.#i32[index * 4 + 3] = value;
  }

  branchTarget(index: number): number {
    return this.#i32[index * 4 + 2]!;
  }
}

function knownSlot(start: number, mode: number): number {
  return ((start ^ (start >>> 15) ^ (mode << 8)) & (KNOWN_ENTRIES - 1)) * 4;
}

/** Has the block any of these bytes of a page? Both its parts may lie in one page that is mapped twice. */
function holds(block: Block, page: number, from: number, to: number): boolean {
  const base = Math.floor(block.start / PAGE);
  if (page === base && block.start - base * PAGE < to && from < block.end - base * PAGE) return true;
  return page === block.secondPage && from < Math.max(block.secondEnd, 1);
}
