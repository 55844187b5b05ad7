import { expect, test } from "vitest";
import { explain } from "../../../src/core/explain/explain.ts";
import type { Actor } from "../../../src/core/model/ids.ts";
import type { Quota, Quotas } from "../../../src/core/model/policy.ts";
import {
  type Ask,
  h100,
  minutes,
  NO_QUOTA,
  NO_QUOTAS,
  refusal,
  SimulatedHost,
  seconds,
  t4,
} from "../../simulation/simulated-host.ts";

const hours = (n: number) => minutes(60 * n);
const eight = () => Array.from({ length: 8 }, (_, i) => h100(`GPU-${i}`));
const ann: Actor = { principal: "ann", admin: false };
const bob: Actor = { principal: "bob", admin: false };
const quota = (over: Partial<Quota>): Quota => ({ ...NO_QUOTA, ...over });
const quotas = (over: Partial<Quotas>): { quotas: Quotas } => ({ quotas: { ...NO_QUOTAS, ...over } });
const forAnn = (over: Partial<Quota>) => quotas({ principals: { ann: quota(over) } });
const perDay = (limit: number) => ({ gpuTime: { limitMs: hours(limit), periodMs: hours(24) } });

const why = (host: SimulatedHost, id: string) => explain(host.allocation(id).request, host.state, host.now);
const as = (actor: Actor, ask: Ask = {}): Ask => ({ actor, ...ask });

test("who has as many GPUs as the quota says waits for his own, while GPUs are free and others get them", () => {
  const host = new SimulatedHost(eight(), forAnn({ maxGpus: 2 }));
  const held = host.submit(as(ann, { requiredGpus: 2 }));
  const waiting = host.submit(as(ann));
  expect(host.allocation(waiting).status).toBe("queued");
  expect(why(host, waiting).reason).toBe("waiting for its quota: principal ann runs 2 of 2 GPUs");
  expect(host.whyQueued(waiting)).toMatchObject({ "GPU-0": "held", "GPU-7": "quota" });
  expect(host.allocation(host.submit(as(bob, { requiredGpus: 4 }))).status).toBe("leased");
  host.release(held, ann);
  expect(host.allocation(waiting).status).toBe("offered");
});

test("offers count as leases do", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], forAnn({ maxGpus: 1 }));
  const blocker = host.submit(as(bob, { requiredGpus: 2 }));
  const [first, second] = [host.submit(as(ann)), host.submit(as(ann))];
  host.release(blocker, bob);
  expect([first, second].map((id) => host.allocation(id).status)).toEqual(["offered", "queued"]);
});

test("one pass uses the quota up as it grants", () => {
  const host = new SimulatedHost(eight(), forAnn({ maxGpus: 3 }));
  const blocker = host.submit(as(bob, { requiredGpus: 8 }));
  const ids = Array.from({ length: 5 }, () => host.submit(as(ann)));
  host.release(blocker, bob);
  expect(ids.map((id) => host.allocation(id).status)).toEqual(["offered", "offered", "offered", "queued", "queued"]);
});

test("a service has a quota of its own, beside its principal's", () => {
  const host = new SimulatedHost(
    eight(),
    quotas({ services: { ocr: quota({ maxGpus: 1 }) }, defaultPrincipal: quota({ maxGpus: 2 }) }),
  );
  host.submit(as(ann, { serviceName: "ocr" }));
  const other = host.submit(as(bob, { serviceName: "ocr" }));
  expect(why(host, other).reason).toBe("waiting for its quota: service ocr runs 1 of 1 GPUs");
  host.submit(as(ann));
  expect(why(host, host.submit(as(ann))).reason).toBe("waiting for its quota: principal ann runs 2 of 2 GPUs");
  expect(host.allocation(host.submit(as(bob))).status).toBe("leased");
});

