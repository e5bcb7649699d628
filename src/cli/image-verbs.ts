import type { Command } from 'commander';
import { buildImage, listImages } from '../host/image/build-image.ts';
import { accepted } from './ending.ts';

export function addImageVerbs(program: Command): void {
  const image = program.command('image').description('guest images');
  image
    .command('build')
    .description('build a guest image from Debian packages, without root')
    .argument('<name...>', 'names as `image list` shows them')
    .option('--refresh', 'build again with the newest packages')
    .option('--json', 'one JSON line for each image')
    .action(async (names: string[], options: { refresh?: true; json?: true }) => {
      for (const name of names) {
        const built = accepted(
          await buildImage(name, {
            progress: (line) => console.error(`image ${name}: ${line}`),
            refresh: options.refresh === true,
          }),
        );
        if (options.json) console.log(JSON.stringify(built));
        else {
          console.log(`${name}:`);
          console.log(`  --kernel ${built.kernel}`);
          console.log(`  --initrd ${built.initrd}`);
          console.log(`  --append '${built.commandLine}'`);
          if (built.disk !== undefined)
            console.log(`  --disk ${built.disk}   (copy it: the guest writes to it)`);
        }
      }
    });
  image
    .command('list')
    .description('list the images that can be built and whether they are')
    .option('--json', 'one JSON line for each image')
    .action(async (options: { json?: true }) => {
      for (const { recipe, image: built } of await listImages()) {
        const { name, summary } = recipe;
        if (options.json) console.log(JSON.stringify({ name, summary, built: built ?? null }));
        else console.log(`${name.padEnd(8)} ${built === undefined ? 'not built' : 'built    '}  ${summary}`);
      }
    });
}
