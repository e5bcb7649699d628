import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Fault } from '../../bench/chaos/fault.ts';
import { chaosRound } from '../../bench/chaos/round.ts';
import { sharedMs } from '../../src/host/host-clock.ts';
import { buildImage } from '../../src/host/image/build-image.ts';
import { TestNetwork } from '../../tools/net/test-network.ts';
import { PairNetwork } from '../../tools/pair/pair-network.ts';
import { savedGuest } from '../../tools/pair/saved-guest.ts';

const missing = TestNetwork.impossible();
const MINUTES = 60_000;

/** A pair behind TAPs, on hosts of their own (tools/net). */
describe.skipIf(missing !== undefined)(`a pair behind TAPs${missing ? `: skipped, ${missing}` : ''}`, () => {
  let hosts: PairNetwork;

  beforeAll(async () => {
    hosts = await PairNetwork.create();
  });

  afterAll(() => hosts?.close());

  it(
    'a pair on two hosts, SIGKILL of the primary under load: no connection and nothing acknowledged is lost, and the bridge has the address behind the survivor',
    async () => {
      const built = await buildImage('demo', { progress: () => undefined });
      if (!built.ok) throw new Error(built.error);
      const demo = built.value;
      const from = await savedGuest(demo, () => undefined);
      const { nics } = from.machine as { nics: readonly { mac: string }[] };
      const mac = nics[0]!.mac.replace(/..(?!$)/g, '$&:');
      const seenBehind: (string | undefined)[] = [];
      const copies: boolean[] = [];
      const kill: Fault = {
        name: 'kill',
        summary: 'SIGKILL of the primary, whose address is looked up before',
        weight: 1,
        survivor: 'B',
        async inflict({ guest }) {
          // Longer than a frame, both ways: the kernel has to cut for a TAP what other interfaces cut themselves.
          const text = 'redis'.repeat(50_000);
          const connection = await guest.redis();
          copies.push(
            ...(await connection.call(['SET', 'long', text], ['GET', 'long'])).map((reply) => reply === text),
          );
          connection.close();
          seenBehind.push((await hosts.network.whereIs(mac))?.name);
          guest.hosts[0].process.kill();
          return sharedMs();
        },
      };
      const { network, places } = hosts;
      const round = await chaosRound({ image: demo, from, cores: {}, places }, kill, 'tap');
      seenBehind.push((await network.whereIs(mac))?.name);
      expect(round).toMatchObject({
        wrong: [],
        connectionsLost: 0,
        acknowledgedWritesLost: 0,
        unknownOutcomes: 0,
        notLinearizable: [],
      });
      // A host without a processor for too long is suspected before anybody kills it: then whoever won goes on.
      expect(copies).toEqual(round.fault === 'kill' ? [false, true] : []);
      expect(seenBehind).toEqual(round.fault === 'kill' ? ['a', 'b'] : [round.survivor.toLowerCase()]);
    },
    10 * MINUTES,
  );
});
