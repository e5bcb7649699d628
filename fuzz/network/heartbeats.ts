import { encodeHeartbeat } from '../../src/ft/message-codec.ts';
import { HeartbeatSeal } from '../../src/transport/heartbeat-seal.ts';
import { mutated } from './mutation.ts';
import { ENVELOPE, randomBytes } from './random-message.ts';
import { holds, type Target } from './target.ts';

const KEYS = { sending: new Uint8Array(32).fill(1), receiving: new Uint8Array(32).fill(1) };

function end(security: 'sealed' | 'none'): HeartbeatSeal {
  const seal = new HeartbeatSeal(ENVELOPE.vm, security);
  seal.useKeys(ENVELOPE.generation, KEYS, 'client');
  return seal;
}

const maker = end('sealed');
const taker = end('sealed');
const open = end('none');

/** Datagrams: a sealed one is taken as it was made, once, or not at all; an open one says what its bytes say. */
export const heartbeats: Target = {
  name: 'heartbeats',
  share: 0.2,
  run: (random) => {
    const heartbeat = { ...ENVELOPE, received: BigInt(random.below(1000)), replayed: 3n };
    const good = Buffer.from(maker.close(heartbeat)!);
    const bad = random.chance(0.95) ? mutated(random, good, good) : Buffer.from(randomBytes(random, 1300));
    const taken = taker.open(bad);
    holds((taken !== undefined) === bad.equals(good), 'a sealed heartbeat was changed and taken', bad);
    holds(taker.open(bad) === undefined, 'a sealed heartbeat was taken twice', bad);
    const frame = Buffer.from(encodeHeartbeat(heartbeat));
    const plain = mutated(random, frame, good);
    const read = open.open(plain);
    const same = read === undefined || plain.equals(encodeHeartbeat(read));
    holds(same, 'an open heartbeat was read as something else', plain);
    return taken !== undefined;
  },
};
