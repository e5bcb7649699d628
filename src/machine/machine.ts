import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { Entropy } from '../base/entropy.ts';
import { hash128 } from '../base/hash.ts';
import { failed, ok, type Result } from '../base/result.ts';
import { type GuestNanoseconds, guestNanoseconds, type InstructionCount } from '../base/units.ts';
import { buildAcpiTables } from '../device/acpi.ts';
import type { Bus, GuestClock, GuestMemory } from '../device/device.ts';
import { createPlatform, type Platform } from '../device/platform.ts';
import { BlockDevice } from '../device/virtio/block/device.ts';
import { ConsoleDevice } from '../device/virtio/console/device.ts';
import { NetDevice } from '../device/virtio/net/device.ts';
import { RngDevice } from '../device/virtio/rng/device.ts';
import { VirtioPci } from '../device/virtio/transport.ts';
import { Engine } from '../engine/engine.ts';
import { createInterpreter } from '../engine/interpreter.ts';
import { Jit } from '../engine/jit/jit.ts';
import { JIT_DEFAULTS } from '../engine/jit/jit-options.ts';
import { type EngineLayout, engineLayout, PAGE, TLB_ENTRIES_DEFAULT } from '../engine/layout.ts';
import { OperationTable } from '../engine/operation-table.ts';
import { createOracle } from '../engine/oracle.ts';
import { pageHasher } from '../engine/page-hash.ts';
import { PhysicalMap } from '../engine/physical-map.ts';
import { sharedMemory, type WasmMemory } from '../wasm/webassembly.ts';
import type { Environment } from '../x86/cpu.ts';
import { OPCODES } from '../x86/instructions/all.ts';
import { MICRO_OPERATIONS } from '../x86/micro-operations/all.ts';
import { CLOCK_KNOWN, COMPILED_COUNT, type CpuState, TSC_OFFSET } from '../x86/state.ts';
import { cpuidTable } from '../x86/system/cpuid.ts';
import { longModeEntry, powerOn } from '../x86/system/reset.ts';
import { type LinuxEntry, type LinuxImage, loadLinux } from './boot/linux.ts';
import { type EngineOptions, hexBytes, type MachineConfig } from './config.ts';
import { type CopiedPages, encodePages, isZero } from './copied-pages.ts';
import { differingParts, encodeParts } from './digest-parts.ts';
import type { Digest, DiskRequestOutput, Input, Machine, OutputSink, StopReason } from './door.ts';
import { GuestTime } from './guest-time.ts';
import { MachineState } from './machine-state.ts';
import { MeteredSink } from './metered-sink.ts';
import { PortSpace } from './ports.ts';
import { Processor } from './processor.ts';
import { Ram } from './ram.ts';
import { RamDigest } from './ram-digest.ts';
import { writeSnapshot } from './snapshot.ts';
import { Timers } from './timers.ts';

/** The TSC counts guest nanoseconds, so reading it costs no division. */
const TSC_FREQUENCY_HZ = 1_000_000_000;
const OPERATIONS = new OperationTable(MICRO_OPERATIONS);

/** The guest's kernel and what it is started with. */
export type BootImage = Pick<LinuxImage, 'kernel' | 'initrd' | 'commandLine'>;

/** The machine behind the one door (door.ts). */
export class LockstepMachine implements Machine {
  readonly config: MachineConfig;
  /** Guest RAM by physical address. */
  readonly memory: GuestMemory;
  readonly #layout: EngineLayout;
  readonly #engine: Engine;
  readonly #ram: Uint8Array;
  readonly #time = new GuestTime();
  readonly #timers = new Timers(() => this.#processor.notice());
  readonly #processor: Processor;
  readonly #platform: Platform;
  readonly #entropy: Entropy;
  readonly #disks: BlockDevice[] = [];
  readonly #nics: NetDevice[] = [];
  readonly #console: ConsoleDevice;
  readonly #state: MachineState;
  readonly #ramDigest: RamDigest;
  readonly #jit: Jit | undefined;

