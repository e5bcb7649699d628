import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { bytePorts, NO_REGISTER } from './byte-ports.ts';
import type { Bus, Device, GuestClock, InterruptLine, Timer } from './device.ts';
import { type CivilTime, civilTime, epochSeconds } from './rtc-calendar.ts';
import { armTimer, loadTimer, saveTimer } from './timer-state.ts';

const SECOND = 1_000_000_000n;
/** The time fields are not to be read for so long before each second [MC146818A, update cycle]. */
const UPDATE_NANOSECONDS = 244_000n;
const DAY = 86_400;

const FIELD = {
  second: 0,
  secondAlarm: 1,
  minute: 2,
  minuteAlarm: 3,
  hour: 4,
  hourAlarm: 5,
  weekday: 6,
  day: 7,
  month: 8,
  year: 9,
  a: 10,
  b: 11,
  c: 12,
  d: 13,
  century: 0x32,
} as const;
const TIME_FIELDS = [0, 2, 4, 6, 7, 8, 9, FIELD.century] as const;

const B_SET = 0x80;
const B_BINARY = 0x04;
const B_24_HOURS = 0x02;
const IRQF = 0x80;
const PF = 0x40;
const AF = 0x20;
const UF = 0x10;
const VALID = 0x80;

/** An alarm byte of 0xc0 and above matches everything. */
const ANY = 0xc0;

/**
 * The MC146818A clock with its CMOS memory. The time of day is the configured start plus guest time plus what
 * the guest set; the host's clock is never asked. Bytes 0-9 and 0x32 of the memory hold the time only while
 * the guest sets it.
 */
export class Rtc implements Device {
  readonly name = 'rtc';
  readonly #clock: GuestClock;
  readonly #line: InterruptLine;
  readonly #timer: Timer;
  readonly #startEpochSeconds: number;
  readonly #memory = new Uint8Array(128);
  #index = 0;
  /** Seconds that the guest's own setting adds. */
  #offset = 0;
  /** Events up to here are in register C. */
  #seen = 0n;

