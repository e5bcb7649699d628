import { failed, ok, type Result } from '../base/result.ts';
import type { VmId } from '../ft/identity.ts';
import type { NetworkPort } from '../hypervisor/ports.ts';
import { SwitchNetworkPort } from '../network/switch-port.ts';
import type { TapNetworkPort } from '../network/tap-port.ts';
import type { NetworkConfig } from './network-config.ts';

const NO_NETWORK: NetworkPort = {
  listen() {},
  open() {},
  send() {},
  replayed() {},
  announce() {},
  close() {},
};

/** What a VM's interfaces with these MAC addresses are wired to, behind its port; closed as yet. */
export async function networkOf(
  config: NetworkConfig | undefined,
  vm: VmId,
  macs: readonly Uint8Array[],
  say: (detail: string) => void,
): Promise<Result<NetworkPort>> {
  switch (config?.kind) {
    case undefined:
      return ok(NO_NETWORK);
    case 'switch':
      return ok(new SwitchNetworkPort({ vm, nics: macs.length, ...config.address, say }));
    case 'taps':
      return tapsAsNetwork(
        config.taps.map((tap, nic) => ({ tap, mac: macs[nic]! })),
        say,
      );
  }
}

/** Native code is loaded for TAPs alone. */
export async function tapsAsNetwork(
  nics: readonly { readonly tap: string; readonly mac: Uint8Array }[],
  say: (detail: string) => void,
): Promise<Result<TapNetworkPort>> {
  try {
    const { TapNetworkPort } = await import('../network/tap-port.ts');
    return TapNetworkPort.attach({ nics, say });
  } catch (error) {
    return failed(`TAPs need the npm package koffi, which does not load here: ${(error as Error).message}`);
  }
}
