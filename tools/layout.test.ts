import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, test } from 'vitest';
import { EXCEPTION_IN_PURE_CODE, ROOMS } from './layout.ts';
import { impurities } from './pure-source.ts';

interface Source {
  readonly path: string;
  readonly room: string;
  readonly text: string;
}

/** Every file of src/ that is not a test; tests may look anywhere. */
function sources(): Source[] {
  return readdirSync('src', { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.test.ts'))
    .map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return { path, room: path.split('/')[1] ?? '', text: readFileSync(path, 'utf8') };
    });
}

function importsOf(text: string): string[] {
  const pattern =
    /^\s*(?:import|export)\b[^'";]*?\bfrom\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm;
  return [...text.matchAll(pattern)].map((match) => match[1] ?? match[2] ?? match[3] ?? '');
}

function violationsOf(source: Source): string[] {
  const room = ROOMS[source.room];
  if (room === undefined) return [`${source.path}: no room named ${source.room} in tools/layout.ts`];
  const found: string[] = [];
  for (const target of importsOf(source.text)) {
    if (!target.startsWith('.')) {
      if (room.pure) found.push(`${source.path}: a pure room imports ${target}`);
      continue;
    }
    const path = normalize(join(dirname(source.path), target));
    const [top, targetRoom] = path.split('/');
    if (top !== 'src' || targetRoom === undefined)
      found.push(`${source.path}: imports ${path}, outside src/`);
    else if (targetRoom !== source.room && !room.imports.includes(targetRoom) && !room.files?.includes(path))
      found.push(`${source.path}: ${source.room}/ may not import ${path}`);
    if (!path.endsWith('.ts')) found.push(`${source.path}: write the import of ${path} with its ending`);
  }
  return found;
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/\/\/.*$/gm, '');
}

describe('layout', () => {
  test('imports go only downwards', () => {
    expect(sources().flatMap(violationsOf)).toEqual([]);
  });

  test('the check itself sees a wrong import', () => {
    const wrong = (path: string, text: string) =>
      violationsOf({ path, room: path.split('/')[1] ?? '', text });
    expect(wrong('src/base/a.ts', "import { x } from '../ft/b.ts';")).toHaveLength(1);
    expect(wrong('src/ft/a.ts', "import type {\n  x,\n} from '../hypervisor/ports.ts';")).toHaveLength(1);
    expect(wrong('src/device/virtio/a.ts', "import { x } from '../../machine/b.ts';")).toHaveLength(1);
    expect(wrong('src/machine/a.ts', "import { x } from 'node:fs';")).toHaveLength(1);
    expect(wrong('src/storage/a.ts', "import { x } from '../hypervisor/driver.ts';")).toHaveLength(1);
    expect(wrong('src/nowhere/a.ts', '')).toHaveLength(1);
    expect(wrong('src/machine/a.ts', "import { x } from '../device/b.ts';")).toEqual([]);
  });

  test('the table of rooms has no cycle', () => {
    const visit = (room: string, above: readonly string[]): void => {
      expect(above, `${[...above, room].join(' -> ')}`).not.toContain(room);
      for (const below of ROOMS[room]?.imports ?? []) visit(below, [...above, room]);
    };
    for (const room of Object.keys(ROOMS)) visit(room, []);
  });

  test('pure rooms use no clock, no randomness, no promise and no Math function that differs by version', () => {
    const pure = sources().filter((source) => ROOMS[source.room]?.pure);
    const found = pure.flatMap(({ path, text }) => {
      const { path: excepted, text: exception } = EXCEPTION_IN_PURE_CODE;
      if (path === excepted) expect(text.split(exception)).toHaveLength(2);
      const rest = path === excepted ? text.replace(exception, 'undefined') : text;
      return impurities(rest).map((what) => `${path}: ${what}`);
    });
    expect(found).toEqual([]);
    expect(pure.length).toBeGreaterThan(100);
  });

  test('no default exports and no enums in src/', () => {
    const found = sources().flatMap((source) =>
      /^export default\b|^(export )?(const )?enum\b/m.test(withoutComments(source.text)) ? [source.path] : [],
    );
    expect(found).toEqual([]);
  });
});
