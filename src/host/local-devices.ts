import { failed, ok, type Result } from '../base/result.ts';
import { epoch, instanceId, vmId } from '../ft/identity.ts';
import type { DiskConfig, NicConfig } from '../machine/config.ts';
import type { DiskCompletedInput, DiskRequestOutput } from '../machine/door.ts';
import type { Forward } from '../network/passt-uplink.ts';
import { ServedDiskPort } from '../storage/disk-port.ts';
import { type DiskSource, formatDiskSource } from '../storage/disk-source.ts';
import { describeDisks, GuestDisks } from './guest-disks.ts';
import { type LocalNetwork, type NetworkChoice, openLocalNetwork } from './local-network.ts';

export interface LocalDevicesOptions {
  readonly disks: readonly DiskSource[];
  /** Told what happens to the storage while the guest runs. */
  readonly say: (line: string) => void;
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

/** What a guest without a partner has outside: its disks, and passt or a TAP. They outlive a reset of the guest. */
export class LocalDevices {
  readonly diskConfigs: readonly DiskConfig[];
  readonly #guestDisks: GuestDisks;
  readonly #disks: ServedDiskPort;
  #network: LocalNetwork | undefined;
  #underWay = 0;
  #drained: (() => void) | undefined;
  #events: LocalDeviceEvents | undefined;

  private constructor(diskConfigs: readonly DiskConfig[], disks: GuestDisks, say: (line: string) => void) {
    this.diskConfigs = diskConfigs;
    this.#guestDisks = disks;
    this.#disks = new ServedDiskPort(disks.disks, say);
  }

  static async open(options: LocalDevicesOptions): Promise<Result<LocalDevices>> {
    const { disks: sources, say } = options;
    const described = await describeDisks(sources);
    if (!described.ok) return described;
    const opened = await GuestDisks.open(sources, described.value, { vm: vmId('local'), say });
    if (!opened.ok) return opened;
    const devices = new LocalDevices(described.value, opened.value, say);
    const giveUp = async (reason: string): Promise<Result<LocalDevices>> => {
      await devices.close();
      return failed(reason);
    };
    if ((await devices.#openDisks()) === 'refused')
      return giveUp(`the server of ${sources.map(formatDiskSource).join(', ')} refuses its disk`);
    const network = await openLocalNetwork(options, {
      frame: (frame) => devices.#events?.frame(frame),
      ended: (reason) => devices.#events?.networkEnded(reason),
    });
    if (!network.ok) return giveUp(network.error);
    devices.#network = network.value;
    return ok(devices);
  }

  #openDisks(): Promise<'ok' | 'refused'> {
    return new Promise((resolve) => {
      this.#disks.listen({
        opened: (_epoch, verdict) => resolve(verdict),
        completed: (completion) => this.#completed(completion),
        fenced: () => {},
      });
      this.#disks.open(epoch(0), instanceId('local'));
    });
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
    this.#guestDisks.release();
    await this.#network?.close();
  }

  #completed(completion: DiskCompletedInput): void {
    this.#underWay -= 1;
    if (this.#underWay === 0) this.#drained?.();
    this.#events?.completed(completion);
  }
}
