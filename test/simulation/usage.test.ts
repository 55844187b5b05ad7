/**
 * Generated histories against the real core: what accounting says must be what the journal's events say, added up by
 * other means, and a lease is idle when, and only when, the readings prove it.
 */

import { expect, test } from "vitest";
import type { EpochMs } from "../../src/core/base/time.ts";
import type { Event } from "../../src/core/host/events.ts";
import { DomainError } from "../../src/core/model/errors.ts";
import type { AllocationId } from "../../src/core/model/ids.ts";
import type { GpuReading } from "../../src/core/model/reading.ts";
import { endedLease, type Period, runningLeases, type Usage, UsageTally } from "../../src/scheduler/usage.ts";
import fc from "../fc.ts";
import { h100, minutes, process, SimulatedHost, seconds } from "./simulated-host.ts";

const GPUS = ["GPU-a", "GPU-b", "GPU-c"].map((uuid) => h100(uuid));
const UUIDS = GPUS.map(({ uuid }) => uuid);

type Step = (host: SimulatedHost, ids: AllocationId[]) => void;

const onOne = (act: (host: SimulatedHost, id: AllocationId) => void) =>
  fc.nat(40).map(
    (n): Step =>
      (host, ids) => {
        const id = ids[n % Math.max(1, ids.length)];
        if (id !== undefined) act(host, id);
      },
  );

const submit = fc
  .record({
    serviceName: fc.constantFrom("a", "b"),
    requiredGpus: fc.constantFrom(1, 1, 2, 3),
    ttlMs: fc.constantFrom(null, null, 60_000),
    webhookUrl: fc.constantFrom(null, "http://127.0.0.1:9/hook"),
    principal: fc.constantFrom("x", "y"),
  })
  .map(
    ({ principal, ...ask }): Step =>
      (host, ids) => {
        ids.push(host.submit({ ...ask, actor: { principal, admin: true } }));
      },
  );

const MOODS = {
  busy: { processes: [process(1)], memoryUsedMib: 5_000 },
  held: { processes: [], memoryUsedMib: 5_000 },
  quiet: { processes: [], memoryUsedMib: 4 },
  blind: { processes: [], memoryUsedMib: null },
} as const;

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: submit },
  { weight: 3, arbitrary: onOne((host, id) => host.release(id)) },
  { weight: 1, arbitrary: onOne((host, id) => host.renew(id)) },
  { weight: 2, arbitrary: onOne((host, id) => host.claim(id)) },
  { weight: 1, arbitrary: onOne((host, id) => host.hangUp(id)) },
  {
    weight: 6,
    arbitrary: fc.integer({ min: 1, max: 100_000 }).map(
      (ms): Step =>
        (host) =>
          host.advance(ms),
    ),
  },
  {
    weight: 6,
    arbitrary: fc
      .tuple(fc.constantFrom(...UUIDS), fc.constantFrom("busy", "busy", "held", "quiet", "quiet", "quiet", "blind"))
      .map(
        ([uuid, mood]): Step =>
          (host) =>
            host.gpu(uuid, MOODS[mood as keyof typeof MOODS]),
      ),
  },
  {
    weight: 1,
    arbitrary: fc.nat(3).map(
      (luck): Step =>
        (host) => {
          host.monitoring = luck > 0;
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.nat(300_000), fc.constantFrom("boot-1", "boot-1", "boot-2")).map(
      ([away, bootId]): Step =>
        (host) => {
          host.now += away;
          host.do({ type: "resume", bootId, fencingFloor: host.now });
        },
    ),
  },
);

const anyHistory = fc.array(anyStep, { maxLength: 80, size: "max" });

function run(host: SimulatedHost, steps: readonly Step[], after: () => void = () => undefined): void {
  const ids: AllocationId[] = [];
  for (const step of steps) {
    try {
      step(host, ids);
    } catch (error) {
      if (!(error instanceof DomainError)) throw error;
    }
    host.do({ type: "tick" });
    after();
  }
}

function usageOf(host: SimulatedHost, period: Period): Pick<Usage, "total" | "services" | "principals" | "gpus"> {
  const tally = new UsageTally(period);
  for (const lease of runningLeases(host.state, host.now).values()) tally.add(lease);
  for (const record of host.ended.values()) {
    if (record.status !== "ended" || record.lease === null) continue;
    const { request, lease, used, outcome } = record;
    tally.add(endedLease({ ...request, ...lease, used, endedAt: outcome.at }));
  }
  return tally.sums();
}

interface Interval {
  readonly uuid: string;
  readonly from: EpochMs;
  readonly to: EpochMs;
}

