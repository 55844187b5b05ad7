import type { EpochMs } from "../core/base/time.ts";
import type { Event } from "../core/host/events.ts";
import type { HostState } from "../core/host/state.ts";
import type { Observation } from "../core/model/reading.ts";

/** One committed turn, as told to those who watch. */
export interface Committed {
  readonly at: EpochMs;
  /** How many webhooks it put into the outbox, or made due again. */
  readonly notifications: number;
  readonly events: readonly Event[];
  /** The number of the last event so far. */
  readonly lastSeq: number;
  readonly state: HostState;
  readonly before: HostState;
}

/** Watches the scheduler. Called after the commit, never inside a turn; must not throw. */
export interface Observer {
  committed?(turn: Committed): void;
  observed?(observation: Observation, state: HostState): void;
  /** The store refused a turn, or took one again. */
  storage?(healthy: boolean, reason: string | null): void;
}
