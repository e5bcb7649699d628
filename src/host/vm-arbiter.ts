import { randomUUID } from 'node:crypto';
import { unreachable } from '../base/assert.ts';
import { type Epoch, epoch, type InstanceId, nonce, type VmId } from '../ft/identity.ts';
import { leaseRunsOutMs } from '../ft/lease.ts';
import type { ArbiterPort } from '../hypervisor/ports.ts';
import { type ArbiterConnection, AskedArbiter } from '../storage/asked-arbiter.ts';
import { DirectoryArbiter } from '../storage/directory-arbiter.ts';
import { DiskServerArbiter } from '../storage/disk-server-arbiter.ts';
import { EtcdArbiter } from '../storage/etcd-arbiter.ts';
import { arbiterDisk } from './storage-config.ts';
import type { VmProcessConfig } from './vm-process-config.ts';

type ArbiterChoice = Pick<VmProcessConfig, 'arbiter' | 'storage' | 'timing'>;

const AGAIN_MS = 500;
const ANSWER_MS_MAX = 2_000;

/** Who decides which instance may run this VM (protocol 3), behind its port. */
export function arbiterOf(config: ArbiterChoice, say: (detail: string) => void): ArbiterPort {
  const connection = connectionOf(config);
  return connection === undefined ? loneArbiter() : new AskedArbiter(connection, say);
}

/**
 * Where the VM's record stands. Asked by a renewal that nobody could win, so nothing changes; asked until there is an
 * answer. Whether a start from there is allowed, the arbiter says then.
 */
export async function presentEpoch(
  config: ArbiterChoice,
  vm: VmId,
  instance: InstanceId,
  say: (detail: string) => void,
): Promise<Epoch> {
  const connection = connectionOf(config);
  if (connection === undefined) return epoch(0);
  let complaint = '';
  for (;;) {
    try {
      const question = { kind: 'renew', vm, instance, nonce: nonce(randomUUID()), epoch: epoch(0) } as const;
      const answer = await connection.ask(question, AbortSignal.timeout(ANSWER_MS_MAX));
      connection.close();
      return answer.epoch;
    } catch (error) {
      const { message } = error as Error;
      if (message !== complaint)
        say(`no decision: the arbiter does not answer (${message}); asking until it does`);
      complaint = message;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

function connectionOf({ arbiter, storage, timing }: ArbiterChoice): ArbiterConnection | undefined {
  // A restart elsewhere waits longer than an owner without an answer goes on.
  const lease = timing.leaseMs > 0 ? { leaseMs: leaseRunsOutMs(timing.leaseMs) } : {};
  switch (arbiter?.kind) {
    case 'etcd':
      return new EtcdArbiter({ ...arbiter, ...lease });
    case 'directory':
      return new DirectoryArbiter({ ...arbiter, ...lease });
    case undefined: {
      const disk = arbiterDisk(storage);
      return disk && new DiskServerArbiter({ ...disk, ...lease });
    }
    default:
      return unreachable(arbiter);
  }
}

/** Without a disk server nobody else can run this VM either: a lone process is its own arbiter. */
function loneArbiter(): ArbiterPort {
  let answer: Parameters<ArbiterPort['listen']>[0]['answered'] = () => {};
  return {
    listen: (events) => {
      answer = events.answered;
    },
    request: (request) => {
      const next = request.kind === 'restart' ? request.expected + 1 : 1;
      setImmediate(() => answer({ nonce: request.nonce, verdict: 'won', epoch: epoch(next) }));
    },
  };
}
