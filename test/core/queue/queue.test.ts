import { expect, test } from "vitest";
import { h100, minutes, process, refusal, SimulatedHost, seconds, t4 } from "../../simulation/simulated-host.ts";

const eight = () => Array.from({ length: 8 }, (_, i) => h100(`GPU-${i}`));

test("waiting requests are served by priority, then by submission", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  const low = host.submit({ priority: 3 });
  const first = host.submit({ priority: 8 });
  const second = host.submit({ priority: 8 });
  expect(host.queue()).toEqual([first, second, low]);
  expect([first, second, low].map((id) => host.position(id))).toEqual([1, 2, 3]);
});

test("within a millisecond the order of submission counts, not the services' names", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  const ids = ["zebra", "ant", "bee-2", "bee"].map((serviceName) => host.submit({ serviceName }));
  expect(host.queue()).toEqual(ids);
});

test("a level of priority is worth one ageing interval of waiting", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  const old = host.submit({ priority: 5 });
  host.advance(minutes(10) - 1);
  const higher = host.submit({ priority: 6 });
  expect(host.queue()).toEqual([higher, old]);
  host.advance(2);
  const late = host.submit({ priority: 6 });
  expect(host.queue()).toEqual([higher, old, late]);
});

test("of two that waiting and priority put level, the one submitted first is served first", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  const old = host.submit({ priority: 5 });
  host.advance(minutes(10));
  const higher = host.submit({ priority: 6 });
  expect(host.queue()).toEqual([old, higher]);
});

test("a newcomer does not overtake an equal that waits for the same GPUs", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { reserveAfterMs: 0 });
  const holder = host.submit({ maxDurationMs: minutes(60) });
  const pair = host.submit({ requiredGpus: 2 });
  const single = host.submit();
  expect(host.allocation(single).status).toBe("queued");
  expect(host.whyQueued(single)).toEqual({ "GPU-a": "held", "GPU-b": "reserved" });
  host.release(holder);
  expect(host.gpusOf(pair)).toEqual(["GPU-a", "GPU-b"]);
});

test("GPUs that the head cannot use yet go to those behind it, until it has waited reserve_after", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const holder = host.submit({ maxDurationMs: minutes(60) });
  const pair = host.submit({ requiredGpus: 2 });
  const early = host.submit();
  expect(host.gpusOf(early)).toEqual(["GPU-b"]);
  host.release(early);
  host.advance(minutes(1));
  const late = host.submit();
  expect(host.allocation(late).status).toBe("queued");
  host.release(holder);
  expect(host.allocation(pair).status).toBe("offered");
});

test("a head's reservation leaves alone the GPUs that it could never use", () => {
  const host = new SimulatedHost([h100("GPU-big"), h100("GPU-big2"), t4("GPU-small")], { reserveAfterMs: 0 });
  host.submit({ preferredGpus: ["GPU-big"], maxDurationMs: minutes(60) });
  const head = host.submit({ requiredGpus: 2, minMemoryMib: 40_000 });
  const small = host.submit();
  expect(host.allocation(head).status).toBe("queued");
  expect(host.gpusOf(small)).toEqual(["GPU-small"]);
});

test("a GPU held for the head is not given to those behind it, even where they prefer it", () => {
  const host = new SimulatedHost([h100("GPU-big"), h100("GPU-big2"), t4("GPU-small")], { reserveAfterMs: 0 });
  const holder = host.submit({ preferredGpus: ["GPU-big"], maxDurationMs: minutes(60) });
  const head = host.submit({ requiredGpus: 2, minMemoryMib: 40_000 });
  expect(host.gpusOf(host.submit({ preferredGpus: ["GPU-big2"] }))).toEqual(["GPU-small"]);
  host.release(holder);
  expect(host.gpusOf(head)).toEqual(["GPU-big", "GPU-big2"]);
});

test("a stream of single-GPU requests does not starve one for all eight", () => {
  const host = new SimulatedHost(eight());
  for (let i = 0; i < 8; i++) host.submit({ maxDurationMs: minutes(10) + seconds(i) });
  const all = host.submit({ requiredGpus: 8 });
  const submittedAt = host.now;
  while (host.allocation(all).status === "queued") {
    host.advance(seconds(15));
    host.submit({ maxDurationMs: minutes(10) });
    expect(host.now - submittedAt).toBeLessThanOrEqual(minutes(1) + minutes(10) + minutes(10));
  }
  expect(host.gpusOf(all)).toHaveLength(8);
});