/** When each GPU was held, and when it was used under a lease: from the events alone. */
function intervalsOf(log: readonly Event[], now: EpochMs): { readonly held: Interval[]; readonly used: Interval[] } {
  const held: Interval[] = [];
  const used: Interval[] = [];
  const heldSince = new Map<string, EpochMs>();
  const usedSince = new Map<string, EpochMs>();
  const holder = new Map<AllocationId, readonly string[]>();
  const close = (from: Map<string, EpochMs>, into: Interval[], uuid: string, at: EpochMs) => {
    const since = from.get(uuid);
    if (since !== undefined) into.push({ uuid, from: since, to: at });
    from.delete(uuid);
  };
  for (const event of log) {
    if (event.type === "granted") {
      const uuids = event.lease.gpus.map(({ uuid }) => uuid);
      holder.set(event.id, uuids);
      for (const uuid of uuids) heldSince.set(uuid, event.lease.grantedAt);
    } else if (event.type === "use-seen") usedSince.set(event.uuid, event.at);
    else if (event.type === "use-gone") close(usedSince, used, event.uuid, event.at);
    else if (event.type === "ended") {
      for (const uuid of holder.get(event.id) ?? []) {
        close(heldSince, held, uuid, event.outcome.at);
        close(usedSince, used, uuid, event.outcome.at);
      }
    }
  }
  for (const uuid of UUIDS) {
    close(heldSince, held, uuid, now);
    close(usedSince, used, uuid, now);
  }
  return { held, used };
}

function lengthOf(intervals: readonly Interval[], { from, to }: Period, uuid: string): number {
  const own = intervals.filter((interval) => interval.uuid === uuid);
  return own.reduce((sum, each) => sum + Math.max(0, Math.min(each.to, to) - Math.max(each.from, from)), 0);
}

test("what leases reserved and used is the time that their GPUs were held and used, over any cut of the period", () => {
  const met = { used: 0, cut: 0 };
  fc.assert(
    fc.property(anyHistory, fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 5 }), (steps, shares) => {
      const host = new SimulatedHost(GPUS, { idleAfterMs: minutes(1), reclaimIdleAfterMs: minutes(2) });
      const begin = host.now;
      run(host, steps);
      const length = host.now - begin + 1;
      const edges = [0, ...shares.sort((a, b) => a - b).map((share) => Math.floor(share * length)), length];
      const { held, used } = intervalsOf(host.log, host.now);
      let reservedMs = 0;
      let usedMs = 0;
      for (let i = 1; i < edges.length; i++) {
        const period = { from: begin + (edges[i - 1] as number), to: begin + (edges[i] as number) };
        const { gpus, total, services, principals } = usageOf(host, period);
        for (const uuid of UUIDS) {
          const row = gpus.find(({ name }) => name === uuid) ?? { reservedMs: 0, usedMs: 0 };
          expect(row.reservedMs).toBe(lengthOf(held, period, uuid));
          expect(row.usedMs).toBe(lengthOf(used, period, uuid));
        }
        for (const rows of [services, principals, gpus]) {
          expect(rows.reduce((sum, row) => sum + row.reservedMs, 0)).toBe(total.reservedMs);
          expect(rows.reduce((sum, row) => sum + row.usedMs, 0)).toBe(total.usedMs);
        }
        reservedMs += total.reservedMs;
        usedMs += total.usedMs;
        if (total.reservedMs > 0 && i > 1) met.cut++;
      }
      const whole = usageOf(host, { from: begin, to: begin + length }).total;
      expect({ reservedMs, usedMs }).toEqual({ reservedMs: whole.reservedMs, usedMs: whole.usedMs });
      if (usedMs > 0) met.used++;
    }),
    { numRuns: 300 },
  );
  // Or this proves little.
  expect(Math.min(met.used, met.cut)).toBeGreaterThan(20);
});

/** What the test itself has seen of one GPU. */
interface Sightings {
  /** Of the present series of readings that could tell, none further from the next than the GPU stays known. */
  readonly since: EpochMs;
  readonly latest: EpochMs;
  /** When it was last seen in use, and when it was first seen unused after that; 0: not. */
  readonly busyAt: EpochMs;
  readonly quietAt: EpochMs;
}

const IDLE_MS = seconds(30);

/** Tells whoever looks over the shoulder of its monitor. */
class WatchedHost extends SimulatedHost {
  onReading: (() => void) | null = null;

  override observe(startedAt = this.now) {
    const events = super.observe(startedAt);
    this.onReading?.();
    return events;
  }
}