test("a request that waits for its quota keeps its place, and holds nothing however long it waits", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { ...forAnn({ maxGpus: 1 }), reserveAfterMs: 0 });
  const held = host.submit(as(ann));
  const waiting = host.submit(as(ann, { priority: 10 }));
  host.advance(minutes(5));
  const others = [host.submit(as(bob)), host.submit(as(bob)), host.submit(as(bob))];
  expect(others.map((id) => host.allocation(id).status)).toEqual(["leased", "queued", "queued"]);
  expect(host.position(waiting)).toBe(1);
  host.release(others[0] as string, bob);
  expect(host.allocation(others[1] as string).status).toBe("offered");
  host.release(held, ann);
  expect(host.allocation(waiting).status).toBe("offered");
});

test("a large request of an account is not kept waiting for ever by its small ones", () => {
  const host = new SimulatedHost(eight(), forAnn({ maxGpus: 4 }));
  for (let i = 0; i < 4; i++) host.submit(as(ann, { ttlMs: minutes(5) + seconds(i) }));
  const large = host.submit(as(ann, { requiredGpus: 4 }));
  const submittedAt = host.now;
  while (host.allocation(large).status === "queued") {
    host.advance(seconds(15));
    host.submit(as(ann, { ttlMs: minutes(10) }));
    expect(host.now - submittedAt).toBeLessThanOrEqual(minutes(1) + minutes(10) + seconds(15));
  }
  const behind = host.submit(as(ann));
  expect(why(host, behind).reason).toBe("waiting for its quota: principal ann runs 4 of 4 GPUs");
});

test("those behind a large request of their account are told that the rest of the quota is kept for it", () => {
  const host = new SimulatedHost(eight(), forAnn({ maxGpus: 4 }));
  host.submit(as(ann));
  const large = host.submit(as(ann, { requiredGpus: 4 }));
  const early = host.submit(as(ann));
  expect(host.allocation(early).status).toBe("leased");
  host.advance(minutes(1));
  const late = host.submit(as(ann));
  expect(why(host, large).reason).toBe("waiting for its quota: principal ann runs 2 of 4 GPUs, and this asks for 4");
  expect(why(host, late).reason).toBe(
    "waiting for its quota: what principal ann has left is kept for a request before this one",
  );
  expect(refusal(() => host.submit(as(ann, { queue: false })))).toBe("quota");
  expect(host.allocation(host.submit(as(bob))).status).toBe("leased");
});

test("GPUs that are held for a head are held together with its quota", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), t4("GPU-c"), t4("GPU-d")], {
    ...forAnn({ maxGpus: 3 }),
    reserveAfterMs: 0,
  });
  const holder = host.submit(as(bob, { gpuModel: "H100", maxDurationMs: minutes(60) }));
  const head = host.submit(as(ann, { requiredGpus: 2, gpuModel: "H100" }));
  expect(host.allocation(host.submit(as(ann, { gpuModel: "T4" }))).status).toBe("leased");
  const over = host.submit(as(ann, { gpuModel: "T4" }));
  expect(host.allocation(over).status).toBe("queued");
  expect(host.whyQueued(over)).toMatchObject({ "GPU-d": "quota" });
  expect(why(host, over).reason).toBe(
    "waiting for its quota: what principal ann has left is kept for a request before this one",
  );
  expect(why(host, head).reason).not.toContain("quota");
  expect(refusal(() => host.submit(as(ann, { gpuModel: "T4", queue: false })))).toBe("quota");
  host.release(holder, bob);
  expect(host.allocation(head).status).toBe("offered");
});

test("a request that a lowered quota will never allow waits on, and keeps nobody of its account", () => {
  const host = new SimulatedHost(eight(), { ...forAnn({ maxGpus: 4 }), reserveAfterMs: 0 });
  const blocker = host.submit(as(bob, { requiredGpus: 8 }));
  const large = host.submit(as(ann, { requiredGpus: 4 }));
  host.reconfigure(forAnn({ maxGpus: 2 }));
  host.release(blocker, bob);
  expect(host.allocation(large).status).toBe("queued");
  expect(host.allocation(host.submit(as(ann, { requiredGpus: 2 }))).status).toBe("leased");
  host.reconfigure(forAnn({ maxGpus: 6 }));
  expect(host.allocation(large).status).toBe("offered");
});

