import { readFile } from 'node:fs/promises';
import { failed, ok, type Result } from '../base/result.ts';
import type { VmId } from '../ft/identity.ts';
import { type ChannelCredentials, parseCredentials } from '../transport/credentials.ts';

/** How a VM process's logging channel is secured, and whether it compresses what it sends. */
export interface ChannelConfig {
  /** The file of its credentials, 'none' when the user said so, or nothing said yet. */
  readonly security: { readonly file: string } | 'none' | undefined;
  readonly compress: boolean;
}

const NONE: ChannelConfig = { security: undefined, compress: false };

/** `{"credentials": "FILE"}`, or `{"security": "none"}` for a wire that is safe by itself; and `"compress": true`. */
export function parseChannelConfig(value: unknown, wrong: string[]): ChannelConfig {
  if (value === undefined || value === null) return NONE;
  const { credentials, security, compress, ...rest } = value as Readonly<Record<string, unknown>>;
  for (const name of Object.keys(rest)) wrong.push(`channel: ${name} is unknown`);
  if (compress !== undefined && typeof compress !== 'boolean')
    wrong.push('channel: compress is true or false');
  if (credentials !== undefined && typeof credentials !== 'string')
    wrong.push('channel: credentials is the path of a file');
  if (security !== undefined && security !== 'none') wrong.push('channel: security can only be "none"');
  if (security !== undefined && credentials !== undefined)
    wrong.push('channel: either credentials, or security "none"');
  return {
    security:
      typeof credentials === 'string' ? { file: credentials } : security === 'none' ? 'none' : undefined,
    compress: compress === true,
  };
}

/** Undefined: no channel was configured, so there is none. */
export async function readChannelSecurity(
  { security }: ChannelConfig,
  vm: VmId,
): Promise<Result<ChannelCredentials | 'none' | undefined>> {
  if (security === undefined || security === 'none') return ok(security);
  const { file } = security;
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    return failed(`the channel's credentials cannot be read: ${(error as Error).message}`);
  }
  const credentials = parseCredentials(text, vm);
  return credentials.ok ? credentials : failed(`${file}: ${credentials.error}`);
}
