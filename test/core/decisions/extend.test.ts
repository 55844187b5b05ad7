/** A client moves its lease's end. */
import { expect, test } from "vitest";
import type { AllocationId } from "../../../src/core/model/ids.ts";
import type { Policy } from "../../../src/core/model/policy.ts";
import {
  ADMIN,
  type Ask,
  h100,
  minutes,
  NO_QUOTA,
  NO_QUOTAS,
  refusal,
  SimulatedHost,
} from "../../simulation/simulated-host.ts";

const BOB = { principal: "bob", admin: false };
const EVE = { principal: "eve", admin: false };
const START = 1_800_000_000_000;

interface To {
  readonly ttlMs?: number;
  readonly maxDurationMs?: number;
  readonly fencingToken?: number;
}

function hostOf(count: number, policy: Partial<Policy> = {}): SimulatedHost {
  return new SimulatedHost(
    Array.from({ length: count }, (_, i) => h100(`GPU-${i}`)),
    { verifyRelease: "never", ...policy },
  );
}

function extend(host: SimulatedHost, id: AllocationId, to: To, actor = ADMIN): void {
  host.do({ type: "extend", id, ttlMs: null, maxDurationMs: null, fencingToken: null, ...to, actor });
}

const ends = (host: SimulatedHost, id: AllocationId) => host.lease(id)?.expiresAt;

test("a later hard end counts from the grant, and the lease is there until then", () => {
  const host = hostOf(1);
  const id = host.submit({ maxDurationMs: minutes(10) });
  host.advance(minutes(9));
  extend(host, id, { maxDurationMs: minutes(30) });
  expect(ends(host, id)).toBe(START + minutes(30));
  host.advance(minutes(20));
  expect(host.allocation(id).status).toBe("leased");
  host.advance(minutes(1));
  expect(host.endReason(id)).toBe("max_duration");
});

test("another TTL counts from now, and from each renewal to come", () => {
  const host = hostOf(1);
  const id = host.submit({ ttlMs: minutes(1) });
  extend(host, id, { ttlMs: minutes(10) });
  host.advance(minutes(9));
  host.renew(id);
  expect(ends(host, id)).toBe(host.now + minutes(10));
});

test("an earlier hard end is taken while it is still to come, and refused when it has passed", () => {
  const host = hostOf(1);
  const id = host.submit();
  host.advance(minutes(5));
  expect(refusal(() => extend(host, id, { maxDurationMs: minutes(5) }))).toBe("extension-refused");
  expect(ends(host, id)).toBe(null);
  extend(host, id, { maxDurationMs: minutes(6) });
  host.advance(minutes(1));
  expect(host.endReason(id)).toBe("max_duration");
});

test("an admin gives another's lease a later end, never an earlier one than its client was told", () => {
  const host = hostOf(1);
  const id = host.submit({ actor: BOB, ttlMs: minutes(10) });
  expect(refusal(() => extend(host, id, { ttlMs: minutes(5) }))).toBe("extension-refused");
  expect(refusal(() => extend(host, id, { maxDurationMs: minutes(9) }))).toBe("extension-refused");
  expect(ends(host, id)).toBe(START + minutes(10));
  extend(host, id, { ttlMs: minutes(15) });
  expect(ends(host, id)).toBe(START + minutes(15));
  extend(host, id, { ttlMs: minutes(5) }, BOB);
  expect(ends(host, id)).toBe(START + minutes(5));
});

test("an admin sets no numbers that would end another's lease earlier at a later renewal", () => {
  const host = hostOf(2);
  const timed = host.submit({ actor: BOB, ttlMs: minutes(10), maxDurationMs: minutes(60) });
  const endless = host.submit({ actor: BOB });
  host.advance(minutes(5));
  // Ten minutes from now are later than the end that it was told; the hard end would come at a renewal.
  expect(refusal(() => extend(host, timed, { ttlMs: minutes(10), maxDurationMs: minutes(59) }))).toBe(
    "extension-refused",
  );
  expect(refusal(() => extend(host, timed, { ttlMs: minutes(9) }))).toBe("extension-refused");
  expect(refusal(() => extend(host, endless, { ttlMs: minutes(600) }))).toBe("extension-refused");
  expect(refusal(() => extend(host, endless, { maxDurationMs: minutes(600) }))).toBe("extension-refused");
  extend(host, timed, { ttlMs: minutes(11), maxDurationMs: minutes(61) });
  expect(ends(host, timed)).toBe(host.now + minutes(11));
  extend(host, endless, { ttlMs: minutes(600) }, BOB);
  expect(ends(host, endless)).toBe(host.now + minutes(600));
});

