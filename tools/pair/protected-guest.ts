import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GuestImage } from '../../src/host/image/build-image.ts';
import { repositoryRoot } from '../../src/host/image/repository.ts';
import { VmAuthority } from '../../src/host/vm-authority.ts';
import { freePorts } from '../free-ports.ts';
import type { TestHost } from '../net/test-host.ts';
import { JsonProcess, type StatusLine } from './json-process.ts';
import { RedisConnection } from './redis-connection.ts';

const MEMORY_BYTES = 256 * 1024 * 1024;
const MAC = '525400123456';
/** Unless the kernel's command line names another one [src/host/image/guest/demo-rc.sh]. */
const GUEST_ADDRESS = '10.0.2.15';
const LOOPBACK = '127.0.0.1';

export interface HostView {
  readonly name: string;
  readonly process: JsonProcess;
  /** The last state line and figures that it reported. */
  state: string;
  protection: string;
  figures: StatusLine | undefined;
  /** What it said last of why it is where it is. */
  reason: string;
}

/** One more host, with an instance that waits at this address for a primary. */
export interface WaitingHost {
  readonly view: HostView;
  readonly address: string;
}

/** A guest that was saved; src/host/vm-process.ts goes on from it. */
export interface SavedGuest {
  readonly snapshot: string;
  readonly disk: string;
  /** The machine's configuration, as it was. */
  readonly machine: object;
}

/** Machines of their own for the parts of a pair; the guest's interface is on the TAP of this name there, without a switch. */
export interface Places {
  readonly a: TestHost;
  readonly b: TestHost;
  readonly disks: TestHost;
  /** Has an address in the guest's network. */
  readonly client: TestHost;
  readonly tap: string;
}

export interface ProtectedGuestOptions {
  /** Goes on from here instead of booting. */
  readonly from?: SavedGuest;
  /** Of a guest that boots. */
  readonly memoryBytes?: number;
  /** False: host A runs alone until `protect()`. */
  readonly protectAtStart?: boolean;
  /** Where host A finds the logging channel that host B has at this address: something may stand between them. */
  readonly channelVia?: (address: string) => Promise<string>;
  /** Where a host finds the disk server or the switch that is at this address: something may stand between them. */
  readonly serviceVia?: (host: string, service: 'disks' | 'switch', address: string) => Promise<string>;
  /** Pins everything to one processor, and host B to another one. */
  readonly cores?: { readonly all: number; readonly backup: number };
  /** Instead of this machine for everything. */
  readonly places?: Places | undefined;
  /** What is another in a host's configuration, given what it would be. */
  readonly world?: (host: string, config: Readonly<Record<string, unknown>>) => Promise<object>;
  /** Of the logging channel. TLS, and no compression, unless told otherwise. */
  readonly channel?: { readonly security?: 'none'; readonly compress?: boolean };
}

type LaunchHost = (name: string, config: object, program?: string) => Promise<HostView>;

/** A switch, a disk server and two hosts, each a process with a folder of its own. */
export class ProtectedGuest {
  readonly redisPort: number;
  readonly httpPort: number;
  readonly hosts: readonly [HostView, HostView];
  readonly lagsMs: number[] = [];
  readonly #folder: string;
  readonly #services: readonly JsonProcess[];
  readonly #client: TestHost | undefined;
  /** What the guest's machine is, for whoever saves it. */
  readonly machine: object;
  readonly disk: string;
  /** Where the switch takes connections, host:port. */
  readonly network: string;
  /** Where host B's logging channel is reached. */
  readonly channel: string;
  readonly #others: HostView[] = [];
  readonly #launch: LaunchHost;
  #console = '';

