import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { NetworkNamespace } from './network-namespace.ts';
import { TestHost } from './test-host.ts';

const ADDRESSES = '10.77.0.';
const HOSTS_MAX = 254;

/**
 * Hosts joined by a bridge, each a network namespace of its own: what happens between real machines, without any. Needs
 * root. Nothing outside is touched, and nothing inside reaches the outside.
 */
export class TestNetwork {
  readonly #wire: NetworkNamespace;
  readonly #hosts: TestHost[] = [];

  private constructor(wire: NetworkNamespace) {
    this.#wire = wire;
  }

  /** Why there can be none here, to be said in the name of a test that is skipped. */
  static impossible(): string | undefined {
    if (process.getuid?.() !== 0) return 'network namespaces need root';
    if (!existsSync('/dev/net/tun')) return 'this host has no /dev/net/tun';
    const probe = `lockstep-${process.pid}-probe`;
    const made = spawnSync('ip', ['netns', 'add', probe], { encoding: 'utf8' });
    if (made.error) return 'there is no ip: apt-get install iproute2';
    if (made.status !== 0) return `network namespaces are refused (${made.stderr.trim()})`;
    const bridged = spawnSync('ip', ['-n', probe, 'link', 'add', 'br0', 'type', 'bridge'], {
      encoding: 'utf8',
    });
    spawnSync('ip', ['netns', 'del', probe]);
    return bridged.status === 0 ? undefined : `bridges are refused (${bridged.stderr.trim()})`;
  }

  static async create(): Promise<TestNetwork> {
    await NetworkNamespace.removeLeftovers();
    const wire = await NetworkNamespace.create('wire');
    const network = new TestNetwork(wire);
    try {
      await addBridge(wire);
    } catch (error) {
      await network.close();
      throw error;
    }
    return network;
  }

  get hosts(): readonly TestHost[] {
    return this.#hosts;
  }

  /** A new host, the Nth with the address 10.77.0.N. */
  async host(name: string): Promise<TestHost> {
    const number = this.#hosts.length + 1;
    if (number > HOSTS_MAX) throw new Error('a test network has 254 addresses');
    const port = `port${number}`;
    const namespace = await NetworkNamespace.create(name);
    const host = new TestHost(name, `${ADDRESSES}${number}`, namespace, this.#wire, port);
    // Known from here on, so that `close` removes what is half made too.
    this.#hosts.push(host);
    await addBridge(namespace);
    await this.#wire.ip(`link add ${port} type veth peer name eth0 netns ${namespace.name}`);
    await namespace.ip('link set eth0 up master br0');
    await namespace.ip(`address add ${host.address}/24 dev br0`);
    await this.#wire.ip(`link set ${port} up master br0`);
    await host.joined();
    return host;
  }

  /** The host behind whose port the wire's bridge has seen this MAC address last. */
  async whereIs(mac: string): Promise<TestHost | undefined> {
    const table = JSON.parse(await this.#wire.bridge('-j fdb show br br0')) as readonly {
      readonly mac: string;
      readonly ifname: string;
    }[];
    const port = table.find((entry) => entry.mac === mac.toLowerCase())?.ifname;
    return this.#hosts.find((_, index) => `port${index + 1}` === port);
  }

  /** Kills what runs on the hosts, and removes everything. */
  async close(): Promise<void> {
    for (const host of this.#hosts.splice(0)) await host.namespace.remove();
    await this.#wire.remove();
  }
}

/** Forwards from the first moment: spanning tree is off unless one asks for it. */
async function addBridge(namespace: NetworkNamespace): Promise<void> {
  await namespace.ip('link add br0 type bridge');
  await namespace.ip('link set br0 up');
}
