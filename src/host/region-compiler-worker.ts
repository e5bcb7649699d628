import { type MessagePort, workerData } from 'node:worker_threads';
import type { CompiledModule } from '../engine/jit/module-compiler.ts';
import { compile } from '../wasm/webassembly.ts';
import type { ModuleOrder } from './region-compiler.ts';

/**
 * Compiles modules one after the other [region-compiler.ts]. Its priority is the guest's: with a lower one, code that
 * has just become hot would be interpreted for hundreds of milliseconds on a host without a core to spare.
 */
const port = workerData as MessagePort;
port.on('message', ({ number, bytes }: ModuleOrder) => {
  const compiled: CompiledModule = { number, module: compile(bytes) };
  port.postMessage(compiled);
});
