/** How a GPU gets out of service and back: at once when it ails, after three good readings when it is well again. */
import { expect, test } from "vitest";
import { emptyHost } from "../../../../src/core/host/changes.ts";
import { blockOf, readingsAreAwaited } from "../../../../src/core/host/condition.ts";
import { evolve } from "../../../../src/core/host/evolve.ts";
import type { GpuReading } from "../../../../src/core/model/reading.ts";
import { seen } from "../../../fixtures/readings.ts";
import { h100, process, SimulatedHost, seconds } from "../../../simulation/simulated-host.ts";

function block(host: SimulatedHost, uuid = "GPU-a") {
  const gpu = host.state.gpus.get(uuid);
  if (gpu === undefined) throw new Error(`${uuid} was never seen`);
  return blockOf(gpu, host.state, host.now);
}

/** Whether the driver lists a GPU from the next reading on. */
function present(host: SimulatedHost, uuid: string, is: boolean): void {
  const device = host.devices.find(({ reading }) => reading.uuid === uuid);
  if (device === undefined) throw new Error(`no simulated GPU ${uuid}`);
  device.present = is;
}

const { health } = h100("");
const WELL: Partial<GpuReading> = { health, errorValues: {}, memoryTotalMib: 81_559, memoryUsedMib: 4 };
const FAULTS: [string, Partial<GpuReading>][] = [
  ["degraded", { health: { ...health, eccUncorrectedVolatile: 1 } }],
  ["degraded", { health: { ...health, remappedRowsPending: true } }],
  ["unhealthy", { health: { ...health, recoveryAction: "Reset" } }],
  ["unhealthy", { health: { ...health, remappedRowsFailure: true } }],
  ["lost", { errorValues: { "temperature/gpu_temp": "GPU is lost" } }],
  ["unknown", { memoryUsedMib: null }],
];

test.each(FAULTS)("%s counts from the first reading, and is over with the third good one in a row", (state, over) => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.gpu("GPU-a", over);
  host.observe();
  expect(block(host)?.block).toBe(state);
  const waiting = host.submit();
  host.gpu("GPU-a", WELL);
  const begun = host.now;
  host.observe();
  expect(block(host)).toMatchObject({ block: "recovering", since: begun });
  expect(block(host)?.detail).toMatch(/^2 more good readings are wanted after: ./);
  host.advance(seconds(1));
  host.observe();
  expect(block(host)).toMatchObject({ block: "recovering", since: begun });
  expect(block(host)?.detail).toMatch(/^1 more good reading is wanted after: ./);
  expect(host.whyQueued(waiting)).toEqual({ "GPU-a": "recovering" });
  host.observe();
  expect(host.gpusOf(waiting)).toEqual(["GPU-a"]);
});

test("a relapse begins the count anew", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const bad = { health: { ...health, recoveryAction: "Reset" } };
  for (const over of [bad, WELL, WELL, bad, WELL, WELL]) {
    host.gpu("GPU-a", over);
    host.observe();
    expect(block(host)).not.toBeNull();
  }
  host.observe();
  expect(block(host)).toBeNull();
});

test("a GPU that was never seen sick is granted at its first good reading", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  expect(host.gpusOf(host.submit())).toEqual(["GPU-a"]);
});

test("use by a stranger needs no recovery: it ends when it ends", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.gpu("GPU-a", { processes: [process(7)] });
  host.observe();
  expect(block(host)?.block).toBe("occupied");
  host.gpu("GPU-a", { processes: [] });
  host.observe();
  expect(block(host)).toBeNull();
});

test("while a GPU recovers the figures shown are the latest", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.gpu("GPU-a", { errorValues: { x: "GPU is lost" }, temperatureC: null });
  host.observe();
  host.gpu("GPU-a", { ...WELL, temperatureC: 44 });
  host.observe();
  expect(block(host)?.block).toBe("recovering");
  expect(host.state.sight.gpus.get("GPU-a")?.reading).toMatchObject({ temperatureC: 44, memoryUsedMib: 4 });
});

test("at the default pace of readings a GPU that is well again is granted within 60 s", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.gpu("GPU-a", { errorValues: { x: "GPU is lost" } });
  host.advance(seconds(30));
  const waiting = host.submit();
  host.gpu("GPU-a", WELL);
  host.advance(seconds(20));
  expect(host.gpusOf(waiting)).toEqual(["GPU-a"]);
});

test("a missing GPU is unknown at once, lost after three readings, and back after three that show it", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const id = host.submit({ preferredGpus: ["GPU-a"] });
  present(host, "GPU-a", false);
  const types = (events: readonly { type: string }[]) => events.map(({ type }) => type);
  expect(types(host.observe())).toEqual([]);
  expect(blockOf({ ...gpuOf(host), hold: { kind: "free" } }, host.state, host.now)?.block).toBe("unknown");
  host.failProbe("timeout");
  expect(types(host.observe())).toEqual([]);
  const lost = host.observe();
  expect(lost).toEqual([
    { type: "gpu-lost", uuid: "GPU-a", at: host.now, allocationId: id, reason: "missing from the last 3 readings" },
  ]);
  expect(blockOf({ ...gpuOf(host), hold: { kind: "free" } }, host.state, host.now)?.block).toBe("lost");
  expect(types(host.observe())).toEqual([]);
  expect(host.allocation(id).status).toBe("leased");

  present(host, "GPU-a", true);
  expect(types([...host.observe(), ...host.observe()])).toEqual([]);
  expect(gpuOf(host).lostSince).not.toBeNull();
  expect(host.observe()).toMatchObject([{ type: "gpu-back", uuid: "GPU-a", allocationId: id }]);
  expect(gpuOf(host).lostSince).toBeNull();
});

