import { assert } from '../base/assert.ts';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { Entropy } from '../base/entropy.ts';
import { hash128 } from '../base/hash.ts';
import { failed, ok, type Result } from '../base/result.ts';
import {
  type GuestNanoseconds,
  guestNanoseconds,
  type InstructionCount,
  instructionCount,
} from '../base/units.ts';
import { buildAcpiTables } from '../device/acpi.ts';
import type { Bus, Device, GuestClock, GuestMemory } from '../device/device.ts';
import { createPlatform, type Platform } from '../device/platform.ts';
import { BlockDevice } from '../device/virtio/block/device.ts';
import { ConsoleDevice } from '../device/virtio/console/device.ts';
import { NetDevice } from '../device/virtio/net/device.ts';
import { RngDevice } from '../device/virtio/rng/device.ts';
import { VirtioPci } from '../device/virtio/transport.ts';
import { Engine } from '../engine/engine.ts';
import { createInterpreter } from '../engine/interpreter.ts';
import { JIT_DEFAULTS, Jit } from '../engine/jit/jit.ts';
import { type EngineLayout, engineLayout, PAGE, TLB_ENTRIES_DEFAULT } from '../engine/layout.ts';
import { OperationTable } from '../engine/operation-table.ts';
import { createOracle } from '../engine/oracle.ts';
import { pageHasher } from '../engine/page-hash.ts';
import { PhysicalMap } from '../engine/physical-map.ts';
import { sharedMemory, type WasmMemory } from '../wasm/webassembly.ts';
import type { Environment } from '../x86/cpu.ts';
import {
  deliverFault,
  deliverInterrupt,
  deliverSingleStep,
  singleStepDue,
  singleStepping,
} from '../x86/faults.ts';
import { OPCODES } from '../x86/instructions/all.ts';
import { MICRO_OPERATIONS } from '../x86/micro-operations/all.ts';
import {
  ARCHITECTURAL_END,
  BLOCK_PC,
  CLOCK_KNOWN,
  COMPILED_COUNT,
  CPL,
  type CpuState,
  FLAG,
  FLAGS_REST,
  FLAGS_RESULT,
  HALTED,
  INTERRUPT_SHADOW,
  NMI_BLOCKED,
  QUIET,
  SINGLE_STEP_TRAP,
  TEMP,
  TSC_OFFSET,
  XMM_TEMP,
} from '../x86/state.ts';
import { cpuidTable } from '../x86/system/cpuid.ts';
import { longModeEntry, powerOn } from '../x86/system/reset.ts';
import { type LinuxEntry, type LinuxImage, loadLinux } from './boot/linux.ts';
import { decodeConfig, type EngineOptions, encodeConfig, hexBytes, type MachineConfig } from './config.ts';
import { type CopiedPages, encodePages, isZero } from './copied-pages.ts';
import { differingParts, encodeParts, type StatePart } from './digest-parts.ts';
import type {
  Digest,
  DiskRequestOutput,
  Input,
  Machine,
  OutputSink,
  PowerOutput,
  StopReason,
} from './door.ts';
import { GuestTime } from './guest-time.ts';
import { PortSpace } from './ports.ts';
import { Ram } from './ram.ts';
import { checkSnapshotHead, SNAPSHOT_FORMAT_VERSION, SNAPSHOT_MAGIC } from './snapshot-format.ts';
import { Timers } from './timers.ts';

