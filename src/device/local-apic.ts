import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import {
  APIC_VERSION,
  COMMAND_WRITABLE,
  DELIVERY,
  ERROR_RECEIVE_VECTOR,
  ERROR_REGISTER,
  ERROR_SEND_VECTOR,
  isDestination,
  LVT_MASKED,
  LVT_WRITABLE,
  REGISTER,
  SOFTWARE_ENABLE,
  SPURIOUS_WRITABLE,
} from './apic-registers.ts';
import { ApicTimer, type TscConversion } from './apic-timer.ts';
import type { Bus, Device, GuestClock, MessageInterrupts, MmioHandler, MmioRange } from './device.ts';
import { VectorSet } from './vector-set.ts';

export const LOCAL_APIC_BASE = 0xfee00000;

export const MSR_APIC_BASE = 0x1b;
export const MSR_TSC_DEADLINE = 0x6e0;
const MSR_X2APIC_FIRST = 0x800;
const MSR_X2APIC_LAST = 0x8ff;

const BASE_BSP = 0x100;
const BASE_X2APIC = 0x400;
const BASE_ENABLE = 0x800;

export interface LocalApicOptions {
  readonly bus: Bus;
  readonly clock: GuestClock;
  readonly tsc: TscConversion;
  readonly physicalAddressBits?: number;
  /** An interrupt or NMI may have become deliverable. */
  readonly changed: () => void;
  /** The guest ended a level-triggered interrupt. */
  readonly ended: (vector: number) => void;
  /** Messages that were refused before would be accepted now. */
  readonly enabled: () => void;
}

/**
 * The local APIC of the only processor, with APIC ID 0, in xAPIC and x2APIC mode [SDM 3A 11]. It is one long
 * file because both modes and all registers act on the same few sets of vectors.
 */
export class LocalApic implements Device, MmioHandler, MessageInterrupts {
  readonly name = 'local-apic';
  readonly timer: ApicTimer;
  readonly #options: LocalApicOptions;
  readonly #range: MmioRange;
  readonly #request = new VectorSet();
  readonly #service = new VectorSet();
  readonly #level = new VectorSet();
  readonly #lvt = new Uint32Array(6);
  #base = 0;
  #taskPriority = 0;
  #spurious = 0;
  #logical = 0;
  #format = 0;
  #commandLow = 0;
  #commandHigh = 0;
  #errors = 0;
  #errorsRead = 0;
  #nmi = false;
  #lint0 = false;
  /** What `pendingVector` answers, -1 for nothing: asked between instructions, so kept and not computed. */
  #pending = -1;

