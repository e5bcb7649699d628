import { failed, ok, type Result } from '../base/result.ts';

/** A disk of an NBD server: over TCP, or on a unix socket of this host. */
export type NbdAddress = ({ readonly host: string; readonly port: number } | { readonly socket: string }) & {
  /** Name of the disk on the server; empty for its default one. */
  readonly disk: string;
};

/** [IANA service names: nbd]. */
const NBD_PORT = 10809;
const NBD_NAME_BYTES_MAX = 4096;

const FORMS = 'write nbd://host:port/export, or nbd+unix:///export?socket=/path';

/** `nbd://host:port/export` or `nbd+unix:///export?socket=PATH` [NBD doc/uri.md]. */
export function parseNbdUrl(text: string): Result<NbdAddress> {
  const wrong = (why: string): Result<NbdAddress> => failed(`${text} ${why}: ${FORMS}`);
  if (!URL.canParse(text)) return wrong('is no URL');
  const url = new URL(text);
  let disk: string;
  try {
    disk = decodeURIComponent(url.pathname.replace(/^\//, ''));
  } catch {
    return wrong('has a name that cannot be read');
  }
  if (Buffer.byteLength(disk) > NBD_NAME_BYTES_MAX) return wrong('has too long a name');
  if (url.username !== '' || url.password !== '' || url.hash !== '') return wrong('has more than an address');
  if (url.protocol === 'nbd+unix:') {
    const socket = url.searchParams.get('socket');
    if (url.host !== '' || socket === null || !socket.startsWith('/')) return wrong('names no socket');
    return ok({ socket, disk });
  }
  if (url.protocol !== 'nbd:') return wrong('is no NBD server');
  if (url.search !== '') return wrong('has more than an address');
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return host === '' ? wrong('names no host') : ok({ host, port: Number(url.port || NBD_PORT), disk });
}

/** As people read it. */
export function formatNbdAddress(address: NbdAddress): string {
  if ('socket' in address) return `nbd+unix:///${address.disk}?socket=${address.socket}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `nbd://${host}:${address.port}/${address.disk}`;
}
