import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Code } from '../wasm/code.ts';
import { ModuleBuilder } from '../wasm/module.ts';
import { SIMD, type SimdName } from '../wasm/opcode.ts';
import { compile, instantiate, sharedMemory } from '../wasm/webassembly.ts';
import type { VectorFloat, VectorOperation, VectorShift, VectorUnary } from '../x86/semantics.ts';
import { vectorFloat, vectorOperation, vectorShift, vectorUnary } from './oracle-vector.ts';

const BINARY =
  /^[iv].*\.(and|or|xor|andnot|add|sub|add_sat|sub_sat|eq|gt|min|max|avgr|mul|dot|narrow|swizzle|extmul)(_|$)/;
const UNARY = /\.(not|extend)(_|$)/;
const SHIFT = /\.(shl|shr)(_|$)/;
const FLOAT = /^f.*\.(add|sub|mul|div)$/;
const names = Object.keys(SIMD) as SimdName[];

/** One exported function for each operation: memory[32] = memory[0] op memory[16], the shift count as parameter. */
function compiled() {
  const memory = sharedMemory(1);
  const module = new ModuleBuilder(1);
  for (const name of names) {
    if (![BINARY, UNARY, SHIFT, FLOAT].some((kind) => kind.test(name))) continue;
    const code = new Code();
    code.i32(32).i32(0).simdMemory('v128.load', 0);
    if (BINARY.test(name) || FLOAT.test(name)) code.i32(16).simdMemory('v128.load', 0);
    if (SHIFT.test(name)) code.get(0);
    code.simd(name).simdMemory('v128.store', 0);
    module.addFunction(name, { parameters: ['i32'], results: [] }, [], code);
  }
  const view = new DataView(memory.buffer);
  const write = (at: number, x: bigint) => {
    view.setBigUint64(at, BigInt.asUintN(64, x), true);
    view.setBigUint64(at + 8, x >> 64n, true);
  };
  const { exports } = instantiate(compile(module.build()), { memory });
  return (name: string, x: bigint, y: bigint, count: number): bigint => {
    write(0, x);
    write(16, y);
    exports[name]!(count);
    return view.getBigUint64(32, true) | (view.getBigUint64(40, true) << 64n);
  };
}

/** Lanes at and beside the limits of every width. */
const vector = fc
  .array(fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff, 0x0f), fc.integer({ min: 0, max: 255 })), {
    minLength: 16,
    maxLength: 16,
  })
  .map((bytes) => bytes.reduce((whole, byte) => (whole << 8n) | BigInt(byte), 0n));

/** Numbers, zeros and infinities; the bits of a NaN that comes of them are nobody's. */
function numbers(width: 32 | 64) {
  const value = width === 32 ? fc.float({ noNaN: true }) : fc.double({ noNaN: true });
  return fc.array(value, { minLength: 128 / width, maxLength: 128 / width }).map((lanes) => {
    const bytes = new DataView(new ArrayBuffer(16));
    lanes.forEach((lane, index) => {
      if (width === 32) bytes.setFloat32(index * 4, lane, true);
      else bytes.setFloat64(index * 8, lane, true);
    });
    return bytes.getBigUint64(0, true) | (bytes.getBigUint64(8, true) << 64n);
  });
}

/** Lanes that are NaNs are made one. */
function withoutNaNs(x: bigint, width: 32 | 64): bigint[] {
  const bits = BigInt(width);
  const special = width === 32 ? 0x7f80_0000n : 0x7ff0_0000_0000_0000n;
  return Array.from({ length: 128 / width }, (_, lane) => {
    const value = BigInt.asUintN(width, x >> (BigInt(lane) * bits));
    return BigInt.asUintN(width - 1, value) > special ? -1n : value;
  });
}

describe('the vector operations of the oracle', () => {
  const run = compiled();

  it.each(names.filter((name) => FLOAT.test(name)))("%s is WebAssembly's", (name) => {
    const width = name.startsWith('f32') ? 32 : 64;
    fc.assert(
      fc.property(numbers(width), numbers(width), (x, y) => {
        const result = vectorFloat(name as VectorFloat, x, y);
        expect(withoutNaNs(result, width)).toEqual(withoutNaNs(run(name, x, y, 0), width));
      }),
      { seed: 3 },
    );
  });

  it.each(names.filter((name) => BINARY.test(name)))("%s is WebAssembly's", (name) => {
    fc.assert(
      fc.property(vector, vector, (x, y) => {
        expect(vectorOperation(name as VectorOperation, x, y)).toBe(run(name, x, y, 0));
      }),
      { seed: 3 },
    );
  });

  it.each(names.filter((name) => UNARY.test(name)))("%s is WebAssembly's", (name) => {
    fc.assert(
      fc.property(vector, (x) => {
        expect(vectorUnary(name as VectorUnary, x)).toBe(run(name, x, 0n, 0));
      }),
      { seed: 3 },
    );
  });

  it.each(names.filter((name) => SHIFT.test(name)))("%s is WebAssembly's", (name) => {
    fc.assert(
      fc.property(vector, fc.integer({ min: 0, max: 70 }), (x, count) => {
        expect(vectorShift(name as VectorShift, x, BigInt(count))).toBe(run(name, x, 0n, count));
      }),
      { seed: 3 },
    );
  });
});
