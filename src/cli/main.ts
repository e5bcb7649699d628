import { Command, CommanderError } from 'commander';
import { examineHost } from '../host/doctor.ts';
import { addChannelVerbs } from './channel-verbs.ts';
import { EXIT_WRONG, leave, VerbError } from './ending.ts';
import { addGuestVerbs } from './guest-verbs.ts';
import { addHostVerbs } from './host-verbs.ts';
import { addImageVerbs } from './image-verbs.ts';
import { addServiceVerbs } from './service-verbs.ts';
import { addVmVerbs } from './vm-verbs.ts';

/** `lockstep`: every verb has an exit code and, when something is wrong, one line that says what to do. */

const program = new Command('lockstep')
  .description('Lets an unmodified x86-64 operating system outlive the machine it runs on.')
  .version('0.1.0')
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'lockstep: ')) })
  .exitOverride();

addGuestVerbs(program);
addHostVerbs(program);
addVmVerbs(program);
addServiceVerbs(program);
addImageVerbs(program);
addChannelVerbs(program);

program
  .command('doctor')
  .description('check what this host has of what Lockstep uses')
  .option('--json', 'the findings as one JSON line')
  .action(async (options: { json?: true }) => {
    const findings = await examineHost();
    const sound = findings.every(({ found, required }) => found || !required);
    if (options.json) console.log(JSON.stringify({ ok: sound, findings }));
    else
      for (const { what, found, required, remedy } of findings) {
        const state = found ? 'ok      ' : required ? 'MISSING ' : 'missing ';
        console.log(`${state} ${what}${found ? '' : `: ${remedy}`}`);
      }
    await leave(sound ? 0 : 1);
  });

for (const command of [program, ...program.commands, ...program.commands.flatMap((each) => each.commands)])
  command.exitOverride().configureOutput(program.configureOutput());

try {
  await program.parseAsync();
  await leave(0);
} catch (error) {
  if (error instanceof CommanderError) await leave(error.exitCode === 0 ? 0 : EXIT_WRONG);
  if (!(error instanceof VerbError)) throw error;
  process.stderr.write(`lockstep: ${error.message}\n`);
  await leave(EXIT_WRONG);
}
