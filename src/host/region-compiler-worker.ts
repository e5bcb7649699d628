import { readlinkSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';
import { type MessagePort, workerData } from 'node:worker_threads';
import type { CompiledModule } from '../engine/jit/jit.ts';
import { compile } from '../wasm/webassembly.ts';
import type { ModuleOrder } from './region-compiler.ts';

/** Compiles modules one after the other [region-compiler.ts]. Modules that are behind the guest do not slow it down. */
const NICE = 10;

/** Linux's name of this thread: setpriority(2) takes it like a process. */
const thread = Number(readlinkSync('/proc/thread-self').split('/').at(-1));
try {
  setPriority(thread, Math.max(NICE, getPriority(thread)));
} catch {
  // It is as quick as the guest then.
}

const port = workerData as MessagePort;
port.on('message', ({ number, bytes }: ModuleOrder) => {
  const compiled: CompiledModule = { number, module: compile(bytes) };
  port.postMessage(compiled);
});
