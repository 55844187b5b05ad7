/** What every judge of one turn is told, beside the books. */
import type { EpochMs } from "../../src/core/base/time.ts";
import type { Books, Followed } from "./books.ts";
import { fault } from "./violation.ts";

/** After an absence of the daemon, at least this much of a lease is left; the contract's grace. */
export const GRACE_MS = 10_000;

/** The turn that events stand in, and the time in which it was seen. */
export interface TurnSeen {
  readonly at: EpochMs;
  readonly trueMs: number;
  /** Submitted in this turn so far. */
  readonly newcomers: ReadonlySet<string>;
  /** Something has been resumed in this turn. */
  readonly resumed: boolean;
  /** The boot that was before, if the turn tells of a new one. */
  readonly rebooted: boolean;
  /** The least that a new token may be: the wall clock at the daemon's start. */
  readonly tokenFloor: number;
  /** By how much the wall clock is ahead of the daemon's. */
  readonly wallAheadMs: number;
}

export function holding(books: Books, id: string): Followed & { readonly lease: NonNullable<Followed["lease"]> } {
  const found = books.live.get(id);
  if (found === undefined || found.lease === null) fault(`${id} holds nothing: it is ${found?.status ?? "not live"}`);
  return { ...found, lease: found.lease };
}