  constructor(bus: Bus, clock: GuestClock, line: InterruptLine, startEpochSeconds: number) {
    this.#clock = clock;
    this.#line = line;
    this.#startEpochSeconds = startEpochSeconds;
    this.#timer = clock.timer('rtc', () => this.#fire());
    this.#memory[FIELD.a] = 0x26;
    this.#memory[FIELD.b] = B_24_HOURS;
    this.#memory[FIELD.d] = VALID;
    const ports = bytePorts(
      (port) => (port === 0x71 ? this.#read(this.#index & 0x7f) : NO_REGISTER),
      (port, value) => {
        if (port === 0x70) this.#index = value;
        else if (port === 0x71) this.#write(this.#index & 0x7f, value);
      },
    );
    bus.ports(0x70, 0x71, ports);
  }

  /** What a firmware would leave in the CMOS memory: the sizes of RAM below and above 16 MiB. */
  setMemorySize(bytes: number): void {
    const extended = Math.min(Math.max(bytes / 1024 - 1024, 0), 0xffff);
    const above16M = Math.min(Math.max(bytes / 65_536 - 256, 0), 0xffff);
    this.#word(0x15, 640);
    this.#word(0x17, extended);
    this.#word(0x30, extended);
    this.#word(0x34, above16M);
  }

  /** The battery keeps time, settings and memory; RESET clears the interrupt enables and flags. */
  reset(): void {
    this.#memory[FIELD.b]! &= 0x87;
    this.#memory[FIELD.c] = 0;
    this.#index = 0;
    this.#seen = this.#clock.now();
    this.#line.set(false);
    this.#schedule();
  }

  save(writer: ByteWriter): void {
    writer.raw(this.#memory).u8(this.#index).u64(BigInt(this.#offset)).u64(this.#seen);
    saveTimer(writer, this.#timer);
  }

  load(reader: ByteReader): void {
    this.#memory.set(reader.raw(this.#memory.length));
    this.#index = reader.u8();
    this.#offset = Number(BigInt.asIntN(48, reader.u64()));
    this.#seen = BigInt.asIntN(64, reader.u64());
    loadTimer(reader, this.#timer);
  }

  #read(index: number): number {
    const memory = this.#memory;
    switch (index) {
      case FIELD.a:
        return memory[FIELD.a]! | (this.#updating() ? 0x80 : 0);
      case FIELD.c: {
        this.#catchUp();
        const flags = memory[FIELD.c]!;
        memory[FIELD.c] = 0;
        this.#line.set(false);
        this.#schedule();
        return flags;
      }
      case FIELD.d:
        return VALID;
      default:
        if (!isTimeField(index) || this.#setting()) return memory[index]!;
        return this.#encode(index, this.#civil());
    }
  }

  #write(index: number, value: number): void {
    const memory = this.#memory;
    switch (index) {
      case FIELD.a:
        this.#catchUp();
        memory[FIELD.a] = value & 0x7f;
        this.#schedule();
        break;
      case FIELD.b:
        this.#catchUp();
        this.#writeB(value);
        this.#raise();
        this.#schedule();
        break;
      case FIELD.c:
      case FIELD.d:
        break;
      default:
        if (!isTimeField(index) || this.#setting()) {
          memory[index] = value;
          this.#schedule();
          break;
        }
        // A field set while the clock runs: the others stay what they are.
        this.#freeze();
        memory[index] = value;
        this.#thaw();
    }
  }

  #writeB(value: number): void {
    const was = this.#setting();
    const becomes = (value & B_SET) !== 0;
    // Setting ends before the formats change, and begins after: the bytes are always in B's formats.
    if (was && !becomes) {
      this.#memory[FIELD.b] = value;
      this.#thaw();
    }
    // SET also clears UIE.
    this.#memory[FIELD.b] = becomes ? value & ~UF : value;
    if (!was && becomes) this.#freeze();
  }

  #setting(): boolean {
    return (this.#memory[FIELD.b]! & B_SET) !== 0;
  }

  #freeze(): void {
    const time = this.#civil();
    for (const field of TIME_FIELDS) this.#memory[field] = this.#encode(field, time);
  }

  #thaw(): void {
    const decode = (index: number) => this.#decode(this.#memory[index]!);
    const set = epochSeconds({
      second: decode(FIELD.second),
      minute: decode(FIELD.minute),
      hour: this.#decodeHour(this.#memory[FIELD.hour]!),
      day: decode(FIELD.day),
      month: decode(FIELD.month),
      year: decode(FIELD.century) * 100 + decode(FIELD.year),
    });
    this.#offset += set - this.#epoch(this.#clock.now());
    this.#schedule();
  }

  #epoch(time: bigint): number {
    return this.#startEpochSeconds + this.#offset + Number(time / SECOND);
  }

  #civil(): CivilTime {
    return civilTime(this.#epoch(this.#clock.now()));
  }

