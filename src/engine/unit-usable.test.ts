import { describe, expect, it } from 'vitest';
import { compile, instantiate, sharedMemory } from '../wasm/webassembly.ts';
import type { Environment } from '../x86/cpu.ts';
import { OPCODES } from '../x86/instructions/all.ts';
import { MICRO_OPERATIONS } from '../x86/micro-operations/all.ts';
import { CR0, CR4, FCW, FSW, RIP, SEGMENT, SEGMENT_ACCESS, SEGMENT_LIMIT } from '../x86/state.ts';
import { Engine } from './engine.ts';
import { buildInterpreter } from './interpreter.ts';
import { engineLayout } from './layout.ts';
import { OperationTable } from './operation-table.ts';
import { PhysicalMap } from './physical-map.ts';

const RAM = 1 << 20;
const CODE_AT = 0x1000;
const [MP, EM, TS] = [2, 4, 8];
const OSFXSR = 0x200;
const [UNDEFINED, UNAVAILABLE, MATH] = [6, 7, 16];

function setUp() {
  const layout = engineLayout(RAM, 16, 1 << 12);
  const memory = sharedMemory(layout.pages);
  const table = new OperationTable(MICRO_OPERATIONS);
  const engine = new Engine(memory, layout, table, OPCODES, new PhysicalMap(RAM), {} as Environment, {
    attention: () => false,
  });
  const instance = instantiate(compile(buildInterpreter(table, layout)), {
    memory,
    slow: (record: number, access: number) => engine.slow(record, access),
    call: (record: number) => engine.call(record),
  });
  engine.useExecutor(instance.exports.run as (cpu: number, header: number) => number);
  const { state } = engine;
  for (const index of Object.values(SEGMENT)) {
    state.set32(SEGMENT_LIMIT + index * 4, 0xffff_ffff);
    state.set32(SEGMENT_ACCESS + index * 4, index === SEGMENT.cs ? 0xc09b : 0xc093);
  }
  state.rflags = 2n;
  state.set32(FCW, 0x37f);
  engine.memory.storePhysical(CODE_AT, Uint8Array.from(Object.values(CODE).flat()));

  /** The vector that the instruction raises, or undefined. The same code is run under every mode. */
  return (name: keyof typeof CODE, cr0: number, cr4 = OSFXSR, fsw = 0): number | undefined => {
    const names = Object.keys(CODE) as (keyof typeof CODE)[];
    const before = names.slice(0, names.indexOf(name)).flatMap((other) => CODE[other]);
    state.set64(CR0, BigInt(0x11 | cr0));
    state.set64(CR4, BigInt(cr4));
    state.set32(FSW, fsw);
    state.set64(RIP, BigInt(CODE_AT + before.length));
    return engine.run(1, true) === 'fault' ? engine.takeFault()!.vector : undefined;
  };
}

const CODE = {
  paddb: [0x0f, 0xfc, 0xc1],
  emms: [0x0f, 0x77],
  movq2dq: [0xf3, 0x0f, 0xd6, 0xc1],
  paddbXmm: [0x66, 0x0f, 0xfc, 0xc1],
  fld1: [0xd9, 0xe8],
  fwait: [0x9b],
} as const;

describe('CR0 and CR4 decide whether a unit is usable', () => {
  const run = setUp();

  it('MMX: #UD when CR0.EM, else #NM when CR0.TS', () => {
    for (const name of ['paddb', 'emms'] as const) {
      expect(run(name, 0)).toBeUndefined();
      expect(run(name, EM)).toBe(UNDEFINED);
      expect(run(name, TS)).toBe(UNAVAILABLE);
      expect(run(name, EM | TS)).toBe(UNDEFINED);
      expect(run(name, MP)).toBeUndefined();
    }
  });

  it('MMX does not need CR4.OSFXSR; what names XMM registers does', () => {
    expect(run('paddb', 0, 0)).toBeUndefined();
    expect(run('paddb', TS, 0)).toBe(UNAVAILABLE);
    expect(run('movq2dq', 0, 0)).toBe(UNDEFINED);
    expect(run('movq2dq', 0)).toBeUndefined();
    expect(run('paddbXmm', TS, 0)).toBe(UNDEFINED);
    expect(run('paddbXmm', TS)).toBe(UNAVAILABLE);
    expect(run('paddbXmm', EM | TS)).toBe(UNDEFINED);
  });

  it('MMX delivers a waiting x87 exception, after #NM', () => {
    expect(run('paddb', 0, OSFXSR, 0x8081)).toBe(MATH);
    expect(run('emms', 0, OSFXSR, 0x8081)).toBe(MATH);
    expect(run('movq2dq', 0, OSFXSR, 0x8081)).toBe(MATH);
    expect(run('paddbXmm', 0, OSFXSR, 0x8081)).toBeUndefined();
    expect(run('paddb', TS, OSFXSR, 0x8081)).toBe(UNAVAILABLE);
  });

  it('x87: #NM when CR0.EM or CR0.TS; WAIT: when CR0.MP and CR0.TS', () => {
    expect(run('fld1', 0)).toBeUndefined();
    expect(run('fld1', EM)).toBe(UNAVAILABLE);
    expect(run('fld1', TS)).toBe(UNAVAILABLE);
    expect(run('fwait', TS)).toBeUndefined();
    expect(run('fwait', EM | MP)).toBeUndefined();
    expect(run('fwait', TS | MP)).toBe(UNAVAILABLE);
  });
});
