import { type MicroOperation, microOperation, type Semantics } from '../semantics.ts';
import { RBP, RSP } from '../state.ts';
import { CONDITION_NAMES, condition } from './flags.ts';

/** Branches, conditions, and the stack of 64-bit code. Targets are offsets from BLOCK_PC in the low immediate. */

/** Direct jump. */
export const BRANCH = microOperation('branch', (s) => s.branch(), true);
/** #GP(0) for a target that is not canonical: raised by the branch, before the stack pointer moves. */
function checkTarget<V, B, X>(s: Semantics<V, B, X>, target: V, before = (): void => {}): void {
  const unused = s.constant(16);
  s.when(s.ne(s.shrS(s.shl(target, unused), unused), target), () => {
    before();
    s.fault(13, 0);
  });
}

/** Jump to the address in b. */
export const JUMP = microOperation(
  'jump',
  (s) => {
    const target = s.get('b', 8);
    checkTarget(s, target);
    s.branchTo(target, 'noted');
  },
  true,
);

/** Pushes the address at offset number a from BLOCK_PC, then jumps directly. */
export const CALL = microOperation(
  'call-direct',
  (s) => {
    const top = s.sub(s.state(RSP, 8), s.constant(8));
    s.store(8, top, s.pc(s.number('a')));
    s.setState(RSP, 8, top);
    s.branch();
  },
  true,
);
/** Pushes the address at offset number a from BLOCK_PC, then jumps to the address in b. */
export const CALL_INDIRECT = microOperation(
  'call-indirect',
  (s) => {
    const target = s.get('b', 8);
    const top = s.sub(s.state(RSP, 8), s.constant(8));
    // A fault of the push comes first.
    checkTarget(s, target, () => s.loadForWrite(8, top));
    s.store(8, top, s.pc(s.number('a')));
    s.setState(RSP, 8, top);
    s.branchTo(target, 'noted');
  },
  true,
);
/** Pops the target and `immediate` bytes in all (8 for the target). */
export const RETURN = microOperation(
  'return',
  (s) => {
    const top = s.state(RSP, 8);
    const target = s.load(8, top);
    checkTarget(s, target);
    s.setState(RSP, 8, s.add(top, s.immediate()));
    s.branchTo(target);
  },
  true,
);

/** Pushes the 64-bit register a. */
export const PUSH = microOperation('push', (s) => {
  const value = s.get('a', 8);
  const top = s.sub(s.state(RSP, 8), s.constant(8));
  s.store(8, top, value);
  s.setState(RSP, 8, top);
});
/** Pushes the immediate. */
export const PUSH_IMMEDIATE = microOperation('push-immediate', (s) => {
  const top = s.sub(s.state(RSP, 8), s.constant(8));
  s.store(8, top, s.immediate());
  s.setState(RSP, 8, top);
});
/** Pops the 64-bit register a: written last, so POP RSP keeps what it loaded. */
export const POP = microOperation('pop', (s) => {
  const top = s.state(RSP, 8);
  const value = s.load(8, top);
  s.setState(RSP, 8, s.add(top, s.constant(8)));
  s.set('a', 8, value);
});
/** RSP = RBP; pop RBP. */
export const LEAVE = microOperation('leave', (s) => {
  const top = s.state(RBP, 8);
  const value = s.load(8, top);
  s.setState(RSP, 8, s.add(top, s.constant(8)));
  s.setState(RBP, 8, value);
});

function byCondition(name: string, define: (name: string, code: number) => MicroOperation): MicroOperation[] {
  return CONDITION_NAMES.map((suffix, code) => define(name + suffix, code));
}

/** One for each condition code: direct jump. */
export const BRANCH_IF = byCondition('branch-', (name, code) =>
  microOperation(name, (s) => s.branchIf(condition(s, code))),
);
/** One for each condition code: a (8 bits) = 1 or 0. */
export const SET_IF = byCondition('set-', (name, code) =>
  microOperation(name, (s) => s.set('a', 1, s.value(condition(s, code)))),
);
/** One for each condition code: a = b or a; 32-bit destinations are written in both cases. */
export const MOVE32_IF = byCondition('move32-', (name, code) =>
  microOperation(name, (s) => s.set('a', 4, s.select(condition(s, code), s.get('b', 4), s.get('a', 4)))),
);
export const MOVE64_IF = byCondition('move64-', (name, code) =>
  microOperation(name, (s) => s.set('a', 8, s.select(condition(s, code), s.get('b', 8), s.get('a', 8)))),
);

/** Direct jump when the 64-bit register b is zero, or is not. */
export const BRANCH_IF_ZERO = microOperation('branch-if-zero', (s) => s.branchIf(s.isZero(s.get('b', 8))));
export const BRANCH_IF_NONZERO = microOperation('branch-if-nonzero', (s) =>
  s.branchIf(s.not(s.isZero(s.get('b', 8)))),
);

/** Those that access the stack whatever their field b says. */
export const STACK_OPERATIONS = [CALL, CALL_INDIRECT, RETURN, PUSH, PUSH_IMMEDIATE, POP, LEAVE];

export const CONTROL_OPERATIONS = [
  BRANCH,
  JUMP,
  CALL,
  CALL_INDIRECT,
  RETURN,
  PUSH,
  PUSH_IMMEDIATE,
  POP,
  LEAVE,
  ...BRANCH_IF,
  ...SET_IF,
  ...MOVE32_IF,
  ...MOVE64_IF,
  BRANCH_IF_ZERO,
  BRANCH_IF_NONZERO,
];
