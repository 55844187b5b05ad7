import { expect, test } from "vitest";
import { blockOf } from "../../../../src/core/host/condition.ts";
import type { GpuReading } from "../../../../src/core/model/reading.ts";
import { h100, minutes, process, refusal, SimulatedHost, seconds } from "../../../simulation/simulated-host.ts";

function block(host: SimulatedHost, uuid = "GPU-a") {
  const gpu = host.state.gpus.get(uuid);
  if (gpu === undefined) throw new Error(`${uuid} was never seen`);
  return blockOf(gpu, host.state, host.now);
}

test("a GPU with a process of no lease is not granted, and clears by itself", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.gpu("GPU-a", { processes: [process(4711)], memoryUsedMib: 3_000 });
  host.observe();
  const id = host.submit();
  expect(host.whyQueued(id)).toEqual({ "GPU-a": "occupied" });
  expect(block(host)?.detail).toContain("process 4711 (python)");
  host.gpu("GPU-a", { processes: [], memoryUsedMib: 4 });
  host.observe();
  expect(host.gpusOf(id)).toEqual(["GPU-a"]);
});

test("memory in use by no visible process occupies a GPU; a desktop does not", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.gpu("GPU-a", { memoryUsedMib: 20_000 });
  host.observe();
  expect(block(host)?.block).toBe("occupied");
  host.gpu("GPU-a", { memoryUsedMib: 3_000, processes: [process(1, { type: "G", name: "/usr/lib/xorg/Xorg" })] });
  host.observe();
  expect(block(host)).toBeNull();
});

test("beside a desktop, only the memory that is left is offered", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.gpu("GPU-a", { memoryUsedMib: 3_000, processes: [process(1, { type: "G" })] });
  host.observe();
  expect(host.whyQueued(host.submit({ minMemoryMib: 80_000 }))).toEqual({ "GPU-a": "memory" });
  expect(host.gpusOf(host.submit({ minMemoryMib: 78_000 }))).toEqual(["GPU-a"]);
});

test("an unknown process on a leased GPU counts as the lease's own, and the GPU is reclaimed after it", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  host.gpu("GPU-a", { processes: [process(1)], memoryUsedMib: 9_000 });
  host.advance(seconds(5));
  const next = host.submit();
  const end = host.now;
  host.release(id);
  expect(block(host)?.block).toBe("reclaiming");
  host.gpu("GPU-a", { processes: [], memoryUsedMib: 4 });
  // A reading that began before the end proves nothing.
  host.observe(end - 1);
  expect(block(host)?.block).toBe("reclaiming");
  host.observe(end);
  expect(host.gpusOf(next)).toEqual(["GPU-a"]);
});

test("a GPU on which no use was seen is free at once", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  const next = host.submit();
  host.advance(seconds(20));
  host.release(id);
  expect(host.gpusOf(next)).toEqual(["GPU-a"]);
});

test("memory above the level before the grant is use, even without a process", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  host.gpu("GPU-a", { memoryUsedMib: 300 });
  host.advance(seconds(5));
  host.gpu("GPU-a", { memoryUsedMib: 4 });
  host.advance(seconds(5));
  host.release(id);
  expect(block(host)?.block).toBe("reclaiming");
});

test("with no reading in the lease's last refresh interval, one is taken before the GPU is granted again", () => {
  const host = new SimulatedHost([h100("GPU-a")], { staleAfterMs: minutes(5) });
  host.monitoring = false;
  const id = host.submit();
  host.advance(seconds(30));
  host.release(id);
  expect(block(host)?.block).toBe("reclaiming");
  host.observe();
  expect(block(host)).toBeNull();
});

test("a lease of less than a second needs no reading", () => {
  const host = new SimulatedHost([h100("GPU-a")], { staleAfterMs: minutes(5) });
  host.monitoring = false;
  host.advance(minutes(1));
  const id = host.submit();
  host.advance(900);
  host.release(id);
  expect(block(host)).toBeNull();
});

test.each([
  ["always", "reclaiming"],
  ["never", null],
] as const)("verify_release %s", (verifyRelease, expected) => {
  const host = new SimulatedHost([h100("GPU-a")], { verifyRelease });
  const id = host.submit();
  host.gpu("GPU-a", verifyRelease === "never" ? { memoryUsedMib: 400 } : {});
  host.observe();
  host.release(id);
  expect(block(host)?.block ?? null).toBe(expected);
});

