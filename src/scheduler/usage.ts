/**
 * What was held and used over a period: of each lease the part that falls into it, a running one up to `now`.
 *
 *  1. Whole milliseconds throughout, so the sums over services, principals and GPUs are equal, exactly, and adjoining
 *     periods add up.
 *  2. `now` and the running leases are taken once, from one committed state. Of what is read afterwards only leases that
 *     had ended in that state count, whatever begins or ends while the pages are read. Tokens tell: they only grow, and
 *     times may not, since a clock that was set back leaves ends in its future.
 *  3. Offers hold their GPUs as leases do, and count.
 *  4. Of a shared GPU each lease counts the part of the memory that is reserved for it, in time held and in time used:
 *     so the leases of a GPU never add up to more than the time in which it was held.
 *  5. A lease is wasteful when it is {@link LEAST_JUDGED_MS} long and has used less than {@link WASTEFUL_PART} of what it
 *     reserved, all of it looked at, not the part in the period: so of ended leases adjoining periods add up here too.
 */
import { setImmediate as othersFirst } from "node:timers/promises";
import type { EpochMs } from "../core/base/time.ts";
import type { HostState } from "../core/host/state.ts";
import { holdersOf, useBy } from "../core/model/holds.ts";
import type { AllocationId, GpuUuid } from "../core/model/ids.ts";
import { partOf } from "../core/model/leases.ts";
import type { UseSpan } from "../core/model/use.ts";
import { spansUntil, usedMsBetween } from "../core/model/use.ts";
import { PeriodTooLargeError, UsageBusyError } from "../ports/refusals.ts";
import type { EndedLease, EndedLeaseCursor, Store } from "../ports/store.ts";

/** Reports made at once: each takes the event loop between two requests, again and again. */
const MAX_REPORTS = 2;
/** Leases read at a time, in about a millisecond. */
const PAGE_LEASES = 100;
/** Leases that one report looks at: some ten seconds, in parts of a millisecond. */
const MAX_LEASES = 1_000_000;
/** Services, or principals, in one report. */
const MAX_NAMES = 10_000;

const WASTEFUL_PART = 0.25;
/** A younger lease may still load its data. */
const LEAST_JUDGED_MS = 10 * 60_000;

/** `from` counts, `to` does not. */
export interface Period {
  readonly from: EpochMs;
  readonly to: EpochMs;
}

export interface Amount {
  /** How many leases held something in the period. One that reaches into the next period counts there too. */
  readonly leases: number;
  /** GPU-milliseconds held: two GPUs for a second are 2,000. */
  readonly reservedMs: number;
  /** Of these, the ones in which the GPU was seen in use. */
  readonly usedMs: number;
  /** What leases that used far less than they reserved did not use; see 5. */
  readonly wastedMs: number;
}

export interface UsageRow extends Amount {
  readonly name: string;
}

export interface Usage extends Period {
  /** Running leases count up to it. */
  readonly now: EpochMs;
  /** A period that begins before it may lack leases whose records are gone; `null`: no record was ever dropped. */
  readonly completeFrom: EpochMs | null;
  readonly total: Amount;
  /** The largest first, here and below. */
  readonly services: readonly UsageRow[];
  readonly principals: readonly UsageRow[];
  /** By UUID. */
  readonly gpus: readonly UsageRow[];
}

/** One lease, as far as accounting needs it. */
export interface HeldLease {
  readonly serviceName: string;
  readonly principal: string;
  readonly from: EpochMs;
  readonly to: EpochMs;
  readonly gpus: readonly {
    readonly uuid: GpuUuid;
    /** The part of its memory that a shared lease has reserved; 1: it had the GPU alone. */
    readonly part: number;
    readonly used: readonly UseSpan[];
  }[];
}

/** Sums leases up. */
export class UsageTally {
  readonly #period: Period;
  #total: Amount = NOTHING;
  readonly #services = new Map<string, Amount>();
  readonly #principals = new Map<string, Amount>();
  readonly #gpus = new Map<GpuUuid, Amount>();

  constructor(period: Period) {
    this.#period = period;
  }

