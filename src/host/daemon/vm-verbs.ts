import { failed, ok, type Result } from '../../base/result.ts';
import type { ClusterContent, Instance } from '../../cluster/content.ts';
import { placeRestart } from '../../cluster/placement.ts';
import type { FtVerb, PowerVerb } from '../api.ts';
import { VmAuthority } from '../vm-authority.ts';
import { noSuchVm } from './cluster-member.ts';
import { FtVerbs } from './ft-verbs.ts';
import type { HostDaemon } from './host-daemon.ts';
import { processBytes } from './launch.ts';
import type { HostOperations, InstanceDetail } from './peers.ts';
import { checkVmFile } from './vm-file.ts';
import {
  COPY_MS_MAX,
  instancesOf,
  knownOf,
  primaryOf,
  TAKEOVER_MS_MAX,
  VmInstances,
} from './vm-instances.ts';

/** Until the lease of an earlier run has ended; longer than any that a VM file asks for by default. */
const START_MS_MAX = 30_000;
const AGAIN_MS = 1_000;
/** Fields of a VM's file on which its processes have to agree with whoever starts it again. */
const FIXED_WHILE_ON = ['restart', 'arbiter', 'storage', 'timing'] as const;

/** What a user asks of a VM, on any daemon of the cluster. */
export class VmVerbs {
  readonly #daemon: HostDaemon;
  readonly #instances: VmInstances;
  readonly #ft: FtVerbs;

  constructor(daemon: HostDaemon) {
    this.#daemon = daemon;
    this.#instances = new VmInstances(daemon);
    this.#ft = new FtVerbs(daemon, this.#instances);
  }