test("still busy after reclaim_timeout a GPU is quarantined, until it is empty", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  host.gpu("GPU-a", { processes: [process(1)], memoryUsedMib: 9_000 });
  host.advance(seconds(5));
  host.release(id);
  host.advance(seconds(59));
  expect(block(host)?.block).toBe("reclaiming");
  host.advance(seconds(1));
  expect(block(host)?.block).toBe("quarantined");
  host.advance(minutes(30));
  expect(block(host)?.block).toBe("quarantined");
  host.gpu("GPU-a", { processes: [], memoryUsedMib: 4 });
  host.advance(seconds(5));
  expect(block(host)).toBeNull();
});

test("neither a reclaiming nor a quarantined GPU is granted", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  host.gpu("GPU-a", { memoryUsedMib: 300 });
  host.advance(seconds(5));
  host.release(id);
  const waiting = host.submit();
  expect(host.whyQueued(waiting)).toEqual({ "GPU-a": "reclaiming" });
  host.gpu("GPU-a", { processes: [process(1)] });
  host.advance(seconds(60));
  expect(host.whyQueued(waiting)).toEqual({ "GPU-a": "quarantined" });
  // A reading from before the end frees nothing; the GPU looks idle in it, and is not granted for that.
  host.gpu("GPU-a", { processes: [], memoryUsedMib: 4 });
  host.observe(host.now - seconds(20));
  expect(host.whyQueued(waiting)).toEqual({ "GPU-a": "quarantined" });
  expect(host.allocation(waiting).status).toBe("queued");
});

test("a reading without memory does not show that a GPU is empty", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  host.gpu("GPU-a", { memoryUsedMib: 300 });
  host.advance(seconds(5));
  host.release(id);
  for (const over of [{ memoryUsedMib: null }, { memoryTotalMib: null, memoryUsedMib: 4 }]) {
    host.gpu("GPU-a", over);
    host.observe();
    expect(block(host)?.block).toBe("reclaiming");
  }
  host.gpu("GPU-a", { memoryTotalMib: 81_559, memoryUsedMib: 4 });
  host.observe();
  expect(host.state.gpus.get("GPU-a")?.hold.kind).toBe("free");
});

test("a reading older than stale_after makes a GPU unknown, ends no lease, and recovers by itself", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const id = host.submit();
  host.monitoring = false;
  host.advance(seconds(26));
  expect(block(host, "GPU-b")?.block).toBe("unknown");
  expect(refusal(() => host.submit())).toBe("gpus-unavailable");
  expect(host.allocation(id).status).toBe("leased");
  host.observe();
  expect(block(host, "GPU-b")).toBeNull();
});

test("what is queued stays queued while nothing can be seen", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const holder = host.submit({ ttlMs: seconds(40) });
  const waiting = host.submit();
  host.monitoring = false;
  host.advance(minutes(2));
  expect(host.endReason(holder)).toBe("expired");
  expect(host.allocation(waiting).status).toBe("queued");
  host.observe();
  expect(host.gpusOf(waiting)).toEqual(["GPU-a"]);
});

test.each(["timeout", "garbled", "exit"] as const)(
  "a probe that fails by %s leaves the last reading standing",
  (kind) => {
    const host = new SimulatedHost([h100("GPU-a")]);
    host.failProbe(kind);
    expect(block(host)).toBeNull();
  },
);

test.each(["driver", "missing", "no-devices", "gpu-lost"] as const)(
  "a probe that fails by %s makes every GPU unknown at once, until a good one",
  (kind) => {
    const host = new SimulatedHost([h100("GPU-a")]);
    host.failProbe(kind, "Driver/library version mismatch");
    expect(block(host)).toMatchObject({ block: "unknown", detail: "Driver/library version mismatch" });
    host.observe();
    expect(block(host)).toBeNull();
  },
);

test("a GPU missing from a good reading is not granted; its lease goes on", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  for (const device of host.devices) device.present = false;
  host.advance(minutes(5));
  expect(host.allocation(id).status).toBe("leased");
  host.release(id);
  for (const device of host.devices) device.present = true;
  for (let reading = 0; reading < 3; reading++) host.observe();
  expect(host.gpusOf(host.submit())).toEqual(["GPU-a"]);
});

test("leases follow the UUID when indices change", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const id = host.submit();
  host.gpu("GPU-a", { index: 1 });
  host.gpu("GPU-b", { index: 0 });
  host.observe();
  expect(host.gpusOf(id)).toEqual(["GPU-a"]);
  expect(host.state.gpus.get("GPU-a")).toMatchObject({ index: 1, hold: { kind: "leased", allocationId: id } });
  expect(host.gpusOf(host.submit())).toEqual(["GPU-b"]);
});

