import type { ArbiterAnswer, ArbiterRequest } from '../ft/arbiter.ts';
import type { VmId } from '../ft/identity.ts';
import type { ArbiterConnection } from './asked-arbiter.ts';
import { EtcdGateway, type EtcdValue } from './etcd-gateway.ts';
import { decide, LEASE_MS, NO_RECORD, type VmRecord } from './vm-record.ts';
import { decodeRecord, encodeRecord } from './vm-record-text.ts';

export interface EtcdArbiterOptions {
  /** URLs of the members; any of them will do. */
  readonly endpoints: readonly string[];
  /** Stands before every key. */
  readonly prefix?: string;
  readonly leaseMs?: number;
}

const PREFIX = 'lockstep/';
/** Each try loses to another caller that got through, so somebody makes progress. */
const TRIES_MAX = 20;

/**
 * etcd as arbiter (protocol 3): one key holds the record, and a transaction that compares its revision changes it.
 * Reads and transactions of etcd are linearizable [etcd v3, KV API guarantees]. The lease of the VM is an etcd
 * lease on a second key: that key is gone when nobody has renewed for so long, by the cluster's clock.
 */
export class EtcdArbiter implements ArbiterConnection {
  readonly #gateway: EtcdGateway;
  readonly #prefix: string;
  readonly #leaseMs: number;

  constructor(options: EtcdArbiterOptions) {
    this.#gateway = new EtcdGateway(options.endpoints);
    this.#prefix = options.prefix ?? PREFIX;
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
  }

  async ask(request: ArbiterRequest, signal: AbortSignal): Promise<ArbiterAnswer> {
    const keys = this.#keys(request.vm);
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const [stored, lease] = await this.#gateway.read([keys.record, keys.lease], signal);
      const before = recordOf(stored, keys.record);
      const { record, answer, leaseRenewed } = decide(before, request, lease === undefined);
      if (record === before && !leaseRenewed) return answer;
      const held = await this.#gateway.grantLease(Math.ceil(this.#leaseMs / 1000), signal);
      const changed = await this.#gateway.writeIf(
        [
          { key: keys.record, revision: stored?.revision ?? 0n },
          // A lease that was renewed meanwhile has not expired.
          { key: keys.lease, revision: lease?.revision ?? 0n },
        ],
        [
          ...(record === before ? [] : [{ key: keys.record, text: encodeRecord(record) }]),
          { key: keys.lease, text: answer.nonce, lease: held },
        ],
        signal,
      );
      if (changed) return answer;
      // Somebody else was first: what is true now decides.
    }
    throw new Error('others change the record all the time');
  }

  close(): void {
    // Every request has a connection of fetch's own pool.
  }

  #keys(vm: VmId): { record: string; lease: string } {
    const name = `${this.#prefix}vm/${encodeURIComponent(vm)}`;
    return { record: `${name}/record`, lease: `${name}/lease` };
  }
}

function recordOf(stored: EtcdValue | undefined, key: string): VmRecord {
  if (stored === undefined) return NO_RECORD;
  const record = decodeRecord(stored.text);
  if (record === undefined) throw new Error(`the key ${key} is damaged: it holds no record of a VM`);
  return record;
}
