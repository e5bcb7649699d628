import { setFlagsFromString } from 'node:v8';

/**
 * The interpreter is one large function that runs for hours: it is compiled by the optimising compiler at once,
 * instead of starting in the baseline compiler and being replaced while it runs. Called before a machine is made,
 * on the thread that makes it. What the guest sees does not depend on it.
 */
export function compileInterpreterEagerly(): void {
  // Else V8 lets rare ways out of compiled code spoil the registers of the common way.
  setFlagsFromString('--experimental-wasm-branch-hinting');
  setFlagsFromString('--no-liftoff');
}

/**
 * A module is compiled on the thread that makes it and on no more threads than one, instead of function by function on
 * the one that first calls them. For a live guest, whose regions another thread compiles; it takes more memory.
 */
export function compileWhereMade(): void {
  setFlagsFromString('--no-wasm-lazy-compilation');
  setFlagsFromString('--wasm-num-compilation-tasks=1');
}

/**
 * V8 would let its heap grow to four times what is in use, most of it translations of guest code that are thrown
 * away again. This keeps some fifty megabytes from the host at no cost that can be measured.
 */
export function limitHeapGrowth(): void {
  setFlagsFromString('--heap-growing-percent=35');
  setFlagsFromString('--semi-space-growth-factor=1');
}
