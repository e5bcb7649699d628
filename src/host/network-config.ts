import { tapNameError } from '../network/tap-name.ts';
import { type HostPort, parseHostPort } from '../transport/address.ts';

export { tapNameError } from '../network/tap-name.ts';

/** What a VM's network interfaces are wired to. */
export type NetworkConfig =
  /** The user switch. */
  | { readonly kind: 'switch'; readonly address: HostPort }
  /** Linux TAPs by name, one for each interface. */
  | { readonly kind: 'taps'; readonly taps: readonly string[] };

/** `"host:port"` of a user switch, or `{"taps": ["NAME", ...]}` with a name for each of the machine's `nics`. */
export function parseNetworkConfig(
  value: unknown,
  nics: number | undefined,
  wrong: string[],
): NetworkConfig | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string') {
    const address = parseHostPort(value);
    if (address.ok) return { kind: 'switch', address: address.value };
    wrong.push(`network: ${address.error}`);
    return undefined;
  }
  const { taps, ...rest } = value as Readonly<Record<string, unknown>>;
  if (!Array.isArray(taps) || !taps.every((name) => typeof name === 'string')) {
    wrong.push('network is the "host:port" of a switch, or {"taps": ["NAME"]} with a TAP for each interface');
    return undefined;
  }
  for (const name of Object.keys(rest)) wrong.push(`network: ${name} is unknown`);
  for (const error of taps.map(tapNameError)) if (error !== undefined) wrong.push(`network: ${error}`);
  if (new Set(taps).size < taps.length) wrong.push('network: each interface needs a TAP of its own');
  if (nics !== undefined && taps.length !== nics)
    wrong.push(`network names ${taps.length} TAPs, and the machine has ${nics} interfaces`);
  return { kind: 'taps', taps };
}
