import { Socket } from 'node:net';
import koffi from 'koffi';
import type { NetworkNamespace } from './network-namespace.ts';

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;

const libc = koffi.load(null);
const socket = libc.func('int socket(int domain, int type, int protocol)');

/** How a host loses the others. */
export type Cut =
  /** Nothing arrives any more, and nobody is told: a switch on the way has died. */
  | 'silent'
  /** The cable is out, and the host sees it. */
  | 'unplugged';

/**
 * A host of a TestNetwork: a namespace with the bridge `br0`, whose one port `eth0` leads out. The host's address is the
 * bridge's; a guest's TAP is a further port.
 */
export class TestHost {
  readonly name: string;
  /** Dotted, in a /24 that all hosts of the network have. */
  readonly address: string;
  readonly namespace: NetworkNamespace;
  readonly #wire: NetworkNamespace;
  /** Where the wire's bridge has this host. */
  readonly #port: string;

  constructor(
    name: string,
    address: string,
    namespace: NetworkNamespace,
    wire: NetworkNamespace,
    port: string,
  ) {
    this.name = name;
    this.address = address;
    this.namespace = namespace;
    this.#wire = wire;
    this.#port = port;
  }

  /** The same command line, run on this host. */
  command(argv: readonly string[]): string[] {
    return this.namespace.command(argv);
  }

  /** The processes that run on this host. */
  pids(): Promise<number[]> {
    return this.namespace.pids();
  }

  /** [NetworkNamespace.enter] */
  enter<Value>(use: () => Value): Value {
    return this.namespace.enter(use);
  }

  /** A TCP connection from this host, made by this process. */
  connect(to: { readonly host: string; readonly port: number }): Promise<Socket> {
    const fd = this.enter(() => socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) as number);
    const connection = new Socket({ fd });
    return new Promise((resolve, reject) => {
      connection.once('error', reject);
      connection.connect(to, () => {
        connection.off('error', reject);
        resolve(connection);
      });
    });
  }

  /** A persistent TAP of this name, up and on the bridge; of this user when one is named. */
  async addTap(name: string, user?: string): Promise<void> {
    await this.namespace.ip(`tuntap add dev ${name} mode tap${user === undefined ? '' : ` user ${user}`}`);
    await this.namespace.ip(`link set ${name} up master br0`);
  }

  /** Cuts the host from all others, until `mend`. */
  async cut(how: Cut = 'silent'): Promise<void> {
    await this.#wire.ip(`link set ${this.#port} ${how === 'silent' ? 'nomaster' : 'down'}`);
  }

  /** Resolves when the host reaches the others again. */
  async mend(): Promise<void> {
    await this.#wire.ip(`link set ${this.#port} up master br0`);
    await this.joined();
  }

  /** Resolves when both ends of the cable forward: the kernel takes up to a second to see that one is plugged in. */
  async joined(): Promise<void> {
    while (!(await forwards(this.#wire, this.#port)) || !(await forwards(this.namespace, 'eth0')))
      await new Promise((resolve) => setTimeout(resolve, 10));
  }

  /**
   * Everything that leaves the host or comes to it takes so much longer. False: this kernel cannot (sch_netem), and nothing
   * has changed.
   */
  async delay(ms: number): Promise<boolean> {
    const discipline = `root netem delay ${ms}ms`;
    try {
      await this.namespace.tc(`qdisc replace dev eth0 ${discipline}`);
      await this.#wire.tc(`qdisc replace dev ${this.#port} ${discipline}`);
      return true;
    } catch {
      return false;
    }
  }
}

async function forwards(namespace: NetworkNamespace, port: string): Promise<boolean> {
  const ports = JSON.parse(await namespace.bridge(`-j link show dev ${port}`)) as readonly {
    readonly state?: string;
  }[];
  return ports[0]?.state === 'forwarding';
}
