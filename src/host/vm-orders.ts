import type { Driver } from '../hypervisor/driver.ts';
import { isControlOrder, parseControlOrder } from './control-order.ts';
import type { ReportedHosts } from './reported-hosts.ts';
import type { StatusConsole } from './status-console.ts';
import type { Report } from './status-lines.ts';

/** Whom the orders of a VM process go to. */
export interface OrderTargets {
  readonly driver: Driver;
  readonly console: StatusConsole;
  readonly hosts: ReportedHosts;
  /** Network cards of the guest. */
  readonly nics: number;
  readonly report: (line: Report) => void;
  /** Why there can be no partner, or none at this address; undefined: there can. */
  unreachable(address?: string): string | undefined;
  save(file: string): void;
  /** What passes this interface goes to whoever listens on the unix socket. */
  capture(nic: number, socket: string): void;
  /** `file`: the VM's file, to be kept with it. `id`: what the line that tells how it has ended carries. */
  snapshot(folder: string, file: unknown, id: unknown): void;
}

interface Order {
  readonly order?: unknown;
  readonly address?: unknown;
  readonly host?: unknown;
  readonly port?: unknown;
  readonly text?: unknown;
  readonly file?: unknown;
  readonly nic?: unknown;
  readonly socket?: unknown;
  readonly folder?: unknown;
  readonly id?: unknown;
}

/**
 * Does what a line says, one JSON object:
 *
 *   {"order":"protect","address":"host:port"} or without an address; {"order":"unprotect"} {"order":"save","file":"..."}
 *   {"order":"snapshot","folder":"...","id":"..."}: the guest at one instant, memory and disks, while it runs on
 *   {"order":"candidate","address":"host:port","host":"..."} answers a line {"kind":"find-host","except":[...]}
 *   {"order":"migrate-backup","address":"host:port"} {"order":"switch-over"}
 *   {"order":"move","address":"host:port"}: a guest without a backup goes to the instance that waits there
 *   {"order":"capture","nic":0,"socket":"..."} until the listener there closes
 *   {"order":"console","port":0,"text":"..."} and those of ./control-order.ts
 */
export function obey(line: string, targets: OrderTargets): void {
  const { driver, hosts, report } = targets;
  const order = orderIn(line);
  if (!order) report(refusal('an order is one JSON object on one line'));
  else if (order.order === 'protect' && order.address === undefined) protectAnywhere(targets);
  else if (order.order === 'protect') toAddress(order, targets, (address) => driver.protect(address));
  else if (order.order === 'move') toAddress(order, targets, (address) => driver.move(address));
  else if (order.order === 'unprotect') driver.unprotect();
  else if (order.order === 'candidate')
    toAddress(order, targets, (address) => hosts.offer(address, String(order.host)));
  else if (order.order === 'migrate-backup' && order.address === undefined) driver.migrateBackup();
  else if (order.order === 'migrate-backup')
    toAddress(order, targets, (address) => driver.migrateBackup(address));
  else if (order.order === 'switch-over') driver.switchOver();
  else if (isControlOrder(order.order)) control(order, targets);
  else if (order.order === 'snapshot') targets.snapshot(String(order.folder), order.file, order.id);
  else if (order.order === 'save') targets.save(String(order.file));
  else if (order.order === 'capture') capture(order, targets);
  else if (order.order === 'console') type(order.port ?? 0, String(order.text ?? ''), targets);
  else report(refusal(`unknown order: ${line.slice(0, 100)}`));
}

function refusal(detail: string): Report {
  return { kind: 'event', what: 'order', detail };
}

/** Only reading may fail: what an order does wrong has to end this process, not vanish. */
function orderIn(line: string): Order | undefined {
  try {
    const order: unknown = JSON.parse(line);
    return typeof order === 'object' && order !== null ? order : undefined;
  } catch {
    return undefined;
  }
}

/** The log has one byte for the port, and both sides must read the same one. */
function type(port: unknown, text: string, { console, report }: OrderTargets): void {
  if (port === 0 || port === 1) console.type(port, text);
  else report(refusal('port is 0, the serial port, or 1, the virtio console'));
}

function capture({ nic, socket }: Order, { nics, report, capture }: OrderTargets): void {
  if (typeof nic === 'number' && nic in Array.from({ length: nics }) && typeof socket === 'string')
    capture(nic, socket);
  else
    report(
      refusal(`a capture needs nic, the number of a network card (the guest has ${nics}), and a socket`),
    );
}

function protectAnywhere({ driver, report, unreachable }: OrderTargets): void {
  const refused = unreachable();
  if (refused === undefined) driver.protect();
  else report(refusal(refused));
}

/** An order that names where a partner is, if there can be one. */
function toAddress({ order, address }: Order, targets: OrderTargets, go: (address: string) => void): void {
  const text = String(address ?? '');
  const why = targets.unreachable(text);
  if (why === undefined) go(text);
  else targets.report({ kind: 'event', what: String(order), detail: why });
}

function control(order: object, { driver, nics, report }: OrderTargets): void {
  const parsed = parseControlOrder(order, nics);
  if (!parsed.ok) report(refusal(parsed.error));
  else if (driver.role === 'primary') driver.control(parsed.value);
  else report(refusal('a backup takes no orders: give them to the primary'));
}
