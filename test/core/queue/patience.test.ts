/** What becomes of a head that waits for leases without a `max_duration`: docs/queue.md, "When nobody says how long". */

import { describe, expect, test } from "vitest";
import { restoredHost } from "../../../src/core/host/changes.ts";
import { compareKeys, queueKey } from "../../../src/core/host/line.ts";
import type { QueuedAllocation, Request } from "../../../src/core/model/allocation.ts";
import { DomainError } from "../../../src/core/model/errors.ts";
import type { AllocationId } from "../../../src/core/model/ids.ts";
import { holdsFrom } from "../../../src/core/queue/patience.ts";
import fc from "../../fc.ts";
import { type Ask, h100, minutes, SimulatedHost, seconds, t4 } from "../../simulation/simulated-host.ts";

const HOOK = "http://127.0.0.1:9/hook";
const gpus = (count: number) => Array.from({ length: count }, (_, i) => h100(`GPU-${i}`));

/** A host of two whose clients wait for a webhook, so that none has to show that it is there. */
function pairOfGpus(policy = {}) {
  const host = new SimulatedHost(gpus(2), { patienceMs: minutes(60), ...policy });
  const ask = (over: Ask = {}) => host.submit({ webhookUrl: HOOK, ...over });
  return { host, ask, status: (id: AllocationId) => host.allocation(id).status };
}

/** A lease of one GPU without an end, and a pair behind it that has been the head for so long. */
function headOf(waitedMs: number, policy = {}) {
  const { host, ask, status } = pairOfGpus(policy);
  const old = ask({ preferredGpus: ["GPU-0"] });
  const pair = ask({ requiredGpus: 2 });
  host.advance(minutes(1));
  host.advance(waitedMs);
  return { host, ask, status, old, pair };
}

