/** What holds of every history in which not everybody says how long: docs/queue.md. */

import { expect, test } from "vitest";
import type { AllocateAsk, Command } from "../../../src/core/decisions/commands.ts";
import { decide } from "../../../src/core/decisions/decide.ts";
import { emptyHost } from "../../../src/core/host/changes.ts";
import type { Event } from "../../../src/core/host/events.ts";
import { evolve } from "../../../src/core/host/evolve.ts";
import { compareKeys, type Waiting } from "../../../src/core/host/line.ts";
import { type HostState, nextDeadline } from "../../../src/core/host/state.ts";
import type { QueuedAllocation } from "../../../src/core/model/allocation.ts";
import type { AllocationId, GpuUuid } from "../../../src/core/model/ids.ts";
import type { Policy } from "../../../src/core/model/policy.ts";
import { holdsFrom, isOutOfPatience } from "../../../src/core/queue/patience.ts";
import { schedule } from "../../../src/core/queue/schedule.ts";
import fc from "../../fc.ts";
import { gpuReading, seen } from "../../fixtures/readings.ts";
import { ASK, DEFAULT_POLICY, minutes } from "../../simulation/simulated-host.ts";

const START = 1_800_000_000_000;
const GPUS = 4;
const LONGEST_MS = minutes(30);
const NEVER_MS = Number.MAX_SAFE_INTEGER;
/** Nothing but the line is in the way: a GPU is free when its lease ends, and readings do not age. */
const POLICY: Policy = {
  ...{ ...DEFAULT_POLICY, maxQueueSize: NEVER_MS, staleAfterMs: NEVER_MS, verifyRelease: "never" },
  ...{ agingIntervalMs: minutes(5), reserveAfterMs: minutes(3), patienceMs: minutes(20), endlessAfterMs: minutes(31) },
};
const ACTOR = { principal: "test", admin: true };
const RUNS = { numRuns: Number(process.env.LINE_HISTORIES ?? 1_000) };

interface Job {
  readonly afterMs: number;
  readonly gpus: number;
  readonly priority: number;
  readonly states: boolean;
  readonly lastsMs: number;
}

interface Step {
  readonly before: HostState;
  readonly events: readonly Event[];
  readonly after: HostState;
  readonly now: number;
}

interface History {
  readonly jobs: readonly Job[];
  /** Those that come before all others, at once. */
  readonly first?: readonly Job[];
  readonly holdLate: boolean;
}

/** Jobs come, are granted, and end: every command at its own instant, and ticks where time alone changes something. */
function history({ jobs, first = [], holdLate }: History, judge: (step: Step) => void): void {
  let now = START;
  let state = emptyHost({ ...POLICY, holdLate });
  const lasts = new Map<AllocationId, number>();
  const ends: { readonly at: number; readonly id: AllocationId }[] = [];
  const take = (command: Command) => {
    const { events, state: after } = decide(state, command, now);
    judge({ before: state, events, after, now });
    state = after;
    for (const event of events) {
      if (event.type !== "granted") continue;
      ends.push({ at: now + (lasts.get(event.id) ?? 0), id: event.id });
      if (event.claimBy !== null) state = decide(state, { type: "claim", id: event.id }, now).state;
    }
  };
  take({ type: "resume", bootId: "boot", fencingFloor: START });
  const gpus = Array.from({ length: GPUS }, (_, index) => gpuReading(index));
  take({ type: "observe", observation: seen(gpus, START) });
  const submit = ({ gpus: requiredGpus, priority, states, lastsMs }: Job, index: number) => {
    const id = `job-${String(index).padStart(26, "0")}`;
    lasts.set(id, lastsMs);
    const ask: AllocateAsk = { ...ASK, requiredGpus, priority, maxDurationMs: states ? LONGEST_MS : null };
    take({ type: "allocate", id, ask, actor: ACTOR });
  };
  const coming = [...first.map((job) => ({ ...job, afterMs: 0 })), ...jobs];
  let next = 0;
  let nextAt = START;
  for (;;) {
    const job = coming[next];
    const ending = ends.reduce((soonest, one) => Math.min(soonest, one.at), Infinity);
    const due = nextDeadline(state) ?? Infinity;
    const submits = job === undefined ? Infinity : nextAt + job.afterMs;
    if (job === undefined && state.line.order.size === 0) return;
    now = Math.min(ending, due, submits);
    if (now === Infinity) return;
    if (now === due) take({ type: "tick" });
    else if (now === ending) {
      const index = ends.findIndex(({ at }) => at === now);
      const [ended] = ends.splice(index, 1);
      const id = ended?.id ?? "";
      if (state.allocations.get(id) !== undefined)
        take({ type: "release", id, serviceName: null, fencingToken: null, actor: ACTOR });
    } else {
      nextAt = now;
      submit(job as Job, next++);
    }
  }
}

const job = (priority: fc.Arbitrary<number>): fc.Arbitrary<Job> =>
  fc.record({
    afterMs: fc.constantFrom(0, minutes(1), minutes(4), minutes(11)),
    gpus: fc.constantFrom(1, 1, 1, 2, 3, 4),
    priority,
    states: fc.constantFrom(false, false, false, true),
    lastsMs: fc.constantFrom(minutes(1), minutes(7), minutes(19), LONGEST_MS),
  });
const jobsOf = (priority: fc.Arbitrary<number>) => fc.array(job(priority), { minLength: 1, maxLength: 25 });
const anyPriority = jobsOf(fc.constantFrom(3, 5, 5, 9));
const equalPriority = jobsOf(fc.constant(5));

