import type { World } from '../world.ts';

/** A rule of the protocol broken on purpose. */
export interface Mutant {
  readonly name: string;
  /** A rule of design section 5, or what it belongs to otherwise. */
  readonly rule: string;
  /** Its name in the model, docs/model/ft.pml. */
  readonly model?: string;
  readonly broken: string;
  /** What has to find it, where that matters. */
  readonly property?: string;
  readonly apply: (world: World) => void;
}