describe("a head that waits for a lease without an end", () => {
  test("lets others pass while its patience lasts", () => {
    const { host, ask } = headOf(minutes(59));
    expect(host.gpusOf(ask())).toEqual(["GPU-1"]);
  });

  test("keeps no GPU idle after that either, as long as it waits for a lease that was there before", () => {
    const { host, ask } = headOf(minutes(61));
    expect(host.gpusOf(ask())).toEqual(["GPU-1"]);
  });

  test("has GPUs held for it once it waits only for those that were let past it, and lends them to nobody", () => {
    const { host, ask, status, old, pair } = headOf(minutes(61));
    const passed = ask();
    host.release(old);
    const late = ask({ maxDurationMs: 1 });
    expect([pair, late].map(status)).toEqual(["queued", "queued"]);
    host.release(passed);
    expect(host.gpusOf(pair)).toEqual(["GPU-0", "GPU-1"]);
  });

  test("lets nobody go before it once its patience is over, however long leases lasted so far", () => {
    const { host, ask, status, old, pair } = headOf(0);
    const early = ask();
    host.advance(minutes(40));
    host.release(early);
    host.advance(minutes(21));
    const passed = ask();
    host.release(old);
    expect([passed, ask(), pair].map(status)).toEqual(["leased", "queued", "queued"]);
    host.release(passed);
    expect(host.gpusOf(pair)).toEqual(["GPU-0", "GPU-1"]);
  });

  test("with hold_late is not the reason to keep GPUs idle before the longest lease so far has had as long again", () => {
    const { host, ask, status } = pairOfGpus({ holdLate: true });
    const early = ask();
    host.advance(minutes(40));
    host.release(early);
    const [old, passed] = [ask({ preferredGpus: ["GPU-0"] }), ask()];
    const pair = ask({ requiredGpus: 2 });
    host.advance(minutes(62));
    for (const id of [old, passed]) host.release(id);
    // It started when both were free at once, so the next has to wait for one of two that pass it.
    expect(host.gpusOf(pair)).toHaveLength(2);
    host.release(pair);
    const first = ask({ preferredGpus: ["GPU-0"] });
    const head = ask({ requiredGpus: 2 });
    host.advance(minutes(61) + minutes(30));
    const second = ask();
    host.release(first);
    const third = ask();
    expect([second, third].map(status)).toEqual(["leased", "leased"]);
    host.advance(minutes(32));
    host.release(second);
    expect([head, ask()].map(status)).toEqual(["queued", "queued"]);
    host.release(third);
    expect(host.gpusOf(head)).toHaveLength(2);
  });

  test("with hold_late learns how long leases last until its patience is over, and of services nothing", () => {
    const lasting = (ms: number, policy = {}) => {
      const { host, ask, pair } = headOf(0, { holdLate: true, ...policy });
      const lease = ask();
      host.advance(ms);
      host.release(lease);
      return holdsFrom(host.allocation(pair) as QueuedAllocation, host.state);
    };
    const due = 1_800_000_000_000 + minutes(61);
    expect(lasting(minutes(25))).toBe(due + minutes(25));
    expect(lasting(minutes(61))).toBe(due);
    // What was recorded before there was the setting has no word of it.
    expect(lasting(minutes(25), { holdLate: undefined })).toBe(due);
    expect(lasting(minutes(40), { endlessAfterMs: minutes(30) })).toBe(due);
    expect(lasting(minutes(8), { patienceMs: minutes(5) })).toBe(1_800_000_000_000 + minutes(6));
  });

  test("does not count as let past it who was served while its patience lasted", () => {
    const { host, ask, status, old } = headOf(minutes(30));
    ask();
    host.advance(minutes(31));
    host.release(old);
    expect(status(ask())).toBe("leased");
  });

  test("waits for its patience from when it was the head, not from its submission", () => {
    const { host, ask } = pairOfGpus();
    const first = ask({ requiredGpus: 2, maxDurationMs: minutes(200) });
    const single = ask({ priority: 6 });
    const pair = ask({ requiredGpus: 2 });
    host.advance(minutes(180));
    expect(host.allocation(pair)).toMatchObject({ headSince: null });
    host.release(first);
    expect(host.gpusOf(single)).toHaveLength(1);
    expect(host.allocation(pair)).toMatchObject({ headSince: host.now });
  });

  test("is the head also while nothing is free that others could be let have", () => {
    const { host, ask } = pairOfGpus();
    ask({ requiredGpus: 2 });
    const waiting = ask();
    host.advance(minutes(1) - seconds(1));
    expect(host.allocation(waiting)).toMatchObject({ headSince: null });
    host.advance(seconds(1));
    expect(host.allocation(waiting)).toMatchObject({ headSince: host.now });
  });

  test("starts its patience once, whoever stands before it for a while", () => {
    const { host, ask, pair } = headOf(minutes(10));
    const { headSince } = host.allocation(pair) as { readonly headSince: number };
    const urgent = ask({ requiredGpus: 2, priority: 9 });
    host.advance(minutes(5));
    expect(host.queue()).toEqual([urgent, pair]);
    host.release(urgent);
    host.advance(minutes(5));
    expect(host.allocation(pair)).toMatchObject({ headSince });
  });

  test("is not set back by a restart of the daemon", () => {
    const { host, ask, status, old, pair } = headOf(minutes(50));
    const { policy, allocations, gpus: known, nextFencingToken, bootId, cordon, bookings } = host.state;
    const durable = { allocations: [...allocations.values()], gpus: [...known.values()] };
    host.state = restoredHost({ ...durable, nextFencingToken, bootId, cordon, bookings }, policy);
    host.do({ type: "resume", bootId: "boot-1", fencingFloor: host.now });
    host.observe();
    host.advance(minutes(11));
    const passed = ask();
    host.release(old);
    expect(status(ask())).toBe("queued");
    host.release(passed);
    expect(host.gpusOf(pair)).toHaveLength(2);
  });

  test("is certain of its start when enough leases have an end: nothing is noted, and lending goes on", () => {
    const { host, ask, status } = pairOfGpus();
    ask({ preferredGpus: ["GPU-0"], maxDurationMs: minutes(60) });
    const pair = ask({ requiredGpus: 2 });
    host.advance(minutes(1));
    expect(host.allocation(pair)).toMatchObject({ headSince: null });
    expect(status(ask())).toBe("queued");
    expect(status(ask({ maxDurationMs: minutes(30) }))).toBe("leased");
  });

  test("gives up on one that it let past and that has turned out to be a service", () => {
    const { host, ask, status, old } = headOf(minutes(61), { endlessAfterMs: minutes(120) });
    ask();
    host.release(old);
    const waiting = ask();
    host.advance(minutes(120));
    expect(status(waiting)).toBe("queued");
    host.advance(seconds(5));
    expect(status(waiting)).toBe("offered");
  });

  test("counts on what the others leave of a shared GPU, if it asks for a part", () => {
    const share = (minMemoryMib: number): Ask => ({ sharing: "shared", minMemoryMib, webhookUrl: HOOK });
    const host = new SimulatedHost([h100("GPU-0")], { patienceMs: minutes(60) });
    host.submit(share(20_000));
    host.advance(seconds(130));
    const before = host.submit(share(20_000));
    host.advance(seconds(130));
    const head = host.submit(share(50_000));
    host.advance(minutes(62));
    // 20,000 of them are for good, as far as anybody knows.
    const small = host.submit(share(1_000));
    expect(host.allocation(small).status).toBe("leased");
    host.release(before);
    host.advance(seconds(130));
    expect(host.gpusOf(head)).toEqual(["GPU-0"]);
  });
});