  async create(file: unknown): Promise<Result<void>> {
    const definition = checkVmFile(file, 'the VM file');
    if (!definition.ok) return definition;
    const { name, boot, faultTolerance, restart, antiAffinity } = definition.value;
    const image = 'image' in boot ? await this.#daemon.images.pinned(boot.image) : undefined;
    if (image && !image.ok) return image;
    const authority = await VmAuthority.create(name);
    return this.#daemon.member.createVm({
      vm: {
        name,
        memoryBytes: processBytes(definition.value),
        power: 'off',
        faultTolerance,
        restart,
        antiAffinity,
      },
      definition: { ...(file as object), ...(image && { image: image.value }) } as never,
      secrets: { authority: authority.encode() },
    });
  }

  /** Changes fields of its file; what is switched on keeps its hardware until it is switched on again. */
  async set(name: string, fields: Readonly<Record<string, unknown>>): Promise<Result<void>> {
    if (fields.name !== undefined && fields.name !== name) return failed('a VM keeps its name');
    const image =
      typeof fields.image === 'string' ? await this.#daemon.images.pinned(fields.image) : undefined;
    if (image && !image.ok) return image;
    const changed = await this.#daemon.member.changeVm(name, (document) => {
      const file = { ...(document.definition as object), ...fields, ...(image && { image: image.value }) };
      const definition = checkVmFile(file, 'the changed VM file');
      if (!definition.ok) return definition;
      if (fields.faultTolerance !== undefined && document.vm.power === 'on')
        return failed(`${name} is on: use lockstep ft on or lockstep ft off`);
      // What runs holds a lease, or holds none, for as long as it runs, and asks one arbiter (protocol 3 and 8).
      const fixed = FIXED_WHILE_ON.find((field) => fields[field] !== undefined);
      if (
        fixed !== undefined &&
        (document.vm.power === 'on' || knownOf(this.#daemon.member.reading.content, name).length > 0)
      )
        return failed(`${name} is on, or may be on a silent host: "${fixed}" is changed while it is off`);
      const { faultTolerance, restart, antiAffinity } = definition.value;
      return ok({
        ...document,
        definition: file as never,
        vm: {
          ...document.vm,
          restart,
          antiAffinity,
          memoryBytes: processBytes(definition.value),
          ...(fields.faultTolerance !== undefined && { faultTolerance }),
        },
      });
    });
    return changed.ok ? ok(undefined) : changed;
  }

  async destroy(name: string): Promise<Result<void>> {
    const content = await this.#instances.content();
    if (!content.ok) return content;
    const [running] = instancesOf(content.value, name);
    const [silent] = knownOf(content.value, name);
    if (running !== undefined) return failed(`${name} is on: lockstep vm stop ${name} first`);
    if (silent !== undefined) return failed(mayRunOn(name, silent.host));
    return this.#daemon.member.removeVm(name);
  }

  async start(name: string, on?: string): Promise<Result<void>> {
    const content = await this.#instances.content();
    if (!content.ok) return content;
    const vm = content.value.vms.find((each) => each.name === name);
    if (vm === undefined) return failed(noSuchVm(name));
    const [running] = instancesOf(content.value, name);
    if (running !== undefined)
      return failed(`${name} is on already: its ${running.role} is on ${running.host}`);
    const [silent] = knownOf(content.value, name);
    if (silent !== undefined && !vm.restart) return failed(mayRunOn(name, silent.host));
    const place = on === undefined ? placeRestart(content.value, name) : ok(on);
    if (!place.ok) return place;
    const host = this.#daemon.host(place.value);
    if (!host.ok) return host;
    return this.startOn(host.value, place.value, name);
  }

  async power(name: string, verb: PowerVerb): Promise<Result<void>> {
    const primary = await this.primary(name);
    if (!primary.ok && verb === 'power-off') return this.#switchedOff(name);
    if (!primary.ok) return primary;
    const order = verb === 'stop' ? 'power-button' : verb;
    return primary.value.host.order(primary.value.instance.id, { order });
  }

  async type(name: string, port: number, text: string): Promise<Result<void>> {
    const primary = await this.primary(name);
    if (!primary.ok) return primary;
    return primary.value.host.order(primary.value.instance.id, { order: 'console', port, text });
  }

  async detail(name: string): Promise<Result<InstanceDetail>> {
    const primary = await this.primary(name);
    return primary.ok ? primary.value.host.detail(primary.value.instance.id) : primary;
  }

  /** Moves the guest to another host while it runs [FT 3.3]. */
  async migrate(name: string, to: string): Promise<Result<void>> {
    const primary = await this.primary(name);
    if (!primary.ok) return primary;
    const { instance, host } = primary.value;
    if (instance.host === to) return failed(`${name} is on ${to} already`);
    if (instance.state !== 'PAIR') return this.#moveLone(name, instance, host, to);
    const backup = await this.#instances.backup(name);
    if (!backup.ok) return backup;
    if (backup.value.instance.host !== to) {
      const moved = await this.#ft.migrateSecondary(name, to);
      if (!moved.ok) return moved;
    }
    const ordered = await host.order(instance.id, { order: 'switch-over' });
    if (!ordered.ok) return ordered;
    return this.#instances.until(
      TAKEOVER_MS_MAX,
      `${name} did not go on at ${to}`,
      (content) => primaryOf(content, name)?.host === to,
    );
  }

  async faultTolerance(name: string, verb: FtVerb, on?: string): Promise<Result<void>> {
    return this.#ft.carryOut(name, verb, on);
  }

  // ------------------------------------------------------------------------------------------------------------ parts

  /** Nothing of it runs: nobody starts it again either. */
  async #switchedOff(name: string): Promise<Result<void>> {
    const changed = await this.#daemon.member.changeVm(name, (document) =>
      document.vm.power === 'off'
        ? failed(`${name} is off already`)
        : ok({ ...document, vm: { ...document.vm, power: 'off' } }),
    );
    return changed.ok ? ok(undefined) : changed;
  }

  async #moveLone(name: string, instance: Instance, host: HostOperations, to: string): Promise<Result<void>> {
    const detail = await host.detail(instance.id);
    if (!detail.ok) return detail;
    const started = await this.#daemon.startBackup(name, detail.value.shared, to);
    if (!started.ok) return started;
    const ordered = await host.order(instance.id, { order: 'move', address: started.value.address });
    if (!ordered.ok) return ordered;
    return this.#instances.until(
      COPY_MS_MAX,
      `${name} did not go on at ${to}`,
      (content) => primaryOf(content, name)?.host === to,
      (content) => !instancesOf(content, name).some(({ id }) => id === started.value.id),
    );
  }

  /** A VM whose earlier run still holds its lease is started when that has ended: until then its process halts. */
  async startOn(host: HostOperations, at: string, name: string, snapshot?: string): Promise<Result<void>> {
    const deadline = performance.now() + START_MS_MAX;
    for (;;) {
      const started = await host.start({
        kind: 'primary',
        vm: name,
        ...(snapshot !== undefined && { snapshot }),
      });
      if (!started.ok) return started;
      const process = (content: ClusterContent) =>
        instancesOf(content, name).find(({ id }) => id === started.value.id);
      const isGone = (content: ClusterContent) => process(content) === undefined;
      const up = await this.#instances.until(
        START_MS_MAX,
        `${name} did not start on ${at}: the events of host ${at} say why`,
        (content) => isRunning(process(content)?.state),
        isGone,
      );
      if (up.ok || !isGone(this.#daemon.member.reading.content)) return up;
      const why = await host.detail(started.value.id);
      const [, reason = 'superseded'] = why.ok ? [] : (/ any more: (.*)$/.exec(why.error) ?? []);
      if (!reason.startsWith('superseded')) return failed(`${name} cannot start on ${at}: ${reason}`);
      if (performance.now() > deadline)
        return failed(`${name} cannot start on ${at}: its arbiter says that somebody else may run it`);
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }

  /** The VM's primary, and the host that has it. */
  async primary(name: string) {
    return this.#instances.primary(name);
  }
}

function isRunning(state: string | undefined): boolean {
  return state === 'SOLE' || state === 'COPY' || state === 'GATE' || state === 'COMMIT' || state === 'PAIR';
}

function mayRunOn(name: string, host: string): string {
  return `${name} may still run on ${host}, which gives no sign of life: start that host's daemon, or lockstep cluster forget ${host} when it is surely off`;
}
