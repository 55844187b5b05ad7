/** Leases are taken back for more urgent requests, if both sides have agreed. */

import { expect, test } from "vitest";
import { explain } from "../../../src/core/explain/explain.ts";
import { emptyHost } from "../../../src/core/host/changes.ts";
import type { Event } from "../../../src/core/host/events.ts";
import { evolve } from "../../../src/core/host/evolve.ts";
import type { HoldingAllocation } from "../../../src/core/model/allocation.ts";
import type { AllocationId } from "../../../src/core/model/ids.ts";
import type { Policy, PreemptionPolicy } from "../../../src/core/model/policy.ts";
import { fewest, MAX_PREEMPTIONS, type Victim } from "../../../src/core/queue/preemption.ts";
import fc from "../../fc.ts";
import {
  ADMIN,
  type Ask,
  DEFAULT_POLICY,
  h100,
  minutes,
  process,
  SimulatedHost,
  seconds,
  t4,
} from "../../simulation/simulated-host.ts";

const GRACE_MS = seconds(30);
const ALLOWED: PreemptionPolicy = { minPriorityGap: 1, graceMs: GRACE_MS, minRuntimeMs: 0 };
const LOW: Ask = { preemptible: true, priority: 3 };
const URGENT: Ask = { priority: 9 };

function hostOf(gpus: number, over: Partial<PreemptionPolicy> = {}, policy: Partial<Policy> = {}): SimulatedHost {
  const readings = Array.from({ length: gpus }, (_, n) => h100(`GPU-${n}`));
  return new SimulatedHost(readings, { preemption: { ...ALLOWED, ...over }, ...policy });
}

function noticeOf(host: SimulatedHost, id: AllocationId) {
  const allocation = host.allocation(id);
  return "notice" in allocation ? allocation.notice : null;
}

/** Who is told to leave, for whom. */
function told(host: SimulatedHost): Record<AllocationId, AllocationId> {
  return Object.fromEntries(host.state.preempted);
}

function endReason(host: SimulatedHost, id: AllocationId): string | null {
  const allocation = host.allocation(id);
  return allocation.status === "ended" ? allocation.outcome.reason : null;
}

const cancel = (host: SimulatedHost, id: AllocationId) => host.release(id);
const types = (events: readonly Event[]) => events.map(({ type }) => type);

test("a lease that allows it is told, keeps its grace, and then ends for the more urgent request", () => {
  const host = hostOf(1);
  const low = host.submit(LOW);
  const urgent = host.submit(URGENT);
  const until = host.now + GRACE_MS;
  expect(noticeOf(host, low)).toEqual({ kind: "preempt", at: host.now, until, for: urgent });
  expect(host.allocation(urgent)).toMatchObject({ status: "queued", preemptingSince: host.now });

  host.advance(GRACE_MS - 1);
  expect(host.allocation(low).status).toBe("leased");
  host.advance(1);

  expect(host.allocation(low)).toMatchObject({
    status: "ended",
    outcome: { reason: "preempted", at: until, detail: "for a request of priority 9" },
  });
  expect(host.gpusOf(urgent)).toEqual(["GPU-0"]);
});

test("a GPU that was in use is reclaimed as after any lease, and nobody else gets it meanwhile", () => {
  const host = hostOf(1, {}, { abandonAfterMs: minutes(60) });
  const low = host.submit(LOW);
  host.gpu("GPU-0", { processes: [process(7)], memoryUsedMib: 2_000 });
  host.advance(seconds(5));
  const urgent = host.submit(URGENT);
  const small = host.submit({ priority: 8, minMemoryMib: 1 });
  host.advance(GRACE_MS);
  expect(endReason(host, low)).toBe("preempted");
  expect(host.state.gpus.get("GPU-0")?.hold.kind).toBe("reclaiming");
  host.gpu("GPU-0", { processes: [], memoryUsedMib: 0 });
  host.advance(seconds(5));
  expect(host.gpusOf(urgent)).toEqual(["GPU-0"]);
  expect(host.allocation(small).status).toBe("queued");
});

test("whoever leaves in time has released, and the request is served at once", () => {
  const host = hostOf(1);
  const low = host.submit(LOW);
  const urgent = host.submit(URGENT);
  host.advance(seconds(3));
  host.release(low);
  expect(endReason(host, low)).toBe("released");
  expect(host.gpusOf(urgent)).toEqual(["GPU-0"]);
});

