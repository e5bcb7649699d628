import { existsSync, rmSync } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildIdentity } from '../../src/host/build-identity.ts';
import type { GuestImage } from '../../src/host/image/build-image.ts';
import { cacheFolder, repositoryRoot } from '../../src/host/image/repository.ts';
import type { ProtectedGuest, SavedGuest } from './protected-guest.ts';
import { withPair } from './with-pair.ts';

const READY = 'LOCKSTEP-GUEST-READY';
/** Long enough for a guest that makes a database first, on a machine with other work. */
const BOOT_MS_MAX = 900_000;
/** For what the guest still does after it has said that it is ready. */
const SETTLE_MS = 3_000;

/** Of the program that the processes run, whoever asks: tests run from the sources, which are no build. */
function builtIdentity(): string {
  return buildIdentity(pathToFileURL(join(repositoryRoot(), 'dist/src/')));
}

/**
 * The booted guest of an image, from the cache; booted and saved first when it is not there. A state fits only
 * the program that made it, so the cache's key holds the program too.
 */
export async function savedGuest(
  image: GuestImage,
  say: (line: string) => void,
  memoryBytes?: number,
): Promise<SavedGuest> {
  const size = memoryBytes === undefined ? '' : `${memoryBytes / 2 ** 20}m-`;
  const name = `${size}${basename(dirname(image.kernel))}-${builtIdentity()}`;
  const folder = join(cacheFolder(), 'guests', name);
  const cached = await readSaved(folder);
  if (cached !== undefined) return cached;
  say('booting the guest once; later runs start from its saved state');
  const work = `${folder}.partial-${process.pid}`;
  // Ctrl-C ends the process without coming back here.
  const removeWork = () => rmSync(work, { recursive: true, force: true });
  process.once('exit', removeWork);
  try {
    await mkdir(work, { recursive: true });
    await withPair(image, { protectAtStart: false, ...(memoryBytes && { memoryBytes }) }, async (guest) => {
      await booted(guest);
      await save(guest, work);
    });
    await removeOlder(folder);
    await rename(work, folder);
  } finally {
    process.off('exit', removeWork);
    removeWork();
  }
  const made = await readSaved(folder);
  if (made === undefined) throw new Error(`the saved guest cannot be read back from ${folder}`);
  return made;
}

async function booted(guest: ProtectedGuest): Promise<void> {
  const [{ process: host }] = guest.hosts;
  const deadline = performance.now() + BOOT_MS_MAX;
  while (!guest.hasPrinted(READY)) {
    if (!host.running) throw new Error(`the guest did not come up: ${guest.hosts[0].reason}`);
    if (performance.now() > deadline) throw new Error('the guest did not come up in time');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
}

async function save(guest: ProtectedGuest, folder: string): Promise<void> {
  const host = guest.hosts[0].process;
  const answer = host.first(({ kind, what }) => kind === 'saved' || what === 'save');
  host.order({ order: 'save', file: join(folder, 'guest.snapshot') });
  const { kind, detail } = await answer;
  if (kind !== 'saved') throw new Error(`the guest cannot be saved: ${detail}`);
  await host.ended;
  // With its server gone the disk stands still.
  await Promise.all(guest.services.map((service) => service.end()));
  await copyFile(guest.disk, join(folder, 'disk.img'));
  await writeFile(join(folder, 'machine.json'), JSON.stringify(guest.machine), { mode: 0o600 });
}

async function readSaved(folder: string): Promise<SavedGuest | undefined> {
  if (!existsSync(join(folder, 'machine.json'))) return undefined;
  return {
    snapshot: join(folder, 'guest.snapshot'),
    disk: join(folder, 'disk.img'),
    machine: JSON.parse(await readFile(join(folder, 'machine.json'), 'utf8')) as object,
  };
}

/** States of the same image that another build of the program made: nobody can go on from them any more. */
async function removeOlder(folder: string): Promise<void> {
  const image = basename(folder).slice(0, -builtIdentity().length);
  for (const name of await readdir(dirname(folder))) {
    if (name.startsWith(image) && !name.includes('.partial-'))
      await rm(join(dirname(folder), name), { recursive: true, force: true });
  }
}
