import { randomBytes, randomUUID } from 'node:crypto';
import { createWriteStream, readFileSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { hostname } from 'node:os';
import { createInterface } from 'node:readline';
import { unreachable } from '../base/assert.ts';
import { decodeText } from '../base/text.ts';
import { Backup } from '../ft/backup.ts';
import { epoch, instanceId, vmId } from '../ft/identity.ts';
import { leaseRunsOutMs } from '../ft/lease.ts';
import { Primary } from '../ft/primary.ts';
import { Driver, type Role, SAVED } from '../hypervisor/driver.ts';
import type {
  ArbiterPort,
  ConsoleEvents,
  ConsolePort,
  NetworkPort,
  StatusReport,
} from '../hypervisor/ports.ts';
import { hexBytes } from '../machine/config.ts';
import { SwitchNetworkPort } from '../network/switch-port.ts';
import { type ArbiterConnection, AskedArbiter } from '../storage/asked-arbiter.ts';
import { DirectoryArbiter } from '../storage/directory-arbiter.ts';
import { DiskClient } from '../storage/disk-client.ts';
import { ServedDiskPort } from '../storage/disk-port.ts';
import { DiskServerArbiter } from '../storage/disk-server-arbiter.ts';
import { EtcdArbiter } from '../storage/etcd-arbiter.ts';
import { type HostPort, parseHostPort } from '../transport/address.ts';
import { TcpChannel } from '../transport/tcp-channel.ts';
import { UdpHeartbeats } from '../transport/udp-heartbeats.ts';
import { buildIdentity } from './build-identity.ts';
import { readChannelSecurity } from './channel-config.ts';
import { isControlOrder, parseControlOrder } from './control-order.ts';
import { FirstFrame } from './first-frame.ts';
import { readBootImage } from './guest-files.ts';
import { HostClock, sharedMs } from './host-clock.ts';
import { ReportedHosts } from './reported-hosts.ts';
import { restoreInto } from './restored-vcpu.ts';
import { readSnapshotFile, writeSnapshotFile } from './snapshot-file.ts';
import { VcpuThread } from './vcpu-thread.ts';
import { parseVmProcessConfig, type VmProcessConfig } from './vm-process-config.ts';

/**
 * One VM in one role: the process that a host starts. Its configuration is the first argument (a JSON text, or the
 * path of one); it reports on standard output and takes orders on standard input, one JSON object per line.
 *
 *   orders: {"order":"protect","address":"host:port"} {"order":"unprotect"} {"order":"save","file":"..."}
 *           {"order":"candidate","address":"host:port","host":"..."} answers a line {"kind":"find-host","except":[...]}
 *           {"order":"migrate-backup","address":"host:port"} {"order":"switch-over"}
 *           {"order":"console","port":0,"text":"..."} and those of ./control-order.ts
 */

/** Time for the last lines and the last frames to leave. */
const LEAVING_MS = 150;
const EXIT_WRONG = 2;

/** The guest is being saved: the process ends when its file is written. */
let saving = false;

type Report = StatusReport | { readonly kind: string; readonly [key: string]: unknown };

/** Every line says when [host-clock.ts]. */
function report(line: Report): void {
  const stamped = { ...line, ms: sharedMs() };
  const text = JSON.stringify(stamped, (_, value) => (typeof value === 'bigint' ? Number(value) : value));
  process.stdout.write(`${text}\n`);
}

function leave(code: number): void {
  setTimeout(() => process.exit(code), LEAVING_MS);
}

function refuse(reason: string): void {
  process.stderr.write(`lockstep: ${reason}\n`);
  report({ kind: 'failed', reason });
  leave(EXIT_WRONG);
}

class StatusConsole implements ConsolePort {
  #events: ConsoleEvents | undefined;
  readonly #write: (port: number, bytes: Uint8Array) => void;

  constructor(file: string | undefined) {
    const stream = file === undefined ? undefined : createWriteStream(file, { flags: 'a', mode: 0o600 });
    stream?.on('error', (error) => report({ kind: 'event', what: 'console-file', detail: error.message }));
    this.#write = (port, bytes) => {
      if (stream) stream.write(bytes);
      else report({ kind: 'console', port, text: decodeText(bytes) });
    };
  }

  listen(events: ConsoleEvents): void {
    this.#events = events;
  }

  write(port: number, bytes: Uint8Array): void {
    this.#write(port, bytes);
  }

  type(port: number, text: string): void {
    this.#events?.input(port, Buffer.from(text));
  }
}