describe("among those that state no max_duration", () => {
  test("the widest that fits goes first, and of as wide ones the first in line", () => {
    const { host, ask, status } = pairOfGpus();
    const all = ask({ requiredGpus: 2 });
    const [one, pair, second] = [ask(), ask({ requiredGpus: 2 }), ask({ requiredGpus: 2 })];
    host.release(all);
    expect([one, pair, second].map(status)).toEqual(["queued", "offered", "queued"]);
    expect(host.allocation(one)).toMatchObject({ headSince: host.now });
  });

  test("of as wide ones the first in line goes first, whatever else they ask for", () => {
    const { host, ask, status } = pairOfGpus();
    const all = ask({ requiredGpus: 2 });
    const [one, pair, other] = [ask(), ask({ requiredGpus: 2 }), ask({ requiredGpus: 2, maxUtilizationPercent: 50 })];
    host.release(all);
    expect([one, pair, other].map(status)).toEqual(["queued", "offered", "queued"]);
  });

  test.each<[string, Ask, Ask]>([
    ["states one", { maxDurationMs: minutes(60) }, {}],
    ["has a higher priority", { priority: 6 }, { priority: 5 }],
    ["has a lower priority, and has waited so long that it stands before", { priority: 5 }, { priority: 6 }],
  ])("a wider one does not pass one that %s", (_, first, wider) => {
    const { host, ask, status } = pairOfGpus({ agingIntervalMs: minutes(1) });
    const all = ask({ requiredGpus: 2, priority: 10 });
    const one = ask(first);
    host.advance(minutes(2));
    const pair = ask({ ...wider, requiredGpus: 2 });
    host.release(all);
    expect([one, pair].map(status)).toEqual(["offered", "queued"]);
  });

  test("nor one in between that it may not pass, though it could pass the first", () => {
    const { host, ask, status } = pairOfGpus({ agingIntervalMs: minutes(1) });
    const all = ask({ requiredGpus: 2, priority: 10 });
    const one = ask();
    host.advance(seconds(70));
    const urgent = ask({ priority: 6 });
    const pair = ask({ requiredGpus: 2 });
    host.release(all);
    expect([one, urgent, pair].map(status)).toEqual(["offered", "offered", "queued"]);
  });

  test("a wider one does not pass one whose patience is over", () => {
    const { host, ask, status } = pairOfGpus();
    const all = ask({ requiredGpus: 2 });
    const one = ask();
    host.advance(minutes(62));
    const pair = ask({ requiredGpus: 2 });
    host.release(all);
    expect([one, pair].map(status)).toEqual(["offered", "queued"]);
  });

  test("wider ones pass one for its patience, and no longer, also behind a head that all are let past", () => {
    const host = new SimulatedHost(gpus(5), { patienceMs: minutes(60) });
    const ask = (over: Ask = {}) => host.submit({ webhookUrl: HOOK, ...over });
    ask({ preferredGpus: ["GPU-4"] });
    const leased = [ask({ requiredGpus: 2 }), ask({ requiredGpus: 2 })];
    const head = ask({ requiredGpus: 5 });
    const narrow = ask();
    const leavesPair = () => {
      leased.push(ask({ requiredGpus: 2 }));
      host.release(leased.shift() as AllocationId);
      for (const { status, request } of host.state.allocations.values())
        if (status === "offered") host.claim(request.id);
      host.advance(minutes(10));
    };
    for (let passed = 0; passed < 6; passed++) leavesPair();
    expect([head, narrow].map((id) => host.allocation(id).status)).toEqual(["queued", "queued"]);
    leavesPair();
    expect([head, narrow].map((id) => host.allocation(id).status)).toEqual(["queued", "leased"]);
  });

  test("with prefer_wide off the first in line goes first", () => {
    const { host, ask, status } = pairOfGpus({ preferWide: false });
    const all = ask({ requiredGpus: 2 });
    const [one, pair] = [ask(), ask({ requiredGpus: 2 })];
    host.release(all);
    expect([one, pair].map(status)).toEqual(["offered", "queued"]);
  });
});

