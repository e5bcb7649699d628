import { Code, type Label } from '../wasm/code.ts';
import { ModuleBuilder } from '../wasm/module.ts';
import type { ValueType } from '../wasm/opcode.ts';
import { compile, instantiate, type WasmMemory } from '../wasm/webassembly.ts';
import { type Field, type MicroOperation, microOperation } from '../x86/semantics.ts';
import {
  BLOCK_PC,
  COMPILED_COUNT,
  EPOCH,
  EXIT_REASON,
  EXIT_RECORD,
  FAULT_ERROR,
  FAULT_VECTOR,
  REMAINING,
  TLB_POINTER,
  UNDONE,
} from '../x86/state.ts';
import { BLOCK_MOVE_SIGNATURE, blockMove } from './block-move.ts';
import type { Execute, SlowPaths } from './engine.ts';
import type { RegionTable } from './jit/live-regions.ts';
import { LEFT } from './jit/region-frame.ts';
import { type EngineLayout, HEADER_REGION, JUMP_ENTRIES, JUMP_ENTRY, RECORD, REGIONS } from './layout.ts';
import { ENGINE_OPERATION, type OperationTable } from './operation-table.ts';
import { addMiss, addTranslate } from './refill.ts';
import { type Frame, WasmSemantics } from './wasm-semantics.ts';

/**
 * Generates the interpreter: one function, one br_table over all micro-operations. It is written by the same
 * emitters as compiled code will be, with the operands still in the record instead of known.
 *
 *   run(cpu, header): executes from the block header on until the budget in REMAINING does not cover the next
 *   block or a record needs slow-path code; then EXIT_REASON, EXIT_RECORD, REMAINING and BLOCK_PC tell where.
 */

/** Why the generated function returned. */
export const EXIT = {
  /** The next block needs more than what remains, or it is dead; EXIT_RECORD is its header. */
  budget: 1,
  /** No block is known at BLOCK_PC. */
  lookup: 2,
  /** As lookup, and the branch at EXIT_RECORD may be linked to the block. */
  link: 3,
  /** A slow path said so; EXIT_RECORD is the record that did not complete. */
  slow: 4,
  /** EXIT_RECORD calls a system operation. */
  system: 5,
  /** EXIT_RECORD raises FAULT_VECTOR. */
  fault: 6,
  /** The block of the header EXIT_RECORD has been interpreted often, or its region entered; it was not entered. */
  hot: 7,
  /** The block of the header EXIT_RECORD is compiled, and whether it may be entered here has to be found out. */
  permit: 8,
} as const;

/**
 * In the immediate's high half of a direct branch: a record's address, which is mostly a header's. At these two there
 * are records that look BLOCK_PC up, and that leave with EXIT.link.
 */
export const LINK = { never: 0, wanted: 16 } as const;

/** Compiles the interpreter for this memory. */
export function createInterpreter(
  memory: WasmMemory,
  layout: EngineLayout,
  table: OperationTable,
  paths: SlowPaths,
): { run: Execute; regions: RegionTable } {
  const low = new Uint16Array(memory.buffer, 0, LINK.wanted);
  low[LINK.never >>> 1] = ENGINE_OPERATION.lookUp;
  low[LINK.wanted >>> 1] = ENGINE_OPERATION.link;
  const instance = instantiate(compile(buildInterpreter(table, layout)), {
    memory,
    slow: (record: number, access: number) => paths.slow(record, access),
    call: (record: number) => paths.call(record),
  });
  const { run, regions } = instance.exports as unknown as { run: Execute; regions: RegionTable };
  return { run, regions };
}

const PARAMETER = { cpu: 0, header: 1 };
const FIELD_OFFSET: Record<Field, number> = { a: RECORD.a, b: RECORD.b, c: RECORD.c };

