import type { Result } from '../base/result.ts';
import { inOrder } from './cluster-index.ts';
import { type ClusterContent, compareNames, type Instance, type Vm } from './content.ts';
import { canTakeOver, hasEnded, isAlone, isCopying, isForsaken, isSpare } from './instance-state.ts';
import { Placement } from './placement.ts';

/** What a host's daemon should do now. `reason` is one line for people. */
export type Decision =
  /** Start the VM here from its disks. */
  | { readonly kind: 'restart'; readonly vm: string; readonly reason: string }
  /** End this process of this host. */
  | { readonly kind: 'end'; readonly vm: string; readonly instance: string; readonly reason: string }
  /** Copy the primary here to a new backup on `to`, which takes the old one's place. */
  | {
      readonly kind: 'migrate-backup';
      readonly vm: string;
      readonly instance: string;
      readonly to: string;
      readonly reason: string;
    }
  /** Let the backup, which is on `to`, go on in place of the primary here. */
  | {
      readonly kind: 'switch-over';
      readonly vm: string;
      readonly instance: string;
      readonly to: string;
      readonly reason: string;
    }
  /** Move the primary here, which has no backup, to `to` while it runs. */
  | {
      readonly kind: 'move';
      readonly vm: string;
      readonly instance: string;
      readonly to: string;
      readonly reason: string;
    }
  /** Nothing can be done, and something should be. */
  | { readonly kind: 'blocked'; readonly vm: string; readonly reason: string };

/** Copies that one host sends at a time: more of them would only make each slower, and the guests with them. */
export const COPIES_AT_ONCE = 2;

/**
 * What the daemon of `host` should do, by the store's content and the hosts that it holds to be lost (LostHosts).
 * Every daemon calls this with what it has read; nobody gives orders to all. Daemons that have read the same agree, so
 * in the normal case one of them restarts a VM; that it never runs twice is the arbiter's to say. Carrying out what is
 * decided leads to a content for which nothing is decided: nothing is moved unless its host is in maintenance, and
 * nothing is placed on one that is.
 *
 * `placement` of that content may serve several calls, and is left as it was.
 *
 * What the content does not know is left alone: a process whose VM has no record may belong to a record that is
 * damaged, or to a store that was restored from yesterday.
 */
export function decide(
  content: ClusterContent,
  host: string,
  lost: ReadonlySet<string>,
  placement = new Placement(content),
): Decision[] {
  const own = content.instances.filter((instance) => instance.host === host && !hasEnded(instance));
  own.sort((a, b) => compareNames(a.vm, b.vm) || compareNames(a.id, b.id));
  return [...ends(placement, own), ...restarts(placement, host, lost), ...departures(placement, host, own)];
}

// ---------------------------------------------------------------------------------- what nobody wants

function ends({ index }: Placement, own: readonly Instance[]): Decision[] {
  const decisions: Decision[] = [];
  for (const instance of own) {
    const { vm, id } = instance;
    if (index.vms.get(vm)?.power === 'off')
      decisions.push({ kind: 'end', vm, instance: id, reason: `${vm} is switched off` });
    else if (isForsaken(instance)) {
      const alone = index.instancesOf(vm).find((one) => one.state === 'SOLE' && isPresent(index, one.host));
      // It would keep its host from being the one for a new backup.
      if (alone)
        decisions.push({
          kind: 'end',
          ...{ vm, instance: id },
          reason: `${vm} runs on ${alone.host}, and this backup was never committed`,
        });
    } else if (isSpare(instance)) {
      const pair = pairWithout(index.instancesOf(vm), instance, (name) => isPresent(index, name));
      if (pair)
        decisions.push({
          kind: 'end',
          ...{ vm, instance: id },
          reason: `${vm} has its backup on ${pair.host}, and nobody copies to this one`,
        });
    }
  }
  return decisions;
}

/** The other backup of a VM that is surely protected without `spare`. */
function pairWithout(
  instances: readonly Instance[],
  spare: Instance,
  present: (host: string) => boolean,
): Instance | undefined {
  const primary = instances.find((instance) => instance.state === 'PAIR' && present(instance.host));
  const other = instances.find(
    (instance) => instance !== spare && instance.state === 'BACK' && present(instance.host),
  );
  return primary && other;
}

function isPresent(index: Placement['index'], host: string): boolean {
  return index.hosts.get(host)?.host.presence !== undefined;
}

// ----------------------------------------------------------------------------------------- HA restart

