/** Draining: no new leases on a GPU or on the host, and an end for those that are there. */
import { expect, test } from "vitest";
import { emptyHost } from "../../../src/core/host/changes.ts";
import { isDrained } from "../../../src/core/host/cordons.ts";
import { evolve } from "../../../src/core/host/evolve.ts";
import type { AllocationId } from "../../../src/core/model/ids.ts";
import { ADMIN, h100, minutes, process, SimulatedHost, seconds } from "../../simulation/simulated-host.ts";

/** @param gpu `null`: the host. */
function drain(host: SimulatedHost, gpu: string | null, leaveMs: number | null, reason = "a new driver") {
  return host.do({ type: "drain", gpu, leaveMs, reason, actor: ADMIN });
}

const uncordon = (host: SimulatedHost, gpu: string) =>
  host.do({ type: "uncordon", gpu, reason: "it is in", actor: ADMIN });
const undrain = (host: SimulatedHost) => host.do({ type: "undrain", reason: "it is in", actor: ADMIN });

function noticeOf(host: SimulatedHost, id: AllocationId) {
  const allocation = host.allocation(id);
  return "notice" in allocation ? allocation.notice : undefined;
}

function drained(host: SimulatedHost): string[] {
  return host.state.gpus.values().flatMap((gpu) => (isDrained(gpu, host.state) ? [gpu.uuid] : []));
}

function endOf(host: SimulatedHost, id: AllocationId) {
  const allocation = host.allocation(id);
  return allocation.status === "ended" ? allocation.outcome : null;
}

test("a drained GPU's lease is told until when it may stay, and ends then, whatever it renews", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const there = host.submit({ preferredGpus: ["GPU-a"], ttlMs: minutes(5) });
  const elsewhere = host.submit();
  const until = host.now + minutes(10);
  drain(host, "GPU-a", minutes(10));
  expect(noticeOf(host, there)).toEqual({
    kind: "drain",
    at: host.now,
    until,
    reason: "a new driver (anonymous)",
  });
  expect(noticeOf(host, elsewhere)).toBeNull();
  expect(drained(host)).toEqual([]);

  for (let n = 0; n < 3; n++) {
    host.advance(minutes(3));
    host.renew(there);
  }
  expect(host.allocation(there).status).toBe("leased");
  host.advance(minutes(1));

  expect(endOf(host, there)).toEqual({ reason: "revoked", at: until, detail: "a new driver (anonymous)" });
  expect(host.allocation(elsewhere).status).toBe("leased");
  expect(drained(host)).toEqual(["GPU-a"]);
});

test("a GPU is drained when nothing is left there, and not while it is being reclaimed", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  host.gpu("GPU-a", { processes: [process(7)], memoryUsedMib: 2_000 });
  host.advance(seconds(5));
  drain(host, "GPU-a", null);
  host.release(id);
  expect(drained(host)).toEqual([]);
  host.gpu("GPU-a", { processes: [], memoryUsedMib: 0 });
  host.advance(seconds(5));
  expect(drained(host)).toEqual(["GPU-a"]);
  uncordon(host, "GPU-a");
  expect(drained(host)).toEqual([]);
});

test("a GPU on which programs of an ended lease stay is not drained, until they go or an admin clears it", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const leases = [host.submit(), host.submit()];
  for (const [i, gpu] of ["GPU-a", "GPU-b"].entries()) {
    host.gpu(gpu, { processes: [process(i + 7)], memoryUsedMib: 2_000 });
  }
  host.advance(seconds(5));
  drain(host, null, null);
  for (const id of leases) host.release(id);
  host.advance(minutes(5));
  expect([...host.state.gpus.values()].map(({ hold }) => hold.kind)).toEqual(["quarantined", "quarantined"]);
  expect(drained(host)).toEqual([]);
  host.gpu("GPU-a", { processes: [], memoryUsedMib: 0 });
  host.advance(seconds(5));
  expect(drained(host)).toEqual(["GPU-a"]);
  host.do({ type: "clear-quarantine", gpu: "GPU-b", reason: "it is a daemon of ours", actor: ADMIN });
  expect(drained(host)).toEqual(["GPU-a", "GPU-b"]);
});

test("a GPU that is quarantined and was left by all is drained", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.gpu("GPU-a", { utilizationPercent: 100 });
  for (let i = 0; i < 4; i++) host.advance(seconds(5));
  expect(host.state.gpus.get("GPU-a")?.hold.kind).toBe("quarantined");
  drain(host, "GPU-a", null);
  expect(drained(host)).toEqual(["GPU-a"]);
});