test("lowering a quota ends nothing; what is over it only grants nothing more", () => {
  const host = new SimulatedHost(eight(), forAnn({ maxGpus: 4 }));
  const ids = Array.from({ length: 4 }, () => host.submit(as(ann)));
  host.reconfigure(forAnn({ maxGpus: 1 }));
  expect(ids.map((id) => host.allocation(id).status)).toEqual(Array(4).fill("leased"));
  const next = host.submit(as(ann));
  for (const id of ids.slice(0, 3)) host.release(id, ann);
  expect(host.allocation(next).status).toBe("queued");
  expect(why(host, next).reason).toBe("waiting for its quota: principal ann runs 1 of 1 GPUs");
  host.release(ids[3] as string, ann);
  expect(host.allocation(next).status).toBe("offered");
});

test("who does not want to wait for his quota is refused for it, not for the GPUs, which are free", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], forAnn({ maxGpus: 1 }));
  host.submit(as(ann));
  expect(refusal(() => host.submit(as(ann, { queue: false })))).toBe("quota");
  host.submit(as(bob));
  expect(refusal(() => host.submit(as(bob, { queue: false })))).toBe("no-gpu-free");
});

test("a lease with a max_duration is charged for all of it at once, and for what it took when it ends early", () => {
  const host = new SimulatedHost(eight(), forAnn(perDay(10)));
  const first = host.submit(as(ann, { requiredGpus: 2, maxDurationMs: hours(4) }));
  const second = host.submit(as(ann, { maxDurationMs: hours(3) }));
  expect(host.allocation(second).status).toBe("queued");
  expect(why(host, second).reason).toBe(
    "waiting for its quota: principal ann has 2 of 10 GPU-hours left, for another 16 h",
  );
  expect(host.allocation(host.submit(as(ann, { maxDurationMs: hours(2) }))).status).toBe("leased");
  host.advance(hours(1));
  host.release(first, ann);
  expect(host.allocation(second).status).toBe("offered");
});

test("a lease without an end is charged as time goes by: it may run over, and nothing more is granted then", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], forAnn(perDay(1)));
  const endless = host.submit(as(ann));
  host.advance(hours(1) - 1);
  expect(host.allocation(host.submit(as(ann, { ttlMs: 1_000 }))).status).toBe("leased");
  host.advance(seconds(10));
  const next = host.submit(as(ann));
  expect(host.allocation(next).status).toBe("queued");
  host.advance(hours(2));
  expect(host.allocation(endless).status).toBe("leased");
  expect(why(host, next).reason).toContain("principal ann has 0 of 1 GPU-hours left");
  host.release(endless, ann);
  expect(host.allocation(next).status).toBe("queued");
});

test("who waits for GPU-hours is served in the first instant of the next period", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { ...forAnn(perDay(1)), staleAfterMs: hours(48) });
  // Nothing else happens at midnight.
  host.monitoring = false;
  host.release(hostAdvanced(host, host.submit(as(ann)), hours(2)), ann);
  const next = host.submit(as(ann));
  expect(host.allocation(next).status).toBe("queued");
  // It is 08:00 at the start of a test: two hours are gone.
  host.advance(hours(14) - 1);
  expect(host.allocation(next).status).toBe("queued");
  host.advance(1);
  expect(host.allocation(next).status).toBe("offered");
  expect(host.lease(next)?.grantedAt).toBe(Date.UTC(2027, 0, 16));
});

function hostAdvanced(host: SimulatedHost, id: string, ms: number): string {
  host.advance(ms);
  return id;
}