test("renewals do not put the end off, and show the earlier one", () => {
  const host = hostOf(1);
  const low = host.submit({ ...LOW, ttlMs: minutes(10) });
  host.submit(URGENT);
  for (let n = 0; n < 3; n++) {
    host.advance(seconds(9));
    host.renew(low);
  }
  host.advance(seconds(3));
  expect(endReason(host, low)).toBe("preempted");
});

test.each([
  ["the settings do not allow it", { policy: { preemption: null } }, LOW, URGENT],
  ["its request did not allow it", {}, { ...LOW, preemptible: false }, URGENT],
  ["it has the same priority", {}, { ...LOW, priority: 9 }, URGENT],
  ["it has a higher priority", {}, { ...LOW, priority: 10 }, URGENT],
  ["the gap is too small", { preemption: { minPriorityGap: 7 } }, LOW, URGENT],
  ["it is too young", { preemption: { minRuntimeMs: minutes(1) } }, LOW, URGENT],
] as const)("a lease is left alone when %s", (_, given, low, urgent) => {
  const { preemption = {}, policy = {} } = given as { preemption?: object; policy?: Partial<Policy> };
  const host = hostOf(1, preemption, policy);
  const id = host.submit(low);
  host.submit(urgent);
  host.advance(seconds(25));
  expect(noticeOf(host, id)).toBeNull();
});

test("a lease is preempted once it is old enough", () => {
  const host = hostOf(1, { minRuntimeMs: minutes(1) });
  const low = host.submit(LOW);
  const urgent = host.submit(URGENT);
  host.advance(minutes(1));
  expect(told(host)).toEqual({ [low]: urgent });
});

test("waiting makes nobody more entitled: equals that age do not take GPUs from each other", () => {
  const host = hostOf(1, {}, { agingIntervalMs: seconds(1), abandonAfterMs: minutes(60) });
  const low = host.submit({ ...LOW, priority: 5 });
  host.submit({ priority: 5 });
  host.advance(minutes(2));
  expect(noticeOf(host, low)).toBeNull();
});

test("nobody is told to leave when that would not be enough", () => {
  const host = hostOf(2);
  const low = host.submit(LOW);
  host.submit({ ...LOW, preemptible: false });
  const urgent = host.submit({ ...URGENT, requiredGpus: 2 });
  expect(noticeOf(host, low)).toBeNull();
  expect(host.allocation(urgent)).toMatchObject({ preemptingSince: null });
});

test("one lease of two GPUs leaves rather than two of one, and of equals the youngest", () => {
  const host = hostOf(5);
  const old = host.submit({ ...LOW, requiredGpus: 2 });
  const ones = [host.submit(LOW)];
  const young = host.submit({ ...LOW, requiredGpus: 2 });
  const urgent = host.submit({ ...URGENT, requiredGpus: 2 });
  expect(told(host)).toEqual({ [young]: urgent });
  expect([old, ...ones].map((id) => noticeOf(host, id))).toEqual([null, null]);
});

test("only GPUs that the request can use make a lease worth taking back", () => {
  const host = new SimulatedHost([h100("GPU-big"), t4("GPU-small")], { preemption: ALLOWED });
  const onBig = host.submit({ ...LOW, gpuModel: "H100" });
  const onSmall = host.submit({ ...LOW, gpuModel: "T4" });
  const urgent = host.submit({ ...URGENT, minMemoryMib: 40_000 });
  expect(told(host)).toEqual({ [onBig]: urgent });
  expect(noticeOf(host, onSmall)).toBeNull();
});

test("a lease that ends by itself within the grace is waited for, and nobody is told", () => {
  const host = hostOf(2);
  const low = host.submit(LOW);
  host.submit({ preemptible: false, priority: 3, maxDurationMs: seconds(20) });
  const urgent = host.submit(URGENT);
  expect(noticeOf(host, low)).toBeNull();
  host.advance(seconds(20));
  expect(host.gpusOf(urgent)).toEqual(["GPU-1"]);
});

test("GPUs that are free already are held for it, and a smaller request behind it does not get them", () => {
  const host = hostOf(2, {}, { abandonAfterMs: minutes(60) });
  host.submit(LOW);
  const urgent = host.submit({ ...URGENT, requiredGpus: 2 });
  const small = host.submit({ priority: 8 });
  expect(host.allocation(small).status).toBe("queued");
  host.advance(GRACE_MS);
  expect(host.gpusOf(urgent)).toEqual(["GPU-0", "GPU-1"]);
});

