import {
  ABORTED,
  type Cpu,
  type Environment,
  type Outcome,
  type PendingFault,
  type Privilege,
  type SystemOperation,
} from '../cpu.ts';
import {
  ACCESS_READ,
  ACCESS_WRITE,
  type AccessKind,
  type PhysicalMemory,
  WalkResult,
  walk,
} from '../paging.ts';
import { CPL, CpuState, type Size, STATE_SIZE } from '../state.ts';
import { cpuidTable } from './cpuid.ts';

/** A processor for tests of slow-path code: state and RAM over plain buffers, every access walked. */
export class TestCpu implements Cpu {
  readonly state = new CpuState(new ArrayBuffer(STATE_SIZE), 0);
  readonly ram: Uint8Array;
  readonly view: DataView;
  readonly memory: PhysicalMemory;
  readonly environment: Environment;
  budget = 1;
  now = 0n;
  taskPriority = 0;
  readonly deviceRegisters = new Map<number, bigint>();
  readonly portWrites: { port: number; size: number; value: number }[] = [];
  portRead: (port: number, size: number) => number = () => 0xffff_ffff;
  #pending: PendingFault | undefined;
  readonly #walk = new WalkResult();

  constructor(bytes = 0x10_0000) {
    this.ram = new Uint8Array(bytes);
    this.view = new DataView(this.ram.buffer);
    this.memory = {
      read32: (address) => (address + 4 > bytes ? 0xffff_ffff : this.view.getUint32(address, true)),
      write32: (address, value) => {
        if (address + 4 <= bytes) this.view.setUint32(address, value, true);
      },
    };
    this.environment = {
      readPort: (port, size) => this.portRead(port, size),
      writePort: (port, size, value) => void this.portWrites.push({ port, size, value }),
      readMsr: (index) => this.deviceRegisters.get(index),
      writeMsr: (index, value) => {
        if (!this.deviceRegisters.has(index)) return false;
        this.deviceRegisters.set(index, value);
        return true;
      },
      taskPriority: () => this.taskPriority,
      setTaskPriority: (value) => {
        this.taskPriority = value;
      },
      timestamp: () => this.now,
      random: () => 0x1122_3344_5566_7788n,
      cpuid: cpuidTable({ tscFrequencyHz: 1e9 }),
    };
  }

  /** Physical address of one byte, or undefined with a fault pending. */
  #translate(linear: bigint, access: AccessKind, privilege: Privilege): number | undefined {
    const user = privilege === 'current' && this.state.get32(CPL) === 3;
    const low = Number(linear & 0xffff_ffffn);
    const high = Number(BigInt.asUintN(64, linear) >> 32n);
    if (walk(this.memory, this.state, low, high, access, user, this.#walk)) return this.#walk.address;
    this.#pending = { vector: this.#walk.vector, errorCode: this.#walk.errorCode, address: linear };
    return undefined;
  }

  loadBytes(linear: bigint, length: number, privilege: Privilege = 'current'): Uint8Array | undefined {
    const bytes = new Uint8Array(length);
    for (let index = 0; index < length; index += 1) {
      const at = this.#translate(linear + BigInt(index), ACCESS_READ, privilege);
      if (at === undefined) return undefined;
      bytes[index] = this.ram[at] ?? 0xff;
    }
    return bytes;
  }

  storeBytes(linear: bigint, bytes: Uint8Array, privilege: Privilege = 'current'): boolean {
    if (!this.probe(linear, bytes.length, 'write', privilege)) return false;
    for (const [index, byte] of bytes.entries()) {
      this.ram[this.#translate(linear + BigInt(index), ACCESS_WRITE, privilege)!] = byte;
    }
    return true;
  }

  load(size: Size, linear: bigint, privilege: Privilege = 'current'): bigint | undefined {
    const bytes = this.loadBytes(linear, size, privilege);
    return bytes?.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }

  store(size: Size, linear: bigint, value: bigint, privilege: Privilege = 'current'): boolean {
    const bytes = Uint8Array.from({ length: size }, (_, index) =>
      Number((value >> BigInt(index * 8)) & 0xffn),
    );
    return this.storeBytes(linear, bytes, privilege);
  }

  probe(linear: bigint, length: number, access: 'read' | 'write', privilege: Privilege = 'current'): boolean {
    const kind = access === 'read' ? ACCESS_READ : ACCESS_WRITE;
    for (let index = 0; index < length; index += 1) {
      if (this.#translate(linear + BigInt(index), kind, privilege) === undefined) return false;
    }
    return true;
  }

  fault(vector: number, errorCode = 0): Outcome {
    this.#pending = { vector, errorCode, address: 0n };
    return ABORTED;
  }

  takeFault(): PendingFault | undefined {
    const fault = this.#pending;
    this.#pending = undefined;
    return fault;
  }

  charge(): void {}

  meet(): void {}

  /** Whether accesses may go through `span`, the short way of the engine. */
  spans = true;

  span(
    linear: bigint,
    length: number,
    access: 'read' | 'write',
    privilege: Privilege = 'current',
  ): Uint8Array | undefined {
    if (!this.spans || Number(linear & 0xfffn) + length > 0x1000) return undefined;
    const kind = access === 'read' ? ACCESS_READ : ACCESS_WRITE;
    const at = this.#translate(linear, kind, privilege);
    if (at === undefined) this.#pending = undefined;
    return at === undefined || at + length > this.ram.length ? undefined : this.ram.subarray(at, at + length);
  }

  /** Runs one operation. A fault comes back as its vector and error code. */
  run(operation: SystemOperation, { b = 0, c = 0, imm = 0n } = {}): Outcome | readonly [number, number] {
    const outcome = operation.run(this, b, c, imm);
    const fault = this.takeFault();
    return fault === undefined ? outcome : [fault.vector, fault.errorCode];
  }

  /** All architectural state and RAM, to show that nothing changed. */
  image(): Uint8Array {
    const image = new Uint8Array(STATE_SIZE + this.ram.length);
    image.set(this.state.bytes);
    image.set(this.ram, STATE_SIZE);
    return image;
  }
}
