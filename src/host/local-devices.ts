import { failed, ok, type Result } from '../base/result.ts';
import { epoch, instanceId } from '../ft/identity.ts';
import type { DiskConfig, NicConfig } from '../machine/config.ts';
import type { DiskCompletedInput, DiskRequestOutput } from '../machine/door.ts';
import type { Forward } from '../network/passt-uplink.ts';
import { lockDisk } from '../storage/disk-lock.ts';
import { ServedDiskPort } from '../storage/disk-port.ts';
import type { InodeLock } from '../storage/inode-lock.ts';
import { LocalDisk } from '../storage/local-disk.ts';
import { RawFile } from '../storage/raw-file.ts';
import { type LocalNetwork, type NetworkChoice, openLocalNetwork } from './local-network.ts';

export interface LocalDevicesOptions {
  readonly disks: readonly string[];
  readonly net: NetworkChoice;
  readonly forwards: readonly Forward[];
}

export interface LocalDeviceEvents {
  readonly completed: (completion: DiskCompletedInput) => void;
  readonly frame: (frame: Uint8Array) => void;
  readonly networkEnded: (reason: string) => void;
}

/** Writes under way when a guest ends get so long to end themselves. */
const DRAIN_MS_MAX = 10_000;

/** What a guest without a partner has outside: raw files as disks, and passt or a TAP. They outlive a reset of the guest. */
export class LocalDevices {
  readonly diskConfigs: readonly DiskConfig[];
  readonly #locks: readonly InodeLock[];
  readonly #disks: ServedDiskPort;
  #network: LocalNetwork | undefined;
  #underWay = 0;
  #drained: (() => void) | undefined;
  #events: LocalDeviceEvents | undefined;

  private constructor(files: readonly RawFile[], locks: readonly InodeLock[]) {
    this.#locks = locks;
    this.diskConfigs = files.map((file, index) => ({
      capacity: file.size,
      readOnly: file.readOnly,
      serial: `lockstep-${index}`,
    }));
    this.#disks = new ServedDiskPort(files.map((file) => new LocalDisk(file)));
    this.#disks.listen({
      opened: () => {},
      completed: (completion) => this.#completed(completion),
      fenced: () => {},
    });
    this.#disks.open(epoch(0), instanceId('local'));
  }

  static async open(options: LocalDevicesOptions): Promise<Result<LocalDevices>> {
    const files: RawFile[] = [];
    const locks: InodeLock[] = [];
    const giveUp = async (reason: string): Promise<Result<LocalDevices>> => {
      for (const lock of locks) lock.release();
      for (const file of files) await file.close();
      return failed(reason);
    };
    for (const path of options.disks) {
      const file = await RawFile.open(path);
      if (!file.ok) return giveUp(file.error);
      files.push(file.value);
      const lock = await lockDisk(path);
      if (!lock.ok) return giveUp(lock.error);
      locks.push(lock.value);
    }
    const devices = new LocalDevices(files, locks);
    const network = await openLocalNetwork(options, {
      frame: (frame) => devices.#events?.frame(frame),
      ended: (reason) => devices.#events?.networkEnded(reason),
    });
    if (!network.ok) return giveUp(network.error);
    devices.#network = network.value;
    return ok(devices);
  }

  get nics(): readonly NicConfig[] {
    return this.#network === undefined ? [] : [{ mac: this.#network.mac }];
  }

  /** Whose devices they are from now on. */
  listen(events: LocalDeviceEvents | undefined): void {
    this.#events = events;
  }

  issue(request: DiskRequestOutput): void {
    this.#underWay += 1;
    this.#disks.issue(request);
  }

  send(frame: Uint8Array): void {
    this.#network?.send(frame);
  }

  /** Resolves when no disk operation is under way. */
  async drain(): Promise<void> {
    if (this.#underWay === 0) return;
    await new Promise<void>((resolve) => {
      const late = setTimeout(resolve, DRAIN_MS_MAX);
      this.#drained = () => {
        clearTimeout(late);
        resolve();
      };
    });
  }

  async close(): Promise<void> {
    await this.drain();
    this.#disks.close();
    for (const lock of this.#locks) lock.release();
    await this.#network?.close();
  }

  #completed(completion: DiskCompletedInput): void {
    this.#underWay -= 1;
    if (this.#underWay === 0) this.#drained?.();
    this.#events?.completed(completion);
  }
}
