import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { vmId } from '../src/ft/identity.ts';
import { DiskClient } from '../src/storage/disk-client.ts';
import type { PortDisk } from '../src/storage/disk-port.ts';
import { DiskServer } from '../src/storage/disk-server.ts';
import { LocalDisk } from '../src/storage/local-disk.ts';
import type { NbdAddress } from '../src/storage/nbd-address.ts';
import { RawFile } from '../src/storage/raw-file.ts';
import { freePorts } from '../tools/free-ports.ts';

/** One disk image, reached as a guest's disk is. */
export interface ServedDisk {
  readonly disk: PortDisk;
  /** Where there is a server: it ends at once, with whatever it has under way, and comes back. */
  readonly server?: {
    kill(): Promise<void>;
    start(): Promise<void>;
    signal?(name: NodeJS.Signals): void;
  };
}

export interface DiskKind {
  readonly name: string;
  /** The Debian package that it needs. */
  readonly program?: string;
  serve(image: string, options: ServeOptions): Promise<ServedDisk>;
}

export interface ServeOptions {
  readonly readOnly?: boolean;
  readonly closing: (() => unknown)[];
  readonly say?: (line: string) => void;
  /** More words for the server's command line. */
  readonly words?: readonly string[];
  readonly parameters?: readonly string[];
}

const vm = vmId('vm');

/** A program that serves NBD, started and stopped at will; resolves when it takes connections. */
export class NbdProgram {
  #child: ChildProcess | undefined;
  readonly #command: readonly string[];
  readonly #place: { readonly port: number; readonly host: string } | { readonly path: string };

  constructor(
    command: readonly string[],
    place: { readonly port: number; readonly host: string } | { readonly path: string },
  ) {
    this.#command = command;
    this.#place = place;
  }

  async start(): Promise<void> {
    const [program = '', ...words] = this.#command;
    const child = spawn(program, words, { stdio: ['ignore', 'ignore', 'pipe'] });
    let complaint = '';
    child.stderr.on('data', (chunk: Buffer) => (complaint += chunk));
    this.#child = child;
    while (!(await this.#answers())) {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`${program} ended: ${complaint}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  #answers(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.#place);
      socket.on('error', () => resolve(false));
      socket.on('data', () => {
        socket.destroy();
        resolve(true);
      });
      socket.on('close', () => resolve(false));
    });
  }
}

async function program(
  command: (place: { port: number; socket: string }) => readonly string[],
  overTcp: boolean,
  image: string,
  { closing, say }: ServeOptions,
): Promise<ServedDisk> {
  const [port = 0] = await freePorts(1);
  const socket = join(image, '..', 'nbd.sock');
  const server = new NbdProgram(
    command({ port, socket }),
    overTcp ? { port, host: '127.0.0.1' } : { path: socket },
  );
  closing.push(() => server.kill());
  await server.start();
  const address: NbdAddress = overTcp ? { host: '127.0.0.1', port, disk: '' } : { socket, disk: '' };
  return { disk: new DiskClient({ address, vm, generations: false, ...(say && { say }) }), server };
}

/** nbdkit with this plugin and filters. */
export function nbdkit(image: string, options: ServeOptions): Promise<ServedDisk> {
  const { readOnly, words = [], parameters = [] } = options;
  const plugin = words.some((word) => !word.startsWith('-')) ? [] : ['file', image];
  return program(
    ({ port }) => [
      'nbdkit',
      ...['-f', '-i', '127.0.0.1', '-p', String(port)],
      ...(readOnly ? ['-r'] : []),
      ...words,
      ...plugin,
      ...parameters,
    ],
    true,
    image,
    options,
  );
}

async function lockstepServer(
  image: string,
  generations: boolean,
  { readOnly = false, closing, say }: ServeOptions,
): Promise<ServedDisk> {
  let server: DiskServer | undefined;
  let port = 0;
  const start = async () => {
    const started = await DiskServer.start({ port, disks: [{ name: 'vda', path: image, readOnly }] });
    if (!started.ok) throw new Error(started.error);
    server = started.value;
    port = server.port;
  };
  const kill = async () => {
    await server?.close();
    server = undefined;
  };
  await start();
  closing.push(kill);
  const address = { host: '127.0.0.1', port, disk: 'vda' };
  return { disk: new DiskClient({ address, vm, generations, ...(say && { say }) }), server: { start, kill } };
}

export const DISK_KINDS: readonly DiskKind[] = [
  {
    name: 'raw file',
    serve: async (image, { readOnly = false }) => {
      const file = await RawFile.open(image, { readOnly });
      if (!file.ok) throw new Error(file.error);
      return { disk: new LocalDisk(file.value) };
    },
  },
  {
    name: 'disk server',
    serve: (image, options) => lockstepServer(image, options.readOnly !== true, options),
  },
  {
    name: 'disk server, without generations',
    serve: (image, options) => lockstepServer(image, false, options),
  },
  { name: 'nbdkit', program: 'nbdkit', serve: nbdkit },
  {
    name: 'nbdkit that can neither clear nor share',
    program: 'nbdkit',
    serve: (image, options) =>
      nbdkit(image, {
        ...options,
        words: ['--filter=nozero', '--filter=multi-conn', '--filter=blocksize-policy'],
        parameters: ['multi-conn-mode=disable', 'blocksize-maximum=64K', 'blocksize-error-policy=error'],
      }),
  },
  {
    name: 'qemu-nbd on a unix socket',
    program: 'qemu-nbd',
    serve: (image, options) =>
      program(
        ({ socket }) => [
          'qemu-nbd',
          ...['--persistent', '--shared=0', '--format=raw', '--discard=unmap', `--socket=${socket}`],
          ...(options.readOnly ? ['--read-only'] : []),
          image,
        ],
        false,
        image,
        options,
      ),
  },
];