  private constructor(
    folder: string,
    services: readonly JsonProcess[],
    hosts: [HostView, HostView],
    ports: number[],
    guest: {
      channel: string;
      machine: object;
      disk: string;
      network: string;
      launch: LaunchHost;
      client: TestHost | undefined;
    },
  ) {
    this.#folder = folder;
    this.#services = services;
    this.hosts = hosts;
    [this.redisPort = 0, this.httpPort = 0] = ports;
    this.channel = guest.channel;
    this.#launch = guest.launch;
    this.machine = guest.machine;
    this.disk = guest.disk;
    this.network = guest.network;
    this.#client = guest.client;
    for (const host of hosts) host.process.listen((line) => this.#follow(host, line));
  }

  /** Everything is undone again when a part cannot be started. */
  static async start(
    image: GuestImage,
    started: (undo: () => Promise<void>) => void,
    options: ProtectedGuestOptions = {},
  ): Promise<ProtectedGuest> {
    const { from, cores, places } = options;
    const services: JsonProcess[] = [];
    const folder = await mkdtemp(join(tmpdir(), 'lockstep-guest-'));
    const processes: JsonProcess[] = [];
    started(async () => {
      // Hosts first: a guest that loses its disk server would only report it.
      const hosts = processes.filter((each) => !services.includes(each));
      await Promise.all(hosts.map((each) => each.end('SIGTERM')));
      await Promise.all(processes.map((each) => each.end()));
      await rm(folder, { recursive: true, force: true });
    });
    const launch = async (
      name: string,
      script: string,
      args: (own: string) => Promise<string[]> | string[],
      program = join(repositoryRoot(), 'dist'),
      place?: TestHost,
    ) => {
      const own = join(folder, name.replaceAll(' ', '-'));
      await mkdir(own);
      const launched = new JsonProcess(
        name,
        join(program, 'src', script),
        await args(own),
        own,
        name === 'host B' ? cores?.backup : cores?.all,
        place && ((command) => place.command(command)),
      );
      processes.push(launched);
      return launched;
    };
    const listening = async (service: JsonProcess) => {
      const line = await service.first(({ kind }) => kind === 'listening');
      return `${line.host}:${Number(line.port)}`;
    };

    const service = ['--port', '0', '--json', '--until-stdin-ends'];
    const pristineDisk = from?.disk ?? image.disk ?? '';
    let disk = '';
    const serveDisk = async (own: string) => {
      disk = join(own, 'disk.img');
      await copyFile(pristineDisk, disk, constants.COPYFILE_FICLONE);
      return ['disk', 'serve', `vda=${disk}`, '--host', places?.disks.address ?? LOOPBACK, ...service];
    };
    const disks = await launch('disk server', 'cli/main.js', serveDisk, undefined, places?.disks);
    services.push(disks);
    const diskAddress = await listening(disks);
    const [redisPort = 0, httpPort = 0, channelPort = 0] = await freePorts(3);
    const forwards = ['--forward', `tcp:${redisPort}:6379`, '--forward', `tcp:${httpPort}:80`];
    let networkAddress = '';
    if (!places) {
      const startSwitch = () => ['switch', 'start', ...service, ...forwards];
      const network = await launch('switch', 'cli/main.js', startSwitch);
      services.push(network);
      networkAddress = await listening(network);
    }

    const channel = `${places?.b.address ?? LOOPBACK}:${channelPort}`;
    const machine = from?.machine ?? {
      memoryBytes: options.memoryBytes ?? MEMORY_BYTES,
      disks: [{ capacity: (await stat(pristineDisk)).size, readOnly: false, serial: 'lockstep-0' }],
      nics: [{ mac: MAC }],
      startEpochSeconds: Math.floor(Date.now() / 1000),
      seed: randomBytes(32).toString('hex'),
      debugExit: false,
    };
    const authority = await VmAuthority.create('demo');
    const via = options.serviceVia ?? ((_host, _service, address) => Promise.resolve(address));
    const common = {
      vm: 'demo',
      machine,
      figuresEveryMs: 100,
      digestEveryMs: 1000,
    };
    const host: LaunchHost = async (name, config, program) => {
      const configured = async (own: string): Promise<string[]> => {
        const file = join(own, 'vm.json');
        const credentials = join(own, 'channel.json');
        await writeFile(credentials, JSON.stringify(await authority.issue()), { mode: 0o600 });
        const channel = options.channel?.security ? options.channel : { ...options.channel, credentials };
        const world = {
          storage: { address: await via(name, 'disks', diskAddress), disks: ['vda'] },
          network: places ? { taps: [places.tap] } : await via(name, 'switch', networkAddress),
        };
        const plain = { ...common, ...world, ...config, channel };
        const whole = { ...plain, ...(await options.world?.(name, plain)) };
        await writeFile(file, JSON.stringify(whole), { mode: 0o600 });
        return [file];
      };
      const place = name === 'A' ? places?.a : name === 'B' ? places?.b : undefined;
      const launched = await launch(`host ${name}`, 'host/vm-process.js', configured, program, place);
      const view: HostView = {
        name,
        process: launched,
        state: 'starting',
        protection: '',
        figures: undefined,
        reason: '',
      };
      await launched.first(({ kind }) => kind === 'started');
      return view;
    };
    const backup = await host('B', { role: 'backup', listen: channel });
    const start = from
      ? { snapshot: from.snapshot }
      : { boot: { kernel: image.kernel, initrd: image.initrd, append: image.commandLine } };
    const reached = (await options.channelVia?.(channel)) ?? channel;
    const protect = options.protectAtStart === false ? undefined : reached;
    const primary = await host('A', { role: 'primary', ...start, protect });
    const guest = {
      channel: reached,
      machine,
      disk,
      network: networkAddress,
      launch: host,
      client: places?.client,
    };
    return new ProtectedGuest(folder, services, [primary, backup], [redisPort, httpPort], guest);
  }

  /** One more host, gone with the others. `program`: the folder of another build than this one's `dist`. */
  async addHost(name: string, program?: string): Promise<WaitingHost> {
    const [port] = await freePorts(1);
    const address = `127.0.0.1:${port}`;
    const view = await this.#launch(name, { role: 'backup', listen: address }, program);
    this.#others.push(view);
    view.process.listen((line) => this.#follow(view, line));
    return { view, address };
  }

  /** A new connection to the guest's redis, from where its clients are. */
  async redis(): Promise<RedisConnection> {
    if (this.#client === undefined) return RedisConnection.open(this.redisPort);
    return RedisConnection.on(await this.#client.connect({ host: GUEST_ADDRESS, port: 6379 }));
  }

  /** Attaches host B to host A. */
  protect(): void {
    this.hosts[0].process.order({ order: 'protect', address: this.channel });
  }

  /** Ends the pair in order: host A goes on alone, host B halts. */
  unprotect(): void {
    this.hosts[0].process.order({ order: 'unprotect' });
  }

  /** Types on the guest's console. */
  type(text: string): void {
    this.primary?.process.order({ order: 'console', port: 0, text });
  }

  get folder(): string {
    return this.#folder;
  }

  get services(): readonly JsonProcess[] {
    return this.#services;
  }

  /** The last whole line that the guest wrote to its console. */
  get lastConsoleLine(): string {
    return this.#console.split(/\r?\n/).at(-2) ?? '';
  }

  /** What the guest wrote to its console behind the last place where it wrote this. */
  consoleSince(text: string): string {
    return this.#console.slice(this.#console.lastIndexOf(text) + text.length);
  }

  /** The end of all that it wrote there. */
  get consoleText(): string {
    return this.#console;
  }

  hasPrinted(text: string): boolean {
    return this.#console.includes(text);
  }

  /** The host that runs the guest for the world, as far as is known. */
  get primary(): HostView | undefined {
    const live = (host: HostView) => host.process.running && PRIMARY_STATES.has(host.state);
    return this.hosts.find(live) ?? this.#others.find(live);
  }

  #follow(host: HostView, line: StatusLine): void {
    switch (line.kind) {
      case 'console':
        if (line.port === 0) this.#console = (this.#console + String(line.text)).slice(-65536);
        break;
      case 'state':
        if (!/^[A-Z]+$/.test(String(line.state))) break;
        host.state = String(line.state);
        host.protection = String(line.protection ?? '');
        host.reason = String(line.detail ?? '');
        break;
      case 'halted':
      case 'failed':
        host.state = 'HALT';
        host.reason = String(line.reason ?? '');
        break;
      case 'figures':
        host.figures = line;
        if (host.state === 'PAIR' && typeof line.lagMs === 'number') this.lagsMs.push(line.lagMs);
        break;
      default:
    }
  }
}

const PRIMARY_STATES = new Set(['START', 'SOLE', 'PAIR', 'COPY', 'GATE', 'COMMIT', 'ASK']);
