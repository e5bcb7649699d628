import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';

/** Everything that the guest's history depends on: two sides with different answers here would diverge. */
const ROOMS = ['base', 'wasm', 'x86', 'engine', 'device', 'machine', 'replay', 'ft', 'hypervisor'];

/**
 * A hash of the program's own code, so that a pair of different builds is refused instead of diverging. `root`: where the
 * rooms of a build are, this one's unless told otherwise.
 */
export function buildIdentity(root = new URL('../', import.meta.url)): string {
  const hash = createHash('sha256');
  for (const room of ROOMS) {
    const names = readdirSync(new URL(`${room}/`, root), { recursive: true }) as string[];
    for (const name of names.sort()) {
      if (!name.endsWith('.js') || name.includes('.test.')) continue;
      hash.update(`${room}/${name}\0`).update(readFileSync(new URL(`${room}/${name}`, root)));
    }
  }
  return hash.digest('hex').slice(0, 16);
}
