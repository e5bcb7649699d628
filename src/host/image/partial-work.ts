import { rmSync } from 'node:fs';

/** Orders to end from a terminal or a service manager. Node ends by them without an `exit` event. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * What is being made at this path is removed when the process ends before it is whole, also by Ctrl-C. The function that
 * comes back removes it now; where the work was moved to its place there is nothing left to remove.
 */
export function partialWork(path: string): () => void {
  const remove = () => rmSync(path, { recursive: true, force: true });
  const ended = (signal: NodeJS.Signals) => {
    end();
    // As it would have ended without this listener.
    process.kill(process.pid, signal);
  };
  const end = () => {
    process.off('exit', remove);
    for (const signal of SIGNALS) process.off(signal, ended);
    remove();
  };
  process.on('exit', remove);
  for (const signal of SIGNALS) process.on(signal, ended);
  return end;
}
