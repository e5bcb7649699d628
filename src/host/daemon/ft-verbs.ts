import { failed, ok, type Result } from '../../base/result.ts';
import type { HostPresence, Instance } from '../../cluster/content.ts';
import type { FtVerb } from '../api.ts';
import type { HostDaemon } from './host-daemon.ts';
import { checkVmFile } from './vm-file.ts';
import { COPY_MS_MAX, instancesOf, primaryOf, TAKEOVER_MS_MAX, type VmInstances } from './vm-instances.ts';

/** What a user asks of a VM's fault tolerance [FT 3.1, 3.3]: on, off, its secondary elsewhere, and the two tests. */
export class FtVerbs {
  readonly #daemon: HostDaemon;
  readonly #instances: VmInstances;

  constructor(daemon: HostDaemon, instances: VmInstances) {
    this.#daemon = daemon;
    this.#instances = instances;
  }

  async carryOut(name: string, verb: FtVerb, on?: string): Promise<Result<void>> {
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
    const primary = await this.#instances.primary(name);
    if (!primary.ok) return primary;
    const backup = await this.#instances.backup(name);
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
    return this.#instances.until(
      COPY_MS_MAX,
      `the secondary of ${name} did not come up on ${at}: the one before stays`,
      (content) => {
        const backups = instancesOf(content, name).filter(({ role }) => role === 'backup');
        return backups.length === 1 && backups.every((each) => isNew(each) && each.state === 'BACK');
      },
      (content) => !instancesOf(content, name).some(isNew),
    );
  }

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
    const primary = await this.#instances.primary(name);
    if (!primary.ok) return primary;
    const ordered = await primary.value.host.order(primary.value.instance.id, { order: 'unprotect' });
    if (!ordered.ok) return ordered;
    return this.#instances.until(
      TAKEOVER_MS_MAX,
      `the secondary of ${name} did not end`,
      (content) => instancesOf(content, name).length === 1,
    );
  }

  /** The primary's process is killed, as its host's death would: the secondary has to take over. */
  async #testFailover(name: string): Promise<Result<void>> {
    const primary = await this.#instances.primary(name);
    if (!primary.ok) return primary;
    const backup = await this.#instances.backup(name);
    if (!backup.ok) return backup;
    const killed = await primary.value.host.kill(primary.value.instance.id, 'SIGKILL');
    if (!killed.ok) return killed;
    const at = backup.value.instance.host;
    return this.#instances.until(
      TAKEOVER_MS_MAX,
      `${at} did not take ${name} over`,
      (content) => primaryOf(content, name)?.host === at,
    );
  }

  async #testRestartSecondary(name: string): Promise<Result<void>> {
    const backup = await this.#instances.backup(name);
    if (!backup.ok) return backup;
    const { host, instance } = backup.value;
    const killed = await host.kill(instance.id, 'SIGKILL');
    if (!killed.ok) return killed;
    return this.#instances.until(COPY_MS_MAX, `${name} got no new secondary`, (content) => {
      const fresh = instancesOf(content, name).find(
        ({ role, id }) => role === 'backup' && id !== instance.id,
      );
      return fresh?.state === 'BACK' && primaryOf(content, name)?.state === 'PAIR';
    });
  }
}
