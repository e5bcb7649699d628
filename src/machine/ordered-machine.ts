import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { hash128 } from '../base/hash.ts';
import { failed, ok, type Result } from '../base/result.ts';
import { decodeText, encodeText } from '../base/text.ts';
import {
  type GuestNanoseconds,
  guestNanoseconds,
  type InstructionCount,
  instructionCount,
} from '../base/units.ts';
import type { EngineOptions, MachineConfig } from './config.ts';
import type { CopiedPages } from './copied-pages.ts';
import type {
  ControlInput,
  Digest,
  DiskRequestOutput,
  Input,
  Machine,
  Orders,
  Output,
  OutputSink,
  StopReason,
} from './door.ts';
import { type BootImage, createMachine, type LockstepMachine } from './machine.ts';
import { restoreMachine } from './restore.ts';
import { checkSnapshotHead } from './snapshot-format.ts';

const APPENDIX_MAGIC = 0x5246_4c4d;
/** Of an appendix without the boot image: it has gone before, as the part of a copy that never changes. */
const APPENDIX_WITHOUT_IMAGE_MAGIC = 0x5246_4c4e;
const APPENDIX_FOOT_BYTES = 8;
const NO_ORDERS: Orders = { paused: false, cpuPercent: 100 };

/** What lies behind the machine that runs now: its own count, time and disk requests begin at 0 again. */
interface Before {
  readonly count: bigint;
  readonly time: bigint;
  /** Per disk, the number of the last request. */
  readonly requests: readonly number[];
}

/**
 * A machine that takes orders and outlives its resets: the guest of a pair. A reset makes a new LockstepMachine of
 * the same configuration and boots it from the image that this one keeps, at an exact count, so a backup does the
 * same from the log alone. Count, guest time and disk requests go on, seen from outside.
 */
export class OrderedMachine implements Machine {
  readonly #config: MachineConfig;
  readonly #image: BootImage;
  readonly #sink: OutputSink;
  readonly #options: EngineOptions | undefined;
  #machine!: LockstepMachine;
  #before: Before;
  #requests: number[];
  #orders: Orders;
  #awaitsRestart: boolean;
  /** Network cards without their cable; it stays out when the guest is switched on again. */
  readonly #disconnected: Set<number>;
  #copying = false;
  #imageCopied = false;

  private constructor(
    config: MachineConfig,
    image: BootImage,
    sink: OutputSink,
    options: EngineOptions | undefined,
    past: Past,
  ) {
    this.#config = config;
    this.#image = image;
    this.#sink = sink;
    this.#options = options;
    this.#before = past.before;
    this.#requests = [...past.requests];
    this.#orders = past.orders;
    this.#awaitsRestart = past.awaitsRestart;
    this.#disconnected = new Set(past.disconnected);
  }

  static create(
    config: MachineConfig,
    image: BootImage,
    sink: OutputSink,
    options?: EngineOptions,
  ): Result<OrderedMachine> {
    const none = config.disks.map(() => 0);
    const before = { count: 0n, time: 0n, requests: none };
    const past = { before, requests: none, orders: NO_ORDERS, awaitsRestart: false, disconnected: [] };
    const made = new OrderedMachine(config, image, sink, options, past);
    const booted = made.#boot();
    return booted.ok ? ok(made) : booted;
  }

