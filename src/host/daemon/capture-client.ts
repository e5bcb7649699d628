import { closeSync, openSync, writeSync } from 'node:fs';
import { failed, ok, type Result } from '../../base/result.ts';
import { CAPTURE_MODE, captureFlags } from '../../network/capture-file.ts';
import { type ApiAddress, followBytes } from './api-client.ts';

/**
 * Packets of one of a VM's interfaces into a file, until `over` or the end of its primary. The file is made with the first
 * bytes: a request that is refused leaves nothing. The bytes written, or one line of why not all of them.
 */
export async function captureInto(
  address: ApiAddress,
  vm: string,
  nic: number,
  path: string,
  over: AbortSignal,
): Promise<Result<number>> {
  const flags = captureFlags(path);
  if (!flags.ok) return flags;
  const unwritable = new AbortController();
  let file: number | undefined;
  let bytes = 0;
  let wrong: string | undefined;
  const write = (chunk: Buffer): void => {
    if (wrong !== undefined) return;
    try {
      file ??= openSync(path, flags.value, CAPTURE_MODE);
      for (let at = 0; at < chunk.length; ) at += writeSync(file, chunk, at);
      bytes += chunk.length;
    } catch (error) {
      wrong = `${path} cannot be written: ${(error as Error).message}`;
      unwritable.abort();
    }
  };
  const request = `/v1/vms/${encodeURIComponent(vm)}/capture?nic=${nic}`;
  const followed = await followBytes(address, request, write, AbortSignal.any([over, unwritable.signal]));
  if (file !== undefined) closeSync(file);
  if (wrong !== undefined) return failed(wrong);
  if (!followed.ok) return followed;
  if (over.aborted) return ok(bytes);
  return failed(`the primary of ${vm} has ended, and with it the capture; ${path} holds what came before`);
}
