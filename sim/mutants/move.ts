import { epoch } from '../../src/ft/identity.ts';
import { type Breakage, breakCores } from './broken-core.ts';
import type { Mutant } from './mutant.ts';

/** Of a guest that is moved without fault tolerance (protocol 9). */

/** From the order to hand over on, this side believes that it won, and a source keeps its disks as they are. */
function withoutClaim(role: 'primary' | 'backup'): Breakage {
  let moving = false;
  return {
    does: (action, side) => {
      if (action.kind === 'vcpu-copy') moving = action.standStill;
      if (action.kind === 'state' && action.detail === 'the guest is handed over') moving = true;
      if (!moving || side.role !== role) return action;
      if (action.kind === 'open-disks' && role === 'primary') {
        side.tell({ kind: 'disks-opened', epoch: action.epoch, verdict: 'ok' });
        return undefined;
      }
      if (action.kind !== 'ask' || action.request.kind !== 'claim') return action;
      const { nonce, highest } = action.request;
      side.tell({ kind: 'answered', answer: { nonce, verdict: 'won', epoch: epoch(highest + 1) } });
      return undefined;
    },
  };
}

export const MOVE: readonly Mutant[] = [
  {
    name: 'the source of a move goes on',
    rule: 'move',
    broken: 'the source of a moved guest wants it back after a while, and lets it run without a claim',
    apply: (world) => breakCores(world, () => withoutClaim('primary')),
  },
  {
    name: 'the source runs on',
    rule: 'move',
    broken: 'the guest runs on after the last snapshot, and what it makes leaves',
    apply: (world) =>
      breakCores(world, () => {
        let moving = false;
        let stands = false;
        const early = new Set<bigint>();
        return {
          does: (action) => {
            if (action.kind === 'vcpu-let-go' || action.kind === 'go-live') stands = false;
            if (action.kind === 'vcpu-copy') {
              moving = action.standStill;
              return { ...action, standStill: false };
            }
            return action.kind === 'vcpu-pause' && stands ? undefined : action;
          },
          hears: (event, side) => {
            if (event.kind === 'snapshot' && side.state === 'COPY') stands = moving;
            if (event.kind === 'output' && stands) {
              early.add(event.output.number);
              side.add({ kind: 'hand-over', output: event.output });
            }
            return event.kind === 'handed-over' && early.delete(event.output) ? undefined : event;
          },
        };
      }),
  },
  {
    name: 'the target of a move does not claim',
    rule: 'move',
    broken: 'the target of a moved guest goes live without the test-and-set',
    apply: (world) => breakCores(world, () => withoutClaim('backup')),
  },
  {
    name: 'the held outputs stay behind',
    rule: 'move',
    broken: 'the last snapshot of a moved guest leaves out the outputs that wait at its source',
    apply: (world) =>
      breakCores(world, () => {
        let moving = false;
        return {
          does: (action) => {
            if (action.kind === 'vcpu-copy') moving = action.standStill;
            if (action.kind !== 'send' || !moving) return action;
            const { message } = action;
            if (message.kind === 'held-output') return undefined;
            if (message.kind !== 'snapshot-begin') return action;
            return { ...action, message: { ...message, released: message.position.outputs } };
          },
        };
      }),
  },
  {
    name: 'a moved guest waits for its disks for ever',
    rule: 'move',
    broken: 'the target of a moved guest does not issue the disk operations again that have no completion',
    apply: (world) =>
      breakCores(world, () => ({
        does: (action) =>
          action.kind === 'go-live' && action.takeover.stoodMs !== undefined
            ? { ...action, takeover: { ...action.takeover, started: [] } }
            : action,
      })),
  },
];
