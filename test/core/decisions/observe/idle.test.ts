import { expect, test } from "vitest";
import type { Event } from "../../../../src/core/host/events.ts";
import type { AllocationId } from "../../../../src/core/model/ids.ts";
import { h100, minutes, process, SimulatedHost, seconds } from "../../../simulation/simulated-host.ts";

const BUSY = { processes: [process(1)], memoryUsedMib: 9_000 };
const QUIET = { processes: [], memoryUsedMib: 4 };

const idleSince = (host: SimulatedHost, id: AllocationId) => {
  const allocation = host.allocation(id);
  return allocation.status === "leased" ? allocation.idleSince : null;
};

const told = (host: SimulatedHost): Event[] => host.log.filter(({ type }) => type.startsWith("went-"));

test("a lease without a TTL is idle once its GPU was seen unused for idle_after, and busy once it is used", () => {
  const host = new SimulatedHost([h100("GPU-a")], { idleAfterMs: minutes(1) });
  const id = host.submit();
  const granted = host.now;
  host.advance(seconds(59));
  expect(idleSince(host, id)).toBeNull();
  host.advance(seconds(1));
  expect(idleSince(host, id)).toBe(granted);
  expect(told(host)).toEqual([{ type: "went-idle", id, at: granted + 60_000, since: granted }]);
  host.advance(minutes(5));
  expect(told(host)).toHaveLength(1);

  host.gpu("GPU-a", BUSY);
  host.advance(seconds(5));
  expect(idleSince(host, id)).toBeNull();
  expect(told(host).at(-1)).toEqual({ type: "went-busy", id, at: host.now });
});

test("it can go idle again, from the end of its use on, and is told again", () => {
  const host = new SimulatedHost([h100("GPU-a")], { idleAfterMs: minutes(1) });
  const id = host.submit();
  host.gpu("GPU-a", BUSY);
  host.advance(minutes(10));
  host.gpu("GPU-a", QUIET);
  host.advance(seconds(5));
  const gone = host.now;
  host.advance(seconds(55));
  expect(idleSince(host, id)).toBeNull();
  host.advance(seconds(5));
  expect(idleSince(host, id)).toBe(gone);
  host.gpu("GPU-a", BUSY);
  host.advance(seconds(5));
  host.gpu("GPU-a", QUIET);
  host.advance(minutes(2));
  expect(told(host).map(({ type }) => type)).toEqual(["went-idle", "went-busy", "went-idle"]);
});

test("one GPU in use keeps the whole lease busy", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { idleAfterMs: minutes(1) });
  const id = host.submit({ requiredGpus: 2 });
  host.gpu("GPU-b", BUSY);
  host.advance(minutes(30));
  expect(idleSince(host, id)).toBeNull();
  host.gpu("GPU-b", QUIET);
  host.advance(seconds(5));
  const gone = host.now;
  host.advance(minutes(1));
  expect(idleSince(host, id)).toBe(gone);
});

test("a lease with a TTL is never idle, nor is an offer; one with a hard end alone is", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], {
    idleAfterMs: minutes(1),
    claimTimeoutMs: minutes(60),
  });
  const renewed = host.submit({ ttlMs: minutes(60) });
  const bounded = host.submit({ maxDurationMs: minutes(60) });
  const offered = host.submit();
  host.advance(minutes(2));
  expect(idleSince(host, renewed)).toBeNull();
  expect(idleSince(host, bounded)).not.toBeNull();
  host.release(renewed);
  expect(host.allocation(offered).status).toBe("offered");
  host.advance(minutes(30));
  expect(told(host).map((event) => "id" in event && event.id)).toEqual([bounded]);
});

test("unknown is not idle: it takes readings without a gap longer than stale_after", () => {
  const host = new SimulatedHost([h100("GPU-a")], { idleAfterMs: minutes(1), staleAfterMs: seconds(25) });
  const id = host.submit();
  const wait = (ms: number) => {
    host.monitoring = false;
    host.advance(ms);
    host.monitoring = true;
  };
  host.advance(seconds(50));
  wait(seconds(26));
  host.observe();
  const seenAgain = host.now;
  expect(idleSince(host, id)).toBeNull();
  host.advance(seconds(40));
  // A gap that leaves the GPU known does not count against it.
  wait(seconds(19));
  host.observe();
  expect(idleSince(host, id)).toBeNull();
  host.advance(seconds(5));
  expect(idleSince(host, id)).toBe(seenAgain);
});

test.each([
  ["is missing from the readings", (host: SimulatedHost) => setPresent(host, false)],
  ["cannot be read", (host: SimulatedHost) => host.gpu("GPU-a", { memoryUsedMib: null })],
] as const)("a GPU that %s is not seen idle meanwhile", (_, hide) => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { idleAfterMs: minutes(1) });
  const id = host.submit({ requiredGpus: 2 });
  host.advance(seconds(30));
  hide(host);
  host.advance(minutes(10));
  expect(idleSince(host, id)).toBeNull();
  setPresent(host, true);
  host.gpu("GPU-a", QUIET);
  host.advance(seconds(5));
  const seenAgain = host.now;
  host.advance(minutes(1));
  expect(idleSince(host, id)).toBe(seenAgain);
});

