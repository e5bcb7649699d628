import { OracleSemantics } from '../../src/engine/oracle-semantics.ts';
import { ABORTED, type Cpu, type SystemOperation } from '../../src/x86/cpu.ts';
import { decode } from '../../src/x86/decoder.ts';
import { loadControlWord, loadStatusWord } from '../../src/x86/float/x87-unit.ts';
import type { Lowering } from '../../src/x86/instruction.ts';
import { OPCODES } from '../../src/x86/instructions/all.ts';
import type { MicroOperation } from '../../src/x86/semantics.ts';
import {
  CpuState,
  CR4,
  FCW,
  FSW,
  FTW,
  MXCSR,
  RAX,
  RDI,
  STATE_SIZE,
  X87,
  XMM,
  ZERO,
} from '../../src/x86/state.ts';
import { SiliconRecord } from './record.ts';

interface Fields {
  a?: number;
  b?: number;
  c?: number;
  imm?: bigint;
}
type Step =
  | { readonly kind: 'micro'; readonly operation: MicroOperation; readonly fields: Fields }
  | { readonly kind: 'call'; readonly operation: SystemOperation; readonly fields: Fields }
  | { readonly kind: 'fault'; readonly vector: number };

export const SIGNAL = { 6: 4, 13: 11, 14: 11, 16: 8, 19: 8 } as const;
export const DATA = 0x1000_0000n;

/** Does with our definitions what harness.c does on the processor; micro-operations run in the oracle. */
export function runOnModel(before: SiliconRecord): SiliconRecord {
  const after = new SiliconRecord(before.bytes.slice());
  const decoded = decode(before.code, 64, OPCODES);
  const steps: Step[] = [];
  const out: Lowering = {
    emit: (operation, fields = {}) => steps.push({ kind: 'micro', operation, fields }),
    emit32: (operation, { low, high, ...fields }) =>
      steps.push({
        kind: 'micro',
        operation,
        fields: { ...fields, imm: BigInt.asUintN(32, BigInt(low)) | (BigInt(high) << 32n) },
      }),
    call: (operation, fields = {}) => steps.push({ kind: 'call', operation, fields }),
    system: (operation, fields = {}) => steps.push({ kind: 'call', operation, fields }),
    orSystem: (operation, fields = {}) => steps.push({ kind: 'call', operation, fields }),
    fault: (vector) => steps.push({ kind: 'fault', vector }),
    stackSize: 8,
    checksSegments: false,
    isNull: () => false,
    offset: 0,
    nextOffset: before.code.length,
  };
  if (typeof decoded === 'string') steps.push({ kind: 'fault', vector: 6 });
  else decoded.row.lower(decoded.instruction, out);
  const state = new CpuState(new ArrayBuffer(STATE_SIZE), 0);
  let vector: number | undefined;
  const cpu = modelCpu(state, after.memory, (v) => {
    vector = v;
  });
  const oracle = new OracleSemantics(state, {
    load: cpu.load,
    loadForWrite: cpu.load,
    store: cpu.store,
  });
  load(state, before);
  for (let at = 0; at < steps.length; at++) {
    const step = steps[at]!;
    if (step.kind === 'fault') vector = step.vector;
    else if (step.kind === 'micro') {
      const { a = ZERO, b = ZERO, c = ZERO, imm = 0n } = step.fields;
      const outcome = oracle.run(step.operation.meaning, { a, b, c, imm });
      if (outcome.kind === 'skip') at++;
      else if (outcome.kind !== 'next') throw new Error(`${step.operation.name} ended with ${outcome.kind}`);
    } else {
      const { b = 0, c = 0, imm = 0n } = step.fields;
      if (step.operation.run(cpu, b, c, imm) === ABORTED) break;
    }
    if (vector !== undefined) break;
  }
  store(state, after);
  after.view.setUint32(32, vector === undefined ? 0 : SIGNAL[vector as keyof typeof SIGNAL], true);
  return after;
}

function load(state: CpuState, record: SiliconRecord): void {
  state.set64(CR4, 0x600n);
  state.set64(RAX, record.rax);
  state.set64(RDI, DATA);
  state.rflags = record.rflags;
  state.set32(MXCSR, record.mxcsr);
  loadControlWord(state, record.fcw);
  loadStatusWord(state, record.fsw);
  state.set32(FTW, record.ftw);
  state.bytes.set(record.image.subarray(160, 416), XMM);
  const top = (record.fsw >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    state.bytes.set(record.image.subarray(32 + i * 16, 42 + i * 16), X87 + ((top + i) & 7) * 16);
  }
}

function store(state: CpuState, record: SiliconRecord): void {
  record.rax = state.get64(RAX);
  record.rflags = state.rflags;
  record.mxcsr = state.get32(MXCSR);
  record.fcw = state.get32(FCW);
  record.fsw = state.get32(FSW);
  record.ftw = state.get32(FTW);
  record.image.set(state.bytes.subarray(XMM, XMM + 256), 160);
  const top = (record.fsw >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    const from = X87 + ((top + i) & 7) * 16;
    record.image.set(state.bytes.subarray(from, from + 10), 32 + i * 16);
  }
}

function modelCpu(state: CpuState, memory: Uint8Array, onFault: (vector: number) => void): Cpu {
  const view = new DataView(memory.buffer, memory.byteOffset, memory.length);
  const at = (linear: bigint): number => Number(linear - DATA);
  return {
    state,
    load: (size, linear) => {
      let value = 0n;
      for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(view.getUint8(at(linear) + i));
      return value;
    },
    store: (size, linear, value) => {
      for (let i = 0; i < size; i++) view.setUint8(at(linear) + i, Number((value >> BigInt(8 * i)) & 0xffn));
      return true;
    },
    loadBytes: (linear, length) => memory.slice(at(linear), at(linear) + length),
    storeBytes: (linear, bytes) => {
      memory.set(bytes, at(linear));
      return true;
    },
    probe: () => true,
    fault: (vector) => {
      onFault(vector);
      return ABORTED;
    },
  } as Partial<Cpu> as Cpu;
}
