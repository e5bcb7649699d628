/** The part of the JavaScript API of WebAssembly that Lockstep uses, typed without the DOM's types. */
export interface WasmMemory {
  readonly buffer: SharedArrayBuffer;
}

export interface WasmInstance {
  readonly exports: Readonly<Record<string, (...parameters: number[]) => number>>;
}

type WasmImports = Readonly<Record<string, unknown>>;

interface WebAssemblyApi {
  readonly Memory: new (descriptor: { initial: number; maximum: number; shared: true }) => WasmMemory;
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object, imports: { env: WasmImports }) => WasmInstance;
}

const api = (globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly;

/** A shared memory of exactly `pages` 64 KiB pages. The host commits a page when it is first touched. */
export function sharedMemory(pages: number): WasmMemory {
  return new api.Memory({ initial: pages, maximum: pages, shared: true });
}

/** Compiles and instantiates on this thread. Throws when the bytes are not a valid module: a broken invariant. */
export function instantiate(bytes: Uint8Array<ArrayBuffer>, imports: WasmImports): WasmInstance {
  return new api.Instance(new api.Module(bytes), { env: imports });
}