function setPresent(host: SimulatedHost, present: boolean): void {
  for (const device of host.devices) if (device.reading.uuid === "GPU-a") device.present = present;
}

test("no timer flags a lease: use that began in time is seen by the reading that comes late", () => {
  const host = new SimulatedHost([h100("GPU-a")], { idleAfterMs: minutes(1), staleAfterMs: minutes(10) });
  const id = host.submit();
  host.advance(seconds(55));
  host.monitoring = false;
  host.gpu("GPU-a", BUSY);
  host.advance(minutes(2));
  host.do({ type: "tick" });
  host.observe();
  expect(told(host)).toEqual([]);
  expect(idleSince(host, id)).toBeNull();
});

test("a reading that began before idle_after had passed does not prove it", () => {
  const host = new SimulatedHost([h100("GPU-a")], { idleAfterMs: minutes(1) });
  const id = host.submit();
  host.advance(seconds(55));
  host.monitoring = false;
  host.advance(seconds(6));
  host.observe(host.now - seconds(2));
  expect(idleSince(host, id)).toBeNull();
  host.observe(host.now - seconds(1));
  expect(idleSince(host, id)).not.toBeNull();
});

test("a probe that took long may have looked at its end, or before the host slept: it proves no more than either", () => {
  const host = new SimulatedHost([h100("GPU-a")], { idleAfterMs: minutes(1), staleAfterMs: seconds(25) });
  const id = host.submit();
  host.monitoring = false;
  host.advance(minutes(2));
  host.observe(host.now - seconds(10));
  const seenAgain = host.now;
  host.monitoring = true;
  host.advance(minutes(1) - 1);
  expect(idleSince(host, id)).toBeNull();
  host.advance(1);
  expect(idleSince(host, id)).toBe(seenAgain);

  const next = new SimulatedHost([h100("GPU-a")], { idleAfterMs: minutes(1), staleAfterMs: seconds(25) });
  const other = next.submit();
  next.advance(seconds(30));
  next.monitoring = false;
  next.advance(seconds(40));
  // From before the sleep to after it.
  next.observe(next.now - seconds(39));
  next.advance(seconds(5));
  next.observe();
  expect(idleSince(next, other)).toBeNull();
});

test("the flag outlives a renewal and an absence of the daemon, and is not told twice", () => {
  const host = new SimulatedHost([h100("GPU-a")], { idleAfterMs: minutes(1) });
  const id = host.submit();
  const granted = host.now;
  host.advance(minutes(2));
  host.renew(id);
  host.now += minutes(60);
  host.do({ type: "resume", bootId: "boot-1", fencingFloor: host.now });
  host.advance(minutes(10));
  expect(idleSince(host, id)).toBe(granted);
  expect(told(host)).toHaveLength(1);
});

test("unless told to, the daemon never ends an idle lease", () => {
  const host = new SimulatedHost([h100("GPU-a")], { idleAfterMs: minutes(1) });
  const id = host.submit();
  host.advance(minutes(60 * 24));
  expect(host.allocation(id).status).toBe("leased");
});

test("reclaimed, it ends as idle when it has been so for as long again, and its GPU goes to the next", () => {
  const host = new SimulatedHost([h100("GPU-a")], { idleAfterMs: minutes(1), reclaimIdleAfterMs: minutes(2) });
  const id = host.submit();
  const next = host.submit();
  host.advance(minutes(3) - 1);
  expect(idleSince(host, id)).not.toBeNull();
  expect(host.allocation(id).status).toBe("leased");
  host.advance(1);
  expect(host.allocation(id)).toMatchObject({
    status: "ended",
    outcome: { reason: "idle", detail: "its GPUs were not used for 180 s" },
  });
  expect(host.gpusOf(next)).toEqual(["GPU-a"]);
});

test("use in between puts the end off", () => {
  const host = new SimulatedHost([h100("GPU-a")], { idleAfterMs: minutes(1), reclaimIdleAfterMs: minutes(2) });
  const id = host.submit();
  host.advance(minutes(2));
  host.gpu("GPU-a", BUSY);
  host.advance(seconds(5));
  host.gpu("GPU-a", QUIET);
  host.advance(seconds(5));
  host.advance(minutes(3) - 1);
  expect(host.allocation(id).status).toBe("leased");
  host.advance(1);
  expect(host.endReason(id)).toBe("idle");
});

test("with no time between the two it ends without being flagged first", () => {
  const host = new SimulatedHost([h100("GPU-a")], { idleAfterMs: minutes(1), reclaimIdleAfterMs: 0 });
  const id = host.submit();
  host.advance(minutes(1));
  expect(host.endReason(id)).toBe("idle");
  expect(told(host)).toEqual([]);
});

test("losing the monitor reclaims nothing, and neither does the first look after a restart", () => {
  const host = new SimulatedHost([h100("GPU-a")], { idleAfterMs: minutes(1), reclaimIdleAfterMs: minutes(1) });
  const id = host.submit();
  host.advance(seconds(90));
  host.monitoring = false;
  host.advance(minutes(60));
  host.failProbe("driver");
  expect(host.allocation(id).status).toBe("leased");
  host.monitoring = true;
  host.observe();
  host.advance(minutes(2) - 1);
  expect(host.allocation(id).status).toBe("leased");
  host.advance(seconds(5));
  expect(host.endReason(id)).toBe("idle");
});