/** Each grant, with the state just before it. */
function grantsOf({ before, events }: Step) {
  const grants: { readonly state: HostState; readonly granted: QueuedAllocation; readonly gpus: readonly GpuUuid[] }[] =
    [];
  let state = before;
  for (const event of events) {
    const allocation = event.type === "granted" ? state.allocations.get(event.id) : undefined;
    if (event.type === "granted" && allocation?.status === "queued") {
      grants.push({ state, granted: allocation, gpus: event.lease.gpus.map(({ uuid }) => uuid) });
    }
    state = evolve(state, event);
  }
  return grants;
}

/** Those that stand before `id` in the line. */
function passed(state: HostState, id: AllocationId): readonly QueuedAllocation[] {
  const waiting: readonly Waiting[] = [...state.line.order.values()];
  const own = waiting.find(({ key }) => key.id === id) as Waiting;
  return waiting.filter(({ key }) => compareKeys(key, own.key) < 0).map(({ allocation }) => allocation);
}

test("nobody waits longer than the bound, by how many stood before it", () => {
  const turnMs = POLICY.patienceMs + 2 * LONGEST_MS;
  fc.assert(
    fc.property(anyPriority, fc.boolean(), (jobs, holdLate) => {
      const most = new Map<AllocationId, number>();
      history({ jobs, holdLate }, ({ after, now }) => {
        let before = 0;
        for (const { allocation } of after.line.order.values()) {
          const { id, submittedAt, requirement } = allocation.request;
          const turns = Math.max(most.get(id) ?? 0, ++before);
          most.set(id, turns);
          const own = (10 - requirement.priority) * POLICY.agingIntervalMs + POLICY.reserveAfterMs;
          expect(now - submittedAt).toBeLessThanOrEqual(own + turns * turnMs);
        }
      });
    }),
    RUNS,
  );
});

test("what is held for one whose start nobody knows goes to nobody behind it until it starts", () => {
  fc.assert(
    fc.property(equalPriority, fc.boolean(), (jobs, holdLate) => {
      const held = new Map<AllocationId, ReadonlySet<GpuUuid>>();
      history({ jobs, holdLate }, (step) => {
        for (const { state, granted, gpus } of grantsOf(step)) {
          held.delete(granted.request.id);
          for (const { request } of passed(state, granted.request.id)) {
            const kept = held.get(request.id);
            expect(gpus.filter((uuid) => kept?.has(uuid))).toEqual([]);
          }
        }
        for (const { head, gpus, longestMs } of schedule(step.after, step.now, null).reservations) {
          const allocation = step.after.allocations.get(head);
          const from = allocation?.status === "queued" ? holdsFrom(allocation, step.after) : null;
          // Where its start has become certain, GPUs are lent to those that are sure to be back.
          if (longestMs > 0) held.delete(head);
          else if (from !== null && step.now >= from) held.set(head, gpus);
        }
      });
    }),
    RUNS,
  );
});

test("of one width and priority, those that state nothing start in the order in which they came", () => {
  fc.assert(
    fc.property(anyPriority, fc.boolean(), (jobs, holdLate) => {
      history({ jobs, holdLate }, (step) => {
        for (const { state, granted } of grantsOf(step)) {
          const { requirement, maxDurationMs } = granted.request;
          if (maxDurationMs !== null) continue;
          const equals = passed(state, granted.request.id).filter(
            ({ request }) =>
              request.maxDurationMs === null &&
              request.requirement.gpus === requirement.gpus &&
              request.requirement.priority === requirement.priority,
          );
          expect(equals).toEqual([]);
        }
      });
    }),
    RUNS,
  );
});

test("one that states its end, has another priority or is out of patience is passed by no wider one", () => {
  fc.assert(
    fc.property(anyPriority, fc.boolean(), (jobs, holdLate) => {
      history({ jobs, holdLate }, (step) => {
        for (const { state, granted } of grantsOf(step)) {
          const { requirement, maxDurationMs } = granted.request;
          if (maxDurationMs !== null) continue;
          for (const one of passed(state, granted.request.id)) {
            // What is enough for the one that was granted would have done for it too.
            if (one.request.requirement.gpus > requirement.gpus) continue;
            expect(one.request).toMatchObject({ maxDurationMs: null });
            expect(one.request.requirement.priority).toBe(requirement.priority);
            expect(isOutOfPatience(one, POLICY, step.now)).toBe(false);
          }
        }
      });
    }),
    RUNS,
  );
});

test("a lease without an end keeps no other GPU idle", () => {
  const service: Job = { afterMs: 0, gpus: 1, priority: 5, states: false, lastsMs: 1e12 };
  fc.assert(
    fc.property(anyPriority, fc.boolean(), (jobs, holdLate) => {
      const others = jobs.filter(({ gpus }) => gpus < GPUS);
      // One that needs the service's GPU too, and waits from the start.
      const all: Job = { ...service, gpus: GPUS, lastsMs: minutes(1) };
      const last = { ...service, afterMs: minutes(200), lastsMs: minutes(1) };
      history({ jobs: [...others.slice(0, 20), last], first: [service, all], holdLate }, ({ after, now }) => {
        if (now - START <= POLICY.endlessAfterMs) return;
        const reservations = schedule(after, now, null).reservations;
        for (const { head } of reservations) {
          const held = after.allocations.get(head);
          expect(held?.request.requirement.gpus).toBeLessThan(GPUS);
        }
        if (reservations.length > 0) return;
        const free = after.gpus.values().filter(({ hold }) => hold.kind === "free").length;
        for (const { allocation } of after.line.order.values()) {
          expect(allocation.request.requirement.gpus).toBeGreaterThan(free);
        }
      });
    }),
    RUNS,
  );
});
