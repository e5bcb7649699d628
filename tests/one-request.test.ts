import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { buildImage } from '../src/host/image/build-image.ts';
import type { ProtectedGuest } from '../tools/pair/protected-guest.ts';
import { withPair } from '../tools/pair/with-pair.ts';
import { CountingNameServer } from './counting-name-server.ts';

/**
 * What the guest asks the world: on the wire once, and both sides hold the same answer. And a cable pulled out by
 * order stays out on the survivor.
 */

const MINUTES = 60_000;
const missing = ['passt'].filter((program) => !existsSync(`/usr/bin/${program}`));

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 5 * MINUTES;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`never: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Runs a command in the guest's shell; what it writes, without the echo of what was typed. */
async function shell(guest: ProtectedGuest, mark: string, command: string): Promise<string> {
  guest.type(`${command}; echo 'end'-${mark}\n`);
  await until(() => guest.hasPrinted(`end-${mark}`));
  return guest.consoleSince(`'end'-${mark}`);
}

test.skipIf(missing.length > 0)(
  'a name that the guest draws by lot is asked for once, and the survivor has the name and its answer',
  async () => {
    const image = await buildImage('demo', { progress: () => undefined });
    if (!image.ok) throw new Error(image.error);
    await withPair(image.value, { protectAtStart: false }, async (guest) => {
      const [a, b] = guest.hosts;
      await until(() => guest.hasPrinted('LOCKSTEP-GUEST-READY'));
      const server = await CountingNameServer.attach(guest.network);
      try {
        guest.protect();
        await until(() => a.state === 'PAIR');
        await shell(guest, 'arp', `arp -s ${server.address} ${server.mac}`);
        const name = '$(head -c 9 /dev/urandom | md5sum | cut -c 1-12).test';
        const ask = `nslookup -type=a ${name} ${server.address} > /run/answer 2>&1`;
        await shell(guest, 'asked', `for n in 1 2 3; do ${ask}; cat /run/answer >> /run/answers; done`);
        expect(a.state).toBe('PAIR');
        expect(server.questions).toHaveLength(3);
        expect(new Set(server.questions).size).toBe(3);

        const cable = async (mark: string) =>
          /[01]/.exec(await shell(guest, mark, 'cat /sys/class/net/e*/carrier'))?.[0];
        expect(await cable('in')).toBe('1');
        a.process.order({ order: 'disconnect', nic: 0 });
        expect(await cable('out')).toBe('0');

        a.process.kill();
        await until(() => b.state === 'SOLE');
        expect(await cable('still-out')).toBe('0');
        b.process.order({ order: 'connect', nic: 0 });
        expect(await cable('in-again')).toBe('1');
        const told = await shell(guest, 'told', 'cat /run/answers');
        for (const [index, question] of server.questions.entries()) {
          const asked = Buffer.from(question, 'hex').subarray(13, 25).toString();
          expect(told).toContain(`${asked}.test`);
          expect(told).toContain(server.answer(index));
        }
        // And the survivor asks in its turn, once.
        await shell(guest, 'again', ask);
        expect(server.questions).toHaveLength(4);
      } finally {
        server.close();
      }
    });
  },
  10 * MINUTES,
);