test("a lease counts in each period for the part that falls into it", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], forAnn(perDay(12)));
  host.advance(hours(12));
  const id = host.submit(as(ann, { maxDurationMs: hours(12) }));
  expect(refusal(() => host.submit(as(ann, { queue: false })))).toBe("quota");
  host.advance(hours(4));
  // Midnight: eight hours of it are left to be taken.
  expect(refusal(() => host.submit(as(ann, { maxDurationMs: hours(5), queue: false })))).toBe("quota");
  host.submit(as(ann, { maxDurationMs: hours(4), queue: false }));
  expect(host.allocation(id).status).toBe("leased");
});

test("weeks begin on a Monday, UTC", () => {
  const host = new SimulatedHost([h100("GPU-a")], forAnn({ gpuTime: { limitMs: hours(1), periodMs: hours(24 * 7) } }));
  host.release(hostAdvanced(host, host.submit(as(ann)), hours(2)), ann);
  const next = host.submit(as(ann));
  host.monitoring = false;
  host.advance(Date.UTC(2027, 0, 18) - host.now - 1);
  expect(new Date(host.now).getUTCDay()).toBe(0);
  expect(host.allocation(next).status).toBe("queued");
  host.advance(1);
  expect(why(host, next).reason).not.toContain("quota");
});

test("what was used is the same after a restart, and until it is counted nothing is granted", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], forAnn(perDay(3)));
  host.release(hostAdvanced(host, host.submit(as(ann, { requiredGpus: 1 })), hours(2)), ann);
  host.submit(as(ann, { maxDurationMs: minutes(30) }));
  host.restart();
  expect(refusal(() => host.submit(as(ann, { maxDurationMs: minutes(31), queue: false })))).toBe("quota");
  host.do({ type: "recount" });
  const waiting = host.submit(as(ann, { maxDurationMs: minutes(1) }));
  expect(why(host, waiting).reason).toBe(
    "waiting for its quota: the GPU-hours that principal ann has used are being counted",
  );
  host.count();
  expect(host.allocation(waiting).status).toBe("offered");
});

test("a count that is overtaken by another changes nothing", () => {
  const host = new SimulatedHost([h100("GPU-a")], forAnn(perDay(3)));
  host.do({ type: "recount" });
  const { round } = host.state.accounts;
  host.do({ type: "recount" });
  const { accounts } = host.state;
  host.do({
    type: "counted",
    round,
    at: host.now,
    faded: new Map(),
    spent: new Map([["principal ann", { since: 0, ms: 1 }]]),
  });
  expect(host.state.accounts).toBe(accounts);
});

test("a reload that leaves the quotas as they are keeps what was counted", () => {
  const host = new SimulatedHost([h100("GPU-a")], forAnn(perDay(3)));
  host.release(hostAdvanced(host, host.submit(as(ann)), hours(2)), ann);
  host.do({ type: "reconfigure", policy: { ...host.state.policy, maxQueueSize: 7, ...forAnn(perDay(3)) } });
  expect(host.state.accounts.counted).toBe(true);
  expect(refusal(() => host.submit(as(ann, { maxDurationMs: hours(1) + 1, queue: false })))).toBe("quota");
  expect(host.allocation(host.submit(as(ann, { maxDurationMs: hours(1) }))).status).toBe("leased");
});

test("nobody is kept in the books who has nothing, and no period of his is looked forward to", () => {
  const host = new SimulatedHost([h100("GPU-a")], quotas({ defaultService: quota({ ...perDay(3), maxGpus: 1 }) }));
  for (let i = 0; i < 5; i++) host.release(hostAdvanced(host, host.submit({ serviceName: `s${i}` }), minutes(1)));
  expect(host.state.accounts.byKey.size).toBe(5);
  host.monitoring = false;
  host.advance(hours(24));
  expect(host.state.accounts.byKey.size).toBe(0);
  expect(host.state.accounts.renewals.size).toBe(0);
});
