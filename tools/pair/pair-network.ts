import { TestNetwork } from '../net/test-network.ts';
import type { Places } from './protected-guest.ts';

const TAP = 't0';
/** In the network that the demo's guest is in unless it is told otherwise. */
const CLIENT_ADDRESS = '10.0.2.77/24';

/** Four hosts on a bridge for a pair: two that have a TAP, one for the disk server, one for the clients. */
export class PairNetwork {
  readonly network: TestNetwork;
  readonly places: Places;

  private constructor(network: TestNetwork, places: Places) {
    this.network = network;
    this.places = places;
  }

  static async create(): Promise<PairNetwork> {
    const network = await TestNetwork.create();
    try {
      const [a, b] = [await network.host('a'), await network.host('b')];
      const [disks, client] = [await network.host('disks'), await network.host('client')];
      for (const host of [a, b]) await host.addTap(TAP);
      await client.namespace.ip(`address add ${CLIENT_ADDRESS} dev br0`);
      return new PairNetwork(network, { a, b, disks, client, tap: TAP });
    } catch (error) {
      await network.close();
      throw error;
    }
  }

  close(): Promise<void> {
    return this.network.close();
  }
}
