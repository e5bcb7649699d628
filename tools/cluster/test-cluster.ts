import { constants } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { VmView } from '../../src/host/api.ts';
import type { GuestImage } from '../../src/host/image/build-image.ts';
import { repositoryRoot } from '../../src/host/image/repository.ts';
import { freePorts } from '../free-ports.ts';
import { isAlive, kill, pidsUsing } from '../net/process-signals.ts';
import type { TestHost } from '../net/test-host.ts';
import { TestNetwork } from '../net/test-network.ts';
import { JsonProcess } from '../pair/json-process.ts';
import { RedisConnection } from '../pair/redis-connection.ts';
import { ClusterHost } from './cluster-host.ts';

/** With the maker's process id behind it. */
const PREFIX = 'lockstep-cluster-';
const AGAIN_MS = 100;
/** On the test network, far from its hosts. */
const GUEST_ADDRESS = '10.77.0.200';
const REDIS_PORT = 6379;
const TAP = 'lockstep0';

export interface TestClusterOptions {
  readonly hosts: readonly string[];
  /**
   * Hosts are network namespaces with a TAP each, the client is on another one, and so is the storage. Otherwise all of
   * it is on this machine, with the user switch.
   */
  readonly namespaces?: boolean;
  /** Of `lockstep host start`, when the store is not a directory; called with the host that storage is on. */
  readonly store?: (storage: TestHost | undefined) => Promise<string>;
  readonly memory?: string;
  /** Hosts that run another build: the path of its `dist`. */
  readonly programs?: Readonly<Record<string, string>>;
}

/** Hosts with daemons, a disk server, a network and a client: what a cluster is in a test. */
export class TestCluster {
  readonly hosts: readonly ClusterHost[];
  readonly network: TestNetwork | undefined;
  readonly storage: TestHost | undefined;
  readonly folder: string;
  readonly #client: TestHost | undefined;
  readonly #file: Readonly<Record<string, unknown>>;
  readonly #redisPort: number;

  private constructor(parts: {
    hosts: readonly ClusterHost[];
    network: TestNetwork | undefined;
    storage: TestHost | undefined;
    client: TestHost | undefined;
    folder: string;
    file: Readonly<Record<string, unknown>>;
    redisPort: number;
  }) {
    this.hosts = parts.hosts;
    this.network = parts.network;
    this.storage = parts.storage;
    this.folder = parts.folder;
    this.#client = parts.client;
    this.#file = parts.file;
    this.#redisPort = parts.redisPort;
  }

  /** Everything is undone again when a part cannot be started. */
  static async start(image: GuestImage, options: TestClusterOptions): Promise<TestCluster> {
    await removeLeftovers();
    const folder = await mkdtemp(join(tmpdir(), `${PREFIX}${process.pid}-`));
    const services: JsonProcess[] = [];
    const hosts: ClusterHost[] = [];
    let network: TestNetwork | undefined;
    const undo = async () => {
      await Promise.all(hosts.map((host) => host.end()));
      await Promise.all(services.map((service) => service.end()));
      await network?.close();
      await rm(folder, { recursive: true, force: true });
    };
    try {
      network = options.namespaces === true ? await TestNetwork.create() : undefined;
      const storage = await network?.host('storage');
      const client = await network?.host('client');
      const disk = join(folder, 'disk.img');
      await copyFile(image.disk ?? '', disk, constants.COPYFILE_FICLONE);
      const serve = async (words: string[]): Promise<string> => {
        const address = storage?.address ?? '127.0.0.1';
        const service = new JsonProcess(
          words.slice(0, 2).join(' '),
          join(repositoryRoot(), 'dist/src/cli/main.js'),
          [...words, '--host', address, '--port', '0', '--json', '--until-stdin-ends'],
          folder,
          undefined,
          storage && ((command) => storage.command(command)),
        );
        services.push(service);
        const { port } = await service.first(({ kind }) => kind === 'listening');
        return `${address}:${Number(port)}`;
      };
      const server = await serve(['disk', 'serve', `vda=${disk}`]);
      const [redisPort = 0] = network ? [REDIS_PORT] : await freePorts(1);
      const file = {
        name: 'web',
        memory: '256M',
        kernel: image.kernel,
        initrd: image.initrd,
        append: network
          ? `${image.commandLine} lockstep.address=${GUEST_ADDRESS}/24 lockstep.gateway=10.77.0.1`
          : image.commandLine,
        storage: { server, disks: ['vda'] },
        network: network
          ? { taps: [TAP] }
          : { switch: await serve(['switch', 'start', '--forward', `tcp:${redisPort}:${REDIS_PORT}`]) },
        faultTolerance: 'on',
      };
      const shared = join(folder, 'store');
      await mkdir(shared);
      const store = (await options.store?.(storage)) ?? shared;
      for (const name of options.hosts) {
        const at = await network?.host(name);
        await at?.addTap(TAP);
        hosts.push(
          new ClusterHost({
            name,
            state: join(folder, name),
            store,
            at,
            program: options.programs?.[name],
            ...(options.memory !== undefined && { memory: options.memory }),
          }),
        );
      }
      await Promise.all(hosts.map((host) => host.start()));
      const cluster = new TestCluster({ hosts, network, storage, client, folder, file, redisPort });
      cluster.#undo = undo;
      return cluster;
    } catch (error) {
      await undo();
      throw error;
    }
  }

