import type { Code } from '../wasm/code.ts';
import type { OpcodeName, ValueType } from '../wasm/opcode.ts';

export class Node {
  /** How often it is pushed, once counted by emit(). */
  uses = 0;
  local = -1;
  readonly type: ValueType;
  readonly operands: readonly Node[];
  readonly write: (code: Code) => void;
  /**
   * `constant`: repeated at each use. `pure`: may move to its only use, and is not computed without one. `fixed`:
   * computed where it stands.
   */
  readonly kind: 'constant' | 'pure' | 'fixed';
  /** Of a 64-bit constant, unsigned. */
  readonly constant: bigint | undefined;
  /** Stands for a local that a later statement may write. */
  readonly register: boolean;
  /** Of a pure value that is one instruction on its operands. */
  opcode: OpcodeName | undefined;
  /** It is this lane of its only operand. */
  lane: number | undefined;
  /** Bits 63:32 are known to be zero. */
  unsigned32 = false;
  /** An address by RSP or RBP and what is known. */
  stack = false;
  /** The low 32 bits as i32, once asked for where that stays in sight. */
  low: Node | undefined;

  constructor(
    type: ValueType,
    kind: Node['kind'],
    operands: readonly Node[],
    write: (code: Code) => void,
    constant?: bigint,
    register = false,
  ) {
    this.type = type;
    this.kind = kind;
    this.operands = operands;
    this.write = write;
    this.constant = constant;
    this.register = register;
    if (constant !== undefined) this.unsigned32 = constant < 1n << 32n;
  }
}

export type Statement =
  | { readonly kind: 'bind'; readonly node: Node }
  /** Evaluates the operands in order, then writes. `later`: pushed by `write`, this many times each. */
  | {
      readonly kind: 'effect';
      readonly operands: readonly Node[];
      readonly write: (code: Code) => void;
      readonly later: readonly Node[];
    }
  | {
      readonly kind: 'choice';
      readonly condition: Node;
      readonly yes: Statement[];
      readonly no: Statement[];
    };

/**
 * Records a meaning as statements over expression nodes and writes them, so that a value used once is computed where it
 * is used and only shared values get a local.
 */
export abstract class StatementWriter {
  protected readonly code: Code;
  protected statements: Statement[] = [];
  /** Whether registers have to be read where the meaning reads them. */
  protected keepRegisters = true;
  /** How many choices are being recorded. */
  protected choices = 0;

  constructor(code: Code) {
    this.code = code;
  }

  protected abstract newLocal(type: ValueType): number;

  /** Writes what was recorded. */
  emit(): void {
    this.#countAll(this.statements);
    this.#emitAll(this.statements);
    this.statements = [];
  }

  #countAll(statements: readonly Statement[]): void {
    for (const statement of statements) {
      switch (statement.kind) {
        case 'bind':
          // A pure value counts when something that is written uses it.
          if (statement.node.kind === 'fixed')
            for (const operand of statement.node.operands) this.#count(operand);
          break;
        case 'effect':
          for (const operand of statement.operands) this.#count(operand);
          for (const operand of statement.later) this.#count(operand);
          break;
        case 'choice':
          this.#count(statement.condition);
          this.#countAll(statement.yes);
          this.#countAll(statement.no);
          break;
      }
    }
  }

  #count(node: Node): void {
    node.uses++;
    if (node.uses === 1 && node.kind === 'pure') for (const operand of node.operands) this.#count(operand);
  }

  #emitAll(statements: readonly Statement[]): void {
    for (const statement of statements) {
      switch (statement.kind) {
        case 'bind': {
          const { node } = statement;
          if (node.register ? node.uses === 0 || !this.keepRegisters : node.uses <= 1 && node.kind === 'pure')
            break;
          this.#compute(node);
          node.local = this.newLocal(node.type);
          this.code.set(node.local);
          break;
        }
        case 'effect':
          for (const operand of statement.operands) this.push(operand);
          statement.write(this.code);
          break;
        case 'choice':
          this.push(statement.condition);
          this.code.open('if');
          this.#emitAll(statement.yes);
          if (statement.no.length > 0) {
            this.code.otherwise();
            this.#emitAll(statement.no);
          }
          this.code.close();
          break;
      }
    }
  }

  protected push(node: Node): void {
    if (node.local >= 0) this.code.get(node.local);
    else this.#compute(node);
  }

  #compute(node: Node): void {
    for (const operand of node.operands) this.push(operand);
    node.write(this.code);
  }

  protected node(
    type: ValueType,
    kind: Node['kind'],
    operands: readonly Node[],
    write: (code: Code) => void,
  ): Node {
    const node = new Node(type, kind, operands, write);
    if (kind !== 'constant') this.statements.push({ kind: 'bind', node });
    return node;
  }

  protected pure(type: ValueType, opcode: OpcodeName, ...operands: Node[]): Node {
    const node = this.node(type, 'pure', operands, (code) => code.op(opcode));
    node.opcode = opcode;
    return node;
  }

  /** `later`: nodes that `write` pushes itself, once for each time they stand here. */
  protected effect(
    operands: readonly Node[],
    write: (code: Code) => void,
    later: readonly Node[] = [],
  ): void {
    this.statements.push({ kind: 'effect', operands, write, later });
  }

  when(condition: Node, then: () => void, otherwise?: () => void): void {
    const outer = this.statements;
    this.statements = [];
    this.choices++;
    then();
    const yes = this.statements;
    this.statements = [];
    otherwise?.();
    const no = this.statements;
    this.choices--;
    this.statements = outer;
    outer.push({ kind: 'choice', condition, yes, no });
  }
}
