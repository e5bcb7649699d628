import { instructionCount } from '../../src/base/units.ts';
import { LockstepMachine } from '../../src/machine/machine.ts';
import { CR2 } from '../../src/x86/state.ts';

/**
 * A fault planted into a VM process, for tests alone: `node --import .../planted/fault.js vm-process.js`, with
 * LOCKSTEP_PLANTED in its environment, "what:count".
 *
 *   trap      the compiled code of this count ends in a WebAssembly trap; the interpreter passes it
 *   ram       at this count a byte of RAM changes by itself
 *   register  at this count a register changes by itself
 */
const [what = '', at = ''] = (process.env.LOCKSTEP_PLANTED ?? '').split(':');
const count = BigInt(at);
/** A page that the guest of the test never touches. */
const UNTOUCHED = 0x7b_c123;

const { runUntil, interpretUntil } = LockstepMachine.prototype;
let interpretedUntil = -1n;
let done = false;

LockstepMachine.prototype.interpretUntil = function (until) {
  interpretedUntil = until;
  interpretUntil.call(this, until);
};

LockstepMachine.prototype.runUntil = function (until) {
  if (done || this.count > count || until <= count) return runUntil.call(this, until);
  // No earlier than this and no later.
  const reason = runUntil.call(this, instructionCount(count));
  if (this.count < count) return reason;
  if (what === 'trap') {
    if (this.count < interpretedUntil) return runUntil.call(this, until);
    throw Object.assign(new Error('unreachable'), { name: 'RuntimeError' });
  }
  done = true;
  if (what === 'ram') this.memory.write(UNTOUCHED, Uint8Array.of(1));
  else this.processor.set32(CR2, 1);
  return runUntil.call(this, until);
};
