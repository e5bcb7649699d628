import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { accepted, VerbError } from './ending.ts';

export function addChannelVerbs(program: Command): void {
  const channel = program.command('channel').description('the logging channel between the hosts of a VM');
  channel
    .command('issue')
    .description("issue one host's credentials for a VM's logging channel; both hosts need their own")
    .requiredOption('--vm <name>', "the VM's name, as in its configuration")
    .requiredOption('--authority <folder>', "the folder of the VM's authority; made when it is not there")
    .option('--out <file>', 'where the credentials go (mode 0600)')
    .option('--json', 'one JSON line')
    .action(async (options: { vm: string; authority: string; out?: string; json?: true }) => {
      // Only this verb needs the library that makes certificates.
      const { VmAuthority } = await import('../host/vm-authority.ts');
      const authority = accepted(await VmAuthority.inFolder(options.vm, options.authority));
      const file = resolve(options.out ?? join(options.authority, `${randomUUID()}.json`));
      try {
        await writeFile(file, JSON.stringify(await authority.issue()), { mode: 0o600, flag: 'wx' });
      } catch (error) {
        throw new VerbError(`cannot write ${file}: ${(error as Error).message}`);
      }
      console.log(options.json ? JSON.stringify({ credentials: file }) : file);
    });
}
