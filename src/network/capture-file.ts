import { statSync } from 'node:fs';
import { failed, ok, type Result } from '../base/result.ts';

/** How a capture's file is opened: made anew, for its owner's eyes alone. What is there is no file to write over. */
export const CAPTURE_MODE = 0o600;

/** The flags to open it with. What is no file, as a pipe or /dev/stdout, is taken as it is. */
export function captureFlags(path: string): Result<'w' | 'wx'> {
  let there: ReturnType<typeof statSync>;
  try {
    there = statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    return failed(`${path} cannot be written: ${(error as Error).message}`);
  }
  if (there === undefined) return ok('wx');
  if (there.isFile()) return failed(`${path} is there already: name another file for the capture`);
  if (there.isDirectory()) return failed(`${path} is a folder: name a file for the capture`);
  return ok('w');
}