  #updating(): boolean {
    return !this.#setting() && this.#clock.now() % SECOND >= SECOND - UPDATE_NANOSECONDS;
  }

  #encode(field: number, time: CivilTime): number {
    switch (field) {
      case FIELD.second:
        return this.#digits(time.second);
      case FIELD.minute:
        return this.#digits(time.minute);
      case FIELD.hour: {
        if ((this.#memory[FIELD.b]! & B_24_HOURS) !== 0) return this.#digits(time.hour);
        return this.#digits(time.hour % 12 === 0 ? 12 : time.hour % 12) | (time.hour >= 12 ? 0x80 : 0);
      }
      case FIELD.weekday:
        return this.#digits(time.weekday);
      case FIELD.day:
        return this.#digits(time.day);
      case FIELD.month:
        return this.#digits(time.month);
      case FIELD.year:
        return this.#digits(time.year % 100);
      default:
        return this.#digits(Math.floor(time.year / 100) % 100);
    }
  }

  #digits(value: number): number {
    if ((this.#memory[FIELD.b]! & B_BINARY) !== 0) return value;
    return (Math.floor(value / 10) << 4) | (value % 10);
  }

  #decode(value: number): number {
    if ((this.#memory[FIELD.b]! & B_BINARY) !== 0) return value;
    return (value >>> 4) * 10 + (value & 0xf);
  }

  #decodeHour(value: number): number {
    if ((this.#memory[FIELD.b]! & B_24_HOURS) !== 0) return this.#decode(value);
    return (this.#decode(value & 0x7f) % 12) + ((value & 0x80) !== 0 ? 12 : 0);
  }

  /** Whether the alarm bytes match any second in (first, last], both since 1970. */
  #alarmIn(first: number, last: number): boolean {
    const from = Math.max(first + 1, last - DAY + 1);
    for (let at = from; at <= last; at++) if (this.#alarmAt(at)) return true;
    return false;
  }

  #alarmAt(epoch: number): boolean {
    const inDay = ((epoch % DAY) + DAY) % DAY;
    const second = this.#memory[FIELD.secondAlarm]!;
    if (second < ANY && this.#decode(second) !== inDay % 60) return false;
    const minute = this.#memory[FIELD.minuteAlarm]!;
    if (minute < ANY && this.#decode(minute) !== Math.floor(inDay / 60) % 60) return false;
    const hour = this.#memory[FIELD.hourAlarm]!;
    return hour >= ANY || this.#decodeHour(hour) === Math.floor(inDay / 3600);
  }

  /** Nanoseconds between periodic interrupts, as register A selects; 0n for none. */
  #periodAt(time: bigint): bigint {
    let rate = this.#memory[FIELD.a]! & 0xf;
    if (rate === 0) return 0n;
    if (rate <= 2) rate += 7;
    // 32,768 Hz >> (rate - 1), counted in whole periods since the start.
    return (time * 32_768n) / (SECOND << BigInt(rate - 1));
  }

  #nextPeriodic(time: bigint): bigint {
    let rate = this.#memory[FIELD.a]! & 0xf;
    if (rate <= 2) rate += 7;
    return ((this.#periodAt(time) + 1n) * (SECOND << BigInt(rate - 1)) + 32_767n) / 32_768n;
  }

  /** Brings register C up to now. The events depend on guest time alone, so nothing need run for them. */
  #catchUp(): void {
    const now = this.#clock.now();
    const seen = this.#seen;
    if (now <= seen) return;
    this.#seen = now;
    let flags = 0;
    if (this.#periodAt(now) !== this.#periodAt(seen)) flags |= PF;
    if (!this.#setting() && now / SECOND !== seen / SECOND) {
      flags |= UF;
      if (this.#alarmIn(this.#epoch(seen), this.#epoch(now))) flags |= AF;
    }
    this.#memory[FIELD.c]! |= flags;
  }

  #raise(): void {
    const memory = this.#memory;
    if ((memory[FIELD.c]! & memory[FIELD.b]! & (PF | AF | UF)) !== 0) {
      memory[FIELD.c]! |= IRQF;
      this.#line.set(true);
    } else {
      memory[FIELD.c]! &= ~IRQF;
      this.#line.set(false);
    }
  }

  #fire(): void {
    this.#timer.disarm();
    this.#catchUp();
    this.#raise();
    this.#schedule();
  }

  /** A timer only for events that interrupt, and none while the line is up: C must be read first. */
  #schedule(): void {
    const enabled = this.#memory[FIELD.b]!;
    const raised = (this.#memory[FIELD.c]! & IRQF) !== 0;
    const now = this.#clock.now();
    let deadline = 0n;
    if ((enabled & PF) !== 0 && (this.#memory[FIELD.a]! & 0xf) !== 0) deadline = this.#nextPeriodic(now);
    if ((enabled & (AF | UF)) !== 0 && !this.#setting()) {
      const second = (now / SECOND + 1n) * SECOND;
      if (deadline === 0n || second < deadline) deadline = second;
    }
    if (raised || deadline === 0n) this.#timer.disarm();
    else armTimer(this.#timer, deadline);
  }

  #word(index: number, value: number): void {
    this.#memory[index] = value & 0xff;
    this.#memory[index + 1] = value >>> 8;
  }
}

function isTimeField(index: number): boolean {
  return index === FIELD.century || (index <= FIELD.year && ((index & 1) === 0 || index >= FIELD.weekday));
}
