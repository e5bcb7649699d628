import type { Result } from '../base/result.ts';
import { DEFAULT_PASST_OPTIONS, type Forward, PasstUplink } from '../network/passt-uplink.ts';
import { SwitchServer } from '../network/switch-server.ts';
import { DiskServer } from '../storage/disk-server.ts';

export type { Forward } from '../network/passt-uplink.ts';

/** A service that runs in the foreground until it is told to stop. */
export interface ForegroundService {
  readonly port: number;
  /** Resolves with the reason when the service cannot go on. */
  readonly ended: Promise<string>;
  close(): Promise<void>;
}

export interface ServeDisksOptions {
  readonly host: string;
  readonly port: number;
  readonly disks: readonly { readonly name: string; readonly path: string; readonly readOnly: boolean }[];
}

export async function serveDisks(options: ServeDisksOptions): Promise<Result<ForegroundService>> {
  const server = await DiskServer.start(options);
  if (!server.ok) return server;
  const { value } = server;
  return {
    ok: true,
    value: { port: value.port, ended: new Promise(() => undefined), close: () => value.close() },
  };
}

export interface ServeSwitchOptions {
  readonly host: string;
  readonly port: number;
  readonly uplink: 'passt' | 'none';
  readonly forwards: readonly Forward[];
  readonly address: string;
  readonly prefixLength: number;
  readonly gateway: string;
}

export const DEFAULT_GUEST_NETWORK = DEFAULT_PASST_OPTIONS;

export async function serveSwitch(options: ServeSwitchOptions): Promise<Result<ForegroundService>> {
  const server = await SwitchServer.start(options);
  if (!server.ok) return server;
  const { value } = server;
  if (options.uplink === 'none')
    return {
      ok: true,
      value: { port: value.port, ended: new Promise(() => undefined), close: () => value.close() },
    };
  const uplink = await PasstUplink.start(options);
  if (!uplink.ok) {
    await value.close();
    return uplink;
  }
  const { socket } = uplink.value;
  value.attachUplink(socket);
  const ended = new Promise<string>((resolve) => socket.once('close', () => resolve('passt has ended')));
  const close = async () => {
    await uplink.value.close();
    await value.close();
  };
  return { ok: true, value: { port: value.port, ended, close } };
}