const NO_NETWORK: NetworkPort = { listen() {}, open() {}, send() {}, announce() {}, close() {} };

/** Without a disk server nobody else can run this VM either: a lone process is its own arbiter. */
function loneArbiter(): ArbiterPort {
  let answer: Parameters<ArbiterPort['listen']>[0]['answered'] = () => {};
  return {
    listen: (events) => {
      answer = events.answered;
    },
    request: (request) => {
      const next = request.kind === 'restart' ? request.expected + 1 : 1;
      setImmediate(() => answer({ nonce: request.nonce, verdict: 'won', epoch: epoch(next) }));
    },
  };
}

/** What a process lacks to have a partner. */
function missingFor({ storage, arbiter }: VmProcessConfig, security: unknown): string | undefined {
  if (security === undefined) return 'this process was started without "channel"';
  // A lone process is its own arbiter; two of them would both win.
  if (!storage && !arbiter) return 'this process was started without an arbiter ("storage" or "arbiter")';
  return undefined;
}

function addressFamily(address: HostPort | undefined): 'udp4' | 'udp6' {
  return address !== undefined && isIPv6(address.host) ? 'udp6' : 'udp4';
}

function arbiterOf({ arbiter, storage, timing }: VmProcessConfig): ArbiterPort {
  // A restart elsewhere waits longer than an owner without an answer goes on.
  const lease = timing.leaseMs > 0 ? { leaseMs: leaseRunsOutMs(timing.leaseMs) } : {};
  const asked = (connection: ArbiterConnection) =>
    new AskedArbiter(connection, (detail) => report({ kind: 'event', what: 'arbiter', detail }));
  switch (arbiter?.kind) {
    case 'etcd':
      return asked(new EtcdArbiter({ ...arbiter, ...lease }));
    case 'directory':
      return asked(new DirectoryArbiter({ ...arbiter, ...lease }));
    case undefined:
      return storage
        ? asked(new DiskServerArbiter({ ...storage.address, disk: storage.disks[0]!, ...lease }))
        : loneArbiter();
    default:
      return unreachable(arbiter);
  }
}