test("what could never fit is refused at once, with what is missing", () => {
  const host = new SimulatedHost([h100("GPU-a"), t4("GPU-b")]);
  expect(refusal(() => host.submit({ requiredGpus: 3 }))).toBe("request-never-fits");
  expect(refusal(() => host.submit({ minMemoryMib: 81_560 }))).toBe("request-never-fits");
  expect(refusal(() => host.submit({ requiredGpus: 2, minMemoryMib: 20_000 }))).toBe("request-never-fits");
  expect(refusal(() => host.submit({ gpuModel: "A100" }))).toBe("request-never-fits");
  expect(() => host.submit({ minMemoryMib: 90_000 })).toThrow("the largest here has 81559 MiB");
  expect(host.state.allocations.size).toBe(0);
});

test("never is judged on the inventory: a lost GPU still counts", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const device = host.devices[1];
  if (device !== undefined) device.present = false;
  host.observe();
  const pair = host.submit({ requiredGpus: 2 });
  expect(host.allocation(pair).status).toBe("queued");
  expect(host.whyQueued(pair)).toEqual({ "GPU-a": null, "GPU-b": "unknown" });
  for (let reading = 0; reading < 3; reading++) host.observe();
  const another = host.submit({ requiredGpus: 2 });
  // Of a model that is asked for GPUs are counted in another way.
  const alike = host.submit({ requiredGpus: 2, gpuModel: "H100" });
  for (const id of [another, alike]) expect(host.whyQueued(id)).toEqual({ "GPU-a": null, "GPU-b": "lost" });
  expect(refusal(() => host.submit({ requiredGpus: 3, gpuModel: "H100" }))).toBe("request-never-fits");
});

test("never is judged on the inventory: a GPU that no longer tells its size has not shrunk", () => {
  const host = new SimulatedHost([h100("GPU-a"), t4("GPU-b")]);
  host.gpu("GPU-a", { memoryTotalMib: null, memoryUsedMib: null });
  host.observe();
  const large = host.submit({ minMemoryMib: 40_000 });
  expect(host.allocation(large).status).toBe("queued");
  expect(host.whyQueued(large)).toEqual({ "GPU-a": "unknown", "GPU-b": "memory" });
});

test("a full queue refuses the newcomer and keeps those who wait", () => {
  const host = new SimulatedHost([h100("GPU-a")], { maxQueueSize: 2 });
  host.submit();
  const waiting = [host.submit(), host.submit()];
  expect(refusal(() => host.submit())).toBe("queue-full");
  expect(refusal(() => host.submit({ priority: 10 }))).toBe("queue-full");
  expect(host.queue()).toEqual(waiting);
});

test("a full queue does not refuse a request that can be served now", () => {
  const host = new SimulatedHost([h100("GPU-a"), t4("GPU-b")], { maxQueueSize: 1 });
  host.submit({ gpuModel: "H100" });
  host.submit({ gpuModel: "H100" });
  expect(host.gpusOf(host.submit({ gpuModel: "T4" }))).toEqual(["GPU-b"]);
});

test("a request that does not want to wait is refused instead of queued", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  expect(refusal(() => host.submit({ queue: false }))).toBe("no-gpu-free");
  expect(host.queue()).toEqual([]);
});

test("a request that does not want to wait is served when it need not", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  expect(host.gpusOf(host.submit({ queue: false }))).toEqual(["GPU-a"]);
});

test("a queue over its limit, because that was lowered, does not refuse what can be served now", () => {
  const host = new SimulatedHost([h100("GPU-a"), t4("GPU-b")]);
  host.submit({ gpuModel: "H100" });
  const waiting = [host.submit({ gpuModel: "H100" }), host.submit({ gpuModel: "H100" })];
  host.do({ type: "reconfigure", policy: { ...host.state.policy, maxQueueSize: 1 } });
  expect(host.gpusOf(host.submit({ gpuModel: "T4" }))).toEqual(["GPU-b"]);
  expect(host.queue()).toEqual(waiting);
});

test("a queued request times out at its queue_timeout, not before", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  const id = host.submit({ queueTimeoutMs: minutes(5) });
  host.advance(minutes(5) - 1);
  expect(host.allocation(id).status).toBe("queued");
  host.advance(1);
  expect(host.endReason(id)).toBe("timed_out");
});

