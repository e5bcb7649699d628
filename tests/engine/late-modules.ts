import type { CompiledModule, ModuleCompiler } from '../../src/engine/jit/jit.ts';
import { compile } from '../../src/wasm/webassembly.ts';

/** Compiles at once, as a thread of its own would, and tells it late: the last ordered first, a few asks later. */
export function lateModules(asks: number): ModuleCompiler {
  const ready: CompiledModule[] = [];
  let last = 0;
  let asked = 0;
  return {
    compile: (bytes) => {
      ready.push({ number: ++last, module: compile(bytes) });
      return last;
    },
    take: () => (++asked % asks === 0 ? ready.pop() : undefined),
  };
}
