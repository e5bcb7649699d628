/**
 * npm run demo: a Debian guest on two hosts, clients, and a SIGKILL of the primary in mid-load.
 *
 *   --json   the last line of standard output is the verdict as JSON
 *   --keep   leaves everything running afterwards, until Ctrl-C
 *
 * The exit code is 0 when nothing was lost, 1 when something was, 2 when the demo could not be shown.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildImage } from '../src/host/image/build-image.ts';
import { repositoryRoot } from '../src/host/image/repository.ts';
import { HttpLoad } from './demo/http-load.ts';
import { Progress } from './demo/progress.ts';
import { RedisLoad } from './demo/redis-load.ts';
import { ProtectedGuest } from './pair/protected-guest.ts';

const BOOT_MS_MAX = 240_000;
const TAKEOVER_MS_MAX = 60_000;
const LOAD_BEFORE_MS = 6_000;
const LOAD_AFTER_MS = 6_000;
const ANSWER_MS_MAX = 30_000;

interface Verdict {
  ok: boolean;
  connectionSurvived: boolean;
  acknowledgedWritesLost: number | null;
  contradictions: number | null;
  takeoverMs: number | null;
  longestClientGapMs: number | null;
  bootMs: number | null;
  lagMsP99: number | null;
}

const options = new Set(process.argv.slice(2));
for (const option of options) {
  if (option === '--json' || option === '--keep') continue;
  console.error(`demo: ${option} is unknown; there are --json and --keep`);
  process.exit(2);
}
const json = options.has('--json');
const progress = new Progress(json ? process.stderr : process.stdout);
const verdict: Verdict = {
  ok: false,
  connectionSurvived: false,
  acknowledgedWritesLost: null,
  contradictions: null,
  takeoverMs: null,
  longestClientGapMs: null,
  bootMs: null,
  lagMsP99: null,
};

let undo: () => Promise<void> = () => Promise.resolve();
let ending = false;
async function end(code: number): Promise<never> {
  ending = true;
  await undo();
  process.exit(code);
}
let interrupted: () => void = () => undefined;
const interruption = new Promise<void>((resolve) => {
  interrupted = resolve;
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    interrupted();
    if (!ending && !kept) void end(130);
  });
let kept = false;

try {
  const code = await demonstrate();
  await end(code);
} catch (error) {
  if (!ending) {
    progress.say(`demo: ${(error as Error).message}`);
    if (json) console.log(JSON.stringify(verdict));
    await end(2);
  }
}

async function demonstrate(): Promise<number> {
  const image = await buildImage('demo', { progress: (line) => progress.say(`image: ${line}`) });
  if (!image.ok) throw new Error(image.error);
  const page = await readFile(join(repositoryRoot(), 'src/host/image/guest/demo-index.html'), 'utf8');

  progress.say('starting a disk server, a switch and two hosts');
  const bootStart = performance.now();
  const guest = await ProtectedGuest.start(image.value, (undoStart) => {
    undo = undoStart;
  });
  const [a, b] = guest.hosts;
  progress.say(`host A (process ${a.process.pid}) is primary, host B (process ${b.process.pid}) follows`);
  await until(BOOT_MS_MAX, 'the guest did not come up', () => {
    expectRunning(guest);
    progress.show(`booting: ${describe(guest)} | ${guest.lastConsoleLine}`);
    return guest.hasPrinted('LOCKSTEP-GUEST-READY') && a.state === 'PAIR';
  });
  verdict.bootMs = Math.round(performance.now() - bootStart);
  progress.say(
    `the guest is up after ${seconds(verdict.bootMs)}: redis on ${guest.redisPort}, web on ${guest.httpPort}`,
  );

  guest.lagsMs.length = 0;
  const redis = await RedisLoad.open(guest.redisPort);
  const http = new HttpLoad(guest.httpPort, page);
  redis.start();
  http.start();
  const showLoad = () =>
    progress.show(
      `${describe(guest)} | ${redis.acknowledged} writes acknowledged, ${http.answered} pages served`,
    );
  await during(LOAD_BEFORE_MS, () => {
    expectRunning(guest);
    showLoad();
  });
  await until(ANSWER_MS_MAX, 'redis does not answer', () => redis.acknowledged >= 10);

  const before = redis.acknowledged;
  const killedAt = performance.now();
  a.process.kill();
  progress.say(`SIGKILL to host A in mid-load, after ${before} acknowledged writes`);
  await until(TAKEOVER_MS_MAX, 'host B did not take over', () => {
    if (!b.process.running) throw new Error('host B ended');
    showLoad();
    return b.state === 'SOLE' || redis.connectionEnded !== undefined;
  });
  if (b.state === 'SOLE') {
    verdict.takeoverMs = Math.round(performance.now() - killedAt);
    progress.say(`host B went live ${verdict.takeoverMs} ms after the kill`);
  }
  await until(ANSWER_MS_MAX, 'the client got no answer after the takeover', () => {
    showLoad();
    return redis.acknowledged > before + 1 || redis.connectionEnded !== undefined;
  }).catch((error: Error) => progress.say(error.message));
  await during(LOAD_AFTER_MS, showLoad);

  await redis.stop(ANSWER_MS_MAX);
  await http.stop();
  const findings = await redis.verify(ANSWER_MS_MAX);
  verdict.connectionSurvived = redis.connectionEnded === undefined && findings.acknowledged > before + 1;
  verdict.acknowledgedWritesLost = findings.acknowledgedWritesLost;
  verdict.contradictions = findings.contradictions;
  verdict.longestClientGapMs = findings.longestGapMs;
  verdict.lagMsP99 = percentile(guest.lagsMs, 0.99);
  verdict.ok =
    verdict.connectionSurvived &&
    findings.acknowledgedWritesLost === 0 &&
    findings.contradictions === 0 &&
    http.errors === 0 &&
    b.state === 'SOLE';

  progress.say(
    `writes: ${findings.acknowledged} acknowledged (${before} before the kill), ${findings.acknowledgedWritesLost} lost`,
  );
  progress.say(
    `contradictions: ${findings.contradictions}${redis.firstContradiction ? ` (${redis.firstContradiction})` : ''}`,
  );
  progress.say(
    `the one connection ${verdict.connectionSurvived ? 'survived' : 'was lost'}; longest gap ${findings.longestGapMs} ms`,
  );
  progress.say(
    `pages: ${http.answered} served, ${http.errors} errors${http.firstError ? ` (${http.firstError})` : ''}`,
  );
  progress.say(verdict.ok ? 'VERDICT: nothing was lost' : 'VERDICT: something was lost');
  if (json) console.log(JSON.stringify(verdict));

  if (options.has('--keep')) {
    kept = true;
    progress.say(`kept running: redis-cli -p ${guest.redisPort}, curl http://127.0.0.1:${guest.httpPort}/`);
    progress.say(`host B is process ${b.process.pid}, files are in ${guest.folder}; Ctrl-C ends everything`);
    await Promise.race([interruption, b.process.ended]);
  }
  redis.close();
  return verdict.ok ? 0 : 1;
}

function describe(guest: ProtectedGuest): string {
  const primary = guest.primary;
  if (primary === undefined) return 'nobody is primary';
  const lagMs = primary.figures?.lagMs;
  const heldOutputs = primary.figures?.heldOutputs;
  const lag = primary.state === 'PAIR' && typeof lagMs === 'number' ? `, lag ${lagMs.toFixed(0)} ms` : '';
  return `primary ${primary.name}, ${primary.protection}${lag}, ${Number(heldOutputs ?? 0)} outputs held`;
}

function expectRunning(guest: ProtectedGuest): void {
  for (const { name, process: each, state, reason } of guest.hosts) {
    if (!each.running || state === 'HALT') throw new Error(`host ${name} halted: ${reason}`);
  }
  for (const service of guest.services) if (!service.running) throw new Error(`the ${service.name} ended`);
}

async function until(ms: number, otherwise: string, done: () => boolean): Promise<void> {
  const deadline = performance.now() + ms;
  while (!done()) {
    if (performance.now() > deadline) throw new Error(`${otherwise} within ${seconds(ms)}`);
    await pause();
  }
}

async function during(ms: number, step: () => void): Promise<void> {
  const deadline = performance.now() + ms;
  while (performance.now() < deadline) {
    step();
    await pause();
  }
}

/** Short enough for the figure of a takeover to be exact to a few milliseconds. */
function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 10));
}

function percentile(values: readonly number[], share: number): number | null {
  const sorted = [...values].sort((x, y) => x - y);
  const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return value === undefined ? null : Math.round(value * 10) / 10;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