export function buildInterpreter(table: OperationTable, layout: EngineLayout): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder(layout.pages);
  const slow = module.importFunction('slow', { parameters: ['i32', 'i32'], results: ['i32'] });
  const call = module.importFunction('call', { parameters: ['i32'], results: ['i32'] });
  const translate = addTranslate(module, layout);
  const miss = addMiss(module, layout, translate, slow);

  const [move, fill] = (['move', 'fill'] as const).map((kind) => {
    const { locals, code } = blockMove(kind, layout.tlbEntries, translate);
    return module.addFunction(undefined, BLOCK_MOVE_SIGNATURE, locals, code);
  });

  const locals: ValueType[] = [];
  const newLocal = (type: ValueType): number => locals.push(type) + 1;
  const record = newLocal('i32');
  const tlb = newLocal('i32');
  const remaining = newLocal('i32');
  const left = newLocal('i32');
  const address = newLocal('i64');
  const entry = newLocal('i32');
  const from = newLocal('i32');
  const pc = newLocal('i64');
  const cpu = PARAMETER.cpu;

  // Locals of the cases are shared between them: each case starts its own count per type.
  const pools: Record<ValueType, number[]> = { i32: [], i64: [], f32: [], f64: [], v128: [] };
  const used: Record<ValueType, number> = { i32: 0, i64: 0, f32: 0, f64: 0, v128: 0 };
  const caseLocal = (type: ValueType): number => {
    const pool = pools[type];
    if (used[type] === pool.length) pool.push(newLocal(type));
    return pool[used[type]++]!;
  };

  const code = new Code();
  code.get(PARAMETER.header).set(record);
  code.get(cpu).memory('i32.load', TLB_POINTER).set(tlb);
  code.get(cpu).memory('i32.load', REMAINING).set(remaining);
  const exit = code.open('block');
  // One loop for everything: what V8 takes out of a loop, it does once.
  const next = code.open('loop');
  const advance = (records: number): void => {
    code
      .get(record)
      .i32(records * RECORD.size)
      .op('i32.add')
      .set(record);
    code.branch(next);
  };

  const frame: Frame = {
    cpu,
    record,
    tlb,
    remaining,
    address,
    entry,
    tlbEntries: layout.tlbEntries,
    exit,
    slow: miss,
    blockMove: { move: move!, fill: fill! },
    local: caseLocal,
    fieldAddress(out, field) {
      out.get(record).memory('i32.load16_u', FIELD_OFFSET[field]).get(cpu).op('i32.add');
      return 0;
    },
    fieldNumber(out, field) {
      out.get(record).memory('i64.load16_u', FIELD_OFFSET[field]);
    },
    immediate(out) {
      out.get(record).memory('i64.load', RECORD.immediate);
    },
    immediateHalf(out, half) {
      out.get(record).memory('i64.load32_s', half === 'low' ? RECORD.immediate : RECORD.high);
    },
    fault(out, vector, errorCode) {
      out.get(cpu).i32(vector).memory('i32.store', FAULT_VECTOR);
      out
        .get(cpu)
        .i32(errorCode ?? -1)
        .memory('i32.store', FAULT_ERROR);
      leave(EXIT.fault, record);
    },
    takeBranch(out, conditional) {
      if (conditional) {
        out.get(remaining).get(record).memory('i32.load16_u', RECORD.c).op('i32.add').set(remaining);
      }
      out.get(record).tee(from).memory('i32.load', RECORD.high).set(record).branch(next);
    },
    takeIndirect(out, noted) {
      // For those who compile: where it went last.
      if (noted) out.get(record).get(cpu).memory('i32.load', BLOCK_PC).memory('i32.store', RECORD.high);
      out.i32(LINK.never).set(record).branch(next);
    },
    skipNext(out) {
      out
        .get(record)
        .i32(2 * RECORD.size)
        .op('i32.add')
        .set(record)
        .branch(next);
    },
  };

  const fallThrough = microOperation('fall-through', (s) => s.branch(), true);
  const cases: (() => void)[] = [
    () => enterBlock(),
    () => emitMeaning(fallThrough),
    () => {
      code.get(cpu).get(remaining).memory('i32.store', REMAINING);
      code.get(record).call(call).branchIf(exit);
      advance(1);
    },
    () => leave(EXIT.system, record),
    () => {
      code.get(cpu).get(record).memory('i32.load16_u', RECORD.a).memory('i32.store', FAULT_VECTOR);
      code.get(cpu).get(record).memory('i32.load', RECORD.immediate).memory('i32.store', FAULT_ERROR);
      leave(EXIT.fault, record);
    },
    () => lookUp(),
    () => leave(EXIT.link, from),
    () => code.get(record).memory('i32.load', RECORD.high).set(record).branch(next),
    ...table.list.map((operation) => () => {
      emitMeaning(operation);
      if (!operation.ends) advance(1);
      else code.op('unreachable');
    }),
  ];

  const labels: Label[] = [];
  for (let index = 0; index < cases.length; index++) labels.push(code.open('block'));
  // The label opened last closes first, so it belongs to case 0.
  labels.reverse();
  code.get(record).memory('i32.load16_u', RECORD.operation);
  code.branchTable([...labels, labels[0]!]);
  for (const write of cases) {
    code.close();
    for (const type of Object.keys(used) as ValueType[]) used[type] = 0;
    write();
  }
  code.close(); // next
  code.op('unreachable');
  code.close(); // exit
  code.get(cpu).get(remaining).memory('i32.store', REMAINING);
  code.get(cpu).memory('i32.load', EXIT_REASON);
  module.addTable('regions', REGIONS);
  module.addFunction('run', { parameters: ['i32', 'i32'], results: ['i32'] }, locals, code);
  return module.build();

  /** Looks BLOCK_PC up in the jump cache. */
  function lookUp(): void {
    code.get(cpu).memory('i64.load', BLOCK_PC).tee(pc).op('i32.wrap_i64');
    code.get(pc).i64(14n).op('i64.shr_u').op('i32.wrap_i64').op('i32.xor');
    // Bit 63 chooses the epoch.
    code.get(cpu).get(pc).i64(61n).op('i64.shr_u').op('i32.wrap_i64').i32(4).op('i32.and').op('i32.add');
    code.memory('i32.load', EPOCH).tee(left).i32(9).op('i32.shl').op('i32.xor');
    code
      .i32(JUMP_ENTRIES - 1)
      .op('i32.and')
      .i32(4)
      .op('i32.shl')
      .i32(layout.jumpCache)
      .op('i32.add')
      .set(entry);
    code.get(entry).memory('i64.load', JUMP_ENTRY.pc).get(pc).op('i64.ne');
    code.get(entry).memory('i32.load', JUMP_ENTRY.epoch).get(left).op('i32.ne');
    code.op('i32.or');
    code.hint('unlikely').open('if');
    leave(EXIT.lookup, from);
    code.close();
    code.get(entry).memory('i32.load', JUMP_ENTRY.record).set(record).branch(next);
  }

  /** A header: calls the compiled region that has the block, or begins to interpret the block. */
  function enterBlock(): void {
    const interpret = code.open('block');
    code.get(record).memory('i32.load', HEADER_REGION).tee(entry).op('i32.eqz').open('if');
    code.get(record);
    code.get(record).memory('i32.load', RECORD.high).i32(1).op('i32.sub').tee(left);
    code.memory('i32.store', RECORD.high);
    code.get(left).branchIf(interpret);
    leave(EXIT.hot, record);
    code.close();
    code.get(entry).i32(2).op('i32.shl').tee(from);
    code.get(from).memory('i32.load', layout.regionHeat).i32(1).op('i32.sub').tee(left);
    code.memory('i32.store', layout.regionHeat);
    code.get(left).op('i32.eqz').hint('unlikely').open('if');
    leave(EXIT.hot, record);
    code.close();
    code.get(cpu).get(remaining).memory('i32.store', REMAINING);
    code.get(cpu).get(record).get(entry).callIndirect(module.typeOf(slow)).set(record);
    // It may have gone over to another privilege.
    code.get(cpu).memory('i32.load', TLB_POINTER).set(tlb);
    code.get(cpu).get(cpu).memory('i64.load', COMPILED_COUNT);
    code.get(remaining).get(cpu).memory('i32.load', REMAINING).tee(remaining);
    code.op('i32.sub').op('i64.extend_i32_s').op('i64.add').memory('i64.store', COMPILED_COUNT);
    code.get(record).i32(LEFT.branched).op('i32.and').open('if');
    code.get(record).i32(LEFT.branched).op('i32.xor').tee(from).memory('i32.load', RECORD.high).set(record);
    code.branch(next);
    code.close();
    code.get(record).i32(LEFT.inside).op('i32.and').open('if');
    code.get(cpu).get(cpu).memory('i64.load', COMPILED_COUNT);
    code.get(cpu).memory('i64.load32_u', UNDONE).op('i64.sub').memory('i64.store', COMPILED_COUNT);
    code.get(record).i32(LEFT.inside).op('i32.xor').set(record).branch(next);
    code.close();
    code.get(record).i32(LEFT.permit).op('i32.and').open('if');
    code.get(record).i32(LEFT.permit).op('i32.xor').set(record);
    leave(EXIT.permit, record);
    code.close();
    code.get(record).i32(LEFT.interpret).op('i32.and').op('i32.eqz').branchIf(next);
    code.get(record).i32(LEFT.interpret).op('i32.xor').set(record);
    code.close();

    // The whole block is charged at once; when the budget is smaller, the caller goes on step by step.
    code.get(remaining).get(record).memory('i32.load', RECORD.immediate).op('i32.sub').tee(left);
    code.i32(0).op('i32.lt_s').hint('unlikely').open('if');
    leave(EXIT.budget, record);
    code.close();
    code.get(left).set(remaining);
    advance(1);
  }

  function emitMeaning(operation: MicroOperation): void {
    const semantics = new WasmSemantics(frame, code);
    operation.meaning(semantics);
    semantics.emit();
  }

  function leave(reason: number, at: number): void {
    code.get(cpu).i32(reason).memory('i32.store', EXIT_REASON);
    code.get(cpu).get(at).memory('i32.store', EXIT_RECORD);
    code.branch(exit);
  }
}