/** Demands, at every reading, that it flags the leases which it proves idle, and none which it shows in use. */
function watch(host: WatchedHost): void {
  const sightings = new Map<string, Sightings>();
  host.onReading = () => {
    for (const { reading } of host.devices) {
      const before = sightings.get(reading.uuid);
      const next = sighted(before, reading, host.now, host.state.policy.staleAfterMs);
      if (next !== null) sightings.set(reading.uuid, next);
    }
    for (const allocation of host.state.allocations.values()) {
      if (allocation.status !== "leased") continue;
      const { lease, request, idleSince } = allocation;
      const unusedMs = lease.gpus.map(({ uuid }) => unusedFor(sightings.get(uuid), lease.grantedAt, host.now));
      if (unusedMs.includes(null)) expect(idleSince).toBeNull();
      else if (request.ttlMs === null && Math.min(...(unusedMs as number[])) >= IDLE_MS)
        expect(idleSince).not.toBeNull();
    }
  };
}

/** @returns `null` when the reading does not tell use from none. */
function sighted(
  before: Sightings | undefined,
  { processes, memoryUsedMib }: GpuReading,
  now: EpochMs,
  staleAfterMs: number,
): Sightings | null {
  const busy = processes.length > 0 || (memoryUsedMib ?? 0) > 1_000;
  if (!busy && memoryUsedMib === null) return null;
  const since = before !== undefined && now - before.latest <= staleAfterMs ? before.since : now;
  const known = before ?? { busyAt: 0, quietAt: now };
  if (busy) return { since, latest: now, busyAt: now, quietAt: 0 };
  return { since, latest: now, busyAt: known.busyAt, quietAt: known.quietAt === 0 ? now : known.quietAt };
}

/** Milliseconds for which a GPU was watched and not used; `null`: it is in use now. 0 when that cannot be said. */
function unusedFor(seen: Sightings | undefined, grantedAt: EpochMs, now: EpochMs): number | null {
  if (seen?.latest !== now) return 0;
  if (seen.busyAt === now) return null;
  // What was seen before the grant was not this lease's.
  return now - Math.max(seen.since, grantedAt, seen.busyAt >= grantedAt ? seen.quietAt : 0);
}

test("leases are flagged as idle, and ended for it, when readings prove it and at no other time", () => {
  const met = { idle: 0, busy: 0, reclaimed: 0 };
  fc.assert(
    fc.property(anyHistory, fc.constantFrom(null, minutes(1)), (steps, reclaimIdleAfterMs) => {
      const host = new WatchedHost(GPUS, { idleAfterMs: IDLE_MS, reclaimIdleAfterMs });
      watch(host);
      const flagged = new Set<AllocationId>();
      run(host, steps);
      for (const event of host.log) {
        if (event.type === "went-idle") {
          met.idle++;
          expect(flagged.has(event.id), "told twice").toBe(false);
          flagged.add(event.id);
          expect(event.at - event.since).toBeGreaterThanOrEqual(IDLE_MS);
        } else if (event.type === "went-busy") {
          met.busy++;
          expect(flagged.delete(event.id), "busy without having been idle").toBe(true);
        } else if (event.type === "reoffered") flagged.delete(event.id);
        else if (event.type === "ended") {
          flagged.delete(event.id);
          if (event.outcome.reason !== "idle") continue;
          met.reclaimed++;
          expect(reclaimIdleAfterMs).not.toBeNull();
        }
      }
      for (const allocation of host.state.allocations.values()) {
        const isFlagged = allocation.status === "leased" && allocation.idleSince !== null;
        expect(isFlagged).toBe(flagged.has(allocation.request.id));
      }
    }),
    { numRuns: 300 },
  );
  expect(Math.min(met.idle, met.busy, met.reclaimed)).toBeGreaterThan(0);
});

test("use is within the lease, whatever happens", () => {
  fc.assert(
    fc.property(anyHistory, (steps) => {
      const host = new SimulatedHost(GPUS);
      run(host, steps);
      for (const record of host.ended.values()) {
        if (record.status !== "ended") continue;
        for (const { uuid, spans } of record.used) {
          expect(record.lease?.gpus.map((gpu) => gpu.uuid)).toContain(uuid);
          expect(spans[0]?.[0]).toBeGreaterThanOrEqual(record.lease?.grantedAt ?? Number.POSITIVE_INFINITY);
          expect(spans.at(-1)?.[1]).toBeLessThanOrEqual(record.outcome.at);
        }
      }
    }),
    { numRuns: 100 },
  );
});
