import { PROTOCOL_VERSION } from '../src/ft/message.ts';
import type { Introduction, Program } from '../src/ft/program.ts';

/** How sides introduce themselves in tests that do not care. */
export const PROGRAM: Program = { machine: 'm', build: 'b', logFormat: 2, snapshotFormat: 2 };
export const INTRODUCED: Introduction = { version: PROTOCOL_VERSION, host: 'h', program: PROGRAM };
