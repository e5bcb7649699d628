import { DONE, type SystemOperation, systemOperation } from '../cpu.ts';
import { FLAG, RAX, RBX, RCX, RDX } from '../state.ts';
import { readFlags, writeFlags } from './flags.ts';

/** CPUID [SDM 2A CPUID]: everything comes from the VM's configuration. */
export const IDENTIFY = systemOperation('cpuid', (cpu) => {
  const state = cpu.state;
  const [eax, ebx, ecx, edx] = cpu.environment.cpuid(state.get32(RAX), state.get32(RCX));
  state.set64(RAX, BigInt(eax >>> 0));
  state.set64(RBX, BigInt(ebx >>> 0));
  state.set64(RCX, BigInt(ecx >>> 0));
  state.set64(RDX, BigInt(edx >>> 0));
  return DONE;
});

/** RDRAND and RDSEED, which never run dry: b is the register's offset, c the operand size [SDM 2B RDRAND]. */
export const READ_RANDOM = systemOperation('read-random', (cpu, b, c) => {
  const { state } = cpu;
  const size = c as 2 | 4 | 8;
  state.set(b, size, BigInt.asUintN(size * 8, cpu.environment.random()));
  const cleared = FLAG.of | FLAG.sf | FLAG.zf | FLAG.af | FLAG.pf;
  writeFlags(state, (readFlags(state) & ~cleared) | FLAG.cf);
  return DONE;
});

export const IDENTIFICATION_OPERATIONS: readonly SystemOperation[] = [IDENTIFY, READ_RANDOM];
