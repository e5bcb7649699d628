import { failed, ok, type Result } from '../base/result.ts';
import type { Forward } from '../host/foreground.ts';
import type { NetworkChoice } from '../host/local-network.ts';
import { parseMemorySize } from '../host/memory-size.ts';
import { tapNameError } from '../host/network-config.ts';

/** PCI slots are few, and disks need some too. */
const NICS_MAX = 8;

/** The forms that option values have on the command line; each error says which form is right. */

export function parseMemory(text: string): Result<number> {
  const size = parseMemorySize(text);
  return size.ok ? size : failed(`--memory ${size.error}`);
}

/** `tcp:8080:80`: this host's port, then the guest's. */
export function parseForward(text: string): Result<Forward> {
  const match = /^(tcp|udp):(\d{1,5}):(\d{1,5})$/.exec(text);
  const hostPort = Number(match?.[2]);
  const guestPort = Number(match?.[3]);
  if (match === null || !isPort(hostPort) || !isPort(guestPort))
    return failed(
      `--forward ${text} is wrong: write it like tcp:8080:80 (this host's port, then the guest's)`,
    );
  return ok({ protocol: match[1] as 'tcp' | 'udp', hostPort, guestPort });
}

export function parsePort(text: string): Result<number> {
  const port = Number(text);
  return /^\d+$/.test(text) && (isPort(port) || port === 0)
    ? ok(port)
    : failed(`--port ${text} is no port number`);
}

export function parseCount(text: string, option: string): Result<bigint> {
  return /^\d+$/.test(text) ? ok(BigInt(text)) : failed(`${option} ${text} is no instruction count`);
}

export function parseTlbEntries(text = '1024'): Result<number> {
  const entries = Number(text);
  const good =
    /^\d+$/.test(text) && entries >= 16 && entries <= 65536 && Number.isInteger(Math.log2(entries));
  return good ? ok(entries) : failed(`--tlb-entries ${text} is wrong: a power of two from 16 to 65536`);
}

export function parseNetwork(text: string): Result<NetworkChoice> {
  if (text === 'user' || text === 'none') return ok(text);
  if (!text.startsWith('tap:')) return failed(`--net ${text} is unknown: user, tap:NAME or none`);
  const tap = text.slice('tap:'.length);
  const wrong = tapNameError(tap);
  return wrong === undefined ? ok({ tap }) : failed(`--net ${text}: ${wrong}`);
}

/** Every interface's network; none said is `user` where it is needed. */
export function parseNetworks(
  texts: readonly string[],
  user: boolean,
): Result<Exclude<NetworkChoice, 'none'>[]> {
  if (texts.length === 0) return ok(user ? ['user'] : []);
  const nets: Exclude<NetworkChoice, 'none'>[] = [];
  for (const text of texts) {
    const net = parseNetwork(text);
    if (!net.ok) return net;
    if (net.value !== 'none') nets.push(net.value);
    else if (texts.length > 1) return failed('--net none stands alone');
  }
  if (nets.length > NICS_MAX) return failed(`--net: a guest has ${NICS_MAX} interfaces at most`);
  const taps = nets.flatMap((net) => (net === 'user' ? [] : [net.tap]));
  if (new Set(taps).size < taps.length) return failed('--net: each interface needs a TAP of its own');
  return ok(nets);
}

export type EngineChoice = 'auto' | 'interpreter' | 'jit';

export function parseEngine(text: string): Result<EngineChoice> {
  if (text === 'auto' || text === 'interpreter' || text === 'jit') return ok(text);
  return failed(`--engine ${text} is unknown: auto, interpreter or jit`);
}

/** `10.0.2.15/24`. */
export function parseAddress(text: string): Result<{ address: string; prefixLength: number }> {
  const match = /^(\d{1,3}(?:\.\d{1,3}){3})\/(\d{1,2})$/.exec(text);
  const bytes = match?.[1]?.split('.').map(Number) ?? [];
  const prefixLength = Number(match?.[2]);
  if (match === null || bytes.some((byte) => byte > 255) || prefixLength > 30)
    return failed(`--address ${text} is wrong: write it like 10.0.2.15/24`);
  return ok({ address: match[1] ?? '', prefixLength });
}

/** `disk.img`, or `name=disk.img`; without a name the disks are vda, vdb, ... in order. */
export function parseServedDisk(text: string, index: number): { name: string; path: string } {
  const match = /^([A-Za-z0-9_-]+)=(.+)$/.exec(text);
  const name = match?.[1] ?? `vd${String.fromCharCode('a'.charCodeAt(0) + index)}`;
  return { name, path: match?.[2] ?? text };
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 65535;
}
