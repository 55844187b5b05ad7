/**
 * Reserved windows: GPUs that are kept for some requests while the calendar says so.
 *
 *  1. A window that gives a number keeps so many of the whole GPUs that no window names, whichever they are; one that
 *     names GPUs, or MIG instances, keeps those. Windows that are open together add up. A GPU that two of them name is
 *     for the members of either.
 *  2. A lease that is in none of the windows that keep something is an outsider there. An outsider is granted GPUs only
 *     if, at every instant that its lease can last to, each open window still finds what it keeps among the GPUs that
 *     are free by then or that its own members hold. Without a `max_duration` a lease can last for ever.
 *  3. A window finds its GPUs empty: up to `reclaimTimeoutMs` are allowed for that between the end of a lease and the
 *     window's beginning, as for reservations (reservation.ts).
 *  4. What counts is what could be granted now if nobody held it: a GPU that is sick, cordoned or in foreign use is not
 *     there, so windows keep their number of the others.
 *  5. A window ends no lease. What was granted before it was known, or before GPUs fell sick, stays, and counts.
 *  6. Leases only end, so of all times at which the same windows are open the next one leaves the least, and a lease
 *     that can last to a later one can last to that. So the cost is bounded by the number of sets of windows that are
 *     open together, whatever the calendar holds.
 */
import type { Allowance } from "../allocator/allowance.ts";
import type { FutureCandidate } from "../allocator/candidates.ts";
import type { EpochMs } from "../base/time.ts";
import { indexNow } from "../host/indices.ts";
import type { HostState } from "../host/state.ts";
import { firstIndex, memberOf, NOTHING, namedBy, type Together, type WindowSet } from "../host/window-plan.ts";
import type { GpuHold } from "../model/gpu.ts";
import { holdersOf } from "../model/holds.ts";
import type { AllocationId, GpuUuid } from "../model/ids.ts";
import { hardEndOf, settlingMs } from "../model/leases.ts";
import type { KeptWindow, Policy } from "../model/policy.ts";

/** GPUs that are leased, being given back, or held for a request; only those that no window names count. */
export interface Occupancy {
  readonly count: number;
  readonly memberOf: WindowSet;
  /** When they are empty again. */
  readonly emptyFrom: EpochMs;
}

/** See {@link WindowAllowances.shortfalls}. */
export interface Shortfall {
  readonly open: WindowSet;
  /** GPUs that count for windows which give a number. */
  readonly usable: number;
  /** Of these, by leases that can last into it. */
  readonly leased: number;
  readonly lacking: number;
}

const ALL_WINDOWS: WindowSet = -1;

const NOBODY: ReadonlySet<AllocationId> = new Set();

const UNLIMITED: readonly Allowance[] = [
  { durationMs: Infinity, most: Infinity, closed: NOTHING, apart: NOTHING, cause: null },
];

function unlimited(): readonly Allowance[] {
  return UNLIMITED;
}

/** The allowances that windows leave to leases granted at one instant. */
export class WindowAllowances {
  readonly #windows: readonly KeptWindow[];
  readonly #together: readonly Together[];
  readonly #policy: Policy;
  readonly #now: EpochMs;
  /** By window. */
  readonly #named: readonly ReadonlySet<GpuUuid>[];
  readonly #apart: ReadonlySet<GpuUuid>;
  /** The GPUs that count for the windows which give a number. */
  readonly #pool: ReadonlySet<GpuUuid>;

