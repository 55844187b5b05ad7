import type { EpochMs } from "../core/base/time.ts";
import type { BLOCKS } from "../core/host/condition.ts";
import type { HostState } from "../core/host/state.ts";

/** The state that is shown, and the instant for which it is. */
export interface Instant {
  readonly state: HostState;
  readonly now: EpochMs;
}

/** Under a lease a GPU is `leased`, as everywhere outside the allocator. */
export function stateName(block: (typeof BLOCKS)[number]): string {
  return block === "held" ? "leased" : block;
}
