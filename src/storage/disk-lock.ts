import type { Result } from '../base/result.ts';
import { InodeLock } from './inode-lock.ts';

/** Keeps two guests or disk servers of one host from writing one disk image. */
export function lockDisk(path: string): Promise<Result<InodeLock>> {
  return InodeLock.take(
    path,
    'disk',
    `disk ${path} is in use by another guest or disk server: give each its own copy`,
  );
}