/** The TSC counts guest nanoseconds, so reading it costs no division. */
const TSC_FREQUENCY_HZ = 1_000_000_000;
const DIGEST_BYTES = 16;
/** The stop word is looked at this often, in counts. */
const STOP_CHECK = 65_536n;

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
  readonly #timers = new Timers(() => {
    this.#attention = true;
  });
  readonly #platform: Platform;
  readonly #entropy: Entropy;
  readonly #disks: BlockDevice[] = [];
  readonly #nics: NetDevice[] = [];
  readonly #console: ConsoleDevice;
  readonly #devices: readonly Device[];
  readonly #sink: OutputSink;
  readonly #hashPage: (page: number) => bigint;
  /** Hash of each RAM page as of the last digest; 0 for a page of zeroes. */
  readonly #pageHashes: BigUint64Array;
  #ramHash = 0n;
  /** The same sum with each page's hash taken as often as its number says, plus one. */
  #ramPlaces = 0n;
  #interpretedUntil: bigint | undefined;
  #count = 0n;
  #running = false;
  #attention = false;
  #power: PowerOutput | undefined;
  /** Set to nonzero (by anyone) to make runUntil return soon. */
  readonly stopWord = new Int32Array(new SharedArrayBuffer(4));

  constructor(config: MachineConfig, sink: OutputSink, options: EngineOptions = {}) {
    this.config = config;
    this.#sink = sink;
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
      attention: () => this.#wantsAttention(),
    });
    const ram: GuestMemory = new Ram(this.#ram, map, (offset, bytes) =>
      this.#engine.memory.storePhysical(offset, bytes),
    );
    this.memory = ram;
    this.#useEngine(memory, options);
    this.#hashPage = pageHasher(memory, this.#layout);
    this.#pageHashes = new BigUint64Array(config.memoryBytes / PAGE);

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
        this.#powered({ kind: 'power', state, value });
      },
      onSerialOutput: (bytes) => sink.output({ kind: 'console', port: 0, bytes }),
    });
    this.#platform.interrupts.onChange = () => {
      this.#attention = true;
      this.#engine.state.set32(QUIET, 0);
    };
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
            onFrame: (frame) => sink.output({ kind: 'frame', nic: index, frame }),
          },
          ram,
        ),
      );
    });
    const rng = new RngDevice({ name: 'rng', entropy: this.#entropy }, ram);
    const virtio = [...this.#disks, ...this.#nics, this.#console, rng].map((device) => new VirtioPci(device));
    for (const fn of virtio) this.#platform.pci.add(fn);
    this.#platform.pci.assignBars();
    this.#devices = this.#platform.devices();
    powerOn(this.#engine.state);
  }

  /** Instructions that retired in compiled code. */
  get compiledCount(): bigint {
    return this.#engine.state.get64(COMPILED_COUNT);
  }

  #jit: Jit | undefined;
  get jitStatistics(): Jit['statistics'] | undefined {
    return this.#jit?.statistics;
  }

  #useEngine(memory: WasmMemory, options: EngineOptions): void {
    const engine = this.#engine;
    const layout = this.#layout;
    if (options.engine === 'oracle') {
      engine.useExecutor(createOracle(memory.buffer, layout, engine.state, OPERATIONS, engine));
      return;
    }
    const { run, regions } = createInterpreter(memory, layout, OPERATIONS, engine);
    if (options.engine === 'interpreter') {
      engine.useExecutor(run);
      return;
    }
    const { code, mmu, state } = engine;
    const jit = new Jit(memory, layout, OPERATIONS, code, mmu, state, regions, {
      ...JIT_DEFAULTS,
      ...options.jit,
    });
    this.#jit = jit;
    engine.useExecutor(run, jit);
  }

  // ------------------------------------------------------------------------------------------ the door

  get count(): InstructionCount {
    return instructionCount(this.#running ? this.#count + BigInt(this.#engine.retired) : this.#count);
  }

  get guestTime(): GuestNanoseconds {
    return this.#time.now(this.count);
  }

  get nextDeadline(): GuestNanoseconds | undefined {
    return this.#timers.nextDeadline;
  }

  runUntil(until: InstructionCount): StopReason {
    const { state } = this.#engine;
    for (;;) {
      if (this.#power !== undefined) return 'powered-off';
      if (this.#count >= until) return 'count';
      if (this.#interpretedUntil !== undefined) this.#leaveInterpreter();
      if (Atomics.load(this.stopWord, 0) !== 0) return 'stop-requested';
      this.#attention = false;
      const now = this.#time.now(instructionCount(this.#count));
      while (this.#timers.fireOne(now)) if (this.#power !== undefined) return 'powered-off';
      if (this.#deliverTrap() || this.#deliverInterrupt()) continue;
      if (state.get32(HALTED) !== 0) return 'halted';
      let budget = until - this.#count;
      // Looking at the stop word is due about now, not at an exact count.
      let exact = budget <= STOP_CHECK;
      if (!exact) budget = STOP_CHECK;
      const deadline = this.#timers.nextDeadline;
      if (deadline !== undefined) {
        const due = this.#time.countAt(deadline);
        if (due !== undefined && due - this.#count <= budget) {
          budget = due - this.#count;
          exact = true;
        }
      }
      this.#runEngine(Number(budget), exact);
    }
  }

  interpretUntil(count: InstructionCount): void {
    this.#interpretedUntil = count;
    if (this.#jit) this.#jit.suspended = true;
  }

  #leaveInterpreter(): void {
    if (this.#interpretedUntil === undefined || this.#count < this.#interpretedUntil) return;
    this.#interpretedUntil = undefined;
    if (this.#jit) this.#jit.suspended = false;
  }

  #runEngine(budget: number, exact: boolean): void {
    const engine = this.#engine;
    const { memory, state } = engine;
    // The instruction behind STI or a load of SS runs alone; then interrupts are looked at again.
    const shadow = state.get32(INTERRUPT_SHADOW) !== 0;
    const afterStackLoad = state.get32(INTERRUPT_SHADOW) === 1;
    const single = singleStepping(engine);
    // RF holds for one instruction, which runs alone.
    const resumes = (state.get32(FLAGS_REST) & FLAG.rf) !== 0;
    const privilege = state.get32(CPL);
    if (shadow) state.set32(INTERRUPT_SHADOW, 0);
    if (single) state.set32(SINGLE_STEP_TRAP, 1);
    if (resumes) state.set32(FLAGS_REST, state.get32(FLAGS_REST) & ~FLAG.rf);
    engine.resumes = resumes || afterStackLoad;
    if (shadow || single || resumes) budget = 1;
    this.#time.publish(state, this.#count + BigInt(budget));
    this.#lookForInterrupts();
    engine.retired = 0;
    this.#running = true;
    const exit = engine.run(budget, exact);
    this.#running = false;
    engine.resumes = false;
    this.#count += BigInt(engine.retired);
    if (single && (exit === 'fault' || engine.retired === 0 || !singleStepDue(engine, privilege)))
      state.set32(SINGLE_STEP_TRAP, 0);
    // A fault is taken instead of the trap: the instruction will run once more.
    if (exit !== 'fault')
      state.set32(SINGLE_STEP_TRAP, state.get32(SINGLE_STEP_TRAP) | (memory.breakpointsMet << 1));
    memory.breakpointsMet = 0;
    if (exit === 'fault') {
      const fault = engine.takeFault();
      assert(fault !== undefined, 'a fault ended the run');
      this.#deliver(() => deliverFault(engine, fault));
    }
  }

  /** Delivers the trap of TF and of data breakpoints, at a count of its own: a run may end between the instruction and its trap. */
  #deliverTrap(): boolean {
    const engine = this.#engine;
    const causes = engine.state.get32(SINGLE_STEP_TRAP);
    if (causes === 0) return false;
    engine.state.set32(SINGLE_STEP_TRAP, 0);
    this.#deliver(() => deliverSingleStep(engine, causes));
    return true;
  }

  /** Delivers a pending interrupt when the guest can take it. */
  #deliverInterrupt(): boolean {
    const engine = this.#engine;
    const { state } = engine;
    const { interrupts } = this.#platform;
    if (state.get32(INTERRUPT_SHADOW) !== 0) return false;
    if (this.#nmiDeliverable()) {
      interrupts.acknowledgeNmi();
      state.set32(HALTED, 0);
      state.set32(NMI_BLOCKED, 1);
      this.#deliver(() => deliverInterrupt(engine, 2));
      return true;
    }
    if ((state.get32(FLAGS_REST) & 0x200) === 0 || !interrupts.pending()) return false;
    const vector = interrupts.acknowledge();
    state.set32(HALTED, 0);
    this.#deliver(() => deliverInterrupt(engine, vector));
    return true;
  }

  #nmiDeliverable(): boolean {
    return this.#platform.interrupts.nmiPending() && this.#engine.state.get32(NMI_BLOCKED) === 0;
  }

  #deliver(delivery: () => 'delivered' | 'triple-fault'): void {
    // A delivery counts: an endless loop of exceptions makes progress [design 2].
    const result = this.#engine.deliver(delivery);
    this.#count += 1n;
    if (result === 'triple-fault') this.#powered({ kind: 'power', state: 'triple-fault', value: 0 });
  }

  /** Is an interrupt pending? What asks, after everything that may have made it so, tells the quick STI and POPF. */
  #lookForInterrupts(): boolean {
    const { interrupts } = this.#platform;
    const pending = interrupts.pending();
    this.#engine.state.set32(QUIET, pending || interrupts.nmiPending() ? 0 : 1);
    return pending;
  }

  #wantsAttention(): boolean {
    const { state } = this.#engine;
    const pending = this.#lookForInterrupts();
    return (
      this.#attention ||
      this.#power !== undefined ||
      this.#engine.memory.breakpointsMet !== 0 ||
      state.get32(HALTED) !== 0 ||
      (state.get32(FLAGS_REST) & (FLAG.tf | FLAG.rf)) !== 0 ||
      this.#nmiDeliverable() ||
      ((state.get32(FLAGS_REST) & 0x200) !== 0 && pending)
    );
  }

  #powered(output: PowerOutput): void {
    if (this.#power !== undefined) return;
    this.#power = output;
    this.#sink.output(output);
  }

  apply(input: Input): void {
    switch (input.kind) {
      case 'clock':
        this.#time.adjust(this.count, input);
        this.#engine.state.set32(CLOCK_KNOWN, 0);
        return;
      case 'frame':
        this.#nics[input.nic]?.receive(input.frame);
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
        else if (input.action === 'power-off') this.#powered({ kind: 'power', state: 'off', value: 0 });
        else if (input.action === 'reset') this.#powered({ kind: 'power', state: 'reset', value: 0 });
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
  saveState(writer: ByteWriter, saved: (part: string) => void = () => {}): void {
    const { state } = this.#engine;
    writer.u64(this.#count);
    this.#time.save(writer);
    writer.u8(this.#power === undefined ? 0 : 1 + POWER_STATES.indexOf(this.#power.state));
    writer.u32(this.#power?.value ?? 0);
    saved('count and time');
    const registers = state.bytes.slice(0, ARCHITECTURAL_END);
    // Canonical: what is dead between instructions is zero, and the flags are spelt out.
    registers.fill(0, TEMP, TEMP + 64);
    registers.fill(0, XMM_TEMP, XMM_TEMP + 64);
    registers.fill(0, BLOCK_PC, BLOCK_PC + 8);
    registers.fill(0, FLAGS_RESULT, FLAGS_REST + 8);
    writer.raw(registers).u64(state.rflags);
    saved('registers');
    this.#entropy.save(writer);
    saved('entropy');
    for (const device of this.#devices) {
      device.save(writer);
      saved(device.name);
    }
  }

  #loadState(reader: ByteReader): void {
    const { state } = this.#engine;
    this.#count = reader.u64();
    this.#time.load(reader);
    const power = reader.u8();
    const value = reader.u32();
    this.#power = power === 0 ? undefined : { kind: 'power', state: POWER_STATES[power - 1] ?? 'off', value };
    state.bytes.set(reader.raw(ARCHITECTURAL_END));
    state.rflags = reader.u64();
    this.#entropy.load(reader);
    for (const device of this.#devices) device.load(reader);
  }

  /** Only pages written since the last time are hashed; their write tags go, so that the next store is seen. */
  hashPages(): void {
    const { mmu } = this.#engine;
    mmu.dropAllWriteTags();
    const { dirty } = mmu;
    for (let page = dirty.indexOf(1); page >= 0; page = dirty.indexOf(1, page + 1)) {
      dirty[page] = 0;
      if (this.#changed !== undefined) this.#changed[page] = 1;
      const hash = this.#hashPage(page);
      const mixed = hash === 0n ? 0n : BigInt.asUintN(64, (hash ^ BigInt(page)) * 0x9e37_79b9_7f4a_7c15n);
      const change = mixed - this.#pageHashes[page]!;
      this.#ramHash = BigInt.asUintN(64, this.#ramHash + change);
      this.#ramPlaces = BigInt.asUintN(64, this.#ramPlaces + change * BigInt(page + 1));
      this.#pageHashes[page] = mixed;
    }
  }

  digest(): Digest {
    this.hashPages();
    const writer = new ByteWriter(16384);
    writer.u64(this.#ramHash);
    this.saveState(writer);
    return hash128(writer.finish());
  }

  digestParts(): Uint8Array {
    return encodeParts(this.#parts(), { sum: this.#ramHash, places: this.#ramPlaces });
  }

  differingParts(theirs: Uint8Array): string | undefined {
    const ram = { sum: this.#ramHash, places: this.#ramPlaces };
    return differingParts(this.#parts(), ram, theirs, this.#pageHashes.length);
  }

  #parts(): StatePart[] {
    const writer = new ByteWriter(16384);
    const ends: { name: string; end: number }[] = [];
    this.saveState(writer, (name) => ends.push({ name, end: writer.length }));
    const bytes = writer.finish();
    return ends.map(({ name, end }, index) => ({
      name,
      bytes: bytes.subarray(ends[index - 1]?.end ?? 0, end),
    }));
  }

  /** The digest with every page of RAM hashed anew: the running one must say the same. */
  fullDigest(): Digest {
    this.#engine.mmu.dirty.fill(1);
    return this.digest();
  }

  /** How many bytes the first serial port would take now; what comes beyond is lost. */
  get serialRoom(): number {
    return this.#platform.serial.room;
  }

  /** While a copy of the running machine is made: pages written since they were asked for. */
  #changed: Uint8Array | undefined;

  beginCopy(): void {
    this.#changed = new Uint8Array(this.#ram.length / PAGE).fill(1);
  }

  changedPages(): Uint32Array {
    const changed = this.#changed;
    if (changed === undefined) return new Uint32Array(0);
    this.digest();
    const pages: number[] = [];
    for (let page = changed.indexOf(1); page >= 0; page = changed.indexOf(1, page + 1)) pages.push(page);
    changed.fill(0);
    return Uint32Array.from(pages);
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
    const state = new ByteWriter(16384);
    this.saveState(state);
    const header = encodeConfig(this.config);
    const pages = changed ?? this.#usedPages();
    if (changed !== undefined) this.#changed = undefined;
    // As large as it will be, and handed out as it is: copies of it would be a good part of what a guest costs.
    const size = 128 + header.length + state.length + pages.length * (PAGE + 4) + (appendix?.length ?? 0);
    const writer = new ByteWriter(size);
    writer
      .u32(SNAPSHOT_MAGIC)
      .u32(SNAPSHOT_FORMAT_VERSION)
      .bytes(header)
      .raw(hexBytes(hash128(header)));
    writer.bytes(state.finish());
    for (const page of pages) writer.u32(page).raw(this.#ram.subarray(page * PAGE, (page + 1) * PAGE));
    // The digest at the end tells a damaged snapshot from a sound one.
    writer.u32(0xffff_ffff).raw(hexBytes(this.digest()));
    if (appendix) writer.raw(appendix);
    return writer.take();
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
    this.#loadState(new ByteReader(reader.bytes()));
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

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

const POWER_STATES = ['off', 'reset', 'debug-exit', 'triple-fault'] as const;

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

/**
 * A machine in exactly the state of a snapshot. Damaged bytes give an error. `staged`: what had come of a copy before
 * the snapshot, which is its end.
 */
export function restoreMachine(
  snapshot: Uint8Array,
  sink: OutputSink,
  options?: EngineOptions,
  staged?: CopiedPages,
): Result<LockstepMachine> {
  try {
    const known = checkSnapshotHead(snapshot);
    if (!known.ok) return known;
    const reader = new ByteReader(snapshot);
    reader.u64();
    const configBytes = reader.bytes();
    if (!equalBytes(reader.raw(DIGEST_BYTES), hexBytes(hash128(configBytes))))
      return failed('the snapshot is damaged: its configuration does not have its hash');
    const config = decodeConfig(configBytes);
    if (!config.ok) return config;
    const prepared = staged?.machineFor?.(configBytes, sink);
    const machine = prepared ?? new LockstepMachine(config.value, sink, options);
    const restored = machine.restore(reader, prepared ? undefined : staged);
    if (!restored.ok) return restored;
    const digest = reader.raw(DIGEST_BYTES);
    if (reader.remaining > 0) return failed('the snapshot is damaged: there is more behind its end');
    if (!equalBytes(digest, hexBytes(machine.digest())))
      return failed('the snapshot is damaged: the machine in it does not have its digest');
    return ok(machine);
  } catch (error) {
    return failed(`the snapshot is damaged: ${error instanceof Error ? error.message : String(error)}`);
  }
}
