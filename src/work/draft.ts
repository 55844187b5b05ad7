import type { EpochMs } from "../core/base/time.ts";
import type { WorkEvent } from "./events.ts";
import { evolve } from "./evolve.ts";
import type { WorkState } from "./state.ts";

/** A decision in the making: what has happened so far, and the state that follows. */
export class Draft {
  readonly now: EpochMs;
  readonly events: WorkEvent[] = [];
  state: WorkState;

  constructor(state: WorkState, now: EpochMs) {
    this.state = state;
    this.now = now;
  }

  write(event: WorkEvent): void {
    this.events.push(event);
    this.state = evolve(this.state, event);
  }
}
