import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { MemoryChunk, StepCase, StepOutcome } from '../../src/host/debug-step/stepped-state.ts';

/** The host's own processor, asked through harness.c. */

const HEAD_BYTES = 608;
const FX_AT = 192;
const FX_BYTES = 416;
const FLAG = { mode32: 1, repeated: 2, noTrapFlag: 4 } as const;
const NO_EXCEPTION = 0xffff_ffff;
const RAN_AWAY = 0xffff_fffe;
const MXCSR_MASK = 0xffff;
/** Cases sent at a time: enough to hide the pipe, few enough to lose little when the harness dies. */
const BATCH = 500;
const CODE_MAX = 15;
const BREAKPOINT = 0xcc;

export interface NativeCase extends StepCase {
  readonly mode: 32 | 64;
  /** A string instruction with a repeat prefix: run on until RIP moves. */
  readonly repeated: boolean;
  /** PUSHF would show TF and POPF would clear it: stop at a breakpoint behind the instruction instead. */
  readonly noTrapFlag: boolean;
}

export function nativeAvailable(): string | undefined {
  if (process.arch !== 'x64' || process.platform !== 'linux') return 'needs Linux on x86-64';
  try {
    execFileSync('gcc', ['--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'needs gcc';
  }
}

/** Builds the harness when it is older than its source and returns its path. */
export function buildHarness(root: string): string {
  const source = join(root, 'tests/silicon/harness.c');
  const directory = join(root, '.cache');
  const binary = join(directory, 'silicon-harness');
  const built = statSync(binary, { throwIfNoEntry: false });
  if (built && built.mtimeMs >= statSync(source).mtimeMs) return binary;
  mkdirSync(directory, { recursive: true });
  const fresh = `${binary}.${process.pid}`;
  // Far from the low addresses that the cases use, so that a stray access faults instead of hitting us.
  const flags =
    '-O2 -static -nostdlib -ffreestanding -fPIC -fno-stack-protector -mgeneral-regs-only -fcf-protection=none -fno-tree-loop-distribute-patterns -fvisibility=hidden -Wl,-Ttext-segment=0x6a0000000000';
  execFileSync('gcc', [...flags.split(' '), '-o', fresh, source]);
  renameSync(fresh, binary);
  return binary;
}

/**
 * Whether the processor is of the family that Lockstep follows where the manual leaves results undefined: AMD Zen,
 * families 17h to 1Ah.
 */
export function followedFamily(): boolean {
  const text = readFileSync('/proc/cpuinfo', 'utf8');
  const family = Number(/^cpu family\s*:\s*(\d+)/m.exec(text)?.[1] ?? 0);
  return /^vendor_id\s*:\s*AuthenticAMD/m.test(text) && family >= 0x17 && family <= 0x1a;
}

/** What to call the processor that gave the answers. */
export function processorName(): string {
  const line = /^model name\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
  return line?.[1] ?? 'unknown';
}

export class NativeProcessor {
  readonly #child: ChildProcess;
  #received: Buffer[] = [];
  #receivedBytes = 0;
  #waiting: { bytes: number; resolve: (bytes: Buffer) => void; reject: (error: Error) => void } | undefined;
  #ended: Error | undefined;

  constructor(harness: string) {
    // In a session of its own: SIGINT of a terminal is for this process, which ends it.
    this.#child = spawn(harness, [], { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
    this.#child.stdout!.on('data', (data: Buffer) => {
      this.#received.push(data);
      this.#receivedBytes += data.length;
      this.#deliver();
    });
    this.#child.on('exit', (code, signal) => {
      this.#ended = new Error(`the harness ended (${signal ?? code})`);
      this.#waiting?.reject(this.#ended);
    });
    this.#child.stdin!.on('error', () => undefined);
  }

  async run(cases: readonly NativeCase[]): Promise<StepOutcome[]> {
    const outcomes: StepOutcome[] = [];
    for (let start = 0; start < cases.length; start += BATCH) {
      const batch = cases.slice(start, start + BATCH);
      const bytes = Buffer.concat(batch.map(encodeCase));
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      this.#child.stdin!.write(length);
      this.#child.stdin!.write(bytes);
      const answerLength = (await this.#read(4)).readUInt32LE();
      const answers = await this.#read(answerLength);
      let at = 0;
      for (const given of batch) {
        const { outcome, next } = decodeOutcome(answers, at, given);
        outcomes.push(outcome);
        at = next;
      }
    }
    return outcomes;
  }

  close(): void {
    this.#child.stdin!.end();
  }

  #read(bytes: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#ended) reject(this.#ended);
      this.#waiting = { bytes, resolve, reject };
      this.#deliver();
    });
  }

  #deliver(): void {
    const waiting = this.#waiting;
    if (!waiting || this.#receivedBytes < waiting.bytes) return;
    const all = Buffer.concat(this.#received);
    this.#received = [all.subarray(waiting.bytes)];
    this.#receivedBytes = all.length - waiting.bytes;
    this.#waiting = undefined;
    waiting.resolve(all.subarray(0, waiting.bytes));
  }
}