  static restore(
    snapshot: Uint8Array,
    sink: OutputSink,
    options?: EngineOptions,
    staged?: CopiedPages,
  ): Result<OrderedMachine> {
    const known = checkSnapshotHead(snapshot);
    if (!known.ok) return known;
    const appendix = readAppendix(snapshot, staged);
    if (!appendix.ok) return appendix;
    const { machineBytes, config, image, ...past } = appendix.value;
    const made = new OrderedMachine(config, image, sink, options, past);
    const bytes = snapshot.subarray(0, machineBytes);
    const restored = restoreMachine(bytes, made.#innerSink, options, staged);
    if (!restored.ok) return restored;
    made.#machine = restored.value;
    return ok(made);
  }

  get count(): InstructionCount {
    return instructionCount(this.#before.count + this.#machine.count);
  }

  get guestTime(): GuestNanoseconds {
    return guestNanoseconds(this.#before.time + this.#machine.guestTime);
  }

  get nextDeadline(): GuestNanoseconds | undefined {
    const deadline = this.#machine.nextDeadline;
    return deadline === undefined ? undefined : guestNanoseconds(this.#before.time + deadline);
  }

  /** Another word after a restart. */
  get stopWord(): Int32Array {
    return this.#machine.stopWord;
  }

  get orders(): Orders {
    return this.#orders;
  }

  get awaitsRestart(): boolean {
    return this.#awaitsRestart;
  }

  runUntil(until: InstructionCount): StopReason {
    return this.#machine.runUntil(instructionCount(until - this.#before.count));
  }

  apply(input: Input): void {
    switch (input.kind) {
      case 'clock': {
        const { time } = this.#before;
        const guestTime = guestNanoseconds(input.guestTime - time);
        this.#machine.apply({ ...input, guestTime, cap: guestNanoseconds(input.cap - time) });
        return;
      }
      case 'disk-completed': {
        // A request of the guest before the reset: nobody waits for it any more.
        const request = input.request - (this.#before.requests[input.disk] ?? 0);
        if (request > 0) this.#machine.apply({ ...input, request });
        return;
      }
      case 'control':
        this.#control(input);
        return;
      default:
        this.#machine.apply(input);
    }
  }

  pendingDiskRequests(): readonly DiskRequestOutput[] {
    return this.#machine.pendingDiskRequests().map((request) => this.#outer(request) as DiskRequestOutput);
  }

  digest(): Digest {
    const writer = this.#savePast(new ByteWriter(256));
    return hash128(writer.bytes(encodeText(this.#machine.digest())).finish());
  }

  digestParts(): Uint8Array {
    return this.#machine.digestParts();
  }

  differingParts(theirs: Uint8Array): string | undefined {
    return this.#machine.differingParts(theirs) ?? 'orders';
  }

  interpretUntil(count: InstructionCount): void {
    this.#machine.interpretUntil(instructionCount(count - this.#before.count));
  }

  beginCopy(): void {
    this.#copying = true;
    this.#imageCopied = false;
    this.#machine.beginCopy();
  }

  unchanging(): Uint8Array {
    this.#imageCopied = true;
    return writeImage(new ByteWriter(this.#imageSize), this.#image).take();
  }

  get #imageSize(): number {
    return 1024 + this.#image.kernel.length + (this.#image.initrd?.length ?? 0);
  }

  changedPages(): Uint32Array {
    return this.#machine.changedPages();
  }

  encodePages(pages: Uint32Array, leavesZeroesOut: boolean): Uint8Array {
    return this.#machine.encodePages(pages, leavesZeroesOut);
  }

  snapshot(changed?: Uint32Array): Uint8Array {
    const imageApart = changed !== undefined && this.#imageCopied;
    if (changed !== undefined) this.#copying = this.#imageCopied = false;
    const writer = new ByteWriter(imageApart ? 1024 : this.#imageSize);
    writer.bytes(encodeText(JSON.stringify(this.#config)));
    if (!imageApart) writeImage(writer, this.#image);
    this.#savePast(writer);
    writer
      .u32(writer.length + APPENDIX_FOOT_BYTES)
      .u32(imageApart ? APPENDIX_WITHOUT_IMAGE_MAGIC : APPENDIX_MAGIC);
    return this.#machine.snapshot(changed, writer.take());
  }

  #savePast(writer: ByteWriter): ByteWriter {
    const before = this.#before;
    writer.u64(before.count).u64(before.time);
    for (const disk of this.#config.disks.keys())
      writer.uint(before.requests[disk] ?? 0).uint(this.#requests[disk] ?? 0);
    for (const nic of this.#config.nics.keys()) writer.bool(this.#disconnected.has(nic));
    return writer.bool(this.#orders.paused).u8(this.#orders.cpuPercent).bool(this.#awaitsRestart);
  }

  #control(input: ControlInput): void {
    switch (input.action) {
      case 'pause':
      case 'resume':
        this.#orders = { ...this.#orders, paused: input.action === 'pause' };
        return;
      case 'limit':
        this.#orders = { ...this.#orders, cpuPercent: input.cpuPercent };
        return;
      case 'restart':
        if (this.#awaitsRestart) this.#restart();
        return;
      case 'end-protection':
        return;
      case 'disconnect':
      case 'connect':
        if (input.action === 'disconnect') this.#disconnected.add(input.nic);
        else this.#disconnected.delete(input.nic);
        this.#machine.apply(input);
        return;
      default:
        // Who switches it off does not want it to wait.
        if (input.action !== 'power-button') this.#orders = { ...this.#orders, paused: false };
        this.#machine.apply(input);
    }
  }

  #restart(): void {
    this.#before = { count: this.count, time: this.guestTime, requests: [...this.#requests] };
    this.#awaitsRestart = false;
    this.#orders = { ...this.#orders, paused: false };
    const booted = this.#boot();
    // It fitted the first time.
    if (!booted.ok) throw new Error(`the guest cannot be booted again: ${booted.error}`);
    // Its RAM is another one.
    if (this.#copying) this.#machine.beginCopy();
    for (const nic of this.#disconnected) this.#machine.apply({ kind: 'control', action: 'disconnect', nic });
  }

  #boot(): Result<undefined> {
    const { startEpochSeconds, seed } = this.#config;
    const { count, time } = this.#before;
    const config = {
      ...this.#config,
      startEpochSeconds: startEpochSeconds + Number(time / 1_000_000_000n),
      // The same guest again, but not the same random numbers.
      seed: count === 0n ? seed : laterSeed(seed, count),
    };
    const made = createMachine(config, this.#image, this.#innerSink, this.#options);
    if (!made.ok) return made;
    this.#machine = made.value;
    return ok(undefined);
  }

  readonly #innerSink: OutputSink = {
    output: (output) => {
      if (output.kind === 'power')
        this.#awaitsRestart = output.state === 'reset' || output.state === 'triple-fault';
      const outer = this.#outer(output);
      if (outer.kind === 'disk-request')
        this.#requests[outer.disk] = Math.max(this.#requests[outer.disk] ?? 0, outer.request);
      this.#sink.output(outer);
    },
  };

  #outer(output: Output): Output {
    if (output.kind !== 'disk-request') return output;
    return { ...output, request: output.request + (this.#before.requests[output.disk] ?? 0) };
  }
}

function laterSeed(seed: string, count: bigint): string {
  const half = (which: string): string => hash128(encodeText(`${which} ${seed} ${count}`));
  return half('first') + half('second');
}

/** What a machine that is made again goes on from. */
interface Past {
  readonly before: Before;
  readonly requests: readonly number[];
  readonly orders: Orders;
  readonly awaitsRestart: boolean;
  readonly disconnected: Iterable<number>;
}

interface Appendix extends Past {
  readonly machineBytes: number;
  readonly config: MachineConfig;
  readonly image: BootImage;
}

function writeImage(writer: ByteWriter, { kernel, initrd, commandLine }: BootImage): ByteWriter {
  writer.bytes(kernel).bool(initrd !== undefined);
  return writer.bytes(initrd ?? new Uint8Array(0)).bytes(encodeText(commandLine));
}

function readImage(reader: ByteReader): BootImage {
  const kernel = reader.bytes();
  const hasInitrd = reader.bool();
  const initrd = reader.bytes();
  return { kernel, initrd: hasInitrd ? initrd : undefined, commandLine: decodeText(reader.bytes()) };
}

/** The state that lies behind the machine's own in a snapshot, found from the end. */
function readAppendix(snapshot: Uint8Array, staged: CopiedPages | undefined): Result<Appendix> {
  try {
    const foot = new ByteReader(snapshot.subarray(Math.max(0, snapshot.length - APPENDIX_FOOT_BYTES)));
    const length = foot.u32();
    const magic = foot.u32();
    const imageApart = magic === APPENDIX_WITHOUT_IMAGE_MAGIC && staged !== undefined;
    if ((magic !== APPENDIX_MAGIC && !imageApart) || length > snapshot.length)
      return failed('this is no snapshot of a guest that can be protected');
    const machineBytes = snapshot.length - length;
    const reader = new ByteReader(snapshot.subarray(machineBytes, snapshot.length - APPENDIX_FOOT_BYTES));
    const config = JSON.parse(decodeText(reader.bytes())) as MachineConfig;
    const image = readImage(imageApart ? new ByteReader(staged.unchanging.whole()) : reader);
    const [count, time] = [reader.u64(), reader.u64()];
    const disks = config.disks.map(() => ({ before: reader.uint(), last: reader.uint() }));
    const disconnected = [...config.nics.keys()].filter(() => reader.bool());
    return ok({
      machineBytes,
      config,
      image,
      before: { count, time, requests: disks.map(({ before }) => before) },
      requests: disks.map(({ last }) => last),
      orders: { paused: reader.bool(), cpuPercent: reader.u8() },
      awaitsRestart: reader.bool(),
      disconnected,
    });
  } catch (error) {
    return failed(`the snapshot is damaged: ${error instanceof Error ? error.message : String(error)}`);
  }
}