  /** @param usable every GPU that nothing but a lease keeps from being granted. */
  constructor(state: HostState, usable: () => readonly FutureCandidate[], now: EpochMs) {
    const { policy, windows, windowPlan, gpus } = state;
    this.#policy = policy;
    this.#windows = windows;
    this.#together = windowPlan.together;
    this.#now = now;
    if (windows.length === 0) {
      this.#named = [];
      this.#apart = NOTHING;
      this.#pool = NOTHING;
      return;
    }
    const indexOf = indexNow(state);
    this.#named = windows.map((window, index) => {
      // A booking opens once: what it named is any GPU again once it is over.
      const isOver = index >= policy.windows.length && window.spans.every(({ to }) => to <= now);
      return isOver ? NOTHING : namedBy(window, gpus.values(), indexOf);
    });
    const instances = gpus.values().filter(({ mig }) => mig !== null);
    this.#apart = new Set([...this.#named.flatMap((each) => [...each]), ...instances.map(({ uuid }) => uuid)]);
    this.#pool = new Set(
      usable()
        .map(({ gpu }) => gpu.uuid)
        .filter((uuid) => !this.#apart.has(uuid)),
    );
  }

  /** The allowances beside `occupancies`, for members of whichever windows. */
  beside(occupancies: readonly Occupancy[]): (memberOf: WindowSet) => readonly Allowance[] {
    if (this.#windows.length === 0) return unlimited;
    const known = new Map<WindowSet, readonly Allowance[]>();
    return (member) => {
      const allowances = known.get(member) ?? this.#allowances(member, occupancies);
      known.set(member, allowances);
      return allowances;
    };
  }

  /** The GPUs that are leased in `state`, but by those in `without`, or not given back yet. */
  occupancies(state: HostState, without: ReadonlySet<AllocationId> = NOBODY): Occupancy[] {
    if (this.#windows.length === 0) return [];
    const occupancies = new Map<string, Occupancy>();
    for (const { uuid, hold } of state.gpus.values()) {
      if (!this.#pool.has(uuid)) continue;
      const held = this.#held(hold, state, without);
      if (held === null) continue;
      const kind = `${held.memberOf} ${held.emptyFrom}`;
      occupancies.set(kind, { ...held, count: (occupancies.get(kind)?.count ?? 0) + 1 });
    }
    return [...occupancies.values()];
  }

  /** One GPU's: it is empty when the last of those who share it has left, and a window's while all of them are in it. */
  #held(hold: GpuHold, state: HostState, without: ReadonlySet<AllocationId>): Omit<Occupancy, "count"> | null {
    const { reclaimTimeoutMs } = this.#policy;
    const leftAt = hold.kind === "shared" ? hold.remains.map(({ since }) => since) : [];
    if (hold.kind === "reclaiming") leftAt.push(hold.since);
    let emptyFrom = leftAt.reduce((latest, since) => Math.max(latest, since + reclaimTimeoutMs), -Infinity);
    let member: WindowSet = leftAt.length > 0 ? 0 : ALL_WINDOWS;
    for (const { allocationId } of holdersOf(hold)) {
      if (without.has(allocationId)) continue;
      const holder = state.allocations.get(allocationId);
      if (holder === undefined || holder.status === "queued") throw new Error(`${allocationId} holds nothing`);
      emptyFrom = Math.max(emptyFrom, (hardEndOf(holder) ?? Infinity) + settlingMs(this.#policy));
      member &= memberOf(holder.request, this.#windows);
    }
    return emptyFrom === -Infinity ? null : { memberOf: member, emptyFrom };
  }

  /** `gpus` that are held for a request, for as long as it takes. */
  occupancyOf(gpus: ReadonlySet<GpuUuid>, member: WindowSet): Occupancy {
    return { count: [...gpus].filter((uuid) => this.#pool.has(uuid)).length, memberOf: member, emptyFrom: Infinity };
  }

  #allowances(member: WindowSet, occupancies: readonly Occupancy[]): readonly Allowance[] {
    const steps = this.#together.flatMap(({ open, spans }) => {
      const span = spans[firstIndex(spans, ({ to }) => to > this.#now)];
      const against = open & ~member;
      if (span === undefined || against === 0) return [];
      const at = Math.max(span.from, this.#now);
      const cause = { windows: this.#windows.filter((_, index) => against & (1 << index)), span };
      return [{ at, most: this.#room(against, at, occupancies), closed: this.#closed(open, member), cause }];
    });
    steps.sort((a, b) => a.at - b.at);
    const allowances: Allowance[] = [];
    let last: Allowance = { durationMs: Infinity, most: Infinity, closed: NOTHING, apart: this.#apart, cause: null };
    for (const { at, most, closed, cause } of steps) {
      if (most >= last.most && [...closed].every((uuid) => last.closed.has(uuid))) continue;
      const durationMs = at - this.#now - settlingMs(this.#policy);
      // No lease is shorter than a millisecond.
      if (durationMs > (allowances.at(-1)?.durationMs ?? 0)) allowances.push({ ...last, durationMs });
      last = { ...last, most: Math.min(most, last.most), closed: new Set([...last.closed, ...closed]), cause };
    }
    return [...allowances, last];
  }

  /** How many GPUs somebody may take that are outside of the windows `against`, all of which are open at `at`. */
  #room(against: WindowSet, at: EpochMs, occupancies: readonly Occupancy[]): number {
    const { demanded, free, missing } = this.#balance(against, at, occupancies);
    return demanded === 0 ? Infinity : Math.max(0, free - missing);
  }

  #balance(open: WindowSet, at: EpochMs, occupancies: readonly Occupancy[]) {
    const demands = this.#windows.map(({ gpus }, index) =>
      open & (1 << index) && typeof gpus === "number" ? gpus : 0,
    );
    const demanded = demands.reduce((sum, each) => sum + each, 0);
    const lasting = occupancies.filter(({ emptyFrom }) => emptyFrom > at);
    const free = lasting.reduce((rest, { count }) => rest - count, this.#pool.size);
    return { demanded, free, missing: demanded === 0 ? 0 : demanded - covered(demands, lasting) };
  }

  /**
   * How many GPUs the windows that are open together, by the set of them, lack of those that they keep by number when
   * they next open, each lease beside them lasting as long as it may.
   */
  shortfalls(occupancies: readonly Occupancy[]): Shortfall[] {
    return this.#together.flatMap(({ open, spans }) => {
      const span = spans[firstIndex(spans, ({ to }) => to > this.#now)];
      if (span === undefined) return [];
      const { free, missing } = this.#balance(open, Math.max(span.from, this.#now), occupancies);
      const usable = this.#pool.size;
      return [{ open, usable, leased: usable - free, lacking: Math.max(0, missing - free) }];
    });
  }

  /** The named GPUs that windows in `open` keep from somebody who is a member of none that names them. */
  #closed(open: WindowSet, member: WindowSet): ReadonlySet<GpuUuid> {
    const closed = new Set<GpuUuid>();
    for (const [index, named] of this.#named.entries()) {
      if (open & ~member & (1 << index)) for (const uuid of named) closed.add(uuid);
    }
    for (const [index, named] of this.#named.entries()) {
      if (open & member & (1 << index)) for (const uuid of named) closed.delete(uuid);
    }
    return closed;
  }
}

/** Of what windows demand, as much as their members hold; each GPU counts for one window. (Largest flow, by augmenting.) */
export function covered(demands: readonly number[], occupancies: readonly Occupancy[]): number {
  const missing = [...demands];
  const unused = occupancies.map(({ count }) => count);
  // given[h][w]: how many GPUs of a holder count for a window.
  const given = occupancies.map(() => demands.map(() => 0));
  const isIn = (holder: number, window: number) => ((occupancies[holder] as Occupancy).memberOf & (1 << window)) !== 0;
  /** Finds one more GPU for a window: an unused one, or one that counts for a window which can have another instead. */
  const find = (window: number, tried: Set<number>): boolean => {
    tried.add(window);
    for (const [holder, counts] of given.entries()) {
      if (!isIn(holder, window)) continue;
      if ((unused[holder] as number) > 0) {
        (unused[holder] as number) -= 1;
        (counts[window] as number) += 1;
        return true;
      }
      for (const [other, count] of counts.entries()) {
        if (count === 0 || tried.has(other) || !find(other, tried)) continue;
        (counts[other] as number) -= 1;
        (counts[window] as number) += 1;
        return true;
      }
    }
    return false;
  };
  let sum = 0;
  for (const window of missing.keys()) {
    while ((missing[window] as number) > 0 && find(window, new Set())) {
      (missing[window] as number) -= 1;
      sum += 1;
    }
  }
  return sum;
}
