/**
 * Histories that no host can have, each with one lie in it, must be refused. Those of a host that serves one call at a
 * time must be taken, however much its calls are made to overlap.
 */

import { expect, test } from "vitest";
import fc from "../fc.ts";
import { HostModel } from "./host-model.ts";
import { linearize, type Operation } from "./linearizability.ts";
import type { Lease, Shown, Step, Wanted } from "./steps.ts";
import { ToyHost } from "./toy-host.ts";

const GPUS = ["G1", "G2"];

const lease = (token: number, ...gpus: string[]): Lease => ({ token, gpus });
const NOTHING = { lease: null, position: null, endReason: null };
const leased = (id: string, its: Lease): Shown => ({ ...NOTHING, id, status: "leased", lease: its });
const offered = (id: string, its: Lease): Shown => ({ ...NOTHING, id, status: "offered", lease: its });
const queued = (id: string, position: number | null = null): Shown => ({ ...NOTHING, id, status: "queued", position });
const released = (id: string, its: Lease): Shown => ({
  ...NOTHING,
  id,
  status: "ended",
  lease: its,
  endReason: "released",
});
const cancelled = (id: string): Shown => ({ ...NOTHING, id, status: "ended", endReason: "cancelled" });

const wanting = (gpus: number, priority = 5): Wanted => ({ service: "svc", gpus, priority });
const granted = (id: string, its: Lease): Step => ({
  call: "allocate",
  wanted: wanting(its.gpus.length),
  shown: { ...leased(id, its), status: "allocated" },
});
const waits = (id: string, position: number, wanted = wanting(1)): Step => ({
  call: "allocate",
  wanted,
  shown: queued(id, position),
});
const release = (id: string): Step => ({ call: "release", id });
const read = (shown: Shown): Step => ({ call: "read", shown });
const list = (held: Shown[], queue: string[]): Step => ({ call: "list", held, queue });
const status = (...holders: (string | null)[]): Step => ({
  call: "status",
  holders: new Map(GPUS.map((gpu, i) => [gpu, holders[i] ?? null])),
});

/** One call after the other, from 0 to 1, from 2 to 3 and so on; an array of calls is made at once. */
function check(...steps: (Step | Step[])[]): string {
  const history = steps.flatMap((step, i) =>
    [step].flat().map((one): Operation<Step> => ({ step: one, invokedAt: 2 * i, answeredAt: 2 * i + 1 })),
  );
  return linearize(history, new HostModel(history, GPUS)).verdict;
}

const A = lease(10, "G1");
const B = lease(11, "G2");
const C = lease(12, "G1");

test("a host's day: leases, a queue, an offer that is claimed, ends", () => {
  expect(
    check(
      granted("a", A),
      granted("b", B),
      { call: "refused", wanted: wanting(1) },
      waits("c", 1),
      read(queued("c", 1)),
      list([leased("a", A), leased("b", B)], ["c"]),
      status("a", "b"),
      release("a"),
      list([offered("c", C), leased("b", B)], []),
      { call: "renew", shown: leased("c", C) },
      list([leased("c", C), leased("b", B)], []),
      release("a"),
      { call: "renew-ended", id: "a" },
      read(released("a", A)),
      { call: "release-service", service: "svc", released: ["b", "c"] },
      status(null, null),
    ),
  ).toBe("linearizable");
});

test("a double grant", () => {
  expect(check(granted("a", A), granted("b", lease(11, "G1")))).toBe("impossible");
  expect(check([granted("a", A), granted("b", lease(11, "G1"))])).toBe("impossible");
  // In between there may have been a release.
  expect(check(granted("a", A), [release("a"), granted("b", lease(11, "G1"))])).toBe("linearizable");
});

test("a stale read after a release", () => {
  expect(check(granted("a", A), release("a"), read(leased("a", A)))).toBe("impossible");
  expect(check(granted("a", A), release("a"), list([leased("a", A)], []))).toBe("impossible");
  expect(check(granted("a", A), release("a"), status("a", null))).toBe("impossible");
  expect(check(granted("a", A), release("a"), { call: "renew", shown: leased("a", A) })).toBe("impossible");
  expect(check(granted("a", A), [release("a"), read(leased("a", A))])).toBe("linearizable");
});

