import { assert } from '../base/assert.ts';
import { type Code, WasmBytes } from './code.ts';
import { VALUE_TYPE, type ValueType } from './opcode.ts';

export interface Signature {
  readonly parameters: readonly ValueType[];
  readonly results: readonly ValueType[];
}

interface FunctionBody {
  readonly signature: Signature;
  readonly locals: readonly ValueType[];
  readonly code: Code;
  readonly exported: string;
}

/** Assembles a WebAssembly module: one imported shared memory, imported functions, exported functions. */
export class ModuleBuilder {
  readonly #imports: { name: string; signature: Signature }[] = [];
  readonly #functions: FunctionBody[] = [];
  readonly #memoryPages: number;

  /** `memoryPages` is the size, in 64 KiB pages, of the shared memory imported as env.memory. */
  constructor(memoryPages: number) {
    this.#memoryPages = memoryPages;
  }

  /** Declares env.`name`; returns its function index. All imports come before the first function. */
  importFunction(name: string, signature: Signature): number {
    assert(this.#functions.length === 0, 'imports come first');
    this.#imports.push({ name, signature });
    return this.#imports.length - 1;
  }

  addFunction(exported: string, signature: Signature, locals: readonly ValueType[], code: Code): void {
    this.#functions.push({ signature, locals, code, exported });
  }

  build(): Uint8Array<ArrayBuffer> {
    const out = new WasmBytes();
    for (const value of [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0]) out.byte(value);
    const signatures = [...this.#imports, ...this.#functions].map((entry) => entry.signature);
    section(out, 1, (s) => {
      s.unsigned(signatures.length);
      for (const { parameters, results } of signatures) {
        s.byte(0x60);
        s.unsigned(parameters.length);
        for (const type of parameters) s.byte(VALUE_TYPE[type]);
        s.unsigned(results.length);
        for (const type of results) s.byte(VALUE_TYPE[type]);
      }
    });
    section(out, 2, (s) => {
      s.unsigned(this.#imports.length + 1);
      s.name('env');
      s.name('memory');
      s.byte(2);
      s.byte(3); // shared, with a maximum
      s.unsigned(this.#memoryPages);
      s.unsigned(this.#memoryPages);
      this.#imports.forEach(({ name }, index) => {
        s.name('env');
        s.name(name);
        s.byte(0);
        s.unsigned(index);
      });
    });
    section(out, 3, (s) => {
      s.unsigned(this.#functions.length);
      this.#functions.forEach((_, index) => {
        s.unsigned(this.#imports.length + index);
      });
    });
    section(out, 7, (s) => {
      s.unsigned(this.#functions.length);
      this.#functions.forEach(({ exported }, index) => {
        s.name(exported);
        s.byte(0);
        s.unsigned(this.#imports.length + index);
      });
    });
    section(out, 10, (s) => {
      s.unsigned(this.#functions.length);
      for (const { locals, code } of this.#functions) {
        const body = new WasmBytes();
        body.unsigned(locals.length);
        for (const type of locals) {
          body.unsigned(1);
          body.byte(VALUE_TYPE[type]);
        }
        body.append(code.bytes.finish());
        body.byte(0x0b);
        s.unsigned(body.length);
        s.append(body.finish());
      }
    });
    return out.finish();
  }
}

function section(out: WasmBytes, id: number, write: (content: WasmBytes) => void): void {
  const content = new WasmBytes();
  write(content);
  out.byte(id);
  out.unsigned(content.length);
  out.append(content.finish());
}
