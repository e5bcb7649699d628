import { type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import type { CompiledModule, ModuleCompiler } from '../engine/jit/module-compiler.ts';

/** What crosses the channel to the compiler. The way back is a CompiledModule. */
export interface ModuleOrder {
  readonly number: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Modules that are ordered and not ready, of all machines of a vCPU. */
const UNDER_WAY_MAX = 32;

/**
 * Starts a thread that compiles the regions of one vCPU while its guest runs on in the interpreter:
 * the optimising compiler takes 20 ms and more for a large region. `port` is the thread's end of a channel whose
 * other end the vCPU has (`modulesFrom`). The thread keeps no process alive.
 */
export function startRegionCompiler(port: MessagePort, failed: (reason: string) => void): void {
  const worker = new Worker(new URL('./region-compiler-worker.js', import.meta.url), {
    workerData: port,
    transferList: [port],
  });
  worker.on('error', (error) => failed(`its regions are not compiled: ${error.message}`));
  worker.unref();
}

export function modulesFrom(port: MessagePort): ModuleCompiler {
  let last = 0;
  let underWay = 0;
  return {
    get full() {
      return underWay >= UNDER_WAY_MAX;
    },
    compile: (bytes) => {
      const order: ModuleOrder = { number: ++last, bytes };
      underWay += 1;
      port.postMessage(order, [bytes.buffer]);
      return order.number;
    },
    take: () => {
      const compiled = receiveMessageOnPort(port)?.message as CompiledModule | undefined;
      if (compiled !== undefined) underWay -= 1;
      return compiled;
    },
  };
}