async function start(config: VmProcessConfig): Promise<void> {
  const boot = config.role === 'primary' && config.boot ? await readBootImage(config.boot) : undefined;
  if (boot && !boot.ok) {
    refuse(boot.error);
    return;
  }
  const snapshot =
    config.role === 'primary' && config.snapshot !== undefined
      ? await readSnapshotFile(config.snapshot)
      : undefined;
  if (snapshot && !snapshot.ok) {
    refuse(snapshot.error);
    return;
  }
  const vm = vmId(config.vm);
  const security = await readChannelSecurity(config.channel, vm);
  if (!security.ok) {
    refuse(security.error);
    return;
  }
  const vcpu = new VcpuThread({
    config: config.machine,
    options: {},
    boot: boot?.value,
    digestEveryMs: config.digestEveryMs,
  });
  const resumed = snapshot && (await restoreInto(vcpu, snapshot.value));
  if (resumed && !resumed.ok) {
    refuse(resumed.error);
    return;
  }
  const partner = config.protect === undefined ? undefined : parseHostPort(config.protect);
  const family = addressFamily(config.listen ?? (partner?.ok ? partner.value : undefined));
  const heartbeats = new UdpHeartbeats(vm, security.value === 'none' ? 'none' : 'sealed', family);
  const channel = new TcpChannel({
    vm,
    security: security.value ?? 'none',
    compresses: config.channel.compress,
    onHeartbeatKeys: (generation, keys, end) => heartbeats.useKeys(generation, keys, end),
  });
  const console = new StatusConsole(config.consoleFile);
  const { storage } = config;
  const diskNames = storage?.disks.slice(0, config.machine.disks.length) ?? [];
  const clients = diskNames.map(
    (disk) =>
      new DiskClient({
        vm,
        address: { ...storage!.address, disk },
        generations: true,
        say: (detail) => report({ kind: 'event', what: 'disk', detail }),
      }),
  );
  const hosts = new ReportedHosts(report);
  const ports = {
    vcpu,
    disks: new ServedDiskPort(clients),
    network: config.network
      ? new FirstFrame(
          new SwitchNetworkPort({
            vm,
            nics: config.machine.nics.length,
            ...config.network,
            say: (detail) => report({ kind: 'event', what: 'network', detail }),
          }),
          (of) => report({ kind: 'event', what: 'first-frame', detail: `of epoch ${of}` }),
        )
      : NO_NETWORK,
    console,
    arbiter: arbiterOf(config),
    channel,
    heartbeats,
    hosts,
    clock: new HostClock(),
    entropy: { bytes: (length: number) => new Uint8Array(randomBytes(length)) },
    status: {
      report: (status: StatusReport) => {
        report(status);
        if (status.kind !== 'halted' || (saving && status.reason === SAVED)) return;
        if (saving) report({ kind: 'event', what: 'save', detail: 'the guest ended before it was saved' });
        leave(/powered off$/.test(status.reason) ? 0 : 1);
      },
    },
  };
  const waitForBackup = config.protect !== undefined;
  const role: Role =
    config.role === 'primary'
      ? {
          kind: 'primary',
          start: {
            kind: 'power-on',
            expected: epoch(config.expectedEpoch),
            waitForBackup,
            ...(resumed && { resumed: resumed.value }),
          },
        }
      : { kind: 'backup' };
  const side = {
    vm,
    // A restarted process is a new instance, whatever it is called: its questions must not repeat an older one's.
    instance: instanceId(`${config.instance === undefined ? '' : `${config.instance}/`}${randomUUID()}`),
    host: hostname(),
    machine: `${config.identity}/${buildIdentity()}`,
    timing: config.timing,
    limits: config.limits,
  };
  const macs = config.machine.nics.map((nic) => hexBytes(nic.mac));
  const driver = new Driver(ports, { side, role, macs });
  const protect = (address: string): void => {
    const peer = parseHostPort(address);
    if (!peer.ok) {
      report({ kind: 'event', what: 'protect', detail: peer.error });
      return;
    }
    const missing = missingFor(config, security.value);
    if (missing !== undefined) report({ kind: 'event', what: 'protect', detail: missing });
    else if (addressFamily(peer.value) !== family)
      report({
        kind: 'event',
        what: 'protect',
        detail: `this process's heartbeats are not of ${peer.value.host}'s family`,
      });
    else driver.protect(address);
  };
  obeyStandardInput(driver, console, hosts, config.machine.nics.length, protect);
  reportFigures(driver, vcpu, channel, config.figuresEveryMs);

  const go = (): void => {
    report({ kind: 'started', role: config.role, vm: config.vm, instance: side.instance, pid: process.pid });
    driver.start();
    if (config.protect !== undefined) protect(config.protect);
  };
  const { listen } = config;
  if (!listen) heartbeats.bind({ host: family === 'udp6' ? '::' : '0.0.0.0', port: 0 }, go, refuse);
  else channel.accept(listen, (port) => heartbeats.bind({ host: listen.host, port }, go, refuse), refuse);
}

