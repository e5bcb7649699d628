import type { Epoch, InstanceId, Nonce, VmId } from './identity.ts';

/**
 * What is asked of the arbiter (protocol 3): one linearizable record per VM,
 * `{epoch, mode: pair|lone|off, primary, backup?}`. All requests are compare-and-set and idempotent per nonce. An
 * unanswered request is repeated with the same nonce; "superseded" always means halt.
 */
export type ArbiterRequest =
  /**
   * Succeeds when lowest <= epoch <= highest and the caller is the record's primary, or its backup in mode pair.
   * Then epoch + 1, mode lone, primary = caller. Repeated: won only while the record is still at that epoch.
   */
  | {
      readonly kind: 'claim';
      readonly vm: VmId;
      readonly nonce: Nonce;
      readonly instance: InstanceId;
      readonly lowest: Epoch;
      readonly highest: Epoch;
      /** The caller's own copy of the disks, "HOST/id", where it has one: from then on the VM's. */
      readonly copy?: string;
    }
  /** Succeeds when epoch = expected and primary = caller. Then epoch + 1, mode pair(caller, backup). */
  | {
      readonly kind: 'commit';
      readonly vm: VmId;
      readonly nonce: Nonce;
      readonly instance: InstanceId;
      readonly expected: Epoch;
      readonly backup: InstanceId;
    }
  /** Succeeds when primary = caller at its epoch. Extends the lease. */
  | {
      readonly kind: 'renew';
      readonly vm: VmId;
      readonly nonce: Nonce;
      readonly instance: InstanceId;
      readonly epoch: Epoch;
    }
  /**
   * Power-on and HA restart: succeeds when epoch = expected and nobody may run any more (no record yet, which is
   * epoch 0; mode off; or the lease has expired), and the record names no other copy of the disks. Then epoch + 1, mode lone, primary = caller.
   */
  | {
      readonly kind: 'restart';
      readonly vm: VmId;
      readonly nonce: Nonce;
      readonly instance: InstanceId;
      readonly expected: Epoch;
      readonly copy?: string;
    };

export interface ArbiterAnswer {
  readonly nonce: Nonce;
  readonly verdict: 'won' | 'superseded';
  /** The record's epoch after the request: the caller's own when it won. */
  readonly epoch: Epoch;
  /** Superseded for want of this copy of the disks. */
  readonly copy?: string;
}
