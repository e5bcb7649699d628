import { unreachable } from '../base/assert.ts';
import {
  BLOCK_PC,
  type CpuState,
  EPOCH,
  EPOCH_HIGH,
  EXIT_REASON,
  EXIT_RECORD,
  FAULT_ERROR,
  FAULT_VECTOR,
  REMAINING,
  type Size,
  SLOW_ADDRESS,
  SLOW_VALUE,
} from '../x86/state.ts';
import type { Execute, SlowPaths } from './engine.ts';
import { EXIT, LINK } from './interpreter.ts';
import { type EngineLayout, JUMP_ENTRY, jumpSlot, RECORD } from './layout.ts';
import { ENGINE_OPERATION, type OperationTable } from './operation-table.ts';
import { type OracleRecord, OracleSemantics } from './oracle-semantics.ts';
import { ACCESS } from './wasm-semantics.ts';

/**
 * Executes the same records as the generated interpreter, with bigint and without a translation cache: every
 * access takes the slow path. It keeps the interpreter's contract to the letter, so the engine around it is the
 * same and any difference in a digest is a difference in the meaning of a micro-operation.
 */
export function createOracle(
  buffer: SharedArrayBuffer,
  layout: EngineLayout,
  state: CpuState,
  table: OperationTable,
  slow: SlowPaths,
): Execute {
  const u16 = new Uint16Array(buffer);
  const i32 = new Int32Array(buffer);
  const view = new DataView(buffer);
  let remaining = 0;
  let record = 0;

  const access = (kind: number, size: Size | 16, linear: bigint): boolean => {
    state.set64(SLOW_ADDRESS, linear);
    state.i32[REMAINING >> 2] = remaining;
    return slow.slow(record, kind | size) === 0;
  };
  const semantics = new OracleSemantics(state, {
    remaining: () => remaining,
    load: (size, linear) => (access(ACCESS.load, size, linear) ? state.get64(SLOW_VALUE) : undefined),
    loadForWrite: (size, linear) =>
      access(ACCESS.loadForWrite, size, linear) ? state.get64(SLOW_VALUE) : undefined,
    store: (size, linear, value) => {
      state.set64(SLOW_VALUE, value);
      return access(ACCESS.store, size, linear);
    },
    loadVector: (linear) =>
      access(ACCESS.load, 16, linear)
        ? state.get64(SLOW_VALUE) | (state.get64(SLOW_VALUE + 8) << 64n)
        : undefined,
    storeVector: (linear, value) => {
      state.set64(SLOW_VALUE, BigInt.asUintN(64, value));
      state.set64(SLOW_VALUE + 8, BigInt.asUintN(64, value >> 64n));
      return access(ACCESS.store, 16, linear);
    },
  });

  const leave = (reason: number, at: number): number => {
    state.i32[EXIT_REASON >> 2] = reason;
    state.i32[EXIT_RECORD >> 2] = at;
    state.i32[REMAINING >> 2] = remaining;
    return reason;
  };
  const raise = (vector: number, errorCode: number): number => {
    state.i32[FAULT_VECTOR >> 2] = vector;
    state.i32[FAULT_ERROR >> 2] = errorCode;
    return leave(EXIT.fault, record);
  };

  /** The header of the block at BLOCK_PC in the present epoch, or 0. */
  const jump = (): number => {
    const low = state.i32[BLOCK_PC >> 2]!;
    const high = state.i32[(BLOCK_PC >> 2) + 1]!;
    const epoch = state.i32[(high < 0 ? EPOCH_HIGH : EPOCH) >> 2]!;
    const entry = (layout.jumpCache + jumpSlot(low, high, epoch) * JUMP_ENTRY.size) >>> 2;
    const known = i32[entry] === low && i32[entry + 1] === high && i32[entry + 2] === epoch;
    return known ? i32[entry + 3]! : 0;
  };

  return (_cpu, header) => {
    remaining = state.i32[REMAINING >> 2]!;
    let next = header;
    let from = 0;
    for (;;) {
      if (next === LINK.wanted) return leave(EXIT.link, from);
      if (next === LINK.never) next = jump();
      if (next === 0) return leave(EXIT.lookup, from);
      const charge = i32[(next + RECORD.immediate) >>> 2]!;
      if (remaining - charge < 0) return leave(EXIT.budget, next);
      remaining -= charge;
      record = next + RECORD.size;
      next = -1;
      while (next < 0) {
        const operation = u16[record >>> 1]!;
        const fields: OracleRecord = {
          a: u16[(record + RECORD.a) >>> 1]!,
          b: u16[(record + RECORD.b) >>> 1]!,
          c: u16[(record + RECORD.c) >>> 1]!,
          imm: view.getBigInt64(record + RECORD.immediate, true),
        };
        if (operation === ENGINE_OPERATION.system) return leave(EXIT.system, record);
        if (operation === ENGINE_OPERATION.fault)
          return raise(fields.a, Number(BigInt.asIntN(32, fields.imm)));
        if (operation === ENGINE_OPERATION.call) {
          state.i32[REMAINING >> 2] = remaining;
          if (slow.call(record) !== 0) return state.i32[EXIT_REASON >> 2]!;
          record += RECORD.size;
          continue;
        }
        const fallThrough = operation === ENGINE_OPERATION.fallThrough;
        const micro = fallThrough ? undefined : table.list[operation - ENGINE_OPERATION.first]!;
        const outcome = semantics.run((s) => (micro === undefined ? s.branch() : micro.meaning(s)), fields);
        switch (outcome.kind) {
          case 'next':
            record += RECORD.size;
            break;
          case 'skip':
            record += 2 * RECORD.size;
            break;
          case 'aborted':
            return state.i32[EXIT_REASON >> 2]!;
          case 'fault':
            return raise(outcome.vector, outcome.errorCode ?? -1);
          case 'jump': {
            state.set64(BLOCK_PC, outcome.target);
            from = record;
            const direct = micro === undefined || table.branches(micro);
            // A taken conditional branch refunds the instructions behind it.
            if (micro !== undefined && direct && !micro.ends) remaining += fields.c;
            next = direct ? view.getInt32(record + RECORD.high, true) : LINK.never;
            break;
          }
          default:
            unreachable(outcome);
        }
      }
    }
  };
}