function obeyStandardInput(
  driver: Driver,
  console: StatusConsole,
  hosts: ReportedHosts,
  nics: number,
  protect: (address: string) => void,
): void {
  createInterface({ input: process.stdin }).on('line', (line) => {
    const order = orderIn(line);
    if (!order) report({ kind: 'event', what: 'order', detail: 'an order is one JSON object on one line' });
    else if (order.order === 'protect') protect(String(order.address));
    else if (order.order === 'unprotect') driver.unprotect();
    else if (order.order === 'candidate') hosts.offer(String(order.address), String(order.host));
    else if (order.order === 'migrate-backup') driver.migrateBackup(optionalAddress(order.address));
    else if (order.order === 'switch-over') driver.switchOver();
    else if (isControlOrder(order.order)) control(driver, order, nics);
    else if (order.order === 'save') save(driver, String(order.file));
    else if (order.order === 'console') type(console, order.port ?? 0, String(order.text ?? ''));
    else report({ kind: 'event', what: 'order', detail: `unknown order: ${line.slice(0, 100)}` });
  });
}

interface Order {
  readonly order?: unknown;
  readonly address?: unknown;
  readonly host?: unknown;
  readonly port?: unknown;
  readonly text?: unknown;
  readonly file?: unknown;
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
function type(console: StatusConsole, port: unknown, text: string): void {
  if (port === 0 || port === 1) console.type(port, text);
  else
    report({ kind: 'event', what: 'order', detail: 'port is 0, the serial port, or 1, the virtio console' });
}

function optionalAddress(address: unknown): string | undefined {
  return address === undefined ? undefined : String(address);
}

function control(driver: Driver, order: object, nics: number): void {
  const parsed = parseControlOrder(order, nics);
  if (!parsed.ok) report({ kind: 'event', what: 'order', detail: parsed.error });
  else if (driver.role === 'primary') driver.control(parsed.value);
  else report({ kind: 'event', what: 'order', detail: 'a backup takes no orders: give them to the primary' });
}

/** The guest's state goes into a file, and this process ends; whatever it had begun on its disks is in it. */
function save(driver: Driver, file: string): void {
  if (saving) {
    report({ kind: 'event', what: 'save', detail: 'the guest is being saved already' });
    return;
  }
  saving = driver.save((snapshot) => {
    void writeSnapshotFile(file, snapshot).then((written) => {
      if (!written.ok) refuse(written.error);
      else {
        report({ kind: 'saved', file, bytes: snapshot.machine.length });
        leave(0);
      }
    });
  });
  if (!saving)
    report({ kind: 'event', what: 'save', detail: 'a guest is saved while it runs without a partner' });
}

function reportFigures(
  driver: Driver,
  vcpu: VcpuThread,
  channel: TcpChannel,
  everyMs: number | undefined,
): void {
  if (everyMs === undefined || everyMs === 0) return;
  setInterval(() => {
    const { core, role } = driver;
    if (core instanceof Backup) report({ kind: 'figures', role, ...core.figures() });
    if (!(core instanceof Primary)) return;
    const figures = core.figures(driver.now());
    const standstillMs = vcpu.takeStandstillMs();
    report({
      kind: 'figures',
      role,
      ...figures,
      standstillMs,
      logBytes: channel.logBytes,
      wireBytes: channel.wireBytes,
      ...core.takeWaits(),
    });
  }, everyMs).unref();
}

process.on('SIGINT', () => {
  // The terminal's Ctrl-C reaches every process of the group; whoever started this one ends it in good order.
});
process.on('SIGTERM', () => process.exit(0));
process.stdout.on('error', () => process.exit(1));

const argument = process.argv[2] ?? '';
let text = argument;
try {
  if (!argument.trimStart().startsWith('{')) text = readFileSync(argument, 'utf8');
} catch (error) {
  text = '';
  refuse(`the configuration cannot be read: ${(error as Error).message}`);
}
if (text !== '') {
  const config = parseVmProcessConfig(text);
  if (config.ok) void start(config.value);
  else refuse(config.error);
}