  constructor(config: MachineConfig, outputs: OutputSink, options: EngineOptions = {}) {
    this.config = config;
    const sink = new MeteredSink(outputs, () => this.#processor.notice());
    this.#layout = engineLayout(config.memoryBytes, options.tlbEntries ?? TLB_ENTRIES_DEFAULT);
    const memory = sharedMemory(this.#layout.pages);
    const map = new PhysicalMap(config.memoryBytes);
    const ports = new PortSpace();
    this.#ram = new Uint8Array(memory.buffer, this.#layout.ram, config.memoryBytes);
    this.#entropy = new Entropy(hexBytes(config.seed));
    const environment: Environment = {
      readPort: (port, size) => ports.read(port, size),
      writePort: (port, size, value) => ports.write(port, size, value),
      readMsr: (index) => this.#platform.localApic.readMsr(index),
      writeMsr: (index, value) => this.#platform.localApic.writeMsr(index, value),
      taskPriority: () => this.#platform.localApic.cr8,
      setTaskPriority: (value) => this.#platform.localApic.writeCr8(value),
      timestamp: () => this.guestTime,
      random: () => this.#entropy.nextU64(),
      cpuid: cpuidTable({ tscFrequencyHz: TSC_FREQUENCY_HZ }),
    };
    this.#engine = new Engine(memory, this.#layout, OPERATIONS, OPCODES, map, environment, {
      attention: () => this.#processor.wantsAttention(),
    });
    const ram: GuestMemory = new Ram(this.#ram, map, (offset, bytes) =>
      this.#engine.memory.storePhysical(offset, bytes),
    );
    this.memory = ram;
    this.#jit = this.#useEngine(memory, options);
    const hashPage = pageHasher(memory, this.#layout);
    this.#ramDigest = new RamDigest(config.memoryBytes / PAGE, this.#engine.mmu, hashPage);

    const bus: Bus = {
      ports: (first, last, handler) => ports.claim(first, last, handler),
      mmio: (address, length, handler) => map.mmio(address, length, handler),
    };
    const clock: GuestClock = {
      now: () => this.guestTime,
      timer: (_name, fire) => this.#timers.create(fire),
    };
    this.#platform = createPlatform({
      bus,
      clock,
      memorySize: config.memoryBytes,
      tscFrequencyHz: TSC_FREQUENCY_HZ,
      tsc: {
        tscAt: (time) => BigInt.asUintN(64, time + this.#engine.state.get64(TSC_OFFSET)),
        timeOf: (tsc) => guestNanoseconds(BigInt.asUintN(64, tsc - this.#engine.state.get64(TSC_OFFSET))),
      },
      startEpochSeconds: config.startEpochSeconds,
      onPower: (state, value) => {
        if (state === 'debug-exit' && !config.debugExit) return;
        this.#processor.powered({ kind: 'power', state, value });
      },
      onSerialOutput: (bytes) => sink.output({ kind: 'console', port: 0, bytes }),
    });
    this.#processor = new Processor({
      engine: this.#engine,
      jit: this.#jit,
      time: this.#time,
      timers: this.#timers,
      interrupts: this.#platform.interrupts,
      onPower: (output) => sink.output(output),
    });
    this.#console = new ConsoleDevice(
      { name: 'console', onBytes: (bytes) => sink.output({ kind: 'console', port: 1, bytes }) },
      ram,
    );
    config.disks.forEach((disk, index) => {
      this.#disks.push(
        new BlockDevice(
          {
            name: `disk${index}`,
            capacity: disk.capacity,
            readOnly: disk.readOnly,
            serial: disk.serial,
            onRequest: (request) => sink.output({ kind: 'disk-request', disk: index, ...request }),
          },
          ram,
        ),
      );
    });
    config.nics.forEach((nic, index) => {
      this.#nics.push(
        new NetDevice(
          {
            name: `nic${index}`,
            mac: hexBytes(nic.mac),
            onPacket: (packet) => sink.output({ kind: 'frame', nic: index, ...packet }),
          },
          ram,
        ),
      );
    });
    const rng = new RngDevice({ name: 'rng', entropy: this.#entropy }, ram);
    const virtio = [...this.#disks, ...this.#nics, this.#console, rng].map((device) => new VirtioPci(device));
    for (const fn of virtio) this.#platform.pci.add(fn);
    this.#platform.pci.assignBars();
    this.#state = new MachineState({
      cpu: this.#engine.state,
      processor: this.#processor,
      time: this.#time,
      entropy: this.#entropy,
      devices: this.#platform.devices(),
    });
    powerOn(this.#engine.state);
  }

  /** Instructions that retired in compiled code. */
  get compiledCount(): bigint {
    return this.#engine.state.get64(COMPILED_COUNT);
  }

  get jitStatistics(): Jit['statistics'] | undefined {
    return this.#jit?.statistics;
  }

  #useEngine(memory: WasmMemory, options: EngineOptions): Jit | undefined {
    const engine = this.#engine;
    const layout = this.#layout;
    if (options.engine === 'oracle') {
      engine.useExecutor(createOracle(memory.buffer, layout, engine.state, OPERATIONS, engine));
      return undefined;
    }
    const { run, regions } = createInterpreter(memory, layout, OPERATIONS, engine);
    if (options.engine === 'interpreter') {
      engine.useExecutor(run);
      return undefined;
    }
    const { code, mmu, state } = engine;
    const jit = new Jit(memory, layout, OPERATIONS, code, mmu, state, regions, {
      ...JIT_DEFAULTS,
      ...options.jit,
    });
    engine.useExecutor(run, jit);
    return jit;
  }

  // ------------------------------------------------------------------------------------------ the door

  get count(): InstructionCount {
    return this.#processor.count;
  }

  get guestTime(): GuestNanoseconds {
    return this.#processor.guestTime;
  }

  get nextDeadline(): GuestNanoseconds | undefined {
    return this.#timers.nextDeadline;
  }

  get stopWord(): Int32Array {
    return this.#processor.stopWord;
  }

  runUntil(until: InstructionCount): StopReason {
    return this.#processor.runUntil(until);
  }

  interpretUntil(count: InstructionCount): void {
    this.#processor.interpretUntil(count);
  }

  apply(input: Input): void {
    switch (input.kind) {
      case 'clock':
        this.#time.adjust(this.count, input);
        this.#engine.state.set32(CLOCK_KNOWN, 0);
        return;
      case 'frame':
        this.#nics[input.nic]?.receive(input);
        return;
      case 'disk-completed':
        this.#disks[input.disk]?.complete(input.request, input.status, input.data);
        return;
      case 'console':
        if (input.port === 0) this.#platform.serial.receive(input.bytes);
        else this.#console.receive(input.bytes);
        return;
      case 'entropy':
        this.#entropy.reseed(input.seed);
        return;
      case 'control':
        if (input.action === 'power-button') this.#platform.acpiPower.pressPowerButton();
        else if (input.action === 'power-off')
          this.#processor.powered({ kind: 'power', state: 'off', value: 0 });
        else if (input.action === 'reset')
          this.#processor.powered({ kind: 'power', state: 'reset', value: 0 });
        else if (input.action === 'disconnect' || input.action === 'connect')
          this.#nics[input.nic]?.setLink(input.action === 'connect');
        return;
    }
  }

  /** The processor's state, for reports and for `debug step`. */
  get processor(): CpuState {
    return this.#engine.state;
  }

  pendingDiskRequests(): readonly DiskRequestOutput[] {
    return this.#disks.flatMap((disk, index) =>
      disk.pendingRequests().map((request) => ({ kind: 'disk-request' as const, disk: index, ...request })),
    );
  }

  // ------------------------------------------------------------------------------------------ state

  /** Everything but RAM. `saved` is told where each part ends. */
  saveState(writer: ByteWriter, saved?: (part: string) => void): void {
    this.#state.save(writer, saved);
  }

  /** Brings what the digest needs of RAM up to date. */
  hashPages(): void {
    this.#ramDigest.update();
  }

  digest(): Digest {
    this.hashPages();
    const writer = new ByteWriter(16384);
    writer.u64(this.#ramDigest.sum);
    this.#state.save(writer);
    return hash128(writer.finish());
  }

  digestParts(): Uint8Array {
    return encodeParts(this.#state.parts(), this.#ramDigest);
  }

  differingParts(theirs: Uint8Array): string | undefined {
    return differingParts(this.#state.parts(), this.#ramDigest, theirs, this.#ramDigest.pages);
  }

  /** The digest with every page of RAM hashed anew: the running one must say the same. */
  fullDigest(): Digest {
    this.#ramDigest.forget();
    return this.digest();
  }

  /** How many bytes the first serial port would take now; what comes beyond is lost. */
  get serialRoom(): number {
    return this.#platform.serial.room;
  }

  beginCopy(): void {
    this.#ramDigest.beginCopy();
  }

  changedPages(): Uint32Array {
    this.digest();
    return this.#ramDigest.takeChanged();
  }

  encodePages(pages: Uint32Array, leavesZeroesOut: boolean): Uint8Array {
    return encodePages(this.#ram, pages, leavesZeroesOut);
  }

  #usedPages(): number[] {
    const pages: number[] = [];
    for (let page = 0; page < this.#ram.length / PAGE; page++)
      if (!isZero(this.#ram.subarray(page * PAGE, (page + 1) * PAGE))) pages.push(page);
    return pages;
  }

  /**
   * `changed`: the end of a copy, with these pages only. `appendix` goes behind the snapshot, in the same piece of
   * memory.
   */
  snapshot(changed?: Uint32Array, appendix?: Uint8Array): Uint8Array {
    const pages = changed ?? this.#usedPages();
    if (changed !== undefined) this.#ramDigest.endCopy();
    return writeSnapshot({
      config: this.config,
      state: this.#state,
      ram: this.#ram,
      pages,
      digest: () => this.digest(),
      appendix,
    });
  }

  /** For a machine just made: puts a kernel into RAM and the processor at its entry. */
  boot(image: BootImage): Result<undefined> {
    const loaded = loadLinux(this.memory, {
      ...image,
      memoryBytes: this.config.memoryBytes,
      acpi: buildAcpiTables(),
    });
    if (!loaded.ok) return loaded;
    const entry: LinuxEntry = loaded.value;
    longModeEntry(this.#engine.state, entry);
    return ok(undefined);
  }

  /** For a machine just made: takes over the state behind a snapshot's header. */
  restore(reader: ByteReader, staged?: CopiedPages): Result<undefined> {
    this.#state.load(new ByteReader(reader.bytes()));
    let outside = false;
    staged?.each((page, content) => {
      outside ||= !this.takePage(page, content);
    });
    if (outside) return failed('a page outside RAM was copied');
    for (let page = reader.u32(); page !== 0xffff_ffff; page = reader.u32())
      if (!this.takePage(page, reader.raw(PAGE))) return failed('the snapshot has a page outside RAM');
    return ok(undefined);
  }

  /** For a machine that has not run: a page of a copy, undefined for one of zeroes. False: outside RAM. */
  takePage(page: number, content: Uint8Array | undefined): boolean {
    if (page >= this.#ram.length / PAGE) return false;
    if (content) this.#ram.set(content, page * PAGE);
    else this.#ram.fill(0, page * PAGE, (page + 1) * PAGE);
    this.#engine.mmu.dirty[page] = 1;
    return true;
  }

  page(page: number): Uint8Array {
    return this.#ram.subarray(page * PAGE, (page + 1) * PAGE);
  }
}

/** A machine that is switched on with a kernel in place. */
export function createMachine(
  config: MachineConfig,
  image: BootImage,
  sink: OutputSink,
  options?: EngineOptions,
): Result<LockstepMachine> {
  const machine = new LockstepMachine(config, sink, options);
  const booted = machine.boot(image);
  return booted.ok ? ok(machine) : booted;
}