test("GPUs beside those go to whoever is next", () => {
  const host = hostOf(2);
  host.submit(LOW);
  host.submit({ ...LOW, preemptible: false });
  host.submit({ ...URGENT, minMemoryMib: 40_000 });
  host.devices.push({ reading: { ...t4("GPU-new"), index: 2 }, present: true });
  host.advance(seconds(5));
  const small = host.submit({ gpuModel: "T4", minMemoryMib: 1 });
  expect(host.gpusOf(small)).toEqual(["GPU-new"]);
});

test("when the request goes away, its victims stay as they were", () => {
  const host = hostOf(2);
  const lows = [host.submit({ ...LOW, ttlMs: minutes(10) }), host.submit(LOW)];
  const before = lows.map((id) => host.allocation(id));
  const urgent = host.submit({ ...URGENT, requiredGpus: 2 });
  expect(Object.keys(told(host))).toEqual(lows);
  host.advance(seconds(3));
  cancel(host, urgent);
  expect(lows.map((id) => host.allocation(id))).toEqual(before);
  host.advance(GRACE_MS);
  expect(lows.map((id) => host.allocation(id).status)).toEqual(["leased", "leased"]);
});

test("when it gets other GPUs in time, its victims stay; when fewer do, those that are not needed", () => {
  const host = hostOf(3);
  const other = host.submit({ priority: 9 });
  const lows = [host.submit(LOW), host.submit(LOW)];
  const urgent = host.submit({ ...URGENT, requiredGpus: 2 });
  expect(told(host)).toEqual({ [lows[0] as string]: urgent, [lows[1] as string]: urgent });
  host.release(other);
  // The younger goes, the older is put back.
  expect(told(host)).toEqual({ [lows[1] as string]: urgent });
  host.release(lows[0] as string);
  expect(host.gpusOf(urgent)).toEqual(["GPU-0", "GPU-1"]);
  expect(host.allocation(lows[1] as string)).toMatchObject({ status: "leased", notice: null });
});

test("a request and its victim that fall due together leave the victim where it is", () => {
  const host = hostOf(1);
  const low = host.submit(LOW);
  const urgent = host.submit({ ...URGENT, queueTimeoutMs: GRACE_MS });
  host.advance(GRACE_MS);
  expect(endReason(host, urgent)).toBe("timed_out");
  expect(host.allocation(low)).toMatchObject({ status: "leased", notice: null });
});

test("a request that comes to stand before it is served by its GPUs, and it goes on with others", () => {
  const host = hostOf(2);
  const lows = [host.submit(LOW), host.submit(LOW)];
  const urgent = host.submit({ ...URGENT, priority: 8 });
  expect(told(host)).toEqual({ [lows[1] as string]: urgent });
  host.advance(seconds(10));
  const first = host.submit({ priority: 10 });
  // No new grace for who was told before; a whole one for who is told now.
  expect(noticeOf(host, lows[1] as string)).toMatchObject({ at: host.now - seconds(10) });
  expect(told(host)).toEqual({ [lows[1] as string]: first, [lows[0] as string]: urgent });
  host.advance(seconds(20));
  expect(host.gpusOf(first)).toEqual(["GPU-1"]);
  expect(host.allocation(urgent).status).toBe("queued");
  host.advance(seconds(10));
  expect(host.gpusOf(urgent)).toEqual(["GPU-0"]);
});

test("several requests preempt side by side, each its own victims, and nobody is told twice", () => {
  const host = hostOf(3);
  const lows = [host.submit(LOW), host.submit(LOW), host.submit(LOW)];
  const urgent = [host.submit(URGENT), host.submit(URGENT)];
  const said = host.log.filter(({ type }) => type === "preempting");
  expect(said).toHaveLength(2);
  expect(told(host)).toEqual({ [lows[2] as string]: urgent[0], [lows[1] as string]: urgent[1] });
  host.advance(GRACE_MS);
  expect(urgent.map((id) => host.gpusOf(id))).toEqual([["GPU-1"], ["GPU-2"]]);
  expect(host.log.filter(({ type }) => type === "preempting")).toHaveLength(2);
});

