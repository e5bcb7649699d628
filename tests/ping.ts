import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestHost } from '../tools/net/test-host.ts';

/**
 * `ping` from this host: how many of `count` requests were answered. `bytes` are those behind the ICMP header; for the
 * last answers it waits so many seconds.
 */
export async function ping(
  from: TestHost,
  to: string,
  count: number,
  { bytes = 56, seconds = 20 } = {},
): Promise<number> {
  const command = `ping -n -c ${count} -i 0.01 -W ${seconds} -s ${bytes} -M do ${to}`;
  const [program = '', ...words] = from.command(command.split(' '));
  const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  await once(child, 'close');
  return Number(/(\d+) received/.exec(text)?.[1]);
}