const health = h100("").health;
const sick: [string, Partial<GpuReading>][] = [
  ["lost", { errorValues: { "fb_memory_usage/used": "GPU is lost" }, memoryUsedMib: null }],
  ["lost", { errorValues: { "temperature/gpu_temp": "GPU is lost" } }],
  ["unhealthy", { health: { ...health, remappedRowsFailure: true } }],
  ["unhealthy", { health: { ...health, recoveryAction: "Reset" } }],
  ["unhealthy", { health: { ...health, recoveryAction: "Drain and Reset" } }],
  ["unhealthy", { health: { ...health, fabricState: "In Progress", fabricStatus: null } }],
  ["unhealthy", { health: { ...health, fabricState: "Not Started", fabricStatus: null } }],
  ["unknown", { memoryUsedMib: null }],
  ["unknown", { memoryTotalMib: null }],
  ["mig", { migMode: "Enabled" }],
  ["degraded", { health: { ...health, eccUncorrectedVolatile: 1 } }],
  ["degraded", { health: { ...health, remappedRowsPending: true } }],
  ["degraded", { health: { ...health, retiredPagesPending: true } }],
  ["degraded", { health: { ...health, repairPending: true } }],
  ["degraded", { health: { ...health, sramThresholdExceeded: true } }],
];
test.each(sick)("a GPU that reads as %s is not granted: %o", (expected, over) => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.gpu("GPU-a", over);
  host.observe();
  expect(block(host)?.block).toBe(expected);
});

test("a hot GPU is taken last, and taken nevertheless", () => {
  const host = new SimulatedHost([h100("GPU-a", { health: { ...health, slowdown: true } }), h100("GPU-b")]);
  expect(host.gpusOf(host.submit())).toEqual(["GPU-b"]);
  expect(host.gpusOf(host.submit())).toEqual(["GPU-a"]);
});

test("corrected errors, spent rows and errors of earlier days are shown, and keep nobody away", () => {
  const past = { eccCorrectedVolatile: 7, eccUncorrectedAggregate: 3, remappedRowsUncorrectable: 1, retiredPages: 2 };
  const host = new SimulatedHost([h100("GPU-a", { health: { ...health, ...past } })]);
  expect(host.gpusOf(host.submit())).toEqual(["GPU-a"]);
});

test("where degraded GPUs are only avoided, one is taken last, and one that recovers does not wait", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { degradedGpus: "avoid" });
  host.gpu("GPU-a", { health: { ...health, remappedRowsPending: true } });
  host.observe();
  expect(host.gpusOf(host.submit())).toEqual(["GPU-b"]);
  const last = host.submit();
  expect(host.gpusOf(last)).toEqual(["GPU-a"]);
  host.release(last);
  host.gpu("GPU-a", { health });
  host.observe();
  expect(block(host)).toBeNull();
  // Used by a stranger, it is out of bounds as any.
  host.gpu("GPU-a", { health: { ...health, remappedRowsPending: true }, processes: [process(9)] });
  host.observe();
  expect(block(host)?.block).toBe("occupied");
});

test("what is degraded keeps new leases away again as soon as the settings say so", () => {
  const host = new SimulatedHost([h100("GPU-a")], { degradedGpus: "avoid" });
  host.gpu("GPU-a", { health: { ...health, remappedRowsPending: true } });
  host.observe();
  expect(block(host)).toBeNull();
  host.do({ type: "reconfigure", policy: { ...host.state.policy, degradedGpus: "exclude" } });
  expect(block(host)?.block).toBe("degraded");
});

test("a busy GPU is passed over; without a utilisation reading only a stated limit excludes it", () => {
  const host = new SimulatedHost([h100("GPU-a", { utilizationPercent: 95 })]);
  expect(host.whyQueued(host.submit())).toEqual({ "GPU-a": "utilization" });
  const blind = new SimulatedHost([h100("GPU-a", { utilizationPercent: null })]);
  expect(blind.whyQueued(blind.submit({ maxUtilizationPercent: 90 }))).toEqual({ "GPU-a": "utilization" });
  expect(blind.gpusOf(blind.submit())).toEqual(["GPU-a"]);
});

test("an empty GPU is offered whole, whatever the driver keeps for itself", () => {
  const host = new SimulatedHost([h100("GPU-a", { memoryUsedMib: 500 })]);
  expect(host.gpusOf(host.submit({ minMemoryMib: 81_559 }))).toEqual(["GPU-a"]);
});

test("a lease that no reading has seen is verified, however fresh the reading before it", () => {
  const host = new SimulatedHost([h100("GPU-a")], { staleAfterMs: minutes(5) });
  host.monitoring = false;
  host.observe();
  host.advance(500);
  const id = host.submit();
  host.advance(2_500);
  host.release(id);
  expect(block(host)?.block).toBe("reclaiming");
});