  /** How many names the longest list has. */
  get names(): number {
    return Math.max(this.#services.size, this.#principals.size);
  }

  add(lease: HeldLease): void {
    const from = Math.max(lease.from, this.#period.from);
    const to = Math.min(lease.to, this.#period.to);
    if (to <= from) return;
    let amount: Amount = { ...NOTHING, leases: 1 };
    const isWasteful = wastes(lease);
    for (const { uuid, part, used } of lease.gpus) {
      // A difference of one function at two instants: adjoining periods add up, parts of a GPU too. Use is measured in
      // what is held, so that rounding never makes more of it.
      const heldUntil = (at: EpochMs) => Math.floor((at - lease.from) * part);
      const [heldFrom, heldTo] = [heldUntil(from), heldUntil(to)];
      const reservedMs = heldTo - heldFrom;
      const usedMs = usedMsBetween(
        used.map((span) => spanOfHeld(span, part, heldUntil)),
        heldFrom,
        heldTo,
      );
      const held = { leases: 1, reservedMs, usedMs, wastedMs: isWasteful ? reservedMs - usedMs : 0 };
      add(this.#gpus, uuid, held);
      amount = { ...plus(amount, held), leases: 1 };
    }
    this.#total = plus(this.#total, amount);
    add(this.#services, lease.serviceName, amount);
    add(this.#principals, lease.principal, amount);
  }

  sums(): Pick<Usage, "total" | "services" | "principals" | "gpus"> {
    const [services, principals, gpus] = [rows(this.#services), rows(this.#principals), rows(this.#gpus)];
    return { total: this.#total, services, principals, gpus };
  }
}

/** A span of use, in milliseconds of the part that the lease holds. */
function spanOfHeld([from, to, usedMs]: UseSpan, part: number, heldUntil: (at: EpochMs) => number): UseSpan {
  const [heldFrom, heldTo] = [heldUntil(from), heldUntil(to)];
  const heldMs = heldTo - heldFrom;
  return [heldFrom, heldTo, usedMs === to - from ? heldMs : Math.min(heldMs, Math.floor(usedMs * part))];
}

const NOTHING: Amount = { leases: 0, reservedMs: 0, usedMs: 0, wastedMs: 0 };

function plus(a: Amount, b: Amount): Amount {
  return {
    leases: a.leases + b.leases,
    reservedMs: a.reservedMs + b.reservedMs,
    usedMs: a.usedMs + b.usedMs,
    wastedMs: a.wastedMs + b.wastedMs,
  };
}

/** See 5. */
function wastes({ from, to, gpus }: HeldLease): boolean {
  if (to - from < LEAST_JUDGED_MS) return false;
  const usedMs = gpus.reduce((sum, { used }) => sum + usedMsBetween(used, from, to), 0);
  return usedMs < WASTEFUL_PART * (to - from) * gpus.length;
}

function add(sums: Map<string, Amount>, name: string, amount: Amount): void {
  sums.set(name, plus(sums.get(name) ?? NOTHING, amount));
}

function rows(sums: ReadonlyMap<string, Amount>): readonly UsageRow[] {
  return [...sums]
    .map(([name, amount]) => ({ name, ...amount }))
    .sort((a, b) => b.reservedMs - a.reservedMs || (a.name < b.name ? -1 : 1));
}

/** Makes reports, no more than {@link MAX_REPORTS} at once. */
export class UsageReports {
  readonly #store: Store;
  #underWay = 0;

  constructor(store: Store) {
    this.#store = store;
  }

  /**
   * @param state a committed one.
   * @param now not before anything that happened in it.
   * @throws UsageBusyError, PeriodTooLargeError, StorageUnavailableError
   */
  async make(period: Period, state: HostState, now: EpochMs): Promise<Usage> {
    if (this.#underWay >= MAX_REPORTS) throw new UsageBusyError(MAX_REPORTS);
    this.#underWay++;
    try {
      return await this.#make(period, state, now);
    } finally {
      this.#underWay--;
    }
  }

  async #make(period: Period, state: HostState, now: EpochMs): Promise<Usage> {
    const tally = new UsageTally(period);
    const running = runningLeases(state, now);
    for (const lease of running.values()) tally.add(lease);
    let after: EndedLeaseCursor | null = null;
    for (let read = 0; ; read += PAGE_LEASES) {
      if (read >= MAX_LEASES) throw new PeriodTooLargeError(MAX_LEASES, "leases to look at");
      if (tally.names > MAX_NAMES) throw new PeriodTooLargeError(MAX_NAMES, "services or principals");
      const { from: endedAfter, to: submittedBefore } = period;
      const query = { endedAfter, submittedBefore, after, limit: PAGE_LEASES };
      const { leases, next } = this.#store.endedLeases(query);
      for (const lease of leases) if (hadEnded(lease, state, running)) tally.add(endedLease(lease));
      if (next === null) break;
      after = next;
      await othersFirst();
    }
    // Asked last: records may have been dropped meanwhile.
    return { ...period, now, completeFrom: this.#store.completeFrom(), ...tally.sums() };
  }
}

/** See 2. */
export function hadEnded(
  { id, fencingToken }: EndedLease,
  state: HostState,
  running: ReadonlyMap<AllocationId, HeldLease>,
): boolean {
  return fencingToken < state.nextFencingToken && !running.has(id);
}

/** Whatever holds GPUs in `state`, up to `now`. */
export function runningLeases(state: HostState, now: EpochMs): ReadonlyMap<AllocationId, HeldLease> {
  const running = new Map<AllocationId, HeldLease>();
  for (const { hold } of state.gpus.values()) {
    for (const { allocationId: id } of holdersOf(hold)) {
      const allocation = running.has(id) ? undefined : state.allocations.get(id);
      if (allocation === undefined || allocation.status === "queued") continue;
      const { request, lease } = allocation;
      const gpus = lease.gpus.map((gpu) => {
        const own = state.gpus.get(gpu.uuid)?.hold;
        const use = own === undefined ? null : useBy(own, id);
        return { uuid: gpu.uuid, part: partOf(gpu, lease.sharedMib), used: use === null ? [] : spansUntil(use, now) };
      });
      const { serviceName, principal } = request;
      running.set(id, { serviceName, principal, from: lease.grantedAt, to: now, gpus });
    }
  }
  return running;
}

const UNUSED: readonly UseSpan[] = [];

export function endedLease(ended: Omit<EndedLease, "id" | "fencingToken">): HeldLease {
  const { serviceName, principal, gpus, sharedMib, used, grantedAt, endedAt } = ended;
  const spansOf = (uuid: GpuUuid) => used.find((gpu) => gpu.uuid === uuid)?.spans ?? UNUSED;
  return {
    serviceName,
    principal,
    from: grantedAt,
    to: endedAt,
    gpus: gpus.map((gpu) => ({ uuid: gpu.uuid, part: partOf(gpu, sharedMib), used: spansOf(gpu.uuid) })),
  };
}