const LONGEST_MS = minutes(30);
const RECLAIM_MS = minutes(1);
const STEP_MS = seconds(20);
const MAX_QUEUE_SIZE = 6;
const POLICY = {
  maxQueueSize: MAX_QUEUE_SIZE,
  agingIntervalMs: minutes(5),
  reserveAfterMs: minutes(3),
  patienceMs: minutes(20),
  endlessAfterMs: LONGEST_MS + minutes(1),
  verifyRelease: "always",
  reclaimTimeoutMs: RECLAIM_MS,
  refreshIntervalMs: STEP_MS,
} as const;
/** docs/queue.md: patience, and twice the longest lease with what it takes to be seen empty. Things are seen every 20 s. */
const TURN_MS = POLICY.patienceMs + 2 * (LONGEST_MS + RECLAIM_MS + STEP_MS) + STEP_MS;

/** A request, and how long its client keeps what it gets. */
interface Job {
  readonly ask: Ask;
  readonly lastsMs: number;
}

const job: fc.Arbitrary<Job> = fc.record({
  ask: fc.record({
    requiredGpus: fc.constantFrom(1, 1, 1, 2, 3, 4),
    priority: fc.constantFrom(3, 5, 5, 9, 10),
    maxDurationMs: fc.constantFrom(null, null, null, LONGEST_MS),
  }),
  lastsMs: fc.constantFrom(minutes(1), minutes(7), LONGEST_MS, LONGEST_MS),
});

/** A host whose clients claim at once and release when they are done; each grant is looked at. */
class Host extends SimulatedHost {
  readonly lasts = new Map<AllocationId, number>();
  #seen = 0;

  bring({ ask, lastsMs }: Job): AllocationId | null {
    try {
      const id = this.submit(ask);
      this.lasts.set(id, lastsMs);
      return id;
    } catch (error) {
      if (error instanceof DomainError) return null;
      throw error;
    }
  }

  pass(ms: number, judge: () => void = () => {}): void {
    for (let left = ms; left > 0; left -= STEP_MS) {
      this.advance(Math.min(left, STEP_MS));
      for (const allocation of [...this.state.allocations.values()]) {
        if (allocation.status === "queued") continue;
        const { id } = allocation.request;
        if (allocation.status === "offered") this.claim(id);
        if (this.now >= allocation.lease.grantedAt + (this.lasts.get(id) as number)) this.release(id);
      }
      judge();
    }
  }

