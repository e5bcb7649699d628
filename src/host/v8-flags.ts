import { setFlagsFromString } from 'node:v8';

/**
 * The interpreter is one large function that runs for hours: it is compiled by the optimising compiler at once,
 * instead of starting in the baseline compiler and being replaced while it runs. Called before a machine is made,
 * on the thread that makes it. What the guest sees does not depend on it.
 */
export function compileInterpreterEagerly(): void {
  setFlagsFromString('--no-liftoff');
}
