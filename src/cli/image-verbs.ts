import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { failed, ok, type Result } from '../base/result.ts';
import { buildImage, buildRecipe, copyDisk, type GuestImage } from '../host/image/build-image.ts';
import { makeSeed, parseSeed } from '../host/image/cloud-seed.ts';
import { listImages } from '../host/image/image-list.ts';
import { readRequest, recipeOf } from '../host/image/image-request.ts';
import { importImage } from '../host/image/import-image.ts';
import type { Recipe } from '../host/image/recipes.ts';
import { accepted } from './ending.ts';
import { collect } from './service-verbs.ts';

interface BuildCommandOptions {
  readonly name?: string;
  readonly template?: string;
  readonly packages: readonly string[];
  readonly size?: string;
  readonly hostname?: string;
  readonly sshKey: readonly string[];
  readonly file?: string;
  readonly out?: string;
  readonly refresh?: true;
  readonly json?: true;
}

const progressOf = (name: string) => (line: string) => console.error(`image ${name}: ${line}`);

export function addImageVerbs(program: Command): void {
  const image = program.command('image').description('guest images');
  image
    .command('build')
    .description('build guest images from Debian packages, without root')
    .argument('[name...]', 'images of Lockstep, as `image list` shows them; or, for one of your own:')
    .option('--name <name>', 'what the image is called')
    .option('--packages <names>', 'Debian packages beside the template, with commas between', collect, [])
    .option('--template <name>', 'server (systemd, ssh, cloud-init) or demo (busybox, redis)')
    .option('--size <size>', 'of the disk, like 900M or 2G')
    .option('--hostname <name>', "the guest's, the image's name by default")
    .option(
      '--ssh-key <file>',
      'a public key that may log in as root; may be given several times',
      collect,
      [],
    )
    .option('--file <recipe>', 'all of this in a YAML or JSON file')
    .option('--out <disk>', 'also write a copy of the disk, for a guest to run on')
    .option('--refresh', 'build again with the newest packages')
    .option('--json', 'one JSON line for each image')
    .action(async (names: string[], options: BuildCommandOptions) => {
      const refresh = options.refresh === true;
      const own = accepted(await requested(options));
      if (own === undefined ? names.length === 0 : names.length > 0)
        accepted(
          failed('name images that `image list` shows, or say --name and --packages for one of your own'),
        );
      if (own === undefined && options.out !== undefined && names.length > 1)
        accepted(failed('--out is for one image'));
      // A guest may run on it.
      if (options.out !== undefined && existsSync(options.out))
        accepted(failed(`${options.out} exists: take another name, or remove it`));
      for (const name of own === undefined ? names : [own.name]) {
        const how = { progress: progressOf(name), refresh };
        const built = accepted(await (own === undefined ? buildImage(name, how) : buildRecipe(own, how)));
        const copy = options.out;
        if (copy !== undefined) accepted(await copyDisk(built, copy));
        print(built, copy, options.json === true);
      }
    });
  image
    .command('seed')
    .description("make a seed for cloud-init: a disk labelled cidata, to be the guest's last one")
    .argument('<files>', 'user-data[,meta-data[,network-config]]')
    .requiredOption('--out <disk>', 'where to write it')
    .option('--json', 'one JSON line')
    .action(async (files: string, options: { out: string; json?: true }) => {
      if (existsSync(options.out)) accepted(failed(`${options.out} exists: take another name, or remove it`));
      const seed = accepted(await makeSeed(accepted(parseSeed(files)), options.out));
      console.log(options.json ? JSON.stringify({ seed }) : `--disk ${seed}`);
    });
  image
    .command('import')
    .description('a disk image of any format that qemu-img reads, as a raw one')
    .argument('<source>', 'qcow2, vmdk, vdi, vhdx, raw, ...')
    .option('--format <name>', "the source's, when qemu-img should not find it out")
    .option('--out <disk>', 'also write a copy of the disk, for a guest to run on')
    .option('--refresh', 'again, even if the same source has been imported')
    .option('--json', 'one JSON line')
    .action(
      async (
        source: string,
        { json, ...options }: { format?: string; out?: string; refresh?: true; json?: true },
      ) => {
        const imported = accepted(await importImage(source, { ...options, progress: progressOf(source) }));
        console.log(json ? JSON.stringify(imported) : `--disk ${imported.disk}`);
        if (json === undefined && options.out === undefined)
          console.error('copy it, or say --out: the guest writes to it');
      },
    );
  image
    .command('list')
    .description('list the images that can be built and whether they are')
    .option('--json', 'one JSON line for each image')
    .action(async (options: { json?: true }) => {
      for (const { name, summary, image: built, bytes, stale } of await listImages()) {
        if (options.json) {
          console.log(JSON.stringify({ name, summary, built: built ?? null, bytes, stale: stale ?? null }));
          continue;
        }
        const state = built === undefined ? 'not built' : stale === undefined ? 'built' : 'stale';
        const size = built === undefined ? '' : `${Math.ceil(bytes / 2 ** 20)} MB`;
        const why = stale === undefined ? '' : ` (${stale})`;
        console.log(`${name.padEnd(12)} ${state.padEnd(9)} ${size.padStart(8)}  ${summary}${why}`);
      }
    });
}

/** What the options ask for; undefined when they ask for no image of one's own. */
async function requested(options: BuildCommandOptions): Promise<Result<Recipe | undefined>> {
  const { name, template, packages, size, hostname, sshKey, file } = options;
  if (file === undefined && name === undefined) {
    const lone = Object.entries({ packages: packages[0], template, size, hostname, 'ssh-key': sshKey[0] });
    const foreign = lone.find(([, value]) => value !== undefined);
    return foreign === undefined ? ok(undefined) : failed(`--${foreign[0]} needs --name`);
  }
  const written: Result<Record<string, unknown>> = file === undefined ? ok({}) : await readRequest(file);
  if (!written.ok) return written;
  const keys: string[] = [];
  for (const path of sshKey) {
    const text = await readFile(path, 'utf8').catch(() => undefined);
    if (text === undefined) return failed(`--ssh-key ${path} cannot be read`);
    keys.push(...text.split('\n').filter((line) => line.trim() !== ''));
  }
  const said = {
    ...(name !== undefined && { name }),
    ...(template !== undefined && { template }),
    ...(packages.length > 0 && { packages: packages.flatMap((each) => each.split(',')) }),
    ...(size !== undefined && { size }),
    ...(hostname !== undefined && { hostname }),
    ...(keys.length > 0 && { keys }),
  };
  const recipe = recipeOf({ ...written.value, ...said });
  return recipe.ok || file === undefined ? recipe : failed(`${file}: ${recipe.error}`);
}

function print(built: GuestImage, copy: string | undefined, json: boolean): void {
  if (json) {
    console.log(JSON.stringify(copy === undefined ? built : { ...built, copy }));
    return;
  }
  console.log(`${built.name}:`);
  console.log(`  --kernel ${built.kernel}`);
  console.log(`  --initrd ${built.initrd}`);
  console.log(`  --append '${built.commandLine}'`);
  if (copy !== undefined) console.log(`  --disk ${copy}`);
  else if (built.disk !== undefined)
    console.log(`  --disk ${built.disk}   (copy it: the guest writes to it)`);
}