test("a GPU that does not come back after all is replaced by another victim's", () => {
  const host = hostOf(2, {}, { abandonAfterMs: minutes(60) });
  const [old, young] = [host.submit(LOW), host.submit(LOW)];
  host.gpu("GPU-1", { processes: [process(7)], memoryUsedMib: 2_000 });
  host.advance(seconds(5));
  const urgent = host.submit(URGENT);
  host.advance(GRACE_MS);
  expect(endReason(host, young)).toBe("preempted");
  host.advance(minutes(1));
  expect(host.state.gpus.get("GPU-1")?.hold.kind).toBe("quarantined");
  expect(told(host)).toEqual({ [old]: urgent });
  host.advance(GRACE_MS);
  expect(host.gpusOf(urgent)).toEqual(["GPU-0"]);
});

test("settings that forbid it from now on call it off", () => {
  const host = hostOf(1);
  const low = host.submit(LOW);
  const urgent = host.submit(URGENT);
  const events = host.do({ type: "reconfigure", policy: { ...host.state.policy, preemption: null } });
  expect(types(events)).toEqual(["preemption-called-off", "notice-withdrawn"]);
  expect(noticeOf(host, low)).toBeNull();
  expect(host.allocation(urgent)).toMatchObject({ status: "queued", preemptingSince: null });
});

test("a restart within the grace gives all of it again; the books are as they were", () => {
  const host = hostOf(1);
  const low = host.submit(LOW);
  const urgent = host.submit(URGENT);
  host.now += seconds(20);
  host.do({ type: "resume", bootId: "boot-1", fencingFloor: host.now });
  expect(noticeOf(host, low)).toEqual({ kind: "preempt", at: host.now, until: host.now + GRACE_MS, for: urgent });
  host.now += minutes(5);
  host.do({ type: "resume", bootId: "boot-1", fencingFloor: host.now });
  host.observe();
  host.advance(GRACE_MS - 1);
  expect(host.allocation(low).status).toBe("leased");
  host.advance(1);
  expect(endReason(host, low)).toBe("preempted");
  const replayed = host.log.reduce(evolve, emptyHost(DEFAULT_POLICY));
  expect(replayed.preempted).toEqual(host.state.preempted);
  expect([...replayed.allocations.values()]).toEqual([...host.state.allocations.values()]);
});

test("while its GPU is unknown a victim is neither ended nor told that it may stay", () => {
  const host = hostOf(1, {}, { abandonAfterMs: minutes(60) });
  const low = host.submit(LOW);
  const urgent = host.submit(URGENT);
  host.monitoring = false;
  host.advance(minutes(2));
  expect(host.allocation(low)).toMatchObject({ status: "leased", notice: { for: urgent } });
  expect(host.allocation(urgent)).toMatchObject({ status: "queued", preemptingSince: expect.any(Number) });
  host.monitoring = true;
  host.advance(GRACE_MS);
  host.advance(seconds(5));
  expect(endReason(host, low)).toBe("preempted");
  expect(host.gpusOf(urgent)).toEqual(["GPU-0"]);
});

test("draining a victim's GPU comes before its preemption, and another lease leaves in its stead", () => {
  const host = hostOf(2);
  const [old, young] = [host.submit(LOW), host.submit(LOW)];
  const urgent = host.submit(URGENT);
  expect(told(host)).toEqual({ [young]: urgent });
  host.do({ type: "drain", gpu: "GPU-1", leaveMs: minutes(10), reason: "a fan", actor: ADMIN });
  expect(noticeOf(host, young)).toMatchObject({ kind: "drain" });
  expect(told(host)).toEqual({ [old]: urgent });
});

test("a dry run preempts nobody, and a request that does not want to wait neither", () => {
  const host = hostOf(1);
  const low = host.submit(LOW);
  expect(() => host.submit({ ...URGENT, queue: false })).toThrow(/does not want to wait/);
  expect(noticeOf(host, low)).toBeNull();
});

test("it says so when it is asked why it waits", () => {
  const host = hostOf(1);
  host.submit(LOW);
  const urgent = host.submit(URGENT);
  const { request } = host.allocation(urgent);
  expect(explain(request, host.state, host.now).reason).toMatch(/1 leased.*; leases are taken back for it$/);
});

test("leases are preempted for so many requests at once, and for the next when one has been served", () => {
  const host = hostOf(MAX_PREEMPTIONS + 2, {}, { abandonAfterMs: minutes(60) });
  for (let n = 0; n < MAX_PREEMPTIONS + 2; n++) host.submit(LOW);
  const urgent = Array.from({ length: MAX_PREEMPTIONS + 2 }, () => host.submit(URGENT));
  expect(host.state.preempted.size).toBe(MAX_PREEMPTIONS);
  host.advance(GRACE_MS);
  expect(host.state.preempted.size).toBe(2);
  host.advance(GRACE_MS);
  expect(urgent.map((id) => host.allocation(id).status)).toEqual(urgent.map(() => "offered"));
});

