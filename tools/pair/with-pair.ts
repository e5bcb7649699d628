import type { GuestImage } from '../../src/host/image/build-image.ts';
import { ProtectedGuest, type ProtectedGuestOptions } from './protected-guest.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** A pair of real processes, gone at the end whatever happens; Ctrl-C leaves nothing behind either. */
export async function withPair<Value>(
  image: GuestImage,
  options: ProtectedGuestOptions,
  use: (guest: ProtectedGuest) => Promise<Value>,
): Promise<Value> {
  let undo: () => Promise<void> = () => Promise.resolve();
  let interruption: Promise<never> | undefined;
  const interrupted = () => {
    interruption ??= undo().then(() => process.exit(130));
  };
  for (const signal of SIGNALS) process.once(signal, interrupted);
  try {
    const guest = await ProtectedGuest.start(image, (undoStart) => (undo = undoStart), options);
    return await use(guest);
  } finally {
    // What fails because it was interrupted is nobody's news.
    if (interruption) await interruption;
    for (const signal of SIGNALS) process.off(signal, interrupted);
    await undo();
  }
}