test("placement takes the smallest GPU that fits, and preferred ones before it", () => {
  const gpus = [h100("GPU-big"), t4("GPU-small"), t4("GPU-small2")];
  const host = new SimulatedHost(gpus);
  expect(host.gpusOf(host.submit())).toEqual(["GPU-small"]);
  const other = new SimulatedHost(gpus);
  expect(other.gpusOf(other.submit({ preferredGpus: ["2", "GPU-big"] }))).toEqual(["GPU-small2"]);
  // A wish that cannot be met changes nothing.
  const third = new SimulatedHost(gpus);
  expect(third.gpusOf(third.submit({ preferredGpus: ["7"] }))).toEqual(["GPU-small"]);
});

test.each([
  { wish: "none", preferredGpus: [] },
  { wish: "one that cannot be met", preferredGpus: ["GPU-elsewhere"] },
])("shuffled GPUs give the same placement, with a wish: $wish", ({ preferredGpus }) => {
  const gpus = eight();
  const pick = (order: typeof gpus) => {
    const host = new SimulatedHost(order);
    return [...(host.gpusOf(host.submit({ requiredGpus: 3, preferredGpus })) ?? [])].sort();
  };
  const expected = pick(gpus);
  expect(pick([...gpus].reverse())).toEqual(expected);
  expect(pick([...gpus.slice(3), ...gpus.slice(0, 3)])).toEqual(expected);
});

test("a GPU model that appears later is considered for those who already wait", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  const waiting = host.submit({ gpuModel: "nvidia" });
  host.devices.push({ reading: h100("GPU-z", { name: "NVIDIA L40S", index: 1 }), present: true });
  host.observe();
  expect(host.gpusOf(waiting)).toEqual(["GPU-z"]);
});

test("a changed policy reorders the line and moves the deadlines", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  const old = host.submit({ priority: 5 });
  host.advance(seconds(30));
  const urgent = host.submit({ priority: 6 });
  expect(host.queue()).toEqual([urgent, old]);
  host.do({ type: "reconfigure", policy: { ...host.state.policy, agingIntervalMs: seconds(10) } });
  expect(host.queue()).toEqual([old, urgent]);
});

test("nothing is kept idle for a request that a foreign process keeps from starting; once it is gone, it is", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { reserveAfterMs: 0 });
  host.gpu("GPU-a", { processes: [process(1)], memoryUsedMib: 9_000 });
  host.observe();
  const both = host.submit({ requiredGpus: 2 });
  const single = host.submit({ maxDurationMs: minutes(60) });
  expect(host.gpusOf(single)).toEqual(["GPU-b"]);
  host.gpu("GPU-a", { processes: [], memoryUsedMib: 4 });
  host.observe();
  expect(host.whyQueued(host.submit())).toEqual({ "GPU-a": "reserved", "GPU-b": "held" });
  host.release(single);
  expect(host.gpusOf(both)).toEqual(["GPU-a", "GPU-b"]);
});

test("a GPU that is lost under its lease does not count as coming free; one that is only in use does", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { reserveAfterMs: 0 });
  const holder = host.submit({ preferredGpus: ["GPU-a"], maxDurationMs: minutes(60) });
  host.gpu("GPU-a", { processes: [process(1)], memoryUsedMib: 9_000 });
  host.observe();
  host.submit({ requiredGpus: 2 });
  const blocked = host.submit();
  expect(host.allocation(blocked).status).toBe("queued");
  host.gpu("GPU-a", { errorValues: { "fb_memory_usage/used": "GPU is lost" }, memoryUsedMib: null });
  host.observe();
  expect(host.gpusOf(blocked)).toEqual(["GPU-b"]);
  expect(host.allocation(holder).status).toBe("leased");
});

test("nothing is kept idle for a request that asks for more than a desktop leaves free", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { reserveAfterMs: 0 });
  host.gpu("GPU-a", { processes: [process(1, { type: "G" })], memoryUsedMib: 9_000 });
  host.observe();
  const both = host.submit({ requiredGpus: 2, minMemoryMib: 80_000 });
  expect(host.gpusOf(host.submit({ minMemoryMib: 80_000 }))).toEqual(["GPU-b"]);
  expect(host.allocation(both).status).toBe("queued");
});
