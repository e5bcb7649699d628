import { failed, ok, type Result } from '../../base/result.ts';
import type { ClusterContent, HostPresence, Instance } from '../../cluster/content.ts';
import { hasEnded, mainPrimary } from '../../cluster/instance-state.ts';
import { placeRestart } from '../../cluster/placement.ts';
import type { FtVerb, PowerVerb } from '../api.ts';
import { VmAuthority } from '../vm-authority.ts';
import { noSuchVm } from './cluster-member.ts';
import type { HostDaemon } from './host-daemon.ts';
import { processBytes } from './launch.ts';
import type { HostOperations, InstanceDetail } from './peers.ts';
import { checkVmFile } from './vm-file.ts';

/** Until the lease of an earlier run has ended; longer than any that a VM file asks for by default. */
const START_MS_MAX = 30_000;
const AGAIN_MS = 1_000;
/** Fields of a VM's file on which its processes have to agree with whoever starts it again. */
const FIXED_WHILE_ON = ['restart', 'arbiter', 'storage', 'timing'] as const;
const TAKEOVER_MS_MAX = 30_000;
/** A copy of the largest guest over a slow network. */
const COPY_MS_MAX = 300_000;

/** What a user asks of a VM, on any daemon of the cluster. */
export class VmVerbs {
  readonly #daemon: HostDaemon;

  constructor(daemon: HostDaemon) {
    this.#daemon = daemon;
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
    const content = await this.#content();
    if (!content.ok) return content;
    const [running] = instancesOf(content.value, name);
    const [silent] = knownOf(content.value, name);
    if (running !== undefined) return failed(`${name} is on: lockstep vm stop ${name} first`);
    if (silent !== undefined) return failed(mayRunOn(name, silent.host));
    return this.#daemon.member.removeVm(name);
  }

