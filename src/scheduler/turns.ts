import type { EpochMs } from "../core/base/time.ts";
import type { Command } from "../core/decisions/commands.ts";
import { type HostState, nextDeadline } from "../core/host/state.ts";
import type { EndedAllocation } from "../core/model/allocation.ts";
import type { IdempotencyKey } from "../ports/store.ts";
import type { DeliverySettlement } from "../ports/webhooks.ts";

/** Commands decided in one turn at most, so that a flood cannot keep the event loop for long. */
export const MAX_COMMANDS_PER_TURN = 256;

/** Commands that may wait for a turn; every open connection can have one. */
export const MAX_MAILBOX = 16_384;

export interface Letter {
  readonly command: Command;
  readonly settlement: DeliverySettlement | null;
  readonly key: IdempotencyKey | null;
  /** A webhook to be sent again. */
  readonly redelivery: string | null;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

/** What a letter brings beside its command. */
export interface Enclosed {
  readonly settlement?: DeliverySettlement | null;
  readonly key?: IdempotencyKey | null;
  readonly redelivery?: string | null;
}

/** What came of one command: the state after it, and the records that ended with it, those that were due included. */
export interface Answer {
  readonly state: HostState;
  readonly at: EpochMs;
  readonly ended: readonly EndedAllocation[];
}

export function isDue(state: HostState, now: EpochMs): boolean {
  const at = nextDeadline(state);
  return at !== null && at <= now;
}
