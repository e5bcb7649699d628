import type { Code } from '../../wasm/code.ts';
import { ModuleBuilder } from '../../wasm/module.ts';
import { CALL_INDIRECT, JUMP, RETURN } from '../../x86/micro-operations/control.ts';
import { type MicroOperation, microOperation } from '../../x86/semantics.ts';
import { BLOCK_MOVE_SIGNATURE, blockMove } from '../block-move.ts';
import type { CodeCache } from '../code-cache.ts';
import { type EngineLayout, PERMIT, RECORD } from '../layout.ts';
import { ENGINE_OPERATION, type OperationTable } from '../operation-table.ts';
import { AUX_SIGNATURE, auxFunction } from './flags-kind.ts';
import type { Region, RegionBlock } from './region.ts';
import { LEFT, RegionFrame } from './region-frame.ts';
import { type Edge, RegionLayout } from './region-layout.ts';
import { type Jumps, type RegionRecord, RegionSemantics } from './region-semantics.ts';

const FALL_THROUGH: MicroOperation = microOperation('fall-through', (s) => s.branch(), true);
const REGION_SIGNATURE = { parameters: ['i32', 'i32'], results: ['i32'] } as const;

/** Writes wasm modules of regions. */
export class RegionCompiler {
  readonly #layout: EngineLayout;
  readonly #table: OperationTable;
  readonly #code: CodeCache;

  constructor(layout: EngineLayout, table: OperationTable, code: CodeCache) {
    this.#layout = layout;
    this.#table = table;
    this.#code = code;
  }

