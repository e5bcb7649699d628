/** The records of harness.c: one instruction with the state before or after it. */
export const RECORD_SIZE = 1072;
const MEMORY = 48;
const IMAGE = 560;

export class SiliconRecord {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(bytes: Uint8Array = new Uint8Array(RECORD_SIZE)) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, RECORD_SIZE);
  }

  get code(): Uint8Array {
    return this.bytes.subarray(0, this.bytes[15]!);
  }
  set code(code: readonly number[]) {
    this.bytes.fill(0, 0, 16);
    this.bytes.set(code);
    this.bytes[15] = code.length;
  }
  get rax(): bigint {
    return this.view.getBigUint64(16, true);
  }
  set rax(value: bigint) {
    this.view.setBigUint64(16, value, true);
  }
  get rflags(): bigint {
    return this.view.getBigUint64(24, true);
  }
  set rflags(value: bigint) {
    this.view.setBigUint64(24, value, true);
  }
  /** Signal number that ended the instruction, or 0. */
  get signal(): number {
    return this.view.getUint32(32, true);
  }
  /** What RDI points at. */
  get memory(): Uint8Array {
    return this.bytes.subarray(MEMORY, MEMORY + 512);
  }
  /** FXSAVE image. */
  get image(): Uint8Array {
    return this.bytes.subarray(IMAGE, IMAGE + 512);
  }
  get mxcsr(): number {
    return this.view.getUint32(IMAGE + 24, true);
  }
  set mxcsr(value: number) {
    this.view.setUint32(IMAGE + 24, value, true);
  }
  get fcw(): number {
    return this.view.getUint16(IMAGE, true);
  }
  set fcw(value: number) {
    this.view.setUint16(IMAGE, value, true);
  }
  get fsw(): number {
    return this.view.getUint16(IMAGE + 2, true);
  }
  set fsw(value: number) {
    this.view.setUint16(IMAGE + 2, value, true);
  }
  /** Abridged. */
  get ftw(): number {
    return this.bytes[IMAGE + 4]!;
  }
  set ftw(value: number) {
    this.bytes[IMAGE + 4] = value;
  }
  xmm(index: number): bigint {
    const at = IMAGE + 160 + index * 16;
    return this.view.getBigUint64(at, true) | (this.view.getBigUint64(at + 8, true) << 64n);
  }
  setXmm(index: number, value: bigint): void {
    const at = IMAGE + 160 + index * 16;
    this.view.setBigUint64(at, BigInt.asUintN(64, value), true);
    this.view.setBigUint64(at + 8, value >> 64n, true);
  }
  /** ST(index), 80 bits. */
  st(index: number): bigint {
    const at = IMAGE + 32 + index * 16;
    return this.view.getBigUint64(at, true) | (BigInt(this.view.getUint16(at + 8, true)) << 64n);
  }
  setSt(index: number, value: bigint): void {
    const at = IMAGE + 32 + index * 16;
    this.view.setBigUint64(at, BigInt.asUintN(64, value), true);
    this.view.setUint16(at + 8, Number(value >> 64n), true);
  }
}
