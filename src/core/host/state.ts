/**
 * The state of a host: what the events fold to, the latest readings, and the settings.
 *
 *  1. `allocations`, `gpus`, `nextFencingToken`, `bootId`, `cordon` and `bookings` are exactly the fold of the journal's events.
 *  2. `line`, `preempted`, `deadlines`, `accounts` and `fairShares` are indexes of `allocations` and `gpus`,
 *     `candidates` is one of these with `sight`, `cordon` and `policy`, and `windows` and `windowPlan` of `policy.windows`
 *     and `bookings`. Only the `with...` functions of changes.ts change them, each together with what it indexes, so they
 *     cannot drift. What ended leases have used is the exception: it comes from the archive (accounts.ts, 3).
 *  3. `sight`, `policy`, `lasted` and `longest` are not durable: what the monitor sees now, what the operator has set, what
 *     estimates go by, and how long leases last here, which is learnt anew after a restart.
 */
import type { EpochMs } from "../base/time.ts";
import type { HoldingAllocation, LiveAllocation } from "../model/allocation.ts";
import type { Booking } from "../model/booking.ts";
import type { Cordon, Gpu } from "../model/gpu.ts";
import type { AllocationId } from "../model/ids.ts";
import type { KeptWindow, Policy } from "../model/policy.ts";
import type { Accounts } from "./accounts.ts";
import type { Allocations } from "./allocations.ts";
import { type Deadlines, finite } from "./deadlines.ts";
import type { FairShares } from "./fair-share.ts";
import type { Candidates } from "./free-gpus.ts";
import type { Inventory } from "./inventory.ts";
import type { WaitingLine } from "./line.ts";
import type { Sight } from "./sight.ts";
import { firstIndex, type WindowPlan } from "./window-plan.ts";

/** When a window next opens or closes after `now`: only then does the calendar alone change what may be granted. */
export function nextWindowChange({ windowPlan: { changes } }: HostState, now: EpochMs): EpochMs | null {
  return changes[firstIndex(changes, (at) => at > now)] ?? null;
}

export interface HostState {
  readonly policy: Policy;
  /** By their ends they may be over: those that are go with the next change. */
  readonly bookings: readonly Booking[];
  /** Those of the policy, then those of the bookings. */
  readonly windows: readonly KeptWindow[];
  readonly windowPlan: WindowPlan;
  readonly allocations: Allocations;
  readonly gpus: Inventory;
  readonly nextFencingToken: number;
  readonly bootId: string | null;
  /** Of all GPUs, those that are yet to come included. */
  readonly cordon: Cordon | null;
  readonly line: WaitingLine;
  /** Of those under a quota. */
  readonly accounts: Accounts;
  /** The leases that have a notice of preemption, each with the request that it is for. */
  readonly preempted: ReadonlyMap<AllocationId, AllocationId>;
  /** Of principals, where fair share is on. */
  readonly fairShares: FairShares;
  readonly deadlines: Deadlines;
  readonly sight: Sight;
  /** What each GPU is to those who wait. */
  readonly candidates: Candidates;
  /** Of the last leases that ended by a release or in their time: the part, up to 1, of what they might have lasted. */
  readonly lasted: readonly number[];
  /** Each lease that lasted clearly longer than all that had ended before it, in the order of their ends. */
  readonly longest: readonly LongestLease[];
}

export interface LongestLease {
  readonly endedAt: EpochMs;
  readonly lastedMs: number;
}

/** What is durable of a state. */
export interface DurableState {
  readonly allocations: readonly LiveAllocation[];
  readonly gpus: readonly Gpu[];
  readonly nextFencingToken: number;
  readonly bootId: string | null;
  readonly cordon: Cordon | null;
  readonly bookings: readonly Booking[];
}

/** The next instant at which something changes by time alone. */
export function nextDeadline(state: HostState): EpochMs | null {
  const deadline = state.deadlines.first()?.[0].at ?? Infinity;
  return finite(Math.min(deadline, state.accounts.renewals.first()?.[0].at ?? Infinity));
}

export function holderOf(id: AllocationId, state: HostState): HoldingAllocation {
  const holder = state.allocations.get(id);
  if (holder === undefined || holder.status === "queued") throw new Error(`${id} holds nothing`);
  return holder;
}
