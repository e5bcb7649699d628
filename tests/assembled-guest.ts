import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../src/host/image/command.ts';
import { repositoryRoot } from '../src/host/image/repository.ts';

const SECTOR = 512;
const LOAD_ADDRESS = 0x10_0000;

/** A guest in assembly (tests/guests/NAME.s) as a bzImage with a 64-bit entry. Throws when binutils is missing. */
export async function assembledGuest(name: string): Promise<Uint8Array> {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-guest-'));
  try {
    const object = join(folder, 'guest.o');
    const binary = join(folder, 'guest.bin');
    const source = join(repositoryRoot(), 'tests/guests', `${name}.s`);
    for (const [program, ...args] of [
      ['as', '--64', '-o', object, source],
      ['objcopy', '-O', 'binary', '-j', '.text', object, binary],
    ] as const) {
      const ran = await runCommand(program, args);
      if (!ran.ok) throw new Error(ran.error);
    }
    return bzImage(await readFile(binary));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The smallest setup header that a loader takes [Linux/x86 Boot Protocol]. */
function bzImage(code: Uint8Array): Uint8Array {
  const paragraphs = Math.ceil(code.length / 16);
  const image = new Uint8Array(2 * SECTOR + paragraphs * 16);
  const view = new DataView(image.buffer);
  view.setUint8(0x1f1, 1); // setup sectors
  view.setUint32(0x1f4, paragraphs, true);
  view.setUint16(0x1fe, 0xaa55, true);
  view.setUint8(0x200, 0xeb);
  view.setUint8(0x201, 0x6a); // the header ends at 0x26c
  view.setUint32(0x202, 0x5372_6448, true); // HdrS
  view.setUint16(0x206, 0x020f, true);
  view.setUint8(0x211, 1); // loaded high
  view.setUint32(0x22c, 0x7fff_ffff, true); // highest initrd address
  view.setUint32(0x230, 0x1000, true); // alignment
  view.setUint16(0x236, 1, true); // 64-bit entry
  view.setUint32(0x238, 255, true); // command line
  view.setBigUint64(0x258, BigInt(LOAD_ADDRESS), true);
  view.setUint32(0x260, paragraphs * 16, true);
  image.set(code, 2 * SECTOR);
  return image;
}
