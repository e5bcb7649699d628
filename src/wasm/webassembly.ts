/** The part of the JavaScript API of WebAssembly that Lockstep uses, typed without the DOM's types. */
export interface WasmMemory {
  readonly buffer: SharedArrayBuffer;
}

export interface WasmInstance {
  readonly exports: Readonly<Record<string, (...parameters: number[]) => number>>;
}

/** A compiled module: it can be sent to another thread as it is. */
export interface WasmModule {
  readonly [Symbol.toStringTag]: string;
}

type WasmImports = Readonly<Record<string, unknown>>;

interface WebAssemblyApi {
  readonly Memory: new (descriptor: { initial: number; maximum: number; shared: true }) => WasmMemory;
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => WasmModule;
  readonly Instance: new (module: WasmModule, imports: { env: WasmImports }) => WasmInstance;
}

const api = (globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly;

/** A shared memory of exactly `pages` 64 KiB pages. The host commits a page when it is first touched. */
export function sharedMemory(pages: number): WasmMemory {
  return new api.Memory({ initial: pages, maximum: pages, shared: true });
}

/** Compiles on this thread. Throws when the bytes are not a valid module: a broken invariant. */
export function compile(bytes: Uint8Array<ArrayBuffer>): WasmModule {
  return new api.Module(bytes);
}

export function instantiate(module: WasmModule, imports: WasmImports): WasmInstance {
  return new api.Instance(module, { env: imports });
}
