/** What docs/queue.md promises of the order, under streams of requests that do not end. */

import { expect, test } from "vitest";
import { forecast } from "../../../src/core/explain/forecast.ts";
import type { Request } from "../../../src/core/model/allocation.ts";
import { DomainError } from "../../../src/core/model/errors.ts";
import type { AllocationId } from "../../../src/core/model/ids.ts";
import fc from "../../fc.ts";
import { type Ask, h100, minutes, SimulatedHost, seconds, t4 } from "../../simulation/simulated-host.ts";

const MAX_QUEUE_SIZE = 6;
const LONGEST_MS = minutes(30);
/** What a GPU takes at most to be seen empty: it is looked at every 20 s. */
const RECLAIM_MS = minutes(1);
const POLICY = {
  maxQueueSize: MAX_QUEUE_SIZE,
  agingIntervalMs: minutes(5),
  reserveAfterMs: minutes(3),
  verifyRelease: "always",
  reclaimTimeoutMs: RECLAIM_MS,
  refreshIntervalMs: seconds(20),
} as const;

const gpus = fc.constantFrom(
  [h100("GPU-a"), h100("GPU-b"), h100("GPU-c"), h100("GPU-d")],
  [h100("GPU-a"), h100("GPU-b"), t4("GPU-c"), t4("GPU-d"), t4("GPU-e")],
);

/** A request, and the part of its `max_duration` after which its client is done; more than 1: it never is. */
interface Job {
  readonly ask: Ask;
  readonly part: number;
}

const job: fc.Arbitrary<Job> = fc.record({
  ask: fc.record({
    requiredGpus: fc.constantFrom(1, 1, 1, 2, 3),
    minMemoryMib: fc.constantFrom(null, null, 20_000),
    priority: fc.constantFrom(3, 5, 5, 9, 10),
    maxDurationMs: fc.integer({ min: 1, max: LONGEST_MS / minutes(1) }).map(minutes),
  }),
  part: fc.constantFrom(0.2, 0.7, 2, 2, 2),
});

/** A host whose clients claim at once, and release when they are done. */
class Host extends SimulatedHost {
  readonly parts = new Map<AllocationId, number>();
  readonly grants = new Map<AllocationId, number>();
  #seen = 0;

  /** @returns `null` when it was refused. */
  bring({ ask, part }: Job): AllocationId | null {
    try {
      const id = this.submit(ask);
      this.parts.set(id, part);
      this.#note();
      return id;
    } catch (error) {
      if (error instanceof DomainError) return null;
      throw error;
    }
  }

  /** Lets time pass in steps, with a look at who is done after each. */
  pass(ms: number, stepMs = seconds(20)): void {
    for (let left = ms; left > 0; left -= stepMs) {
      this.advance(Math.min(left, stepMs));
      this.#note();
      for (const allocation of [...this.state.allocations.values()]) {
        if (allocation.status === "queued") continue;
        const { id, maxDurationMs } = allocation.request;
        if (allocation.status === "offered") this.claim(id);
        const doneAt = allocation.lease.grantedAt + (this.parts.get(id) ?? 2) * (maxDurationMs ?? Infinity);
        if (this.now >= doneAt) this.release(id);
        this.#note();
      }
    }
  }

  #note(): void {
    for (; this.#seen < this.log.length; this.#seen++) {
      const event = this.log[this.#seen];
      if (event?.type === "granted") this.grants.set(event.id, event.lease.grantedAt);
    }
  }
}

/** docs/queue.md, "How long it can take". */
function longestWaitMs({ requirement }: Request): number {
  const beforeNobodyOvertakes = (10 - requirement.priority) * POLICY.agingIntervalMs + POLICY.reserveAfterMs;
  // A lease is looked at every 20 s here, and so ends that much late.
  return beforeNobodyOvertakes + MAX_QUEUE_SIZE * (LONGEST_MS + RECLAIM_MS + seconds(20));
}