test("without a deadline nobody is told to leave, and nobody is made to", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  drain(host, null, null);
  expect(noticeOf(host, id)).toBeNull();
  host.advance(minutes(600));
  expect(host.allocation(id).status).toBe("leased");
  const next = host.submit();
  host.release(id);
  expect(host.whyQueued(next)).toEqual({ "GPU-a": "cordoned" });
});

test("a drained host takes requests in, and serves them when it is back; a GPU that comes meanwhile is drained too", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  drain(host, null, null);
  const waiting = host.submit();
  host.devices.push({ reading: { ...h100("GPU-new"), index: 1 }, present: true });
  host.advance(seconds(5));
  expect(host.whyQueued(waiting)).toEqual({ "GPU-a": "cordoned", "GPU-new": "cordoned" });
  expect(drained(host)).toEqual(["GPU-a", "GPU-new"]);
  undrain(host);
  expect(host.allocation(waiting).status).toBe("offered");
});

test("lifting the host's drain leaves a GPU's own cordon, and lifting that leaves the host's", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  drain(host, "GPU-a", null);
  drain(host, null, null);
  uncordon(host, "GPU-a");
  const id = host.submit();
  expect(host.whyQueued(id)).toEqual({ "GPU-a": "cordoned" });
  drain(host, "GPU-a", null);
  undrain(host);
  expect(host.whyQueued(id)).toEqual({ "GPU-a": "cordoned" });
  uncordon(host, "GPU-a");
  expect(host.gpusOf(id)).toEqual(["GPU-a"]);
  expect(undrain(host)).toEqual([]);
});

test("of two drains the earlier counts; lifting it leaves the later, and lifting both leaves the lease as it was", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const id = host.submit({ requiredGpus: 2, ttlMs: minutes(30) });
  const before = host.allocation(id);
  drain(host, null, minutes(20));
  drain(host, "GPU-b", minutes(10), "a fan");
  expect(noticeOf(host, id)).toMatchObject({ until: host.now + minutes(10), reason: "a fan (anonymous)" });
  uncordon(host, "GPU-b");
  expect(noticeOf(host, id)).toMatchObject({ until: host.now + minutes(20) });
  undrain(host);
  expect(host.allocation(id)).toEqual(before);
});

test("the last word counts: another drain moves the deadline, and a plain cordon takes it away", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  drain(host, "GPU-a", minutes(1));
  drain(host, "GPU-a", minutes(30));
  host.advance(minutes(2));
  expect(host.allocation(id).status).toBe("leased");
  host.do({ type: "cordon", gpu: "GPU-a", reason: "no hurry", actor: ADMIN });
  expect(noticeOf(host, id)).toBeNull();
  host.advance(minutes(60));
  expect(host.allocation(id).status).toBe("leased");
});

test("a lease that leaves or ends in time ends as it would have", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), h100("GPU-c")]);
  const leaves = host.submit();
  const expires = host.submit({ ttlMs: seconds(30) });
  const atOnce = host.submit({ ttlMs: minutes(1) });
  drain(host, null, minutes(1));
  host.release(leaves);
  host.advance(minutes(1));
  expect([leaves, expires, atOnce].map((id) => endOf(host, id)?.reason)).toEqual(["released", "expired", "expired"]);
});

test("a deadline that fell into the daemon's absence leaves 10 s more", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  drain(host, null, minutes(1));
  host.now += minutes(5);
  host.do({ type: "resume", bootId: "boot-1", fencingFloor: host.now });
  expect(noticeOf(host, id)).toMatchObject({ until: host.now + seconds(10) });
  host.advance(seconds(10));
  expect(endOf(host, id)).toMatchObject({ reason: "revoked", detail: "a new driver (anonymous)" });
});

test("a replay gives the same host", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  host.submit({ ttlMs: minutes(9) });
  drain(host, "GPU-b", null);
  drain(host, null, minutes(3));
  const replayed = host.log.reduce(evolve, emptyHost(host.state.policy));
  expect(replayed.cordon).toEqual(host.state.cordon);
  expect(replayed.gpus.values()).toEqual(host.state.gpus.values());
  expect([...replayed.allocations.values()]).toEqual([...host.state.allocations.values()]);
});
