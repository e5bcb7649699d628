import { createHash } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import type { ProtectedGuest } from '../tools/pair/protected-guest.ts';
import { pause } from './pair-rounds.ts';

/** One of the paper's kinds of load [FT 5.2, Table 1], with what there is of it in the guest. */
export interface Workload {
  readonly name: 'compile' | 'database' | 'server';
  /** What the paper ran, and what it measured: speed with fault tolerance to that without, Mbit/s of log. */
  readonly paper: { readonly name: string; readonly ratio: number; readonly mbitPerSecond: number };
  /** Builds, transactions of each client, requests of each client. */
  readonly amount: number;
  /** Does so much of it; fails when the guest's answer is not what it must be. */
  run(guest: ProtectedGuest, amount: number): Promise<void>;
}

const WORK_MS_MAX = 600_000;
const POLL_MS = 5;
/** What the compiled program prints, on a real processor [src/host/image/guest/paper/parts/main.c]. */
const PROGRAM_SAYS = '988 41956 14142278725443691957';
const DATABASE_CLIENTS = 8;
const SERVER_CLIENTS = 4;
const NUMBERS = 64;

export const WORKLOADS: readonly Workload[] = [
  {
    name: 'compile',
    paper: { name: 'kernel compile', ratio: 0.95, mbitPerSecond: 3.0 },
    amount: 1,
    run: (guest, amount) => typed(guest, 'compile', amount, PROGRAM_SAYS),
  },
  {
    name: 'database',
    paper: { name: 'Oracle Swingbench', ratio: 0.99, mbitPerSecond: 12 },
    amount: 40,
    run: (guest, amount) =>
      typed(guest, 'database', amount, `${DATABASE_CLIENTS * amount}/${DATABASE_CLIENTS * amount} t`),
  },
  {
    name: 'server',
    paper: { name: 'SPECjbb2005', ratio: 0.98, mbitPerSecond: 1.5 },
    amount: 60,
    run: (guest, amount) => asked(guest.httpPort, amount),
  },
];

let marks = 0;

/** Types it on the guest's console and waits for what it says [src/host/image/guest/paper/work.sh]. */
async function typed(guest: ProtectedGuest, what: string, amount: number, expected: string): Promise<void> {
  const mark = `PAPER-${++marks}`;
  guest.type(`sh /paper/work.sh ${what} ${amount} ${mark}\n`);
  const deadline = performance.now() + WORK_MS_MAX;
  while (!guest.hasPrinted(`${mark}: `)) {
    if (performance.now() > deadline) throw new Error(`the guest's ${what} does not end`);
    if (guest.primary === undefined) throw new Error(`no host runs the guest: ${guest.hosts[0].reason}`);
    await pause(POLL_MS);
  }
  while (!guest.consoleSince(`${mark}: `).includes('\n')) await pause(POLL_MS);
  const said = guest.consoleSince(`${mark}: `).split(/\r?\n/)[0];
  if (said !== expected) throw new Error(`the guest's ${what} says "${said}", not "${expected}"`);
}

/** So many clients with a connection each ask so many times, one request after the other. */
async function asked(port: number, amount: number): Promise<void> {
  const clients = Array.from({ length: SERVER_CLIENTS }, (_, client) => ask(port, client, amount));
  await Promise.all(clients);
}

async function ask(port: number, client: number, amount: number): Promise<void> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true });
  try {
    const lines = linesOf(socket);
    for (let n = 0; n < amount; n++) {
      const number = (client * amount + n) % NUMBERS;
      socket.write(`${number}\n`);
      const { value: line } = await lines.next();
      if (line !== ANSWERS[number])
        throw new Error(`the guest's server answers ${number} with ${String(line)}, not ${ANSWERS[number]}`);
    }
  } finally {
    socket.destroy();
  }
}

async function* linesOf(socket: Socket): AsyncGenerator<string, undefined> {
  let text = '';
  for await (const chunk of socket) {
    text += String(chunk);
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
      yield text.slice(0, end);
      text = text.slice(end + 1);
    }
  }
  return undefined;
}

/** What the server must answer, computed here once [src/host/image/guest/paper/server.py]. */
const ANSWERS: readonly string[] = Array.from({ length: NUMBERS }, (_, number) => {
  const items = Array.from({ length: 60 }, (_, index) => ({
    id: (number * 7919 + index * 104729) % 99991,
    name: `item-${String(index).padStart(4, '0')}`,
    tags: [index % 7, number % 11],
  }));
  const totals: Record<string, number> = {};
  for (const { tags, id } of items) totals[tags.join('-')] = (totals[tags.join('-')] ?? 0) + id;
  items.sort((a, b) => a.id - b.id || (a.name < b.name ? -1 : 1));
  const sorted = Object.fromEntries(Object.entries(totals).sort(([a], [b]) => (a < b ? -1 : 1)));
  return createHash('sha256')
    .update(JSON.stringify({ number, items, totals: sorted }))
    .digest('hex');
});