// ---- the choice, against an exhaustive search ----

interface Wish {
  readonly gpus: number;
  readonly preemptible: boolean;
  readonly priority: number;
}

const anyLease: fc.Arbitrary<Wish> = fc.record({
  gpus: fc.integer({ min: 1, max: 3 }),
  preemptible: fc.constantFrom(true, true, true, false),
  priority: fc.integer({ min: 1, max: 8 }),
});

function subsets<T>(items: readonly T[]): T[][] {
  const [first, ...rest] = items;
  if (first === undefined) return [[]];
  return subsets(rest).flatMap((set) => [set, [first, ...set]]);
}

/** Ages as fencing tokens, oldest first: of two sets of one size, that whose oldest was granted later. */
function spares(a: readonly Victim[], b: readonly Victim[]): number {
  const ages = (set: readonly Victim[]) =>
    set.map(({ allocation }) => allocation.lease.fencingToken).sort((x, y) => x - y);
  const [ofA, ofB] = [ages(a), ages(b)];
  const at = ofA.findIndex((token, n) => token !== ofB[n]);
  return at === -1 ? 0 : (ofB[at] as number) - (ofA[at] as number);
}

test("the fewest that suffice are chosen, and of those the set that spares the oldest", () => {
  const candidate = (gpus: number, token: number): Victim => ({
    gpus,
    allocation: { lease: { fencingToken: token } } as unknown as HoldingAllocation,
  });
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 8 }),
      fc.integer({ min: 0, max: 12 }),
      (sizes, need) => {
        const candidates = sizes.map((gpus, n) => candidate(gpus, 100 - n));
        const enough = subsets(candidates).filter((set) => set.reduce((sum, { gpus }) => sum + gpus, 0) >= need);
        const best = enough.sort((a, b) => a.length - b.length || spares(a, b))[0];
        const chosen = fewest(candidates, need);
        expect(chosen?.map(({ allocation }) => allocation.lease.fencingToken).sort()).toEqual(
          best?.map(({ allocation }) => allocation.lease.fencingToken).sort(),
        );
      },
    ),
    { numRuns: 1_000 },
  );
});

test("on any host the victims are entitled, none can be left out, and the request starts within grace", () => {
  let preempted = 0;
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 8 }),
      fc.array(anyLease, { maxLength: 8 }),
      fc.record({ gpus: fc.integer({ min: 1, max: 8 }), priority: fc.integer({ min: 4, max: 10 }) }),
      fc.integer({ min: 1, max: 3 }),
      (gpus, leases, wish, gap) => {
        const host = hostOf(gpus, { minPriorityGap: gap });
        for (const { gpus: requiredGpus, ...lease } of leases) {
          if (requiredGpus <= free(host)) host.submit({ requiredGpus, ...lease });
          host.advance(seconds(1));
        }
        if (wish.gpus > gpus) return;
        const held = [...host.state.allocations.values()] as HoldingAllocation[];
        const missing = wish.gpus - free(host);
        const urgent = host.submit({ requiredGpus: wish.gpus, priority: wish.priority });
        const victims = [...host.state.preempted.keys()];
        // Searched for anew, from the books alone.
        const entitled = held.filter(
          ({ request }) => request.preemptible && wish.priority - request.requirement.priority >= gap,
        );
        const enough = subsets(entitled).filter(
          (set) => set.reduce((sum, { lease }) => sum + lease.gpus.length, 0) >= missing,
        );
        const fewestOf = Math.min(...enough.map((set) => set.length));
        expect(victims).toHaveLength(missing <= 0 || enough.length === 0 ? 0 : fewestOf);
        const ids = new Set(entitled.map(({ request }) => request.id));
        for (const id of victims) expect(ids.has(id)).toBe(true);
        if (victims.length === 0) return;
        preempted++;
        const chosen = held.filter(({ request }) => victims.includes(request.id));
        for (const out of chosen) {
          const rest = chosen.filter((one) => one !== out);
          expect(rest.reduce((sum, { lease }) => sum + lease.gpus.length, 0)).toBeLessThan(missing);
        }
        host.advance(GRACE_MS);
        expect(host.allocation(urgent).status).toBe("offered");
        for (const id of victims) expect(endReason(host, id)).toBe("preempted");
        for (const { request } of held)
          if (!victims.includes(request.id)) expect(endReason(host, request.id)).toBeNull();
      },
    ),
    { numRuns: 1_000 },
  );
  expect(preempted).toBeGreaterThan(100);
});