/** Every daemon places all VMs that run nowhere, in the same order, and starts those that fall to its host. */
function restarts(placement: Placement, host: string, lost: ReadonlySet<string>): Decision[] {
  const decisions: Decision[] = [];
  const { index } = placement;
  for (const vm of inOrder(index.content.vms, (a, b) => compareNames(a.name, b.name))) {
    const { name } = vm;
    if (!isWanted(vm)) continue;
    const known = index.instancesOf(name).filter((instance) => !hasEnded(instance));
    if (known.some((instance) => mayRun(instance, known, index, lost))) continue;
    const placed = placement.restart(name, []);
    if (!placed.ok) continue;
    placement.reserve(name, 'primary', placed.value, vm.memoryBytes);
    if (placed.value !== host) continue;
    const last = known.map((instance) => instance.host);
    const reason =
      last.length === 0 ? 'it runs nowhere' : `it ran on ${[...new Set(last)].join(' and ')}, lost since`;
    decisions.push({ kind: 'restart', vm: name, reason });
  }
  return decisions;
}

function isWanted({ power, restart }: Vm): boolean {
  return power === 'on' && restart;
}

/** Whether the VM lives in this process, or may yet. When in doubt it does. */
function mayRun(
  instance: Instance,
  all: readonly Instance[],
  index: Placement['index'],
  lost: ReadonlySet<string>,
): boolean {
  // A host without a record is none that is known to be lost.
  if (lost.has(instance.host) && !isPresent(index, instance.host)) return false;
  if (instance.role === 'primary') return true;
  return canTakeOver(instance) && !isUncommitted(instance, all, lost);
}

/**
 * A backup whose pair was surely never made, before it has heard so from the arbiter: it would ask the arbiter in vain for ever. Its primary's last word tells,
 * that of a host that is lost: it had no backup, or it was making its only one. Where it was making another one besides,
 * one of the two is a backup.
 */
function isUncommitted(backup: Instance, all: readonly Instance[], lost: ReadonlySet<string>): boolean {
  const primaries = all.filter(({ role }) => role === 'primary');
  const only = all.every((instance) => instance.role === 'primary' || instance === backup);
  return (
    primaries.length > 0 &&
    primaries.every(
      (primary) =>
        lost.has(primary.host) &&
        (isAlone(primary) || (only && (primary.state === 'COPY' || primary.state === 'GATE'))),
    )
  );
}

// ---------------------------------------------------------------------------------- maintenance

/** What has to leave a host in maintenance: by the daemon of the primary's host, which makes the copies. */
function departures(placement: Placement, host: string, own: readonly Instance[]): Decision[] {
  const { index } = placement;
  const leaving = index.hosts.get(host)?.host.maintenance === true;
  let copies = own.filter(isCopying).length;
  const decisions: Decision[] = [];
  for (const primary of own) {
    const vm = index.vms.get(primary.vm);
    if (primary.role !== 'primary' || vm?.power !== 'on') continue;
    const decision = departure(placement, vm, primary, leaving);
    if (decision === undefined) continue;
    if (decision.kind === 'migrate-backup' || decision.kind === 'move') {
      if (copies >= COPIES_AT_ONCE) continue;
      copies += 1;
      placement.reserve(vm.name, 'backup', decision.to, primary.memoryBytes);
    }
    decisions.push(decision);
  }
  return decisions;
}

function departure(placement: Placement, vm: Vm, primary: Instance, leaving: boolean): Decision | undefined {
  const { index } = placement;
  const own = { vm: vm.name, instance: primary.id };
  if (primary.state === 'PAIR') {
    if (vm.faultTolerance !== 'on') return undefined;
    const backup = index.instancesOf(vm.name).find(({ state }) => state === 'BACK');
    const other = backup && index.hosts.get(backup.host)?.host;
    if (other?.presence === undefined) return undefined;
    if (other.maintenance) {
      const placed = placement.backup(vm.name, []);
      const reason = `its backup's host ${other.name} is in maintenance`;
      return placedOr(placed, vm, reason, (to) => ({ kind: 'migrate-backup', ...own, to, reason }));
    }
    if (!leaving) return undefined;
    const reason = `${primary.host} is in maintenance`;
    return { kind: 'switch-over', ...own, to: other.name, reason };
  }
  if (!leaving || primary.state !== 'SOLE') return undefined;
  // Its process looks for a backup by itself, and then that one goes on.
  const waits = vm.faultTolerance === 'on' && placement.backup(vm.name, []).ok;
  if (waits) return undefined;
  const reason = `${primary.host} is in maintenance`;
  return placedOr(placement.move(vm.name, []), vm, reason, (to) => ({ kind: 'move', ...own, to, reason }));
}

function placedOr(
  placed: Result<string>,
  vm: Vm,
  reason: string,
  decision: (to: string) => Decision,
): Decision {
  return placed.ok
    ? decision(placed.value)
    : { kind: 'blocked', vm: vm.name, reason: `${reason}, but ${placed.error}` };
}