  constructor(options: LocalApicOptions) {
    this.#options = options;
    this.timer = new ApicTimer(options.clock, options.tsc, () => this.#raiseLvt(0));
    this.#range = options.bus.mmio(LOCAL_APIC_BASE, 0x1000, this);
    this.reset();
  }

  get #softwareEnabled(): boolean {
    return (this.#spurious & SOFTWARE_ENABLE) !== 0;
  }

  get #x2apic(): boolean {
    return (this.#base & BASE_X2APIC) !== 0;
  }

  get enabled(): boolean {
    return (this.#base & BASE_ENABLE) !== 0;
  }

  /** The vector the processor would take now, IF aside. */
  pendingVector(): number | undefined {
    return this.#pending < 0 ? undefined : this.#pending;
  }

  get hasPending(): boolean {
    return this.#pending >= 0;
  }

  /**
   * Whether the 8259's INTR reaches the processor: through LINT0 as ExtINT, or past a switched-off APIC. That
   * holds while the APIC is software-disabled too: it is how a PC starts [MP 3.6.2.2].
   */
  get acceptsExternal(): boolean {
    if (!this.enabled) return true;
    const lint0 = this.#lvt[3]!;
    return (lint0 & LVT_MASKED) === 0 && ((lint0 >>> 8) & 7) === DELIVERY.external;
  }

  get nmiPending(): boolean {
    return this.#nmi;
  }

  acknowledgeNmi(): void {
    this.#nmi = false;
  }

  /** Hands the pending vector to the processor; the spurious vector when there is none. */
  acknowledge(): number {
    const vector = this.#pending;
    if (vector < 0) return this.#spurious & 0xff;
    this.#request.remove(vector);
    this.#service.add(vector);
    this.#update();
    return vector;
  }

  get cr8(): number {
    return this.#taskPriority >>> 4;
  }

  writeCr8(value: number): void {
    this.#taskPriority = (value & 0xf) << 4;
    this.#update();
  }

  /** The 8259's INTR, wired to LINT0. As ExtINT it is not latched here; see `acceptsExternal`. */
  setLint0(level: boolean): void {
    const rose = level && !this.#lint0;
    this.#lint0 = level;
    if (!rose || !this.enabled) return;
    const mode = (this.#lvt[3]! >>> 8) & 7;
    if (mode === DELIVERY.fixed || mode === DELIVERY.nmi) this.#raiseLvt(3);
  }

  /** A message-signalled interrupt [SDM 3A 11.11]. One to another address is no interrupt and is dropped. */
  send(address: bigint, data: number): void {
    if (address >> 20n !== 0xfeen) return;
    const low = Number(address & 0xfffffn);
    this.deliver((low >>> 12) & 0xff, (low & 4) !== 0, (data >>> 8) & 7, data & 0xff, (data & 0x8000) !== 0);
  }

  /** A message with an 8-bit destination from the IOAPIC or a device; false when this APIC does not take it. */
  deliver(destination: number, logical: boolean, mode: number, vector: number, level: boolean): boolean {
    if (!this.enabled || !this.#isDestination(destination, logical, 0xff)) return false;
    return this.#accept(mode, vector, level);
  }

  // MMIO: aligned 32-bit accesses; anything else is undefined and does nothing [SDM 3A 11.4.1].

  readMmio(offset: number, size: number): bigint {
    return BigInt(size >= 4 ? this.readRegister(offset) : 0);
  }

  writeMmio(offset: number, size: number, value: bigint): void {
    if (size >= 4) this.writeRegister(offset, Number(value & 0xffffffffn));
  }

  readRegister(offset: number): number {
    if ((offset & 0xf) !== 0 || this.#x2apic) return 0;
    const register = offset >>> 4;
    if (register === REGISTER.commandHigh) return this.#commandHigh;
    if (register === REGISTER.destinationFormat) return this.#format;
    if (register === REGISTER.arbitrationPriority) return this.#processorPriority();
    const value = this.#read(register);
    if (value < 0) this.#error(ERROR_REGISTER);
    return Math.max(value, 0);
  }

  writeRegister(offset: number, value: number): void {
    if ((offset & 0xf) !== 0 || this.#x2apic) return;
    const register = offset >>> 4;
    switch (register) {
      case REGISTER.endOfInterrupt:
        this.#endOfInterrupt();
        break;
      case REGISTER.logicalDestination:
        this.#logical = (value & 0xff000000) >>> 0;
        break;
      case REGISTER.destinationFormat:
        this.#format = (value | 0x0fffffff) >>> 0;
        break;
      case REGISTER.commandHigh:
        this.#commandHigh = (value & 0xff000000) >>> 0;
        break;
      case REGISTER.commandLow:
        this.#command(value, this.#commandHigh >>> 24);
        break;
      case REGISTER.errorStatus:
        this.#latchErrors();
        break;
      default:
        // Writes to the read-only registers are ignored; to what does not exist, an error.
        if (!this.#write(register, value) && this.#read(register) < 0) this.#error(ERROR_REGISTER);
    }
  }

  // MSRs. `undefined` and `false` stand for #GP(0).

  ownsMsr(index: number): boolean {
    return (
      index === MSR_APIC_BASE ||
      index === MSR_TSC_DEADLINE ||
      (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST)
    );
  }

  readMsr(index: number): bigint | undefined {
    if (index === MSR_APIC_BASE) return BigInt(this.#base);
    if (index === MSR_TSC_DEADLINE) return this.timer.tscDeadline;
    if (!this.ownsMsr(index) || !this.#x2apic) return undefined;
    const register = index - MSR_X2APIC_FIRST;
    if (register === REGISTER.commandLow)
      return (BigInt(this.#commandHigh) << 32n) | BigInt(this.#commandLow);
    if (register === REGISTER.endOfInterrupt || register === REGISTER.selfIpi) return undefined;
    const value = this.#read(register);
    return value < 0 ? undefined : BigInt(value);
  }

  writeMsr(index: number, value: bigint): boolean {
    if (index === MSR_APIC_BASE) return this.#writeBase(value);
    if (index === MSR_TSC_DEADLINE) {
      this.timer.setTscDeadline(value);
      return true;
    }
    if (!this.ownsMsr(index) || !this.#x2apic) return false;
    const register = index - MSR_X2APIC_FIRST;
    const low = Number(value & 0xffffffffn);
    if (register === REGISTER.commandLow) {
      if ((low & ~COMMAND_WRITABLE) !== 0) return false;
      this.#commandHigh = Number(value >> 32n);
      this.#command(low, this.#commandHigh);
      return true;
    }
    if (value >> 32n !== 0n) return false;
    switch (register) {
      case REGISTER.endOfInterrupt:
        if (low !== 0) return false;
        this.#endOfInterrupt();
        return true;
      case REGISTER.errorStatus:
        if (low !== 0) return false;
        this.#latchErrors();
        return true;
      case REGISTER.selfIpi:
        if (low > 0xff) return false;
        this.#accept(DELIVERY.fixed, low, false);
        return true;
      case REGISTER.taskPriority:
      case REGISTER.divide:
        return low <= 0xff && this.#write(register, low);
      case REGISTER.spurious:
        return (low & ~SPURIOUS_WRITABLE) === 0 && this.#write(register, low);
      default:
        if (register >= REGISTER.lvtTimer && register <= REGISTER.lvtError) {
          // The delivery status (12) and remote IRR (14) are read-only, not reserved.
          if ((low & ~(LVT_WRITABLE[register - REGISTER.lvtTimer]! | 0x5000)) !== 0) return false;
        }
        return this.#write(register, low);
    }
  }

  reset(): void {
    this.#base = LOCAL_APIC_BASE + BASE_ENABLE + BASE_BSP;
    this.#resetRegisters();
    // There is no firmware to set up virtual-wire mode: the machine starts in it [MP 3.6.2.2].
    this.#lvt[3] = DELIVERY.external << 8;
    this.#lint0 = false;
    this.#place();
  }

  save(writer: ByteWriter): void {
    writer.uint(this.#base).u8(this.#taskPriority).u16(this.#spurious).u32(this.#logical).u32(this.#format);
    writer.u32(this.#commandLow).u32(this.#commandHigh).u8(this.#errors).u8(this.#errorsRead);
    writer.bool(this.#nmi).bool(this.#lint0);
    for (const entry of this.#lvt) writer.u32(entry);
    this.#request.save(writer);
    this.#service.save(writer);
    this.#level.save(writer);
    this.timer.save(writer);
  }

  load(reader: ByteReader): void {
    this.#base = reader.uint();
    this.#taskPriority = reader.u8();
    this.#spurious = reader.u16();
    this.#logical = reader.u32();
    this.#format = reader.u32();
    this.#commandLow = reader.u32();
    this.#commandHigh = reader.u32();
    this.#errors = reader.u8();
    this.#errorsRead = reader.u8();
    this.#nmi = reader.bool();
    this.#lint0 = reader.bool();
    for (let index = 0; index < 6; index++) this.#lvt[index] = reader.u32();
    this.#request.load(reader);
    this.#service.load(reader);
    this.#level.load(reader);
    this.timer.load(reader);
    this.#place();
    this.#update();
  }

  /** The value of a register that both modes have, or -1. */
  #read(register: number): number {
    if (register >= REGISTER.inService && register < REGISTER.inService + 8) {
      return this.#service.word(register);
    }
    if (register >= REGISTER.triggerMode && register < REGISTER.triggerMode + 8) {
      return this.#level.word(register);
    }
    if (register >= REGISTER.request && register < REGISTER.request + 8) {
      return this.#request.word(register);
    }
    if (register >= REGISTER.lvtTimer && register <= REGISTER.lvtError) {
      return this.#lvt[register - REGISTER.lvtTimer]!;
    }
    switch (register) {
      case REGISTER.id:
        return 0;
      case REGISTER.version:
        return APIC_VERSION;
      case REGISTER.taskPriority:
        return this.#taskPriority;
      case REGISTER.processorPriority:
        return this.#processorPriority();
      case REGISTER.logicalDestination:
        // In x2APIC mode it follows from the ID and cannot be written [SDM 3A 11.12.10.2].
        return this.#x2apic ? 1 : this.#logical;
      case REGISTER.spurious:
        return this.#spurious;
      case REGISTER.errorStatus:
        return this.#errorsRead;
      case REGISTER.commandLow:
        return this.#commandLow;
      case REGISTER.initialCount:
        return this.timer.initialCount;
      case REGISTER.currentCount:
        return this.timer.currentCount;
      case REGISTER.divide:
        return this.timer.divideConfiguration;
      case REGISTER.endOfInterrupt:
        return 0;
      default:
        return -1;
    }
  }

  /** Writes a register that both modes have alike; false when there is none to write. */
  #write(register: number, value: number): boolean {
    if (register >= REGISTER.lvtTimer && register <= REGISTER.lvtError) {
      this.#writeLvt(register - REGISTER.lvtTimer, value);
      return true;
    }
    switch (register) {
      case REGISTER.taskPriority:
        this.#taskPriority = value & 0xff;
        this.#update();
        return true;
      case REGISTER.spurious:
        this.#writeSpurious(value & SPURIOUS_WRITABLE);
        return true;
      case REGISTER.initialCount:
        this.timer.setInitialCount(value);
        return true;
      case REGISTER.divide:
        this.timer.setDivideConfiguration(value);
        return true;
      default:
        return false;
    }
  }

  #writeLvt(index: number, value: number): void {
    const masked = this.#softwareEnabled ? 0 : LVT_MASKED;
    this.#lvt[index] = (value & LVT_WRITABLE[index]!) | masked;
    if (index === 0) this.timer.setMode((value >>> 17) & 3);
    if (index === 3) this.#options.changed();
  }

  #writeSpurious(value: number): void {
    const before = this.#softwareEnabled;
    this.#spurious = value;
    if (!this.#softwareEnabled) {
      // [SDM 3A 11.4.7.2]: the mask bits of all LVT entries are set and stay set.
      for (let index = 0; index < 6; index++) this.#lvt[index]! |= LVT_MASKED;
    }
    this.#update();
    if (!before && this.#softwareEnabled) this.#options.enabled();
  }

  /** [SDM 3A 11.12.5.1]: the transitions between disabled, xAPIC and x2APIC mode. */
  #writeBase(value: bigint): boolean {
    const limit = 1n << BigInt(this.#options.physicalAddressBits ?? 40);
    if (value >= limit || (value & 0x2ffn) !== 0n) return false;
    const mode = Number(value) & (BASE_ENABLE | BASE_X2APIC);
    const before = this.#base & (BASE_ENABLE | BASE_X2APIC);
    if (mode === BASE_X2APIC) return false;
    if (before === 0 && mode === (BASE_ENABLE | BASE_X2APIC)) return false;
    if (before === (BASE_ENABLE | BASE_X2APIC) && mode === BASE_ENABLE) return false;
    this.#base = Number(value);
    if (mode === 0 && before !== 0) this.#resetRegisters();
    this.#place();
    this.#update();
    this.#options.changed();
    return true;
  }

  #resetRegisters(): void {
    this.#taskPriority = 0;
    this.#spurious = 0xff;
    this.#logical = 0;
    this.#format = 0xffffffff;
    this.#commandLow = 0;
    this.#commandHigh = 0;
    this.#errors = 0;
    this.#errorsRead = 0;
    this.#nmi = false;
    this.#lvt.fill(LVT_MASKED);
    this.#request.clear();
    this.#service.clear();
    this.#level.clear();
    this.timer.reset();
    this.#pending = -1;
  }

  #place(): void {
    const mapped = this.enabled && !this.#x2apic;
    this.#range.place(mapped ? this.#base - (this.#base % 0x1000) : undefined);
  }

  /** [SDM 3A 11.6.1] */
  #command(low: number, destination: number): void {
    this.#commandLow = low & COMMAND_WRITABLE;
    const mode = (low >>> 8) & 7;
    const vector = low & 0xff;
    const shorthand = (low >>> 18) & 3;
    const logical = (low & 0x800) !== 0;
    if (mode <= DELIVERY.lowestPriority && vector < 16) {
      this.#error(ERROR_SEND_VECTOR);
      return;
    }
    // Shorthands: 1 self, 2 all with self, 3 all but self, which is nobody here.
    if (shorthand === 3) return;
    const broadcast = this.#x2apic ? 0xffffffff : 0xff;
    if (shorthand !== 0 || this.#isDestination(destination, logical, broadcast)) {
      this.#accept(mode, vector, false);
    }
  }

  /** [SDM 3A 11.6.2] */
  #isDestination(destination: number, logical: boolean, broadcast: number): boolean {
    if (destination === broadcast) return true;
    if (logical && this.#x2apic) return destination >>> 16 === 0 && (destination & 1) !== 0;
    return isDestination(destination, logical, this.#logical, this.#format);
  }

  /** INIT, start-up and SMI do nothing to a lone processor that runs no SMM. */
  #accept(mode: number, vector: number, level: boolean): boolean {
    if (mode === DELIVERY.nmi) {
      this.#nmi = true;
      this.#options.changed();
      return true;
    }
    if (mode !== DELIVERY.fixed && mode !== DELIVERY.lowestPriority) return true;
    if (!this.#softwareEnabled) return false;
    if (vector < 16) {
      this.#error(ERROR_RECEIVE_VECTOR);
      return true;
    }
    this.#request.add(vector);
    if (level) this.#level.add(vector);
    else this.#level.remove(vector);
    this.#update();
    return true;
  }

  #raiseLvt(index: number): void {
    const entry = this.#lvt[index]!;
    if ((entry & LVT_MASKED) !== 0) return;
    // The timer's and the error's entries have no delivery mode: they are fixed.
    this.#accept((entry >>> 8) & 7, entry & 0xff, false);
  }

  #endOfInterrupt(): void {
    const vector = this.#service.highest();
    if (vector < 0) return;
    this.#service.remove(vector);
    const level = this.#level.has(vector);
    this.#update();
    if (level) this.#options.ended(vector);
  }

  #error(bit: number): void {
    const first = (this.#errors & bit) === 0;
    this.#errors |= bit;
    // A bad vector in the error entry itself must not report itself for ever.
    if (first && (this.#lvt[5]! & 0xff) >= 16) this.#raiseLvt(5);
  }

  /** A write of the ESR moves what was found since the last write into what reads see. */
  #latchErrors(): void {
    this.#errorsRead = this.#errors;
    this.#errors = 0;
  }

  /** [SDM 3A 11.8.3.1] */
  #processorPriority(): number {
    const inService = this.#service.highest();
    const floor = inService < 0 ? 0 : inService & 0xf0;
    return this.#taskPriority >>> 4 >= floor >>> 4 ? this.#taskPriority : floor;
  }

  #update(): void {
    const before = this.#pending;
    this.#pending = -1;
    if (!this.enabled || !this.#softwareEnabled) return;
    const vector = this.#request.highest();
    if (vector < 0 || vector >>> 4 <= this.#processorPriority() >>> 4) return;
    this.#pending = vector;
    if (before !== vector) this.#options.changed();
  }
}