  async start(name: string, on?: string): Promise<Result<void>> {
    const content = await this.#content();
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
    const backup = await this.#backup(name);
    if (!backup.ok) return backup;
    if (backup.value.instance.host !== to) {
      const moved = await this.migrateSecondary(name, to);
      if (!moved.ok) return moved;
    }
    const ordered = await host.order(instance.id, { order: 'switch-over' });
    if (!ordered.ok) return ordered;
    return this.#until(
      TAKEOVER_MS_MAX,
      `${name} did not go on at ${to}`,
      (content) => primaryOf(content, name)?.host === to,
    );
  }

  async faultTolerance(name: string, verb: FtVerb, on?: string): Promise<Result<void>> {
    switch (verb) {
      case 'on':
      case 'resume':
        return this.#protect(name, verb);
      case 'off':
      case 'suspend':
        return this.#unprotect(name, verb === 'off' ? 'off' : 'suspended');
      case 'test-failover':
        return this.#testFailover(name);
      case 'test-restart-secondary':
        return this.#testRestartSecondary(name);
      case 'migrate-secondary':
        return this.migrateSecondary(name, on);
    }
  }

  async migrateSecondary(name: string, on?: string): Promise<Result<void>> {
    const primary = await this.primary(name);
    if (!primary.ok) return primary;
    const backup = await this.#backup(name);
    if (!backup.ok) return backup;
    if (on !== undefined && on === backup.value.instance.host)
      return failed(`the secondary of ${name} is on ${on} already`);
    if (on !== undefined && on === primary.value.instance.host)
      return failed(`the primary of ${name} is on ${on}: both on one host would fall together`);
    const { host, instance } = primary.value;
    const unlike = on === undefined ? undefined : this.#unlike(name, instance.host, on);
    if (unlike !== undefined) return failed(unlike);
    const detail = await host.detail(instance.id);
    if (!detail.ok) return detail;
    const started = await this.#daemon.startBackup(name, detail.value.shared, on);
    if (!started.ok) return started;
    const ordered = await host.order(instance.id, {
      order: 'migrate-backup',
      address: started.value.address,
    });
    if (!ordered.ok) return ordered;
    const { id, host: at } = started.value;
    const isNew = (each: Instance) => each.id === id && each.host === at;
    return this.#until(
      COPY_MS_MAX,
      `the secondary of ${name} did not come up on ${at}: the one before stays`,
      (content) => {
        const backups = instancesOf(content, name).filter(({ role }) => role === 'backup');
        return backups.length === 1 && backups.every((each) => isNew(each) && each.state === 'BACK');
      },
      (content) => !instancesOf(content, name).some(isNew),
    );
  }

  // ------------------------------------------------------------------------------------------------------------ parts

  /** Why a backup of this VM cannot follow from there: two sides of a pair are of one build. */
  #unlike(name: string, from: string, to: string): string | undefined {
    const of = (host: string) =>
      this.#daemon.member.reading.content.hosts.find((each) => each.name === host)?.presence;
    const [ours, theirs] = [of(from), of(to)];
    if (!ours || !theirs || (ours.build === theirs.build && ours.logFormat === theirs.logFormat))
      return undefined;
    const runs = (presence: HostPresence) => `build ${presence.build} (log format ${presence.logFormat})`;
    return `${to} runs ${runs(theirs)}, ${from} ${runs(ours)}: they cannot pair; lockstep ft suspend ${name}, then vm migrate ${name} --to ${to}, then ft resume ${name}`;
  }

  /** Nothing of it runs: nobody starts it again either. */
  async #switchedOff(name: string): Promise<Result<void>> {
    const changed = await this.#daemon.member.changeVm(name, (document) =>
      document.vm.power === 'off'
        ? failed(`${name} is off already`)
        : ok({ ...document, vm: { ...document.vm, power: 'off' } }),
    );
    return changed.ok ? ok(undefined) : changed;
  }

  async #protect(name: string, verb: 'on' | 'resume'): Promise<Result<void>> {
    const changed = await this.#daemon.member.changeVm(name, (document) => {
      const { faultTolerance } = document.vm;
      if (faultTolerance === 'on') return failed(`fault tolerance of ${name} is on already`);
      if (verb === 'resume' && faultTolerance === 'off')
        return failed(`fault tolerance of ${name} is off: lockstep ft on ${name}`);
      const { storage, arbiter } = document.definition as { storage?: unknown; arbiter?: unknown };
      if (storage === undefined && arbiter === undefined)
        return failed(`${name} has no arbiter: give its file a disk server (storage), or arbiter`);
      const protectable = checkVmFile(
        { ...(document.definition as object), faultTolerance: 'on' },
        'the VM file',
      );
      if (!protectable.ok) return protectable;
      return ok({ ...document, vm: { ...document.vm, faultTolerance: 'on' } });
    });
    if (!changed.ok) return changed;
    // One that runs nowhere gets its backup when it is started.
    const primary = primaryOf(this.#daemon.member.reading.content, name);
    if (primary === undefined) return ok(undefined);
    const host = this.#daemon.host(primary.host);
    return host.ok ? host.value.order(primary.id, { order: 'protect' }) : host;
  }

  async #unprotect(name: string, wish: 'off' | 'suspended'): Promise<Result<void>> {
    const changed = await this.#daemon.member.changeVm(name, (document) =>
      document.vm.faultTolerance === wish || (wish === 'suspended' && document.vm.faultTolerance === 'off')
        ? failed(`fault tolerance of ${name} is ${document.vm.faultTolerance} already`)
        : ok({ ...document, vm: { ...document.vm, faultTolerance: wish } }),
    );
    if (!changed.ok) return changed;
    if (changed.value.vm.power === 'off') return ok(undefined);
    const primary = await this.primary(name);
    if (!primary.ok) return primary;
    const ordered = await primary.value.host.order(primary.value.instance.id, { order: 'unprotect' });
    if (!ordered.ok) return ordered;
    return this.#until(
      TAKEOVER_MS_MAX,
      `the secondary of ${name} did not end`,
      (content) => instancesOf(content, name).length === 1,
    );
  }

  /** The primary's process is killed, as its host's death would: the secondary has to take over. */
  async #testFailover(name: string): Promise<Result<void>> {
    const primary = await this.primary(name);
    if (!primary.ok) return primary;
    const backup = await this.#backup(name);
    if (!backup.ok) return backup;
    const killed = await primary.value.host.kill(primary.value.instance.id, 'SIGKILL');
    if (!killed.ok) return killed;
    const at = backup.value.instance.host;
    return this.#until(
      TAKEOVER_MS_MAX,
      `${at} did not take ${name} over`,
      (content) => primaryOf(content, name)?.host === at,
    );
  }

  async #testRestartSecondary(name: string): Promise<Result<void>> {
    const backup = await this.#backup(name);
    if (!backup.ok) return backup;
    const { host, instance } = backup.value;
    const killed = await host.kill(instance.id, 'SIGKILL');
    if (!killed.ok) return killed;
    return this.#until(COPY_MS_MAX, `${name} got no new secondary`, (content) => {
      const fresh = instancesOf(content, name).find(
        ({ role, id }) => role === 'backup' && id !== instance.id,
      );
      return fresh?.state === 'BACK' && primaryOf(content, name)?.state === 'PAIR';
    });
  }

  async #moveLone(name: string, instance: Instance, host: HostOperations, to: string): Promise<Result<void>> {
    const detail = await host.detail(instance.id);
    if (!detail.ok) return detail;
    const started = await this.#daemon.startBackup(name, detail.value.shared, to);
    if (!started.ok) return started;
    const ordered = await host.order(instance.id, { order: 'move', address: started.value.address });
    if (!ordered.ok) return ordered;
    return this.#until(
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
      const up = await this.#until(
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

  async #content(): Promise<Result<ClusterContent>> {
    const reading = await this.#daemon.member.read();
    return reading.ok ? ok(reading.value.content) : reading;
  }

  /** The VM's primary, and the host that has it. */
  async primary(name: string) {
    return this.#instance(
      name,
      (content) => primaryOf(content, name),
      `${name} is not running: lockstep vm start ${name}`,
    );
  }

  async #backup(name: string) {
    return this.#instance(
      name,
      (content) =>
        instancesOf(content, name).find(({ role, state }) => role === 'backup' && state === 'BACK'),
      `${name} is not Protected: it has no secondary now`,
    );
  }

  /** From what the store says; while it is out of reach, from what it said last. */
  async #instance(
    name: string,
    choose: (content: ClusterContent) => Instance | undefined,
    otherwise: string,
  ): Promise<Result<{ instance: Instance; host: HostOperations }>> {
    await this.#daemon.member.read();
    const { content } = this.#daemon.member.reading;
    if (!content.vms.some((vm) => vm.name === name)) return failed(noSuchVm(name));
    const instance = choose(content);
    if (instance === undefined) return failed(otherwise);
    const host = this.#daemon.host(instance.host);
    return host.ok ? ok({ instance, host: host.value }) : host;
  }

  /** `givenUp`: nothing that happens any more can make it so. */
  async #until(
    ms: number,
    otherwise: string,
    done: (content: ClusterContent) => boolean,
    givenUp: (content: ClusterContent) => boolean = () => false,
  ): Promise<Result<void>> {
    const deadline = performance.now() + ms;
    let seen = false;
    for (;;) {
      const { content } = this.#daemon.member.reading;
      if (done(content)) return ok(undefined);
      const gone = givenUp(content);
      if ((gone && seen) || performance.now() > deadline) return failed(otherwise);
      // It may not be in the store yet.
      seen ||= !gone;
      await this.#daemon.member.change();
    }
  }
}

function isRunning(state: string | undefined): boolean {
  return state === 'SOLE' || state === 'COPY' || state === 'GATE' || state === 'COMMIT' || state === 'PAIR';
}

/** What some host, present or silent, has told of. */
function knownOf({ instances }: ClusterContent, name: string): readonly Instance[] {
  return instances.filter((instance) => instance.vm === name && !hasEnded(instance));
}

/** What runs, as far as anybody alive says: an absent host's word may be out of date. */
function instancesOf(content: ClusterContent, name: string): readonly Instance[] {
  const present = new Set(
    content.hosts.filter(({ presence }) => presence !== undefined).map((host) => host.name),
  );
  return knownOf(content, name).filter(({ host }) => present.has(host));
}

function mayRunOn(name: string, host: string): string {
  return `${name} may still run on ${host}, which gives no sign of life: start that host's daemon, or lockstep cluster forget ${host} when it is surely off`;
}

function primaryOf(content: ClusterContent, name: string): Instance | undefined {
  return mainPrimary(instancesOf(content, name));
}
