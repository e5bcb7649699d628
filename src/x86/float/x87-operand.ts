import type { Cpu } from '../cpu.ts';
import { F32, F64, F80, type Float, finite, unpack } from './format.ts';

/** Memory operands of x87 instructions: binary formats and signed integers. */
export type X87Operand = 'm32' | 'm64' | 'm80' | 'i16' | 'i32' | 'i64';

function integer(value: bigint): Float {
  return finite(value < 0n, 0, value < 0n ? -value : value);
}

/** undefined: the access faulted. */
export function readOperand(cpu: Cpu, operand: X87Operand, address: bigint): Float | undefined {
  if (operand === 'm80') {
    const bits = readExtended(cpu, address);
    return bits === undefined ? undefined : unpack(F80, bits);
  }
  const size = OPERAND_SIZE[operand];
  const bits = cpu.load(size, address);
  if (bits === undefined) return undefined;
  switch (operand) {
    case 'm32':
      return unpack(F32, bits);
    case 'm64':
      return unpack(F64, bits);
    default:
      return integer(BigInt.asIntN(size * 8, bits));
  }
}

export const OPERAND_SIZE = { m32: 4, m64: 8, i16: 2, i32: 4, i64: 8 } as const;

/**
 * Checks a state area as AMD processors do, its first element and then its last byte: that decides which page a
 * fault names. Areas span two pages at most. The address of the last byte is as wide as addresses are.
 */
export function probeArea(
  cpu: Cpu,
  address: bigint,
  addressSize: number,
  first: number,
  length: number,
  access: 'read' | 'write',
): boolean {
  const last = BigInt.asUintN(addressSize * 8, address + BigInt(length - 1));
  return cpu.probe(address, first, access) && cpu.probe(last, 1, access);
}

/** Ten bytes, little endian. */
export function readExtended(cpu: Cpu, address: bigint): bigint | undefined {
  const bytes = cpu.loadBytes(address, 10);
  return bytes === undefined ? undefined : extendedFromBytes(bytes, 0);
}

export function writeExtended(cpu: Cpu, address: bigint, bits: bigint): boolean {
  const bytes = new Uint8Array(10);
  extendedToBytes(bytes, 0, bits);
  return cpu.storeBytes(address, bytes);
}

export function extendedFromBytes(bytes: Uint8Array, at: number): bigint {
  let value = 0n;
  for (let i = 9; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i]!);
  return value;
}

export function extendedToBytes(bytes: Uint8Array, at: number, bits: bigint): void {
  for (let i = 0; i < 10; i++) bytes[at + i] = Number((bits >> BigInt(8 * i)) & 0xffn);
}
