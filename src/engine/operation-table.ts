import { assert } from '../base/assert.ts';
import { Code } from '../wasm/code.ts';
import { STACK_ADDRESS_TEMP } from '../x86/address.ts';
import { STACK_OPERATIONS } from '../x86/micro-operations/control.ts';
import { PUSH_FLAGS64 } from '../x86/micro-operations/system.ts';
import type { MicroOperation } from '../x86/semantics.ts';
import { RBP, RSP } from '../x86/state.ts';
import { type Frame, WasmSemantics } from './wasm-semantics.ts';

/** Operations that only the engine knows. Their numbers come before the micro-operations'. */
export const ENGINE_OPERATION = {
  header: 0,
  fallThrough: 1,
  call: 2,
  system: 3,
  fault: 4,
  lookUp: 5,
  link: 6,
  /** In place of a dead block's header: go on at the header in the high half. */
  forward: 7,
  first: 8,
} as const;

/** Numbers the micro-operations and knows what the block builder must know of each. */
export class OperationTable {
  readonly list: readonly MicroOperation[];
  readonly #numbers = new Map<MicroOperation, number>();
  readonly #branches = new Set<MicroOperation>();
  readonly #skips = new Set<MicroOperation>();
  readonly #stack = new Set<number>();

  constructor(operations: readonly MicroOperation[]) {
    this.list = operations;
    const names = new Set<string>();
    operations.forEach((operation, index) => {
      assert(!names.has(operation.name), `micro-operation ${operation.name} stands twice in the table`);
      names.add(operation.name);
      this.#numbers.set(operation, ENGINE_OPERATION.first + index);
      // Recorded, never emitted: the frame is not asked for anything.
      const semantics = new WasmSemantics({} as Frame, new Code());
      operation.meaning(semantics);
      if (semantics.branches) this.#branches.add(operation);
      if (semantics.skips) this.#skips.add(operation);
    });
    for (const operation of [...STACK_OPERATIONS, PUSH_FLAGS64]) {
      const number = this.#numbers.get(operation);
      if (number !== undefined) this.#stack.add(number);
    }
  }

  /** Is an access of the record with this operation and field b to the stack segment? */
  accessesStack(number: number, fieldB: number): boolean {
    return this.#stack.has(number) || fieldB === STACK_ADDRESS_TEMP || fieldB === RSP || fieldB === RBP;
  }

  number(operation: MicroOperation): number {
    const number = this.#numbers.get(operation);
    assert(number !== undefined, `micro-operation ${operation.name} is not in the table`);
    return number;
  }

  /** Does it jump directly? Then field c is its refund and the immediate's high half its link. */
  branches(operation: MicroOperation): boolean {
    return this.#branches.has(operation);
  }

  /** May it leave out the record behind it? */
  skips(operation: MicroOperation): boolean {
    return this.#skips.has(operation);
  }
}
