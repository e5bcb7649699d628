import { PROTOCOL_VERSION } from './message.ts';

/** What runs a VM on one side. Two sides tell each other in their greetings. */
export interface Program {
  /** Names the VM's configuration and processor model: never different. */
  readonly machine: string;
  /** A hash of the program's own code. */
  readonly build: string;
  /** Of log entries [replay/frame.ts]. */
  readonly logFormat: number;
  /** Of machine snapshots [machine/snapshot-format.ts]. */
  readonly snapshotFormat: number;
}

/**
 * What a primary comes to a new instance for. `pair`: it is to follow the log, instruction by instruction. `move`: it is
 * to go on with a guest that stands still, so nothing is ever replayed there.
 */
export type Purpose = 'pair' | 'move';

/** How a side introduces itself, in hello and welcome. */
export interface Introduction {
  readonly version: number;
  readonly host: string;
  readonly program: Program;
}

/**
 * Why these two cannot be partners for this purpose, in one line with what both have; undefined: they can. Both sides
 * judge, each in its own words. Replay needs the same build: two builds may disagree on a flag that no test looks at. A
 * move replays nothing, so it needs only the same machine in the same format.
 */
export function mismatch(
  ours: Program,
  { host, program: theirs }: Pick<Introduction, 'host' | 'program'>,
  purpose: Purpose,
  there: 'there' | 'here',
): string | undefined {
  if (theirs.machine !== ours.machine)
    return `${host} has another configuration of this VM (${short(theirs.machine)}) than this side (${short(ours.machine)})`;
  if (purpose === 'move') {
    if (theirs.snapshotFormat === ours.snapshotFormat) return undefined;
    return `${host} has snapshot format ${theirs.snapshotFormat} (build ${short(theirs.build)}), this side ${ours.snapshotFormat} (build ${short(ours.build)}): the guest cannot move ${there}`;
  }
  if (theirs.build === ours.build && theirs.logFormat === ours.logFormat) return undefined;
  const runs = ({ build, logFormat }: Program): string => `${short(build)} (log format ${logFormat})`;
  return `${host} runs build ${runs(theirs)}, this side ${runs(ours)}: they cannot pair; move the VM ${there} first`;
}

/** Why a side of another version of the protocol is none to talk to. */
export function otherVersion({ host, version }: Pick<Introduction, 'host' | 'version'>): string {
  return `${host} speaks version ${version} of the channel's protocol, this side ${PROTOCOL_VERSION}: the guest cannot get from one to the other`;
}

function short(identity: string): string {
  return identity.slice(0, 12);
}
