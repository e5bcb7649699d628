import type { CpuState } from '../x86/state.ts';
import type { CodeCache } from './code-cache.ts';
import type { EngineLayout } from './layout.ts';
import type { Mmu } from './mmu.ts';
import type { Pending } from './pending.ts';
import type { PhysicalMap } from './physical-map.ts';

/** What the slow paths of an engine have in common. */
export interface EngineParts {
  /** The memory that all engines share. */
  readonly buffer: SharedArrayBuffer;
  readonly layout: EngineLayout;
  readonly state: CpuState;
  readonly map: PhysicalMap;
  readonly mmu: Mmu;
  readonly code: CodeCache;
  readonly pending: Pending;
}
