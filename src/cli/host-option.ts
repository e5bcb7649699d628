import type { Command } from 'commander';
import { type ApiAddress, callApi } from '../host/daemon/api-client.ts';
import { chooseHost } from '../host/daemon/local-hosts.ts';
import { accepted } from './ending.ts';

/** Which daemon a verb talks to, and how it prints what that answers. */
export interface HostOption {
  readonly host?: string;
  readonly tokenFile?: string;
  readonly certificate?: string;
  readonly json?: true;
}

export function withHost(command: Command): Command {
  return command
    .option('--host <where>', 'the daemon to ask: a host of this account, a socket, or https://host:port')
    .option('--token-file <file>', 'its token, for https')
    .option('--certificate <file>', 'the certificate that it proves itself with, for https')
    .option('--json', 'the answer as one JSON line');
}

export function addressOf({ host, tokenFile, certificate }: HostOption): ApiAddress {
  return accepted(chooseHost({ host, tokenFile, certificate }));
}

export async function ask<Answer>(
  options: HostOption,
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
  path: string,
  body?: object,
  timeoutMs = 600_000,
): Promise<Answer> {
  return accepted(await callApi<Answer>(addressOf(options), method, path, body, timeoutMs));
}

/** One JSON line, or what `text` makes of it for people. */
export function print<Answer>(options: HostOption, answer: Answer, text: (answer: Answer) => string): void {
  console.log(options.json ? JSON.stringify(answer) : text(answer));
}

/** Columns as wide as what stands in them. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = heads.map((head, column) =>
    Math.max(head.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return [heads, ...rows].map(line).join('\n');
}
