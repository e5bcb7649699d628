import type { Packet } from '../base/packet/offload.ts';
import { failed, ok, type Result } from '../base/result.ts';
import { epoch, instanceId, vmId } from '../ft/identity.ts';
import type { DiskConfig, NicConfig } from '../machine/config.ts';
import type { DiskCompletedInput, DiskRequestOutput } from '../machine/door.ts';
import { captureFlags } from '../network/capture-file.ts';
import type { Forward } from '../network/passt-uplink.ts';
import { PcapWriter } from '../network/pcap-writer.ts';
import { ServedDiskPort } from '../storage/disk-port.ts';
import { type DiskSource, formatDiskSource } from '../storage/disk-source.ts';
import { describeDisks, GuestDisks } from './guest-disks.ts';
import { type LocalNetwork, type NetworkChoice, openLocalNetwork } from './local-network.ts';

export interface LocalDevicesOptions {
  readonly disks: readonly DiskSource[];
  /** Told what happens to the storage and the network while the guest runs. */
  readonly say: (line: string) => void;
  /** One for each interface; the forwards are of the first user network. */
  readonly nets: readonly Exclude<NetworkChoice, 'none'>[];
  readonly forwards: readonly Forward[];
  /** Where the packets of the first interface go. */
  readonly capture: string | undefined;
}

export interface LocalDeviceEvents {
  readonly completed: (completion: DiskCompletedInput) => void;
  readonly frame: (nic: number, packet: Packet) => void;
  readonly networkEnded: (reason: string) => void;
}

/** Writes under way when a guest ends get so long to end themselves. */
const DRAIN_MS_MAX = 10_000;

/** What a guest without a partner has outside: its disks, and passt or a TAP. They outlive a reset of the guest. */
export class LocalDevices {
  readonly diskConfigs: readonly DiskConfig[];
  readonly #guestDisks: GuestDisks;
  readonly #disks: ServedDiskPort;
  readonly #networks: LocalNetwork[] = [];
  #capture: PcapWriter | undefined;
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
    const { nets, forwards, capture } = options;
    const free = capture === undefined ? undefined : captureFlags(capture);
    if (free?.ok === false) return giveUp(free.error);
    if (capture !== undefined) devices.#capture = PcapWriter.toFile(capture, say);
    for (const [nic, net] of nets.entries()) {
      const own = nic === nets.indexOf('user') ? forwards : [];
      const network = await openLocalNetwork(nic, net, own, {
        frame: (packet) => {
          if (nic === 0) devices.#capture?.packet(packet);
          devices.#events?.frame(nic, packet);
        },
        ended: (reason) => devices.#events?.networkEnded(reason),
      });
      if (!network.ok) return giveUp(network.error);
      devices.#networks.push(network.value);
    }
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
    return this.#networks.map(({ mac }) => ({ mac }));
  }

  /** Whose devices they are from now on. */
  listen(events: LocalDeviceEvents | undefined): void {
    this.#events = events;
  }

  issue(request: DiskRequestOutput): void {
    this.#underWay += 1;
    this.#disks.issue(request);
  }

  send(nic: number, packet: Packet): void {
    if (nic === 0) this.#capture?.packet(packet);
    this.#networks[nic]?.send(packet);
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
    await Promise.all(this.#networks.map((network) => network.close()));
    await this.#capture?.close();
  }

  #completed(completion: DiskCompletedInput): void {
    this.#underWay -= 1;
    if (this.#underWay === 0) this.#drained?.();
    this.#events?.completed(completion);
  }
}