/** Longer code than one instruction travels as memory; the breakpoint behind it too. */
function chunksOf(given: NativeCase): readonly MemoryChunk[] {
  if (given.code.length <= CODE_MAX) return given.memory;
  return [...given.memory, { address: given.at, bytes: Uint8Array.from([...given.code, BREAKPOINT]) }];
}

function encodeCase(given: NativeCase): Buffer {
  const chunks = chunksOf(given);
  const memoryBytes = chunks.reduce((sum, chunk) => sum + 12 + chunk.bytes.length, 0);
  const out = Buffer.alloc(HEAD_BYTES + memoryBytes);
  const flags =
    (given.mode === 32 ? FLAG.mode32 : 0) |
    (given.repeated ? FLAG.repeated : 0) |
    (given.noTrapFlag ? FLAG.noTrapFlag : 0);
  out.writeUInt32LE(flags, 0);
  out.writeBigUInt64LE(given.at, 24);
  for (const [index, value] of given.gpr.entries()) out.writeBigUInt64LE(value, 32 + index * 8);
  out.writeBigUInt64LE(given.rflags, 160);
  const code = given.code.length <= CODE_MAX ? given.code : given.code.subarray(0, 0);
  out.writeUInt32LE(code.length, 168);
  out.writeUInt32LE(chunks.length, 172);
  out.set(code, 176);
  const fx = out.subarray(FX_AT, FX_AT + FX_BYTES);
  fx.writeUInt16LE(given.x87.fcw, 0);
  fx.writeUInt16LE(given.x87.fsw, 2);
  fx.writeUInt8(given.x87.ftw, 4);
  fx.writeUInt32LE(given.mxcsr, 24);
  fx.writeUInt32LE(MXCSR_MASK, 28);
  for (let index = 0; index < 8; index += 1) {
    const value = given.x87.st[index]!;
    fx.writeBigUInt64LE(BigInt.asUintN(64, value), 32 + index * 16);
    fx.writeUInt16LE(Number(value >> 64n), 40 + index * 16);
  }
  for (let index = 0; index < 16; index += 1) {
    const value = given.xmm[index]!;
    fx.writeBigUInt64LE(BigInt.asUintN(64, value), 160 + index * 16);
    fx.writeBigUInt64LE(value >> 64n, 168 + index * 16);
  }
  let at = HEAD_BYTES;
  for (const chunk of chunks) {
    out.writeBigUInt64LE(chunk.address, at);
    out.writeUInt32LE(chunk.bytes.length, at + 8);
    out.set(chunk.bytes, at + 12);
    at += 12 + chunk.bytes.length;
  }
  return out;
}

function decodeOutcome(
  from: Buffer,
  start: number,
  given: NativeCase,
): { outcome: StepOutcome; next: number } {
  const vector = from.readUInt32LE(start + 4);
  if (vector === RAN_AWAY) throw new Error('a repeated instruction did not end');
  const fx = from.subarray(start + FX_AT, start + FX_AT + FX_BYTES);
  const lanes = (at: number) => (fx.readBigUInt64LE(at + 8) << 64n) | fx.readBigUInt64LE(at);
  const memory: MemoryChunk[] = [];
  let at = start + HEAD_BYTES;
  for (const chunk of chunksOf(given)) {
    const bytes = Uint8Array.from(from.subarray(at + 12, at + 12 + chunk.bytes.length));
    if (memory.length < given.memory.length) memory.push({ address: chunk.address, bytes });
    at += 12 + bytes.length;
  }
  const outcome: StepOutcome = {
    gpr: Array.from({ length: 16 }, (_, index) => from.readBigUInt64LE(start + 32 + index * 8)),
    rflags: from.readBigUInt64LE(start + 160),
    rip: from.readBigUInt64LE(start + 24),
    xmm: Array.from({ length: 16 }, (_, index) => lanes(160 + index * 16)),
    mxcsr: fx.readUInt32LE(24),
    x87: {
      fcw: fx.readUInt16LE(0),
      fsw: fx.readUInt16LE(2),
      ftw: fx.readUInt8(4),
      st: Array.from({ length: 8 }, (_, index) => BigInt.asUintN(80, lanes(32 + index * 16))),
    },
    memory,
    exception:
      vector === NO_EXCEPTION
        ? null
        : { vector, errorCode: from.readUInt32LE(start + 8), cr2: from.readBigUInt64LE(start + 16) },
    retired: from.readUInt32LE(start + 12),
  };
  return { outcome, next: at };
}
