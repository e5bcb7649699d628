import type { ClusterContent, Host, Vm } from '../../cluster/content.ts';
import { hasEnded, mainPrimary } from '../../cluster/instance-state.ts';
import { Placement } from '../../cluster/placement.ts';
import { protectionOf } from '../../cluster/protection.ts';
import type { ClusterView, HostView, VmView } from '../api.ts';

/** The cluster as people read it. */
export function clusterView(
  content: ClusterContent,
  store: string,
  storeTrouble: string | undefined,
): ClusterView {
  const placement = new Placement(content);
  return {
    store,
    storeTrouble,
    hosts: content.hosts.map((host) => hostView(content, host)),
    vms: content.vms.map((vm) => vmView(content, vm, placement)),
  };
}

export function hostView(content: ClusterContent, host: Host): HostView {
  const here = content.instances.filter((instance) => instance.host === host.name);
  return {
    name: host.name,
    present: host.presence !== undefined,
    maintenance: host.maintenance,
    api: host.presence?.api,
    build: host.presence?.build,
    memoryBytes: host.memoryBytes,
    memoryUsedBytes: here.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0),
    cores: host.cores,
    instances: here.length,
  };
}

export function vmView(content: ClusterContent, vm: Vm, placement = new Placement(content)): VmView {
  const present = new Set(content.hosts.filter(({ presence }) => presence).map(({ name }) => name));
  const instances = content.instances.filter((instance) => instance.vm === vm.name);
  const alive = instances.filter(({ host }) => present.has(host));
  const backups = alive.filter((instance) => instance.role === 'backup' && !hasEnded(instance));
  const { protection, reason } = protectionOf(content, vm.name, placement);
  return {
    name: vm.name,
    power: vm.power,
    faultTolerance: vm.faultTolerance,
    protection,
    reason,
    primaryHost: mainPrimary(alive)?.host,
    // The one that protects; another one may wait for its turn, or be on its way out.
    secondaryHost: (backups.find(({ state }) => state === 'BACK') ?? backups[0])?.host,
    memoryBytes: vm.memoryBytes,
    instances: instances.map(({ vm: name, host, id, role, state, address }) => ({
      vm: name,
      host,
      id,
      role,
      state,
      address,
      present: present.has(host),
    })),
  };
}