  /** Those granted since the last look. */
  granted(): readonly AllocationId[] {
    const ids = this.log.slice(this.#seen).flatMap((event) => (event.type === "granted" ? [event.id] : []));
    this.#seen = this.log.length;
    return ids;
  }
}

const hosts = fc.constantFrom(
  [h100("GPU-a"), h100("GPU-b"), h100("GPU-c"), h100("GPU-d")],
  [h100("GPU-a"), h100("GPU-b"), h100("GPU-c"), h100("GPU-d"), t4("GPU-e")],
);
const stream = fc.array(job, { minLength: 1, maxLength: 12 });

test("the head starts within its patience and two longest leases, and everybody within the bound", () => {
  fc.assert(
    fc.property(hosts, stream, fc.integer({ min: 20, max: 300 }), (inventory, jobs, everyS) => {
      const host = new Host(inventory, POLICY);
      const judge = () => {
        for (const { allocation } of host.state.line.order.values()) {
          const { request, headSince } = allocation;
          const { priority } = request.requirement;
          const turns = (10 - priority) * POLICY.agingIntervalMs + POLICY.reserveAfterMs + MAX_QUEUE_SIZE * TURN_MS;
          expect(host.now - request.submittedAt).toBeLessThanOrEqual(turns);
          // Nobody comes before one of priority 10, so from when it is the head only its own turn counts.
          if (priority === 10 && headSince !== null) expect(host.now - headSince).toBeLessThanOrEqual(TURN_MS);
        }
      };
      for (let i = 0; host.now < 1_800_000_000_000 + minutes(400); i++) {
        host.bring(jobs[i % jobs.length] as Job);
        host.pass(seconds(everyS), judge);
      }
    }),
    { numRuns: Number(process.env.STREAMS ?? 12) },
  );
});

test("of one width and priority, those that state nothing are served in the order in which they came", () => {
  fc.assert(
    fc.property(hosts, stream, fc.integer({ min: 20, max: 300 }), (inventory, jobs, everyS) => {
      const host = new Host(inventory, { ...POLICY, maxQueueSize: 100 });
      const requests = new Map<AllocationId, Request>();
      for (let i = 0; i < 40; i++) {
        const id = host.bring(jobs[i % jobs.length] as Job);
        if (id !== null) requests.set(id, host.allocation(id).request);
        host.pass(seconds(everyS));
        for (const granted of host.granted()) {
          const { requirement, maxDurationMs } = requests.get(granted) as Request;
          const passed = [...host.state.line.order.values()]
            .filter(({ key }) => compareKeys(key, queueKey(requests.get(granted) as Request, host.state.policy)) < 0)
            .filter(({ allocation: { request } }) => request.requirement.gpus === requirement.gpus)
            .filter(({ allocation: { request } }) => request.requirement.memoryMib <= requirement.memoryMib)
            .filter(({ allocation: { request } }) => request.maxDurationMs === null && maxDurationMs === null);
          expect(passed).toEqual([]);
        }
      }
    }),
    { numRuns: 12 },
  );
});

test("a lease without an end keeps no other GPU idle", () => {
  const host = new Host(gpus(4), { ...POLICY, maxQueueSize: 100 });
  host.bring({ ask: {}, lastsMs: Infinity });
  host.bring({ ask: { requiredGpus: 4 }, lastsMs: minutes(1) });
  let busy = 0;
  for (let i = 0; i < 300; i++) {
    host.bring({ ask: {}, lastsMs: minutes(3) });
    host.pass(minutes(1));
    busy += [...host.state.gpus.values()].filter(({ hold }) => hold.kind !== "free").length;
  }
  expect(busy / 300).toBeGreaterThan(3.5);
});
