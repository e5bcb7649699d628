import type { ClusterContent, Instance, Vm } from './content.ts';
import { hasEnded, isCopying, isProtected, mainPrimary } from './instance-state.ts';
import { Placement } from './placement.ts';

/** vSphere's words for a VM's protection (design 10), as a VM process reports them. */
export type Protection =
  | 'Protected'
  | 'Not Protected: Starting'
  | 'Not Protected: Need Secondary'
  | 'Not Protected: Disabled'
  | 'Not Protected: VM not Running';

export interface ProtectionState {
  readonly protection: Protection;
  /** One line for people. */
  readonly reason: string;
}

/** How a VM stands, by what the cluster knows; `placement` serves many questions about one content. */
export function protectionOf(
  content: ClusterContent,
  name: string,
  placement = new Placement(content),
): ProtectionState {
  const { index } = placement;
  const vm = index.vms.get(name);
  if (vm === undefined) return state('VM not Running', `there is no VM named ${name}`);
  const living = index.instancesOf(name).filter((instance) => !hasEnded(instance));
  const present = living.filter(({ host }) => index.hosts.get(host)?.host.presence !== undefined);
  const primary = mainPrimary(present);
  if (primary === undefined) return notRunning(vm, living, present, placement);
  const backups = present.filter(({ role }) => role === 'backup');
  if (isProtected(primary)) {
    const backup = backups.find(({ state }) => state === 'BACK');
    const on = backup ? `backup on ${backup.host}` : 'backup on a host that is out of reach';
    return { protection: 'Protected', reason: `primary on ${primary.host}, ${on}` };
  }
  if (vm.faultTolerance !== 'on')
    return state('Disabled', `fault tolerance is ${vm.faultTolerance}; it runs on ${primary.host}`);
  if (isCopying(primary)) {
    const to = backups.find(({ state }) => state !== 'WAIT')?.host;
    return state('Starting', `it is being copied from ${primary.host}${to ? ` to ${to}` : ''}`);
  }
  if (primary.state === 'START' || primary.state === 'STARTING')
    return state('Starting', `it is being started on ${primary.host}`);
  const placed = placement.backup(name, []);
  return state(
    'Need Secondary',
    placed.ok ? `it runs on ${primary.host}; a backup comes on ${placed.value}` : placed.error,
  );
}

function notRunning(
  { name, power, restart }: Vm,
  living: readonly Instance[],
  present: readonly Instance[],
  placement: Placement,
): ProtectionState {
  if (power === 'off') return state('VM not Running', 'it is switched off');
  const taker = present.find(({ role, state }) => role === 'backup' && state !== 'WAIT');
  if (taker)
    return state('Need Secondary', `its primary is out of reach; its backup on ${taker.host} takes over`);
  const hosts = [...new Set(living.map(({ host }) => host))].join(' and ');
  if (!restart)
    return state(
      'VM not Running',
      hosts === '' ? 'it runs on no host' : `${hosts}, where it ran, is out of reach`,
    );
  const placed = placement.restart(name, []);
  if (!placed.ok) return state('VM not Running', placed.error);
  const why = hosts === '' ? 'it runs on no host' : `${hosts}, where it ran, is out of reach`;
  return state('VM not Running', `${why}; it is started on ${placed.value} if that stays so`);
}

function state(
  word: 'Starting' | 'Need Secondary' | 'Disabled' | 'VM not Running',
  reason: string,
): ProtectionState {
  return { protection: `Not Protected: ${word}`, reason };
}
