import { ok, type Result } from '../base/result.ts';
import type { ArbiterAnswer, ArbiterRequest } from '../ft/arbiter.ts';
import type { Epoch, InstanceId, VmId } from '../ft/identity.ts';
import { lockDisk } from './disk-lock.ts';
import { type DiskState, DiskStateFile } from './disk-state-file.ts';
import { type DiskSession, FencedDisk } from './fenced-disk.ts';
import type { InodeLock } from './inode-lock.ts';
import { RawFile } from './raw-file.ts';
import { decide, LEASE_MS } from './vm-record.ts';

export interface DiskExportOptions {
  /** The name that clients ask for. */
  readonly name: string;
  readonly path: string;
  readonly readOnly?: boolean;
}

/** One disk of a disk server: the image, its fence, and the record of the VM it belongs to. */
export class DiskExport {
  readonly name: string;
  readonly disk: FencedDisk;
  readonly #image: RawFile;
  readonly #stateFile: DiskStateFile;
  readonly #lock: InodeLock | undefined;
  #state: DiskState;
  #leaseUntil: number;
  #changes: Promise<unknown> = Promise.resolve();

  private constructor(
    options: DiskExportOptions,
    image: RawFile,
    stateFile: DiskStateFile,
    state: DiskState,
    lock: InodeLock | undefined,
  ) {
    this.name = options.name;
    this.#image = image;
    this.#stateFile = stateFile;
    this.#state = state;
    this.#lock = lock;
    // Whoever held the lease before this server started may hold it still.
    this.#leaseUntil = performance.now() + state.leaseMs;
    this.disk = new FencedDisk(image, state.fence, (fence) =>
      this.#change((before) => ({ ...before, fence })),
    );
  }

  static async open(options: DiskExportOptions): Promise<Result<DiskExport>> {
    const image = await RawFile.open(options.path, { readOnly: options.readOnly ?? false });
    if (!image.ok) return image;
    // Two writers of one image would fence nothing.
    const lock = options.readOnly === true ? ok(undefined) : await lockDisk(options.path);
    if (!lock.ok) {
      await image.value.close();
      return lock;
    }
    const stateFile = new DiskStateFile(`${options.path}.lockstep-state`);
    const state = await stateFile.load();
    if (!state.ok) {
      await image.value.close();
      lock.value?.release();
      return state;
    }
    return ok(new DiskExport(options, image.value, stateFile, state.value, lock.value));
  }

  /** Undefined: refused. */
  async openGeneration(vm: VmId, epoch: Epoch, instance: InstanceId): Promise<DiskSession | undefined> {
    if (!(await this.#belongsTo(vm))) return undefined;
    return this.disk.open(epoch, instance);
  }

  /** Undefined: this disk belongs to another VM. Who names none reads it whosever it is, and does not make it its own. */
  async openForReading(vm: VmId | undefined): Promise<DiskSession | undefined> {
    return vm === undefined || (await this.#belongsTo(vm)) ? this.disk.openForReading() : undefined;
  }

  /**
   * The answer, after the record that it tells of is durable. Undefined: this disk belongs to another VM. A winner may
   * run for `leaseMs` without renewing before a restart elsewhere is allowed (protocol 10).
   */
  async arbitrate(request: ArbiterRequest, leaseMs = LEASE_MS): Promise<ArbiterAnswer | undefined> {
    if (!(await this.#belongsTo(request.vm))) return undefined;
    let answer: ArbiterAnswer | undefined;
    await this.#change((before) => {
      const decision = decide(before.record, request, performance.now() >= this.#leaseUntil);
      answer = decision.answer;
      if (!decision.leaseRenewed) return before;
      // Never earlier: if this change cannot be saved, the owner before keeps the longer lease that it was given.
      this.#leaseUntil = Math.max(this.#leaseUntil, performance.now() + leaseMs);
      const same = decision.record === before.record && leaseMs === before.leaseMs;
      return same ? before : { ...before, record: decision.record, leaseMs };
    });
    return answer;
  }

  async close(): Promise<void> {
    await this.#changes;
    await this.#image.close();
    this.#lock?.release();
  }

  async #belongsTo(vm: VmId): Promise<boolean> {
    if (this.#state.vm === undefined) await this.#change((before) => ({ ...before, vm: before.vm ?? vm }));
    return this.#state.vm === vm;
  }

  /** One change at a time, durable before it is in force. */
  #change(next: (before: DiskState) => DiskState): Promise<void> {
    const change = this.#changes.then(async () => {
      const after = next(this.#state);
      if (after === this.#state) return;
      await this.#stateFile.save(after);
      this.#state = after;
    });
    this.#changes = change.catch(() => undefined);
    return change;
  }
}
