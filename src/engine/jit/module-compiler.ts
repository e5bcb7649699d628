import type { WasmModule } from '../../wasm/webassembly.ts';

/** Compiles modules of regions elsewhere while the guest runs on. It may serve several machines, one after the other. */
export interface ModuleCompiler {
  /** It has so much to do, also of machines that are gone, that it should be given no more. */
  readonly full: boolean;
  /** A number by which the module is known when it is ready. */
  compile(bytes: Uint8Array<ArrayBuffer>): number;
  /** One that is ready. */
  take(): CompiledModule | undefined;
}

export interface CompiledModule {
  readonly number: number;
  readonly module: WasmModule;
}