test("whoever fits is served within the bound, whatever keeps coming, and then the queue drains", () => {
  const stream = fc.array(job, { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(gpus, stream, fc.integer({ min: 20, max: 200 }), (inventory, jobs, everyS) => {
      const host = new Host(inventory, POLICY);
      const waiting = new Set<AllocationId>();
      for (let i = 0; host.now < 1_800_000_000_000 + minutes(300); i++) {
        const id = host.bring(jobs[i % jobs.length] as Job);
        if (id !== null) waiting.add(id);
        host.pass(seconds(everyS));
        for (const one of waiting) {
          const { status, request } = host.allocation(one);
          if (status !== "queued") waiting.delete(one);
          else expect(host.now - request.submittedAt).toBeLessThanOrEqual(longestWaitMs(request));
        }
      }
      host.pass(MAX_QUEUE_SIZE * (LONGEST_MS + RECLAIM_MS + seconds(20)) + LONGEST_MS, minutes(1));
      expect(host.queue()).toEqual([]);
    }),
    { numRuns: Number(process.env.STREAMS ?? 20) },
  );
});

test("a request for all eight GPUs is served within the bound, however many small ones keep coming", () => {
  const small = fc.record({
    ask: fc.record({
      requiredGpus: fc.integer({ min: 1, max: 2 }),
      priority: fc.constantFrom(5, 10),
      maxDurationMs: fc.constantFrom(minutes(1), minutes(10), LONGEST_MS),
    }),
    part: fc.constantFrom(0.5, 2),
  });
  fc.assert(
    fc.property(fc.array(small, { minLength: 8, maxLength: 12 }), fc.integer({ min: 15, max: 90 }), (jobs, everyS) => {
      const host = new Host(
        Array.from({ length: 8 }, (_, i) => h100(`GPU-${i}`)),
        POLICY,
      );
      for (const one of jobs) host.bring({ ...one, ask: { ...one.ask, queue: false } });
      const all = host.bring({ ask: { requiredGpus: 8, maxDurationMs: minutes(1) }, part: 2 }) as AllocationId;
      const { request } = host.allocation(all);
      for (let i = 0; host.allocation(all).status === "queued"; i++) {
        host.bring(jobs[i % jobs.length] as Job);
        host.pass(seconds(everyS));
        expect(host.now - request.submittedAt).toBeLessThanOrEqual(longestWaitMs(request));
      }
      expect(host.gpusOf(all)).toHaveLength(8);
    }),
    { numRuns: 15 },
  );
});

/** Whether `a` asks for nothing that `b` does not: wherever `b` can be served, `a` can. */
function asksForNoMore(a: Request, b: Request): boolean {
  return (
    a.requirement.gpus === b.requirement.gpus &&
    a.requirement.memoryMib <= b.requirement.memoryMib &&
    (a.maxDurationMs ?? Infinity) <= (b.maxDurationMs ?? Infinity)
  );
}

test("of two equally urgent, nobody is served before one that came earlier and asks for no more", () => {
  fc.assert(
    fc.property(
      gpus,
      fc.array(fc.tuple(job, fc.integer({ min: 0, max: 400 })), { maxLength: 30 }),
      (inventory, jobs) => {
        const host = new Host(inventory, { ...POLICY, maxQueueSize: 100 });
        const ids: AllocationId[] = [];
        for (const [one, waitS] of jobs) {
          const id = host.bring(one);
          if (id !== null) ids.push(id);
          host.pass(seconds(waitS));
        }
        host.pass(minutes(400), minutes(1));
        const requests = ids.map((id) => host.allocation(id).request);
        for (const [i, earlier] of requests.entries()) {
          for (const later of requests.slice(i + 1)) {
            if (earlier.requirement.priority !== later.requirement.priority || !asksForNoMore(earlier, later)) continue;
            const [first, second] = [host.grants.get(earlier.id), host.grants.get(later.id)];
            expect(first, `${earlier.id} before ${later.id}`).toBeLessThanOrEqual(second as number);
          }
        }
      },
    ),
    { numRuns: 60 },
  );
});

test("whoever is served past the head of the line, the head starts when it would have started without them", () => {
  const head = fc.record({ requiredGpus: fc.integer({ min: 2, max: 4 }), priority: fc.constant(5) });
  const held = fc.array(job, { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(gpus, held, head, fc.array(job, { minLength: 1, maxLength: 12 }), (inventory, holders, ask, others) => {
      const lasting = (one: Job, priority: number): Job => ({ ask: { ...one.ask, priority }, part: 2 });
      const start = (withOthers: boolean): number => {
        const host = new Host(inventory, { ...POLICY, maxQueueSize: 100, reserveAfterMs: 0 });
        // Who does not fit at once would stand before the head.
        for (const one of holders) {
          const id = host.bring({ ...lasting(one, 5), ask: { ...one.ask, priority: 5, queue: false } });
          if (id === null) continue;
          host.pass(seconds(30));
        }
        const id = host.bring({ ask, part: 2 }) as AllocationId;
        const foreseen = forecast(host.state, host.now).get(id)?.latest ?? Infinity;
        for (let i = 0; host.allocation(id).status === "queued"; i++) {
          if (withOthers) host.bring(lasting(others[i % others.length] as Job, 5));
          host.pass(minutes(2));
        }
        const at = host.grants.get(id) as number;
        expect(at).toBeLessThanOrEqual(foreseen);
        return at;
      };
      expect(start(true)).toBeLessThanOrEqual(start(false));
    }),
    { numRuns: 60 },
  );
});

test("if leases end before their time, the head still starts when it was foreseen, whoever is served past it", () => {
  fc.assert(
    fc.property(
      gpus,
      fc.array(job, { minLength: 1, maxLength: 5 }),
      fc.array(job, { minLength: 1, maxLength: 12 }),
      (inventory, holders, others) => {
        const host = new Host(inventory, { ...POLICY, maxQueueSize: 100, reserveAfterMs: 0 });
        for (const one of holders) host.bring({ ...one, ask: { ...one.ask, queue: false } });
        const id = host.bring({ ask: { requiredGpus: inventory.length }, part: 2 }) as AllocationId;
        let latest = Infinity;
        for (let i = 0; host.allocation(id).status === "queued"; i++) {
          const foreseen = forecast(host.state, host.now).get(id)?.latest ?? Infinity;
          expect(foreseen).toBeLessThanOrEqual(latest);
          latest = foreseen;
          const other = others[i % others.length] as Job;
          host.bring({ ...other, ask: { ...other.ask, priority: 5 } });
          host.pass(minutes(1));
        }
        expect(host.grants.get(id)).toBeLessThanOrEqual(latest);
      },
    ),
    { numRuns: 60 },
  );
});
