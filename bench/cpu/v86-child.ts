import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { V86 } from 'v86';

/** v86 without a screen: boots a 32-bit kernel, its first serial port goes to standard output. */
const [, , kernel = '', initrd = '', megabytes = '256', commandLine = ''] = process.argv;
/** From Debian's package seabios; v86's npm package has no firmware. */
const FIRMWARE = '/usr/share/seabios';
const wasm = join(dirname(createRequire(import.meta.url).resolve('v86')), 'v86.wasm');

const emulator = new V86({
  wasm_path: wasm,
  bios: image(join(FIRMWARE, 'bios.bin')),
  vga_bios: image(join(FIRMWARE, 'vgabios-stdvga.bin')),
  memory_size: Number(megabytes) * 2 ** 20,
  vga_memory_size: 2 * 2 ** 20,
  bzimage: image(kernel),
  initrd: image(initrd),
  cmdline: commandLine,
  autostart: true,
  disable_keyboard: true,
  disable_mouse: true,
  disable_speaker: true,
});
let line: number[] = [];
emulator.add_listener('serial0-output-byte', (byte) => {
  line.push(byte);
  if (byte !== 0x0a) return;
  process.stdout.write(Buffer.from(line));
  line = [];
});

function image(path: string): { buffer: ArrayBuffer } {
  return { buffer: Uint8Array.from(readFileSync(path)).buffer };
}