test("a read that goes back in time", () => {
  const before = read(leased("a", A));
  const after = read(released("a", A));
  const releasing: Operation<Step> = { step: release("a"), invokedAt: 2, answeredAt: 9 };
  const granting: Operation<Step> = { step: granted("a", A), invokedAt: 0, answeredAt: 1 };
  const reads = (first: Step, second: Step): Operation<Step>[] => [
    granting,
    releasing,
    { step: first, invokedAt: 3, answeredAt: 4 },
    { step: second, invokedAt: 5, answeredAt: 6 },
  ];
  const verdictOf = (history: Operation<Step>[]) => linearize(history, new HostModel(history, GPUS)).verdict;
  expect(verdictOf(reads(before, after))).toBe("linearizable");
  expect(verdictOf(reads(after, before))).toBe("impossible");
});

test("a lost release: the GPU goes to nobody, or the lease lives on", () => {
  const full = [granted("a", A), granted("b", B)];
  expect(check(...full, release("a"), { call: "refused", wanted: wanting(1) })).toBe("impossible");
  expect(check(...full, release("a"), waits("c", 1))).toBe("impossible");
  expect(check(...full, waits("c", 1), release("a"), read(queued("c", 1)), read(leased("c", C)))).toBe("impossible");
  expect(check(...full, [release("a"), waits("c", 1)], read(leased("c", C)))).toBe("linearizable");
});

test("a token that is used twice, or that is lower than one before", () => {
  expect(check(granted("a", A), granted("b", lease(10, "G2")))).toBe("impossible");
  expect(check(granted("a", A), granted("b", lease(9, "G2")))).toBe("impossible");
  expect(check([granted("a", A), granted("b", lease(10, "G2"))])).toBe("impossible");
  expect(check([granted("a", A), granted("b", lease(9, "G2"))])).toBe("linearizable");
});

test("a lease that changes its GPU or its token", () => {
  expect(check(granted("a", A), read(leased("a", lease(10, "G2"))))).toBe("impossible");
  expect(check(granted("a", A), read(leased("a", lease(11, "G1"))))).toBe("impossible");
});

test("somebody who is served before those that stand before him", () => {
  const full = [granted("a", A), granted("b", B), waits("c", 1), waits("d", 2)];
  expect(check(...full, release("a"), read(leased("c", C)), read(queued("d", 1)), release("d"))).toBe("linearizable");
  expect(check(...full, release("a"), read(leased("d", C)), read(queued("c", 1)), release("c"))).toBe("impossible");
  // The more urgent goes first, and who needs less than the first may be served before it.
  expect(check(granted("a", A), granted("b", B), waits("c", 1), waits("d", 1, wanting(1, 8)))).toBe("linearizable");
  const big = [granted("a", A), granted("b", B), waits("c", 1, wanting(2)), waits("d", 2)];
  expect(check(...big, release("a"), read(leased("d", C)), release("c"))).toBe("linearizable");
});

test("a place in line that is not the caller's", () => {
  const full = [granted("a", A), granted("b", B), waits("c", 1)];
  expect(check(...full, waits("d", 1))).toBe("impossible");
  expect(check(...full, waits("d", 2), read(queued("d", 1)))).toBe("impossible");
  expect(check(...full, [waits("d", 1), release("c")])).toBe("linearizable");
  expect(check(...full, waits("d", 2), list([leased("a", A), leased("b", B)], ["d", "c"]))).toBe("impossible");
});

test("half of a change: a list or a status in which a GPU is nobody's although somebody waits", () => {
  const full = [granted("a", A), granted("b", B), waits("c", 1)];
  expect(check(...full, [release("a"), list([leased("b", B)], ["c"])], read(leased("c", C)))).toBe("impossible");
  expect(check(...full, [release("a"), status(null, "b")], read(leased("c", C)))).toBe("impossible");
  expect(check(...full, [release("a"), status("c", "b")], read(leased("c", C)))).toBe("linearizable");
  const half: Step = { call: "release-service", service: "svc", released: ["a"] };
  expect(check(granted("a", A), granted("b", B), half)).toBe("impossible");
});

