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
  readonly exported: string | undefined;
}

/**
 * Assembles a WebAssembly module: one imported shared memory, imported functions, exported functions, and a custom
 * section with the hints at branches [WASM branch hinting].
 */
export class ModuleBuilder {
  readonly #imports: { name: string; signature: Signature }[] = [];
  readonly #functions: FunctionBody[] = [];
  readonly #memoryPages: number;
  #table: { exported: string; size: number } | undefined;

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

  /** `exported`: the name it has outside, if any. Returns its function index. */
  addFunction(
    exported: string | undefined,
    signature: Signature,
    locals: readonly ValueType[],
    code: Code,
  ): number {
    this.#functions.push({ signature, locals, code, exported });
    return this.#imports.length + this.#functions.length - 1;
  }

  /** The module's table of functions, empty at first, exported under this name. */
  addTable(exported: string, size: number): void {
    this.#table = { exported, size };
  }

  /** Index of the type that call_indirect names: that of the function with this index. */
  typeOf(functionIndex: number): number {
    return functionIndex;
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
    const table = this.#table;
    if (table !== undefined) {
      section(out, 4, (s) => {
        s.unsigned(1);
        s.byte(0x70); // funcref
        s.byte(0); // with a minimum only
        s.unsigned(table.size);
      });
    }
    const exported = this.#functions.flatMap(({ exported: name }, index) =>
      name === undefined ? [] : [{ name, index: this.#imports.length + index }],
    );
    section(out, 7, (s) => {
      s.unsigned(exported.length + (table === undefined ? 0 : 1));
      for (const { name, index } of exported) {
        s.name(name);
        s.byte(0);
        s.unsigned(index);
      }
      if (table !== undefined) {
        s.name(table.exported);
        s.byte(1);
        s.unsigned(0);
      }
    });
    const hinted = this.#functions.flatMap(({ code, locals }, index) =>
      code.hints.length === 0 ? [] : [{ code, locals, index: this.#imports.length + index }],
    );
    if (hinted.length > 0) {
      section(out, 0, (s) => {
        s.name('metadata.code.branch_hint');
        s.unsigned(hinted.length);
        for (const { code, locals, index } of hinted) {
          const start = declarations(locals).length;
          s.unsigned(index);
          s.unsigned(code.hints.length);
          for (const { offset, likely } of code.hints) {
            s.unsigned(start + offset);
            s.unsigned(1);
            s.byte(likely ? 1 : 0);
          }
        }
      });
    }
    section(out, 10, (s) => {
      s.unsigned(this.#functions.length);
      for (const { locals, code } of this.#functions) {
        const body = declarations(locals);
        body.append(code.bytes);
        body.byte(0x0b);
        s.unsigned(body.length);
        s.append(body);
      }
    });
    return out.finish();
  }
}

/** The beginning of a function's body. */
function declarations(locals: readonly ValueType[]): WasmBytes {
  const body = new WasmBytes();
  body.unsigned(locals.length);
  for (const type of locals) {
    body.unsigned(1);
    body.byte(VALUE_TYPE[type]);
  }
  return body;
}

function section(out: WasmBytes, id: number, write: (content: WasmBytes) => void): void {
  const content = new WasmBytes();
  write(content);
  out.byte(id);
  out.unsigned(content.length);
  out.append(content);
}
