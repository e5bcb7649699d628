import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { bytePorts, NO_REGISTER } from './byte-ports.ts';
import type { Bus, Device, GuestClock, InterruptLine, Timer } from './device.ts';
import { PitChannel, pitTicksToTime } from './pit-channel.ts';
import { armTimer, loadTimer, saveTimer } from './timer-state.ts';

/** A guest that asks for more interrupts than this gets them merged; see the local APIC's timer. */
const GAP_MIN = 10_000n;
/** The memory refresh toggles port 0x61 bit 4 this often. */
const REFRESH_NANOSECONDS = 15_085n;

/** The 8254 with its three counters, and port 0x61, which holds the gate of the third. */
export class Pit implements Device {
  readonly name = 'pit';
  readonly #clock: GuestClock;
  readonly #line: InterruptLine;
  readonly #timer: Timer;
  readonly #channels: readonly [PitChannel, PitChannel, PitChannel];
  /** Port 0x61 bit 1: the speaker, which nobody hears. */
  #speaker = false;

  constructor(bus: Bus, clock: GuestClock, line: InterruptLine) {
    this.#clock = clock;
    this.#line = line;
    this.#timer = clock.timer('pit', () => this.#fire());
    this.#channels = [new PitChannel(clock, true), new PitChannel(clock, true), new PitChannel(clock, false)];
    const counters = bytePorts(
      (port) => (port > 0x42 ? NO_REGISTER : this.#channels[port - 0x40]!.read()),
      (port, value) => this.#write(port, value),
    );
    bus.ports(0x40, 0x43, counters);
    const system = bytePorts(
      (port) => (port === 0x61 ? this.#readSystem() : NO_REGISTER),
      (port, value) => {
        if (port === 0x61) this.#writeSystem(value);
      },
    );
    bus.ports(0x61, 0x61, system);
    this.reset();
  }

  reset(): void {
    for (const channel of this.#channels) channel.reset();
    this.#speaker = false;
    this.#timer.disarm();
    this.#line.set(false);
  }

  save(writer: ByteWriter): void {
    for (const channel of this.#channels) channel.save(writer);
    writer.bool(this.#speaker);
    saveTimer(writer, this.#timer);
  }

  load(reader: ByteReader): void {
    for (const channel of this.#channels) channel.load(reader);
    this.#speaker = reader.bool();
    loadTimer(reader, this.#timer);
  }

  #write(port: number, value: number): void {
    if (port > 0x43) return;
    if (port === 0x43) {
      this.#control(value);
      return;
    }
    const index = port - 0x40;
    const done = this.#channels[index]!.write(value);
    if (index === 0 && (done || !this.#channels[0].counting)) this.#schedule();
  }

  #control(value: number): void {
    const index = value >>> 6;
    if (index === 3) {
      // Read-back: bits 5 and 4 low latch count and status of the counters named.
      for (let channel = 0; channel < 3; channel++) {
        if ((value & (2 << channel)) === 0) continue;
        if ((value & 0x20) === 0) this.#channels[channel]!.latchCount();
        if ((value & 0x10) === 0) this.#channels[channel]!.latchStatus();
      }
      return;
    }
    const channel = this.#channels[index]!;
    if ((value & 0x30) === 0) {
      channel.latchCount();
      return;
    }
    channel.setControl(value);
    if (index === 0) this.#schedule();
  }

  /** Counter 0 drives IRQ 0: only its rising edges matter, so only they are timed. */
  #schedule(): void {
    const channel = this.#channels[0];
    this.#line.set(channel.output);
    if (!channel.counting) {
      this.#timer.disarm();
      return;
    }
    const { start, period } = channel;
    const once = channel.mode === 0 || channel.mode === 4;
    let ticks = period;
    if (!once) {
      const earliest = this.#clock.now() + GAP_MIN;
      const length = pitTicksToTime(period);
      const passed = (earliest - start) / length;
      if (passed > 0n) ticks = period * passed;
      while (start + pitTicksToTime(ticks) < earliest) ticks += period;
    } else if (channel.mode === 4) {
      // The strobe is low for one tick; its end is the edge.
      ticks = period + 1n;
    }
    const deadline = start + pitTicksToTime(ticks);
    if (once && deadline <= this.#clock.now()) this.#timer.disarm();
    else armTimer(this.#timer, deadline);
  }

  #fire(): void {
    this.#timer.disarm();
    this.#line.set(false);
    this.#line.set(true);
    const { mode } = this.#channels[0];
    if (mode === 2 || mode === 3) this.#schedule();
  }

  #readSystem(): number {
    const channel = this.#channels[2];
    const refresh = (this.#clock.now() / REFRESH_NANOSECONDS) % 2n === 1n;
    return (
      (channel.gate ? 1 : 0) | (this.#speaker ? 2 : 0) | (refresh ? 0x10 : 0) | (channel.output ? 0x20 : 0)
    );
  }

  #writeSystem(value: number): void {
    this.#channels[2].setGate((value & 1) !== 0);
    this.#speaker = (value & 2) !== 0;
  }
}