test("a cancelled request that was served, and a grant that nobody was told of", () => {
  const full = [granted("a", A), granted("b", B), waits("c", 1)];
  expect(check(...full, release("c"), read(cancelled("c")), release("a"), status(null, "b"))).toBe("linearizable");
  expect(check(...full, release("c"), read(cancelled("c")), release("a"), read(leased("c", C)))).toBe("impossible");
  expect(check(...full, release("a"), read(queued("c", 1)))).toBe("impossible");
});

const anyCall = fc.tuple(fc.nat(9), fc.nat(9), fc.boolean());
type AnyCall = typeof anyCall extends fc.Arbitrary<infer Call> ? Call : never;

function call(host: ToyHost, [kind, n, flag]: AnyCall): Step {
  const id = host.idOf(n);
  const service = n % 2 === 0 ? "svc" : "other";
  if (id === null || kind < 4)
    return host.allocate({ service, gpus: 1 + (n % 3 === 0 ? 1 : 0), priority: 5 + (n % 2) }, flag);
  if (kind < 6) return host.release(id);
  if (kind < 8) return host.read(id, flag ? "read" : "renew");
  if (kind === 8) return flag ? host.list() : host.status();
  return host.releaseService(service);
}

/** Serves the calls in turn, then makes each last so much longer on both sides; at the end all is released and read. */
function serve(calls: readonly AnyCall[], stretches: readonly number[]): Operation<Step>[] {
  const host = new ToyHost(GPUS);
  const steps = calls.map((one) => call(host, one));
  const ids = new Set(
    steps.map((step) => (step.call === "allocate" ? step.shown.id : null)).filter((id) => id !== null),
  );
  for (const id of ids) steps.push(host.release(id));
  for (const id of ids) steps.push(host.read(id, "read"));
  const told = new Map<string, number>();
  return steps.map((step, i) => {
    const stretch = stretches[i % Math.max(1, stretches.length)] ?? 0;
    const answeredAt = i + 0.1 + stretch;
    if (step.call === "allocate") told.set(step.shown.id, answeredAt);
    // Nobody speaks of a request before he was told of it.
    const about = "id" in step ? step.id : step.call === "read" || step.call === "renew" ? step.shown.id : "";
    const earliest = told.get(about) ?? Number.NEGATIVE_INFINITY;
    return { step, invokedAt: Math.min(i, Math.max(i - stretch, earliest)), answeredAt };
  });
}

test("what was served one at a time is linearizable, however much it is made to overlap", () => {
  fc.assert(
    fc.property(fc.array(anyCall, { maxLength: 40 }), fc.array(fc.nat(12), { minLength: 1 }), (calls, stretches) => {
      const history = serve(calls, stretches);
      expect(linearize(history, new HostModel(history, GPUS)).verdict).toBe("linearizable");
    }),
    { numRuns: 500 },
  );
});

test("what must come first is never more than what the search would find out", () => {
  const seen = { linearizable: 0, impossible: 0, undecided: 0 };
  fc.assert(
    fc.property(
      fc.array(anyCall, { maxLength: 7 }),
      fc.array(fc.nat(4), { minLength: 1 }),
      fc.nat(40),
      fc.nat(40),
      (calls, stretches, from, to) => {
        // With two answers swapped, mostly such as nobody can have been given.
        const history = serve(calls, stretches);
        const [a, b] = [history[from % history.length], history[to % history.length]];
        if (a === undefined || b === undefined) return;
        const lied = history.map((one) =>
          one === a ? { ...a, step: b.step } : one === b ? { ...b, step: a.step } : one,
        );
        const model = new HostModel(lied, GPUS);
        const { verdict } = linearize(lied, model);
        model.mustPrecede = () => false;
        expect(linearize(lied, model).verdict).toBe(verdict);
        seen[verdict]++;
      },
    ),
    { numRuns: 1_000 },
  );
  expect(Math.min(seen.linearizable, seen.impossible)).toBeGreaterThan(100);
});