  /** A module that exports a function for each region, by its number. */
  module(regions: ReadonlyMap<number, Region>): Uint8Array<ArrayBuffer> {
    const module = new ModuleBuilder(this.#layout.pages);
    const { locals, code } = auxFunction(0);
    const aux = module.addFunction(undefined, AUX_SIGNATURE, locals, code);
    const [move, fill] = (['move', 'fill'] as const).map((kind) => {
      const bulk = blockMove(kind, this.#layout.tlbEntries);
      return module.addFunction(undefined, BLOCK_MOVE_SIGNATURE, bulk.locals, bulk.code);
    });
    for (const [number, region] of regions) {
      const frame = new RegionFrame({ aux, move: move!, fill: fill! });
      this.#region(region, frame);
      const permits = region.pages.size > 1 ? this.#layout.permits + number * PERMIT.count * PERMIT.size : 0;
      const body = frame.finish(permits);
      module.addFunction(String(number), REGION_SIGNATURE, frame.locals, body);
    }
    return module.build();
  }

  #region(region: Region, frame: RegionFrame): void {
    const { blocks } = region;
    const position = new Map(blocks.map(({ delta }, index) => [delta, index]));
    const edges: Edge[] = [];
    blocks.forEach((block, from) => {
      for (const delta of this.targets(block)) {
        const to = position.get(delta);
        if (to !== undefined) edges.push({ from, to });
      }
      if (this.#returns(block)) for (const to of region.returnSites) edges.push({ from, to });
      const predicted = region.predicted.get(from);
      if (predicted !== undefined) edges.push({ from, to: predicted });
    });
    const layout = new RegionLayout(blocks.length, edges, region.entries);
    let current = 0;
    const jumps: Jumps = {
      direct: (code, delta, record) => {
        const to = position.get(delta);
        if (to === undefined) frame.leave(code, record | LEFT.branched, delta);
        else layout.jump(writer, to);
      },
      indirect: (code, target) => {
        if (this.#returns(blocks[current]!)) {
          for (const to of region.returnSites)
            this.#goTo(code, frame, target, blocks[to]!.delta, () => layout.jump(writer, to));
        }
        const predicted = region.predicted.get(current);
        if (predicted !== undefined)
          this.#goTo(code, frame, target, blocks[predicted]!.delta, () => layout.jump(writer, predicted));
        const last = blocks[current]!.block.recordsEnd - RECORD.size;
        if (this.#notes(last)) code.i32(last).get(target).op('i32.wrap_i64').memory('i32.store', RECORD.high);
        code.get(target).set(frame.base);
        frame.leave(code, 0, 0);
      },
    };
    const semantics = new RegionSemantics(frame, this.#layout.tlbEntries, jumps);
    const writer = {
      code: frame.code,
      wanted: frame.wanted,
      block: (index: number) => {
        current = index;
        this.#block(blocks[index]!, frame, semantics);
      },
    };
    layout.write(writer);
  }

  #goTo(code: Code, frame: RegionFrame, target: number, delta: number, jump: () => void): void {
    code.get(target).get(frame.base).i64(BigInt(delta)).op('i64.add').op('i64.eq').open('if');
    jump();
    code.close();
  }

  #block({ block, delta }: RegionBlock, frame: RegionFrame, semantics: RegionSemantics): void {
    const { code, remaining } = frame;
    const { header } = block;
    const count = this.#code.instructionCount(header);
    code
      .get(remaining)
      .i32(count)
      .op('i32.sub')
      .tee(remaining)
      .i32(0)
      .op('i32.lt_s')
      .hint('unlikely')
      .open('if');
    code.get(remaining).i32(count).op('i32.add').set(remaining);
    frame.leave(code, header | LEFT.interpret, delta);
    code.close();
    semantics.beginBlock(delta);
    let previous = -1;
    for (let address = header + RECORD.size; address < block.recordsEnd; address += RECORD.size) {
      const place = this.#code.offset(address);
      const record: RegionRecord = {
        address,
        ...this.#code.fields(address),
        undone: this.#code.refund(address),
        first: place !== previous,
      };
      previous = place;
      const number = this.#code.operation(address);
      if (number === ENGINE_OPERATION.fallThrough) {
        semantics.operation(FALL_THROUGH, record, false);
      } else if (number < ENGINE_OPERATION.first) {
        if (semantics.leaveTo(record) === 'ended') return;
      } else {
        const operation = this.#table.list[number - ENGINE_OPERATION.first]!;
        semantics.operation(operation, record, this.#table.skips(operation));
      }
    }
  }

  /** Deltas of the direct branches of a block. */
  targets({ block, delta }: RegionBlock): number[] {
    const targets: number[] = [];
    for (const { number, address } of this.#reached(block.header, block.recordsEnd)) {
      const direct =
        number === ENGINE_OPERATION.fallThrough ||
        (number >= ENGINE_OPERATION.first &&
          this.#table.branches(this.#table.list[number - ENGINE_OPERATION.first]!));
      if (direct) targets.push(delta + Number(BigInt.asIntN(32, this.#code.fields(address).immediate)));
    }
    return targets;
  }

  /** The records up to where the region always leaves the block. */
  *#reached(header: number, end: number): Iterable<{ number: number; address: number }> {
    let skips = false;
    for (let address = header + RECORD.size; address < end; address += RECORD.size) {
      const number = this.#code.operation(address);
      yield { number, address };
      if (number === ENGINE_OPERATION.fallThrough) return;
      if (number < ENGINE_OPERATION.first) {
        if (!skips) return;
        skips = false;
      } else {
        skips = this.#table.skips(this.#table.list[number - ENGINE_OPERATION.first]!);
      }
    }
  }

  /** Low half of the linear address that the indirect jump at the block's end went to last, if that is noted. */
  noted({ block }: RegionBlock): number | undefined {
    const last = block.recordsEnd - RECORD.size;
    if (!this.#notes(last)) return undefined;
    const low = Number(this.#code.fields(last).immediate >> 32n);
    return low === 0 ? undefined : low;
  }

  /** Is it an indirect jump or call, whose record keeps where it went? */
  #notes(record: number): boolean {
    const number = this.#code.operation(record);
    return number === this.#table.number(JUMP) || number === this.#table.number(CALL_INDIRECT);
  }

  #returns({ block }: RegionBlock): boolean {
    const last = this.#code.operation(block.recordsEnd - RECORD.size);
    return last === this.#table.number(RETURN);
  }
}
