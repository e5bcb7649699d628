import type { ArbiterAnswer, ArbiterRequest } from '../ft/arbiter.ts';
import { type Epoch, epoch, type InstanceId, type Nonce } from '../ft/identity.ts';

/**
 * The arbiter's record of one VM and its compare-and-sets (protocol 3). Pure: the caller keeps the record and
 * makes it durable before it sends the answer.
 */
export interface VmRecord {
  readonly epoch: Epoch;
  readonly mode: 'pair' | 'lone' | 'off';
  readonly primary: InstanceId | undefined;
  readonly backup: InstanceId | undefined;
  /** The request that made this epoch: repeating it gets the same verdict. */
  readonly nonce: Nonce | undefined;
  /** Where each side has disks of its own: the copy that is the VM's (freshDisks of protocol 3). */
  readonly copy?: string;
}

export const NO_RECORD: VmRecord = {
  epoch: epoch(0),
  mode: 'off',
  primary: undefined,
  backup: undefined,
  nonce: undefined,
};

/** How long an owner may run without renewing before a restart elsewhere is allowed, where it does not say. */
export const LEASE_MS = 10_000;

export interface Decision {
  readonly record: VmRecord;
  readonly answer: ArbiterAnswer;
  /** The request holds the lease from now on. */
  readonly leaseRenewed: boolean;
}

export function decide(record: VmRecord, request: ArbiterRequest, leaseExpired: boolean): Decision {
  // Asked again after a lost answer: the verdict stands while the record does, and only for the one who asked.
  const repeated = record.nonce === request.nonce && record.primary === request.instance;
  switch (request.kind) {
    case 'claim': {
      if (repeated) return won(record, request);
      const inRange = request.lowest <= record.epoch && record.epoch <= request.highest;
      const member =
        record.mode !== 'off' &&
        (record.primary === request.instance ||
          (record.mode === 'pair' && record.backup === request.instance));
      return inRange && member
        ? won(moved(record, request, undefined), request)
        : superseded(record, request);
    }
    case 'commit': {
      const exactlyThis =
        record.epoch === request.expected + 1 &&
        record.mode === 'pair' &&
        record.primary === request.instance &&
        record.backup === request.backup;
      if (exactlyThis) return won(record, request);
      const allowed =
        record.epoch === request.expected &&
        record.mode !== 'off' &&
        record.primary === request.instance &&
        request.backup !== request.instance;
      return allowed ? won(moved(record, request, request.backup), request) : superseded(record, request);
    }
    case 'renew': {
      const holds =
        record.mode !== 'off' && record.primary === request.instance && record.epoch === request.epoch;
      return holds ? won(record, request) : superseded(record, request);
    }
    case 'restart': {
      if (repeated) return won(record, request);
      const free = record.mode === 'off' || leaseExpired;
      if (record.epoch === request.expected && free && !sameCopy(record.copy, request.copy)) {
        const { answer, ...refused } = superseded(record, request);
        return { ...refused, answer: { ...answer, copy: record.copy! } };
      }
      const allowed = record.epoch === request.expected && free;
      return allowed ? won(moved(record, request, undefined), request) : superseded(record, request);
    }
  }
}

/** A host may be called otherwise by now: the id counts. */
function sameCopy(vms: string | undefined, callers: string | undefined): boolean {
  return vms === undefined || vms.split('/').at(-1) === callers?.split('/').at(-1);
}

function moved(record: VmRecord, request: ArbiterRequest, backup: InstanceId | undefined): VmRecord {
  // Who takes the VM takes it with the disks that it has.
  const copy = 'copy' in request ? request.copy : record.copy;
  return {
    epoch: epoch(record.epoch + 1),
    mode: backup === undefined ? 'lone' : 'pair',
    primary: request.instance,
    backup,
    nonce: request.nonce,
    ...(copy !== undefined && { copy }),
  };
}

function won(record: VmRecord, request: ArbiterRequest): Decision {
  return {
    record,
    answer: { nonce: request.nonce, verdict: 'won', epoch: record.epoch },
    leaseRenewed: true,
  };
}

function superseded(record: VmRecord, request: ArbiterRequest): Decision {
  return {
    record,
    answer: { nonce: request.nonce, verdict: 'superseded', epoch: record.epoch },
    leaseRenewed: false,
  };
}
