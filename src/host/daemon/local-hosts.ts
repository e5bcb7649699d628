import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { failed, ok, type Result } from '../../base/result.ts';
import { parseHostPort } from '../../transport/address.ts';
import type { ApiAddress } from './api-client.ts';

/** Where hosts of this account keep their state unless told otherwise [XDG Base Directory]. */
export function localFolder(): string {
  return join(process.env.XDG_DATA_HOME ?? join(homedir(), '.local/share'), 'lockstep');
}

export interface WhichHost {
  /** A socket's path, the name of a host of this account, or https://host:port. */
  readonly host: string | undefined;
  readonly tokenFile: string | undefined;
  /** PEM file of the certificate that the host proves itself with. */
  readonly certificate: string | undefined;
}

/** The API that a command is for. */
export function chooseHost({ host, tokenFile, certificate }: WhichHost): Result<ApiAddress> {
  const wanted = host ?? process.env.LOCKSTEP_HOST;
  if (wanted?.startsWith('https://')) {
    const at = parseHostPort(wanted.slice('https://'.length).replace(/\/$/, ''));
    if (!at.ok) return failed(`--host ${wanted} is wrong: write https://host:port`);
    if (tokenFile === undefined || certificate === undefined)
      return failed(
        `--host ${wanted} needs --token-file and --certificate: both files are in that host's state folder`,
      );
    const token = fileText(tokenFile);
    const pem = fileText(certificate);
    if (!token.ok) return token;
    return pem.ok ? ok({ ...at.value, token: token.value.trim(), certificate: pem.value }) : pem;
  }
  if (wanted?.includes('/')) return ok({ socket: wanted });
  const hosts = join(localFolder(), 'hosts');
  if (wanted !== undefined) {
    const socket = join(hosts, wanted, 'api');
    return existsSync(socket)
      ? ok({ socket })
      : failed(`no host "${wanted}" of this account: start it with lockstep host start --name ${wanted}`);
  }
  const sockets = existsSync(hosts)
    ? readdirSync(hosts)
        .map((name) => join(hosts, name, 'api'))
        .filter((socket) => existsSync(socket))
    : [];
  // Any host of a cluster will do.
  const [socket] = sockets;
  return socket === undefined
    ? failed('no host of this account: start one with lockstep host start, or name one with --host')
    : ok({ socket });
}

function fileText(path: string): Result<string> {
  try {
    return ok(readFileSync(path, 'utf8'));
  } catch (error) {
    return failed(`${path} cannot be read: ${(error as Error).message}`);
  }
}
