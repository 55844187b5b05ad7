/** A message to whoever holds a lease: would you let it go, or say how long you need it? It takes nothing from anybody. */

import type { EpochMs } from "../base/time.ts";
import { NudgedLatelyError, NudgeRefusedError } from "../model/errors.ts";
import type { Command } from "./commands.ts";
import type { Drafting } from "./drafting.ts";
import { liveOf } from "./lifecycle.ts";

/** Between two messages to one holder, whoever sends them. */
export const NUDGE_PAUSE_MS = 60_000;

/** @throws AllocationNotFoundError, NudgeRefusedError, NudgedLatelyError */
export function nudge(draft: Drafting, command: Extract<Command, { type: "nudge" }>, now: EpochMs): void {
  const { id, message, actor } = command;
  const allocation = liveOf(draft.state, id);
  if (allocation.status === "queued") throw new NudgeRefusedError(`${id} waits, and holds nothing that one could want`);
  const last = allocation.lease.nudge;
  const waitMs = last === undefined ? 0 : last.at + NUDGE_PAUSE_MS - now;
  if (waitMs > 0) throw new NudgedLatelyError(id, waitMs);
  draft.write({ type: "nudged", id, at: now, by: actor.principal, message });
}
