import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { freePorts } from '../../tools/free-ports.ts';
import { assembledGuest } from '../assembled-guest.ts';
import { closing, folder, isJournal } from '../journal-pair.ts';
import { LockstepProcess } from '../lockstep-process.ts';
import { NbdProgram } from '../served-disk.ts';

const MINUTE = 60_000;
const BLOCK = 4096;
const BLOCKS = 128;

test.skipIf(!existsSync('/usr/bin/nbdkit'))(
  'an NBD server that stands still for a minute: the guest waits, is told of, and has lost nothing',
  async () => {
    const kernel = join(folder, 'blocks');
    await writeFile(kernel, await assembledGuest('blocks'));
    const image = join(folder, 'standing.img');
    await writeFile(image, Buffer.alloc(2 * BLOCKS * BLOCK));
    const [port = 0] = await freePorts(1);
    const command = ['nbdkit', '-f', '-i', '127.0.0.1', '-p', String(port), 'file', image];
    const server = new NbdProgram(command, { port, host: '127.0.0.1' });
    closing.push(() => server.kill());
    await server.start();
    const url = `nbd://127.0.0.1:${port}/`;
    const run = new LockstepProcess(['run', '--kernel', kernel, '--disk', url]);
    closing.push(() => run.child.kill('SIGKILL'));
    await run.says('00000010 ');
    server.signal('SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, MINUTE));
    expect(run.errors).toContain(`lockstep: disk ${url} does not answer; waiting until it does\n`);
    const lines = run.stdout.split('\n').length;
    server.signal('SIGCONT');
    await run.says(`\n${(lines + BLOCKS).toString(16).padStart(8, '0')} `);
    expect(run.errors).toContain(`lockstep: disk ${url} answers again\n`);
    run.child.stdin.write('q');
    const { code, stdout } = await run.ended;
    expect([code, isJournal(stdout)]).toEqual([0, true]);
    const bytes = await readFile(image);
    const last = stdout.split('\n').length - 1;
    for (let number = last - BLOCKS + 1; number <= last; number++)
      expect(bytes.readUInt32LE((number % BLOCKS) * BLOCK)).toBeGreaterThanOrEqual(number);
  },
  5 * MINUTE,
);
