import { isIPv6 } from 'node:net';
import { failed, ok, type Result } from '../base/result.ts';

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** "host:port", with an IPv6 address in brackets. */
export function parseHostPort(text: string): Result<HostPort> {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) return failed(`"${text}" is not an address: write host:port`);
  return ok({ host, port });
}

export function formatHostPort({ host, port }: HostPort): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}
