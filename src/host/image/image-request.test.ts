import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { imageFolder } from './image-folder.ts';
import { readRequest, recipeOf } from './image-request.ts';
import { recipeNamed } from './recipes.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZ5 someone@somewhere';

function recipe(request: unknown) {
  const made = recipeOf(request);
  if (!made.ok) throw new Error(made.error);
  return made.value;
}

function complaint(request: unknown): string {
  const made = recipeOf(request);
  return made.ok ? '' : made.error;
}

describe("an image of one's own", () => {
  test('is the template with more packages, and says who may log in', () => {
    const server = recipeNamed('server')!;
    const made = recipe({ name: 'web', packages: ['nginx', 'sudo'], size: '3G', keys: [KEY] });
    expect(made.packages).toEqual([...server.packages, 'nginx']);
    expect(made.diskMegabytes).toBe(3072);
    expect(made.texts).toEqual([
      { to: 'etc/hostname', mode: 0o644, text: 'web\n' },
      { to: 'root/.ssh/authorized_keys', mode: 0o600, text: `${KEY}\n` },
    ]);
    expect(recipe({ name: 'small', template: 'demo', size: '200M' }).diskMegabytes).toBe(200);
  });

  test('everything that is wrong stands in one line', () => {
    const wrong = { name: 'Web 1', packages: ['nginx', '-y'], size: '2 TB', keys: ['no key'], colour: 'red' };
    const line = complaint(wrong);
    for (const part of ['name: letters', 'packages: -y', 'size: write it', 'keys: a public key', 'no colour'])
      expect(line).toContain(part);
    expect(line).not.toContain('\n');
    expect(complaint({ packages: ['nginx'] })).toMatch(/^name: /);
    expect(complaint({ name: 'boot' })).toMatch(/images of Lockstep's own/);
    expect(complaint({ name: 'x', template: 'windows' })).toMatch(/^template: server or demo/);
    expect(complaint({ name: 'x', template: 'demo', keys: [KEY] })).toMatch(/leave keys and hostname out/);
  });

  test('another request is another folder, the same one is the same', async () => {
    const folder = (request: unknown) => imageFolder(recipe(request));
    const first = await folder({ name: 'web', packages: ['nginx'] });
    expect(await folder({ name: 'web', packages: ['nginx'] })).toBe(first);
    for (const other of [
      { packages: ['curl'] },
      { packages: ['nginx'], size: '3G' },
      { packages: ['nginx'], keys: [KEY] },
    ])
      expect(await folder({ name: 'web', ...other })).not.toBe(first);
  });

  test('a file may hold it; one that does not is one line', async () => {
    const home = await mkdtemp(join(tmpdir(), 'lockstep-request-'));
    const file = join(home, 'recipe.yaml');
    try {
      await writeFile(file, 'name: web\npackages: [nginx]\n');
      expect(await readRequest(file)).toEqual({ ok: true, value: { name: 'web', packages: ['nginx'] } });
      for (const text of ['- web\n', 'name: [\n', '']) {
        await writeFile(file, text);
        const read = await readRequest(file);
        expect(read.ok ? '' : read.error).toMatch(/^\S+recipe.yaml: [^\n]+$/);
      }
      const missing = await readRequest(join(home, 'none'));
      expect(missing.ok ? '' : missing.error).toMatch(/ENOENT/);
    } finally {
      await rm(home, { recursive: true });
    }
  });
});
