import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GuestImage } from '../../src/host/image/build-image.ts';
import { repositoryRoot } from '../../src/host/image/repository.ts';
import { JsonProcess } from '../../tools/pair/json-process.ts';
import { type Cell, type GuestConsole, measureCell, nameOf } from './cells.ts';

const BOOT_MS_MAX = 240_000;

/** The same guest under QEMU's TCG, its disk on the same kind of server; MB/s by the name of the cell. */
export async function measureQemu(
  image: GuestImage,
  cells: readonly Cell[],
  options: { readonly ms: number; readonly warmMs: number; readonly memoryMb: number },
): Promise<Map<string, number>> {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-qemu-'));
  const disk = join(folder, 'disk.img');
  await copyFile(image.disk ?? '', disk, constants.COPYFILE_FICLONE);
  const main = join(repositoryRoot(), 'dist/src/cli/main.js');
  const words = ['disk', 'serve', `vda=${disk}`, '--port', '0', '--json', '--until-stdin-ends'];
  const server = new JsonProcess('disk server', main, words, folder);
  const guest = await server
    .first(({ kind }) => kind === 'listening')
    .then(({ port }) => new QemuGuest(image, Number(port), options.memoryMb));
  try {
    await guest.boots();
    const speeds = new Map<string, number>();
    for (const cell of cells) await measureCell(guest, cell, options.warmMs);
    for (const cell of cells) speeds.set(nameOf(cell), await measureCell(guest, cell, options.ms));
    return speeds;
  } finally {
    await guest.end();
    await server.end();
    await rm(folder, { recursive: true, force: true });
  }
}

class QemuGuest implements GuestConsole {
  readonly #child;
  readonly #ended: Promise<unknown>;
  #text = '';
  #why: string | undefined;

  constructor({ kernel, initrd }: GuestImage, port: number, memoryMb: number) {
    const drive = `file=nbd://127.0.0.1:${port}/vda,format=raw,if=virtio,cache=none`;
    this.#child = spawn(
      'qemu-system-x86_64',
      [
        ...['-accel', 'tcg', '-cpu', 'qemu64', '-m', String(memoryMb), '-no-reboot', '-net', 'none'],
        ...['-display', 'none', '-monitor', 'none', '-serial', 'stdio', '-drive', drive],
        ...['-kernel', kernel, '-initrd', initrd, '-append', 'console=ttyS0'],
      ],
      { stdio: ['pipe', 'pipe', 'pipe'] },
    );
    let complaint = '';
    this.#child.stdin.on('error', () => {});
    this.#child.stdout.on('data', (chunk: Buffer) => (this.#text = (this.#text + chunk).slice(-65_536)));
    this.#child.stderr.on('data', (chunk: Buffer) => (complaint = (complaint + chunk).slice(-1000)));
    this.#ended = new Promise((resolve) => {
      this.#child.on('error', (error) => resolve((this.#why = error.message)));
      this.#child.on('close', (code) => resolve((this.#why ??= `${complaint.trim()} (exit code ${code})`)));
    });
  }

  type(text: string): void {
    this.#child.stdin.write(text);
  }

  text(): string {
    return this.#text;
  }

  ended(): string | undefined {
    return this.#why;
  }

  async boots(): Promise<void> {
    const deadline = performance.now() + BOOT_MS_MAX;
    while (!this.#text.includes('LOCKSTEP-GUEST-READY')) {
      if (this.#why !== undefined) throw new Error(`QEMU ended: ${this.#why}`);
      if (performance.now() > deadline) throw new Error('the guest does not boot under QEMU');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async end(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }
}
