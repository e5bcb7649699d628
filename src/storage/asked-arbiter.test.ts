import { afterEach, expect, test } from 'vitest';
import { epoch, instanceId, nonce, vmId } from '../ft/identity.ts';
import { AskedArbiter } from './asked-arbiter.ts';

const listeners = process.listeners('unhandledRejection');
afterEach(() => {
  process.removeAllListeners('unhandledRejection');
  for (const listener of listeners) process.on('unhandledRejection', listener);
});

test('what the protocol core throws at an answer is not taken for a silent arbiter', async () => {
  const said: string[] = [];
  let asked = 0;
  const arbiter = new AskedArbiter(
    {
      ask: async (request) => {
        asked++;
        return { nonce: request.nonce, verdict: 'won', epoch: epoch(1) };
      },
      close() {},
    },
    (line) => said.push(line),
  );
  const broken = new Error('an output leaves out of turn');
  arbiter.listen({
    answered: () => {
      throw broken;
    },
  });
  // The test runner's own listeners would report it as a failure of this test.
  process.removeAllListeners('unhandledRejection');
  const uncaught = new Promise((resolve) => process.once('unhandledRejection', resolve));
  arbiter.request({
    kind: 'restart',
    vm: vmId('vm'),
    nonce: nonce('n'),
    instance: instanceId('a'),
    expected: epoch(0),
  });
  expect(await uncaught).toBe(broken);
  expect({ said, asked }).toEqual({ said: [], asked: 1 });
  arbiter.close();
});
