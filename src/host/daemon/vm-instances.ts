import { failed, ok, type Result } from '../../base/result.ts';
import type { ClusterContent, Instance } from '../../cluster/content.ts';
import { hasEnded, mainPrimary } from '../../cluster/instance-state.ts';
import { noSuchVm } from './cluster-member.ts';
import type { HostDaemon } from './host-daemon.ts';
import type { HostOperations } from './peers.ts';

/** A takeover is over by then, or will not be. */
export const TAKEOVER_MS_MAX = 30_000;
/** A copy of the largest guest over a slow network. */
export const COPY_MS_MAX = 300_000;

/** Where a VM's processes are, by what the store says, and waiting until they are as they should. */
export class VmInstances {
  readonly #daemon: HostDaemon;

  constructor(daemon: HostDaemon) {
    this.#daemon = daemon;
  }

  /** As it is now. */
  async content(): Promise<Result<ClusterContent>> {
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

  /** Its backup, if it follows. */
  async backup(name: string) {
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

  /** Waits until it is `done`. `givenUp`: nothing that happens any more can make it so. */
  async until(
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

/** What some host, present or silent, has told of. */
export function knownOf({ instances }: ClusterContent, name: string): readonly Instance[] {
  return instances.filter((instance) => instance.vm === name && !hasEnded(instance));
}

/** What runs, as far as anybody alive says: an absent host's word may be out of date. */
export function instancesOf(content: ClusterContent, name: string): readonly Instance[] {
  const present = new Set(
    content.hosts.filter(({ presence }) => presence !== undefined).map((host) => host.name),
  );
  return knownOf(content, name).filter(({ host }) => present.has(host));
}

export function primaryOf(content: ClusterContent, name: string): Instance | undefined {
  return mainPrimary(instancesOf(content, name));
}
