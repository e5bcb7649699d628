import type { CompiledModule, ModuleCompiler } from '../../src/engine/jit/module-compiler.ts';
import { compile } from '../../src/wasm/webassembly.ts';

/** Compiles at once, as a thread of its own would, and tells it late: every few asks the last or the first one. */
export function lateModules(asks: number): ModuleCompiler {
  const ready: CompiledModule[] = [];
  let last = 0;
  let asked = 0;
  return {
    full: false,
    compile: (bytes) => {
      ready.push({ number: ++last, module: compile(bytes) });
      return last;
    },
    take: () => {
      if (++asked % asks !== 0) return undefined;
      return asked % (2 * asks) === 0 ? ready.pop() : ready.shift();
    },
  };
}