  #undo: () => Promise<void> = () => Promise.resolve();

  host(name: string): ClusterHost {
    const found = this.hosts.find((host) => host.name === name);
    if (found === undefined) throw new Error(`the test has no host ${name}`);
    return found;
  }

  /** The file of the VM "web", with these fields changed; returns its path. */
  async vmFile(fields: object = {}): Promise<string> {
    const path = join(this.folder, `vm-${Math.random().toString(36).slice(2)}.json`);
    await writeFile(path, JSON.stringify({ ...this.#file, ...fields }));
    return path;
  }

  /** A connection to the guest's redis, from where clients are. */
  async redis(): Promise<RedisConnection> {
    if (!this.#client) return RedisConnection.open(this.#redisPort);
    const socket: Socket = await this.#client.connect({ host: GUEST_ADDRESS, port: REDIS_PORT });
    return RedisConnection.on(socket);
  }

  /** Resolves when redis answers. */
  async serving(ms = 120_000): Promise<void> {
    await until(ms, 'redis does not answer', async () => {
      const connection = await this.redis().catch(() => undefined);
      if (connection === undefined) return false;
      const answer = await connection.call(['PING']).catch(() => []);
      connection.close();
      return answer[0] === 'PONG';
    });
  }

  /** Resolves with the VM as it is when it is so; asked of a host that lives. */
  async vmIs(
    name: string,
    ms: number,
    what: string,
    is: (vm: VmView) => boolean,
    of = this.hosts,
  ): Promise<VmView> {
    let last: VmView | undefined;
    await until(
      ms,
      () => `${what}; it is ${JSON.stringify(last)}`,
      async () => {
        for (const host of of) {
          const answer = await host.lockstep('vm', 'show', name, '--json');
          if (answer.code !== 0) continue;
          last = JSON.parse(answer.out) as VmView;
          return is(last);
        }
        return false;
      },
    );
    return last!;
  }

  async close(): Promise<void> {
    await this.#undo();
  }
}

/** VM processes outlive their daemons, so they outlive a run that was killed: those of dead runs end here. */
async function removeLeftovers(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const maker = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
    if (maker === undefined || isAlive(Number(maker))) continue;
    const folder = join(tmpdir(), name);
    for (const pid of await pidsUsing(folder)) kill(pid);
    await rm(folder, { recursive: true, force: true });
  }
}

export async function until(
  ms: number,
  otherwise: string | (() => string),
  done: () => Promise<boolean> | boolean,
): Promise<void> {
  const deadline = performance.now() + ms;
  while (!(await done())) {
    if (performance.now() > deadline)
      throw new Error(`${typeof otherwise === 'string' ? otherwise : otherwise()} within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}