test("only its owner or an admin moves an end, under the right token, and not of one that waits", () => {
  const host = hostOf(1);
  const id = host.submit({ actor: BOB, maxDurationMs: minutes(10) });
  const waiting = host.submit({ actor: BOB });
  const to = { maxDurationMs: minutes(20) };
  expect(refusal(() => extend(host, id, to, EVE))).toBe("not-owner");
  expect(refusal(() => extend(host, id, { ...to, fencingToken: 0 }, BOB))).toBe("fencing-token-mismatch");
  expect(refusal(() => extend(host, waiting, to, BOB))).toBe("extension-refused");
  extend(host, id, to, BOB);
  expect(ends(host, id)).toBe(START + minutes(20));
});

test("it is a sign of life: an offer is claimed by it", () => {
  const host = hostOf(1);
  const first = host.submit();
  const second = host.submit({ maxDurationMs: minutes(10) });
  host.release(first);
  expect(host.allocation(second).status).toBe("offered");
  extend(host, second, { maxDurationMs: minutes(20) });
  expect(host.allocation(second).status).toBe("leased");
});

test("a lease lasts no longer than its quota of GPU-hours allows", () => {
  const gpuTime = { limitMs: minutes(60), periodMs: minutes(60 * 24) };
  const host = hostOf(2, { quotas: { ...NO_QUOTAS, principals: { bob: { ...NO_QUOTA, gpuTime } } } });
  host.count();
  const asBob = (ask: Ask): Ask => ({ ...ask, actor: BOB });
  const id = host.submit(asBob({ maxDurationMs: minutes(20) }));
  const other = host.submit(asBob({ maxDurationMs: minutes(20) }));
  expect(refusal(() => extend(host, id, { maxDurationMs: minutes(41) }, BOB))).toBe("extension-refused");
  extend(host, id, { maxDurationMs: minutes(40) }, BOB);
  // What it may take now is charged to it: nothing is left.
  host.release(other, BOB);
  expect(host.allocation(host.submit(asBob({ maxDurationMs: minutes(21) }))).status).toBe("queued");
});

test("a lease does not last into a window that keeps its GPUs, and may end when it opens", () => {
  const calendar = { schedule: "0 0 * * *", timeZone: "UTC", durationMs: minutes(1) };
  const members = [{ services: ["own"], principals: [], workloadTypes: [] }];
  const spans = [{ from: START + minutes(60), to: START + minutes(120) }];
  const host = hostOf(2, { windows: [{ name: "office", ...calendar, gpus: 2, members, spans }] });
  const id = host.submit({ maxDurationMs: minutes(30) });
  const member = host.submit({ serviceName: "own", maxDurationMs: minutes(30) });
  expect(refusal(() => extend(host, id, { maxDurationMs: minutes(61) }))).toBe("extension-refused");
  extend(host, id, { maxDurationMs: minutes(60) });
  extend(host, member, { maxDurationMs: minutes(200) });
});

test("the head of the line starts when it was told, once it has waited long enough to be held GPUs", () => {
  const host = hostOf(2);
  const id = host.submit({ requiredGpus: 2, maxDurationMs: minutes(10) });
  host.submit({ requiredGpus: 2, maxDurationMs: minutes(10), webhookUrl: "http://127.0.0.1:9/a" });
  extend(host, id, { maxDurationMs: minutes(12) });
  host.advance(host.state.policy.reserveAfterMs);
  expect(refusal(() => extend(host, id, { maxDurationMs: minutes(20) }))).toBe("extension-refused");
  extend(host, id, { maxDurationMs: minutes(11) });
});

test("a head behind one whose start nobody knows, or that waits for its quota, starts when it was told too", () => {
  const host = hostOf(3, { quotas: { ...NO_QUOTAS, principals: { bob: { ...NO_QUOTA, maxGpus: 1 } } } });
  host.count();
  const on = (uuid: string, ask: Ask = {}) => host.submit({ exactGpus: [uuid], ...ask });
  on("GPU-0");
  const [ending, own] = [
    on("GPU-1", { maxDurationMs: minutes(10) }),
    on("GPU-2", { actor: BOB, maxDurationMs: minutes(10) }),
  ];
  const waits = { webhookUrl: "http://127.0.0.1:9/a" };
  on("GPU-2", { ...waits, actor: BOB });
  on("GPU-0", waits);
  const second = on("GPU-1", waits);
  host.advance(host.state.policy.reserveAfterMs);
  expect(refusal(() => extend(host, ending, { maxDurationMs: minutes(20) }))).toBe("extension-refused");
  extend(host, own, { maxDurationMs: minutes(20) }, BOB);
  host.advance(minutes(10) - host.state.policy.reserveAfterMs);
  expect(host.allocation(second).status).toBe("offered");
});

test("a TTL that is given to an idle lease ends its being idle", () => {
  const host = hostOf(1);
  const id = host.submit();
  host.advance(host.state.policy.idleAfterMs + minutes(1));
  host.observe();
  expect(host.allocation(id)).toMatchObject({ status: "leased", idleSince: expect.any(Number) });
  extend(host, id, { ttlMs: minutes(1) });
  expect(host.allocation(id)).toMatchObject({ idleSince: null });
});