const gpuOf = (host: SimulatedHost) =>
  host.state.gpus.get("GPU-a") as NonNullable<ReturnType<typeof host.state.gpus.get>>;

test("a GPU that the driver calls lost is lost at the first reading", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.gpu("GPU-a", { errorValues: { x: "GPU is lost" } });
  expect(host.observe()).toMatchObject([{ type: "gpu-lost", allocationId: null }]);
  expect(host.observe()).toEqual([]);
});

test("a GPU that one reading did not show is granted after three that do", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  present(host, "GPU-a", false);
  host.observe();
  present(host, "GPU-a", true);
  for (const wanted of [2, 1]) {
    host.observe();
    expect(block(host)?.detail).toMatch(new RegExp(`^${wanted} more good reading.* after: it was missing`));
  }
  host.observe();
  expect(block(host)).toBeNull();
});

test("two readings without a GPU do not add up with one after it was seen again", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  for (const is of [false, false, true, false, false]) {
    present(host, "GPU-a", is);
    host.observe();
  }
  expect(block(host)?.block).toBe("unknown");
  expect(gpuOf(host).lostSince).toBeNull();
});

test("a restart neither forgets that a GPU is lost nor spares it the three good readings", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.gpu("GPU-a", { errorValues: { x: "GPU is lost" } });
  host.observe();
  const replayed = host.log.reduce(evolve, emptyHost(host.state.policy));
  expect(replayed.gpus.get("GPU-a")?.lostSince).toBe(host.now);
  host.state = replayed;
  present(host, "GPU-a", false);
  expect(host.observe()).toEqual([]);
  expect(block(host)).toMatchObject({ block: "lost", detail: "missing from the last reading" });
  host.state = replayed;
  present(host, "GPU-a", true);
  host.gpu("GPU-a", WELL);
  host.observe();
  expect(block(host)).toMatchObject({ block: "recovering" });
  host.observe();
  expect(block(host)).toMatchObject({ block: "recovering" });
  expect(host.observe()).toMatchObject([{ type: "gpu-back" }]);
  expect(block(host)).toBeNull();
});

test("a failed probe does not count as a reading; one after which nothing can be trusted begins the count anew", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const sicken = () => {
    host.gpu("GPU-a", { health: { ...health, recoveryAction: "Reset" } });
    host.observe();
    host.gpu("GPU-a", WELL);
    host.observe();
    host.observe();
  };
  sicken();
  host.failProbe("timeout");
  expect(block(host)?.block).toBe("recovering");
  host.observe();
  expect(block(host)).toBeNull();
  sicken();
  host.failProbe("driver");
  host.observe();
  host.observe();
  expect(block(host)?.block).toBe("recovering");
  host.observe();
  expect(block(host)).toBeNull();
});

test("a GPU of which a reading says nothing is neither missing nor well: what was seen of it grows stale", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const readAt = host.now;
  const unread = () => {
    const { reading } = host.devices[1] as { reading: GpuReading };
    const observation = seen([reading], host.now, { unread: ["GPU-a"] });
    return host.do({ type: "observe", observation });
  };
  host.monitoring = false;
  for (let reading = 0; reading < 5; reading++) {
    host.advance(seconds(5));
    expect(unread()).toEqual([]);
    expect(host.state.sight.gpus.get("GPU-a")?.finishedAt).toBe(readAt);
    expect(block(host)).toBeNull();
  }
  host.advance(seconds(1));
  unread();
  expect(block(host)?.block).toBe("unknown");
  expect(block(host, "GPU-b")).toBeNull();
  // Missing twice, then unread, then missing again: the third time.
  const missing = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  present(missing, "GPU-a", false);
  missing.observe();
  missing.observe();
  const other = (missing.devices[1] as { reading: GpuReading }).reading;
  missing.do({ type: "observe", observation: seen([other], missing.now, { unread: ["GPU-a"] }) });
  expect(missing.observe()).toMatchObject([{ type: "gpu-lost" }]);
});

test("nothing is kept idle for a request that needs a recovering GPU", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { reserveAfterMs: 0 });
  host.gpu("GPU-a", { health: { ...health, recoveryAction: "Reset" } });
  host.observe();
  host.gpu("GPU-a", WELL);
  host.observe();
  const two = host.submit({ requiredGpus: 2 });
  const one = host.submit();
  expect(host.gpusOf(one)).toEqual(["GPU-b"]);
  expect(host.allocation(two).status).toBe("queued");
});

test("readings are awaited only while somebody waits and a free GPU recovers, or one is reclaimed", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.gpu("GPU-a", { health: { ...health, recoveryAction: "Reset" } });
  host.observe();
  const waiting = host.submit();
  expect(readingsAreAwaited(host.state)).toBe(false);
  host.gpu("GPU-a", WELL);
  host.observe();
  expect(readingsAreAwaited(host.state)).toBe(true);
  host.release(waiting);
  expect(readingsAreAwaited(host.state)).toBe(false);
});

test("a GPU that moves to another index while it is lost stays lost", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.gpu("GPU-a", { errorValues: { x: "GPU is lost" } });
  host.observe();
  const since = host.now;
  host.gpu("GPU-a", { index: 3 });
  host.advance(seconds(5));
  expect(gpuOf(host)).toMatchObject({ index: 3, lostSince: since });
});