type Step =
  | { readonly kind: "submit"; readonly ask: Ask }
  | { readonly kind: "let go"; readonly n: number }
  | { readonly kind: "pass"; readonly ms: number }
  | { readonly kind: "absence"; readonly ms: number }
  | { readonly kind: "settings"; readonly on: boolean };

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("submit" as const),
      ask: fc.record({
        requiredGpus: fc.integer({ min: 1, max: 4 }),
        preemptible: fc.constantFrom(true, true, false),
        priority: fc.integer({ min: 1, max: 10 }),
        maxDurationMs: fc.constantFrom(null, null, seconds(20), minutes(5)),
      }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("let go" as const), n: fc.nat(20) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("pass" as const), ms: fc.integer({ min: 1, max: 40_000 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("absence" as const), ms: fc.integer({ min: 1, max: 60_000 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("settings" as const), on: fc.constantFrom(true, true, false) }),
  },
);

function take(host: SimulatedHost, step: Step): void {
  if (step.kind === "submit") host.submit(step.ask);
  else if (step.kind === "pass") host.advance(step.ms);
  else if (step.kind === "absence") {
    host.now += step.ms;
    host.do({ type: "resume", bootId: "boot-1", fencingFloor: host.now });
    host.observe();
  } else if (step.kind === "settings") {
    host.do({ type: "reconfigure", policy: { ...host.state.policy, preemption: step.on ? ALLOWED : null } });
  } else {
    const live = [...host.state.allocations.values()];
    const chosen = live[step.n % Math.max(1, live.length)];
    if (chosen !== undefined) host.release(chosen.request.id);
  }
}

/** Since when a lease has known until when it may stay, by all that was said of it. */
function toldWhen(log: readonly Event[], id: AllocationId): { at: number; until: number } {
  let told = { at: Infinity, until: Infinity };
  for (const event of log) {
    if (!("id" in event) || event.id !== id) continue;
    if (event.type === "notice-withdrawn") told = { at: Infinity, until: Infinity };
    if (event.type !== "preempting") continue;
    told = { at: event.until === told.until ? told.at : event.at, until: event.until };
  }
  return told;
}

/** Everything about a lease but what it was told. */
const apart = (allocation: HoldingAllocation) => ({ ...allocation, notice: null });

test("in any history whoever leaves was told a grace before, for somebody more urgent that waits", () => {
  let calledOff = 0;
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 40, size: "max" }), (steps) => {
      const host = hostOf(4);
      for (const step of steps) {
        const before = host.state;
        const from = host.log.length;
        take(host, step);
        const events = host.log.slice(from);
        for (const event of events) {
          if (event.type !== "ended" || event.outcome.reason !== "preempted") continue;
          const told = toldWhen(host.log, event.id);
          expect(event.outcome.at).toBeGreaterThanOrEqual(told.until);
          expect(event.outcome.at - told.at).toBeGreaterThanOrEqual(GRACE_MS);
        }
        for (const { type, ...event } of events) {
          if (type !== "notice-withdrawn" || step.kind !== "let go") continue;
          calledOff++;
          const { id } = event as { id: AllocationId };
          const [was, is] = [before.allocations.get(id), host.state.allocations.get(id)];
          expect(apart(is as HoldingAllocation)).toEqual(apart(was as HoldingAllocation));
        }
        for (const waiting of new Set(host.state.preempted.values())) {
          const { request, ...rest } = host.allocation(waiting);
          expect(rest).toMatchObject({ status: "queued", preemptingSince: expect.any(Number) });
          const victims = [...host.state.preempted].filter(([, beneficiary]) => beneficiary === waiting);
          for (const [id] of victims) {
            const victim = host.allocation(id);
            expect(victim.request.preemptible).toBe(true);
            expect(victim.request.requirement.priority).toBeLessThan(request.requirement.priority);
          }
        }
      }
    }),
    { numRuns: 1_000 },
  );
  expect(calledOff).toBeGreaterThan(20);
});

function free(host: SimulatedHost): number {
  return host.state.gpus.values().filter(({ hold }) => hold.kind === "free").length;
}
