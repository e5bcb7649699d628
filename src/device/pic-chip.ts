import type { ByteReader, ByteWriter } from '../base/bytes.ts';

/** One 8259A [8259A data sheet]. The pair is in pic.ts. */
export class PicChip {
  readonly #elcrWritable: number;
  readonly #cascadePin: number | undefined;
  #levels = 0;
  #request = 0;
  #mask = 0;
  #service = 0;
  #elcr = 0;
  #vectorBase = 0;
  #lowest = 7;
  /** The initialisation word that comes next; 0 when initialised. */
  #expected = 0;
  #needsFourth = false;
  #single = false;
  #autoEoi = false;
  #rotateOnAutoEoi = false;
  #specialMask = false;
  #fullyNested = false;
  #readsService = false;
  #poll = false;

  constructor(elcrWritable: number, cascadePin: number | undefined) {
    this.#elcrWritable = elcrWritable;
    this.#cascadePin = cascadePin;
  }

  get vectorBase(): number {
    return this.#vectorBase;
  }

  get elcr(): number {
    return this.#elcr;
  }

  set elcr(value: number) {
    this.#elcr = value & this.#elcrWritable;
  }

  setPin(pin: number, level: boolean): void {
    const bit = 1 << pin;
    if (level) {
      if ((this.#levels & bit) === 0 || (this.#elcr & bit) !== 0) this.#request |= bit;
      this.#levels |= bit;
    } else {
      this.#levels &= ~bit;
      // The second chip's INTR stands for requests that it still has; an ISA edge stays latched.
      if ((this.#elcr & bit) !== 0 || pin === this.#cascadePin) this.#request &= ~bit;
    }
  }

  /** The pin whose interrupt would be taken now, or -1. */
  pendingPin(): number {
    const request = this.#request & ~this.#mask;
    if (request === 0) return -1;
    let blocking = this.#service;
    if (this.#specialMask) blocking &= ~this.#mask;
    // Special fully nested: the slave may interrupt its own service with a higher request of its own.
    if (this.#fullyNested && this.#cascadePin !== undefined) blocking &= ~(1 << this.#cascadePin);
    const rank = this.#rank(request);
    return rank < this.#rank(blocking) ? (this.#lowest + 1 + rank) & 7 : -1;
  }

  acknowledge(pin: number): void {
    const bit = 1 << pin;
    if ((this.#elcr & bit) === 0) this.#request &= ~bit;
    if (!this.#autoEoi) this.#service |= bit;
    else if (this.#rotateOnAutoEoi) this.#lowest = pin;
  }

  /** Reads the command port (0) or the mask port (1). */
  read(register: number): number {
    if (this.#poll) {
      this.#poll = false;
      const pin = this.pendingPin();
      if (pin < 0) return 0;
      this.acknowledge(pin);
      return 0x80 | pin;
    }
    if (register === 1) return this.#mask;
    return this.#readsService ? this.#service : this.#request;
  }

  write(register: number, value: number): void {
    if (register === 1) this.#writeData(value);
    else if ((value & 0x10) !== 0) this.#initialise(value);
    else if ((value & 0x08) !== 0) this.#writeOperation3(value);
    else this.#writeOperation2(value);
  }

  /** As a firmware leaves it: nothing gets through before the guest initialises it. */
  reset(elcr: number): void {
    this.#initialise(0);
    this.#expected = 0;
    this.#mask = 0xff;
    this.elcr = elcr;
    this.#vectorBase = 0;
    this.#poll = false;
  }

  save(writer: ByteWriter): void {
    writer.u8(this.#levels).u8(this.#request).u8(this.#mask).u8(this.#service).u8(this.#elcr);
    writer.u8(this.#vectorBase).u8(this.#lowest).u8(this.#expected);
    writer.bool(this.#needsFourth).bool(this.#single).bool(this.#autoEoi).bool(this.#rotateOnAutoEoi);
    writer.bool(this.#specialMask).bool(this.#fullyNested).bool(this.#readsService).bool(this.#poll);
  }

  load(reader: ByteReader): void {
    this.#levels = reader.u8();
    this.#request = reader.u8();
    this.#mask = reader.u8();
    this.#service = reader.u8();
    this.elcr = reader.u8();
    this.#vectorBase = reader.u8() & 0xf8;
    this.#lowest = reader.u8() & 7;
    this.#expected = reader.u8();
    this.#needsFourth = reader.bool();
    this.#single = reader.bool();
    this.#autoEoi = reader.bool();
    this.#rotateOnAutoEoi = reader.bool();
    this.#specialMask = reader.bool();
    this.#fullyNested = reader.bool();
    this.#readsService = reader.bool();
    this.#poll = reader.bool();
  }

  /** How far the most urgent of `pins` is from the highest priority; 8 for none. */
  #rank(pins: number): number {
    for (let rank = 0; rank < 8; rank++) {
      if ((pins & (1 << ((this.#lowest + 1 + rank) & 7))) !== 0) return rank;
    }
    return 8;
  }

  /** ICW1. Edge detection starts anew; the levels of the wires stay. */
  #initialise(value: number): void {
    this.#request = this.#levels & this.#elcr;
    this.#mask = 0;
    this.#service = 0;
    this.#lowest = 7;
    this.#specialMask = false;
    this.#readsService = false;
    this.#rotateOnAutoEoi = false;
    this.#autoEoi = false;
    this.#fullyNested = false;
    this.#needsFourth = (value & 1) !== 0;
    this.#single = (value & 2) !== 0;
    this.#expected = 2;
  }

  /** ICW2 to ICW4, or OCW1. */
  #writeData(value: number): void {
    switch (this.#expected) {
      case 2:
        this.#vectorBase = value & 0xf8;
        this.#expected = this.#single ? (this.#needsFourth ? 4 : 0) : 3;
        break;
      case 3:
        this.#expected = this.#needsFourth ? 4 : 0;
        break;
      case 4:
        this.#autoEoi = (value & 2) !== 0;
        this.#fullyNested = (value & 0x10) !== 0;
        this.#expected = 0;
        break;
      default:
        this.#mask = value;
    }
  }

  #writeOperation2(value: number): void {
    const pin = value & 7;
    switch (value >>> 5) {
      case 0:
        this.#rotateOnAutoEoi = false;
        break;
      case 4:
        this.#rotateOnAutoEoi = true;
        break;
      case 1:
      case 5: {
        const served = this.#specialMask ? this.#service & ~this.#mask : this.#service;
        const rank = this.#rank(served);
        if (rank === 8) break;
        const ended = (this.#lowest + 1 + rank) & 7;
        this.#service &= ~(1 << ended);
        if (value >>> 5 === 5) this.#lowest = ended;
        break;
      }
      case 3:
        this.#service &= ~(1 << pin);
        break;
      case 6:
        this.#lowest = pin;
        break;
      case 7:
        this.#service &= ~(1 << pin);
        this.#lowest = pin;
        break;
      default:
    }
  }

  #writeOperation3(value: number): void {
    if ((value & 4) !== 0) this.#poll = true;
    if ((value & 2) !== 0) this.#readsService = (value & 1) !== 0;
    if ((value & 0x40) !== 0) this.#specialMask = (value & 0x20) !== 0;
  }
}
