import { Code } from '../wasm/code.ts';
import { ModuleBuilder } from '../wasm/module.ts';
import { compile, instantiate, type WasmMemory } from '../wasm/webassembly.ts';
import { type EngineLayout, PAGE } from './layout.ts';

/** Odd constants of the golden ratio and of sqrt(2), for mixing. */
const MIX = [0x9e37_79b9_7f4a_7c15n, 0xb504_f333_f9de_6485n];
const LANES = 4;

/**
 * Hashes a page of RAM in wasm: 64 bits, not cryptographic (the guest is not the adversary of a digest; a
 * miscalculating side is). Returns a function of the RAM page number; a page of zeroes gives 0n.
 */
export function pageHasher(memory: WasmMemory, layout: EngineLayout): (page: number) => bigint {
  const module = new ModuleBuilder(layout.pages);
  // Parameter 0: wasm address; locals: 1 end, 2..5 lanes.
  const code = new Code();
  code.get(0).i32(PAGE).op('i32.add').set(1);
  const loop = code.open('loop');
  for (let lane = 0; lane < LANES; lane++) {
    code
      .get(2 + lane)
      .i64(29n)
      .op('i64.rotl');
    code
      .get(0)
      .memory('i64.load', lane * 8)
      .op('i64.xor');
    code
      .i64(MIX[lane & 1]! + BigInt(lane & 2))
      .op('i64.mul')
      .set(2 + lane);
  }
  code
    .get(0)
    .i32(LANES * 8)
    .op('i32.add')
    .tee(0)
    .get(1)
    .op('i32.lt_u')
    .branchIf(loop);
  code.close();
  code.get(2);
  for (let lane = 1; lane < LANES; lane++) {
    code
      .i64(BigInt(7 + 10 * lane))
      .op('i64.rotl')
      .i64(MIX[0]!)
      .op('i64.mul');
    code.get(2 + lane).op('i64.xor');
  }
  code.tee(2).get(2).i64(32n).op('i64.shr_u').op('i64.xor').i64(MIX[1]!).op('i64.mul');
  module.addFunction(
    'hash',
    { parameters: ['i32'], results: ['i64'] },
    ['i32', 'i64', 'i64', 'i64', 'i64'],
    code,
  );
  const hash = instantiate(compile(module.build()), { memory }).exports.hash as unknown as (
    address: number,
  ) => bigint;
  return (page) => BigInt.asUintN(64, hash((layout.ram + page * PAGE) | 0));
}
