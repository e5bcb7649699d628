/**
 * One instruction before and after, as `lockstep debug step` reads and writes it (design 10): user mode, flat
 * segments, the pages that `memory` and `at` name are mapped readable, writable and executable.
 */
export interface UserState {
  /** RAX RCX RDX RBX RSP RBP RSI RDI R8..R15, unsigned 64-bit. */
  gpr: bigint[];
  rflags: bigint;
  /** Sixteen unsigned 128-bit values. */
  xmm: bigint[];
  mxcsr: number;
  x87: X87State;
  memory: MemoryChunk[];
}

export interface X87State {
  fcw: number;
  fsw: number;
  /** Abridged as in FXSAVE: bit n set when physical register n is not empty. */
  ftw: number;
  /** ST0..ST7, unsigned 80-bit values. */
  st: bigint[];
}

export interface MemoryChunk {
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

export interface StepCase extends UserState {
  readonly code: Uint8Array;
  /** Bits of the code segment; 16 is protected mode with a segment that is flat all the same. */
  readonly mode: 16 | 32 | 64;
  readonly at: bigint;
}

export interface StepException {
  readonly vector: number;
  readonly errorCode: number;
  readonly cr2: bigint;
}

export interface StepOutcome extends UserState {
  rip: bigint;
  exception: StepException | null;
  /** How far the count of retired instructions went: iterations of a repeated one. */
  retired: number;
}

/** Whatever can run one instruction: an engine, or the host's processor. */
export interface StepEngine {
  step(given: StepCase): StepOutcome;
}
