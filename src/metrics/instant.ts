import type { BLOCKS } from "../core/allocator/survey.ts";
import type { EpochMs } from "../core/model.ts";
import type { HostState } from "../core/state.ts";

/** The state that is shown, and the instant for which it is. */
export interface Instant {
  readonly state: HostState;
  readonly now: EpochMs;
}

/** Under a lease a GPU is `leased`, as everywhere outside the allocator. */
export function stateName(block: (typeof BLOCKS)[number]): string {
  return block === "held" ? "leased" : block;
}
