import { failed, ok, type Result } from '../../base/result.ts';
import type { MemoryChunk, StepCase, StepOutcome } from './stepped-state.ts';

/** The line format of `lockstep debug step` (design 10). Numbers are hexadecimal strings; what is left out is zero. */

export const REGISTER_NAMES = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rsp',
  'rbp',
  'rsi',
  'rdi',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
] as const;

const CODE_MAX = 15;
const MEMORY_MAX = 1 << 20;
const MXCSR_RESERVED = 0xffff_0000;

class Refused extends Error {}

export function parseCase(line: string): Result<StepCase> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return failed('the line is not JSON');
  }
  try {
    return ok(readCase(value));
  } catch (error) {
    if (error instanceof Refused) return failed(error.message);
    throw error;
  }
}

function readCase(value: unknown): StepCase {
  const given = object(value, 'the line');
  const code = hexBytes(given.code, 'code');
  if (code.length === 0 || code.length > CODE_MAX) throw new Refused('code takes 1 to 15 bytes');
  const mode = given.mode ?? 64;
  if (mode !== 16 && mode !== 32 && mode !== 64) throw new Refused('mode is 16, 32 or 64');
  const registers = object(given.regs ?? {}, 'regs');
  for (const name of Object.keys(registers)) {
    if (name !== 'rflags' && name !== 'rip' && !(REGISTER_NAMES as readonly string[]).includes(name)) {
      throw new Refused(`there is no register ${name}`);
    }
  }
  const xmm = list(given.xmm ?? [], 'xmm', 16);
  const x87 = object(given.x87 ?? {}, 'x87');
  const st = list(x87.st ?? [], 'x87.st', 8);
  const mxcsr = Number(number(given.mxcsr ?? '0x1f80', 'mxcsr', 32));
  if (mxcsr & MXCSR_RESERVED) throw new Refused('mxcsr has reserved bits set');
  const memory: MemoryChunk[] = [];
  for (const [address, bytes] of Object.entries(object(given.mem ?? {}, 'mem'))) {
    memory.push({
      address: number(address, 'an address of mem', 64),
      bytes: hexBytes(bytes, `mem ${address}`),
    });
  }
  if (memory.reduce((sum, chunk) => sum + chunk.bytes.length, 0) > MEMORY_MAX) {
    throw new Refused('mem holds more than 1 MiB');
  }
  return {
    code,
    mode,
    at: number(given.at ?? '0x10000800', 'at', 64),
    gpr: REGISTER_NAMES.map((name) => number(registers[name] ?? '0x0', name, 64)),
    rflags: number(registers.rflags ?? '0x202', 'rflags', 64),
    xmm: Array.from({ length: 16 }, (_, index) => number(xmm[index] ?? '0x0', 'xmm', 128)),
    mxcsr,
    x87: {
      fcw: Number(number(x87.fcw ?? '0x37f', 'fcw', 16)),
      fsw: Number(number(x87.fsw ?? '0x0', 'fsw', 16)),
      ftw: Number(number(x87.ftw ?? '0x0', 'ftw', 8)),
      st: Array.from({ length: 8 }, (_, index) => number(st[index] ?? '0x0', 'st', 80)),
    },
    memory,
  };
}

export function printOutcome(given: StepCase, outcome: StepOutcome): string {
  return JSON.stringify({
    code: toHex(given.code),
    mode: given.mode,
    at: hex(given.at),
    ...stateFields(outcome),
    rip: hex(outcome.rip),
    exception: outcome.exception && {
      vector: outcome.exception.vector,
      errorCode: hex(outcome.exception.errorCode),
      cr2: hex(outcome.exception.cr2),
    },
    retired: outcome.retired,
  });
}

export function printCase(given: StepCase): string {
  return JSON.stringify({
    code: toHex(given.code),
    mode: given.mode,
    at: hex(given.at),
    ...stateFields(given),
  });
}

function stateFields(state: StepCase | StepOutcome): object {
  return {
    regs: {
      ...Object.fromEntries(REGISTER_NAMES.map((name, index) => [name, hex(state.gpr[index]!)])),
      rflags: hex(state.rflags),
    },
    xmm: state.xmm.map((value) => `0x${value.toString(16).padStart(32, '0')}`),
    mxcsr: hex(state.mxcsr),
    x87: {
      fcw: hex(state.x87.fcw),
      fsw: hex(state.x87.fsw),
      ftw: hex(state.x87.ftw),
      st: state.x87.st.map((value) => `0x${value.toString(16).padStart(20, '0')}`),
    },
    mem: Object.fromEntries(state.memory.map(({ address, bytes }) => [hex(address), toHex(bytes)])),
  };
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function object(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Refused(`${what} is not an object`);
  }
  return value as Record<string, unknown>;
}

function list(value: unknown, what: string, max: number): unknown[] {
  if (!Array.isArray(value) || value.length > max)
    throw new Refused(`${what} is not a list of at most ${max}`);
  return value;
}

function number(value: unknown, what: string, bits: number): bigint {
  const text = typeof value === 'number' && Number.isSafeInteger(value) ? String(value) : value;
  if (typeof text !== 'string' || !/^(0x[0-9a-fA-F]{1,40}|[0-9]{1,40})$/.test(text)) {
    throw new Refused(`${what} is not a number like "0x1f80"`);
  }
  const parsed = BigInt(text);
  if (parsed >> BigInt(bits)) throw new Refused(`${what} does not fit into ${bits} bits`);
  return parsed;
}

function hexBytes(value: unknown, what: string): Uint8Array {
  if (typeof value !== 'string' || value.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(value)) {
    throw new Refused(`${what} is not a string of hexadecimal bytes`);
  }
  return Uint8Array.from({ length: value.length / 2 }, (_, index) =>
    Number.parseInt(value.slice(index * 2, index * 2 + 2), 16),
  );
}
