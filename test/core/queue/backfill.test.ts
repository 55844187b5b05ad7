import { expect, test } from "vitest";
import { h100, minutes, process, SimulatedHost, seconds, t4 } from "../../simulation/simulated-host.ts";

const eight = () => Array.from({ length: 8 }, (_, i) => h100(`GPU-${i}`));
/** The allowance for a GPU to be seen empty: `reclaim_timeout`. */
const settling = seconds(60);

/** A pair waits beyond reserve_after for a lease that ends an hour after the start; the other GPU is free. */
function waitingPair(policy = {}) {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], policy);
  const holder = host.submit({ preferredGpus: ["GPU-a"], maxDurationMs: minutes(60) });
  const pair = host.submit({ requiredGpus: 2 });
  host.advance(minutes(1));
  return { host, holder, pair };
}

test("a held GPU goes to a request that will have given it back before the head could start", () => {
  const { host, pair } = waitingPair();
  const short = host.submit({ maxDurationMs: minutes(58) });
  expect(host.gpusOf(short)).toEqual(["GPU-b"]);
  host.advance(minutes(59));
  expect(host.gpusOf(pair)).toEqual(["GPU-a", "GPU-b"]);
  expect(host.endReason(short)).toBe("max_duration");
});

test("a held GPU goes to nobody who could keep it longer, by a millisecond or for good", () => {
  const { host } = waitingPair();
  const left = minutes(59) - settling;
  const over = host.submit({ maxDurationMs: left + 1 });
  const endless = host.submit();
  const renewable = host.submit({ ttlMs: minutes(1) });
  for (const id of [over, endless, renewable]) expect(host.allocation(id).status).toBe("queued");
  expect(host.gpusOf(host.submit({ maxDurationMs: left }))).toEqual(["GPU-b"]);
});

test("where no use is verified after a lease, no time is set aside for it", () => {
  const { host } = waitingPair({ verifyRelease: "never" });
  expect(host.gpusOf(host.submit({ maxDurationMs: minutes(59) }))).toEqual(["GPU-b"]);
});

test("a lease without a max_duration does not matter when the head can start without its GPU", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), h100("GPU-c")], { reserveAfterMs: 0 });
  host.submit({ preferredGpus: ["GPU-a"] });
  host.submit({ preferredGpus: ["GPU-b"], maxDurationMs: minutes(30) });
  const pair = host.submit({ requiredGpus: 2 });
  expect(host.gpusOf(host.submit({ maxDurationMs: minutes(20) }))).toEqual(["GPU-c"]);
  host.advance(minutes(30));
  expect(host.gpusOf(pair)).toEqual(["GPU-b", "GPU-c"]);
});

test("a TTL can be renewed, so that no start is foreseen by it, and nothing held for one", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { reserveAfterMs: 0 });
  host.submit({ preferredGpus: ["GPU-a"], ttlMs: minutes(60) });
  const pair = host.submit({ requiredGpus: 2 });
  expect(host.gpusOf(host.submit({ maxDurationMs: minutes(120) }))).toEqual(["GPU-b"]);
  expect(host.allocation(pair).status).toBe("queued");
});

test("the head can start when the GPUs it needs are back, not the last that it could use", () => {
  const host = new SimulatedHost(eight(), { reserveAfterMs: 0 });
  for (let i = 0; i < 7; i++) host.submit({ maxDurationMs: minutes(10 * (i + 1)) });
  const three = host.submit({ requiredGpus: 3 });
  const tooLong = host.submit({ maxDurationMs: minutes(30) });
  const short = host.submit({ maxDurationMs: minutes(15) });
  expect([host.allocation(tooLong).status, host.allocation(short).status]).toEqual(["queued", "leased"]);
  host.advance(minutes(20));
  expect(host.gpusOf(three)).toHaveLength(3);
});

test("backfill goes on: each lease is judged by what is left before the head's start", () => {
  const { host, pair } = waitingPair();
  let served = 0;
  while (host.allocation(pair).status === "queued") {
    const id = host.submit({ maxDurationMs: minutes(10) });
    if (host.allocation(id).status === "leased") served++;
    else host.release(id);
    host.advance(minutes(1));
  }
  expect(served).toBe(5);
  expect(host.now).toBe(host.lease(pair)?.grantedAt);
  expect(host.allocation(pair)).toMatchObject({
    lease: { grantedAt: host.allocation(pair).request.submittedAt + minutes(60) },
  });
});

test("those who can use a held GPU are served in the order of the line", () => {
  const { host } = waitingPair();
  const filler = host.submit({ maxDurationMs: minutes(5) });
  const long = host.submit({ maxDurationMs: minutes(59) });
  const first = host.submit({ maxDurationMs: minutes(20) });
  const second = host.submit({ maxDurationMs: minutes(10) });
  host.release(filler);
  expect([long, first, second].map((id) => host.allocation(id).status)).toEqual(["queued", "offered", "queued"]);
});

test("one before the next head goes first where it can give the GPUs back in time", () => {
  // A is leased, B is held for the pair that needs both, C suits nobody who waits for H100s only.
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), t4("GPU-c")], { reserveAfterMs: 0 });
  host.submit({ preferredGpus: ["GPU-a"], maxDurationMs: minutes(60) });
  host.submit({ requiredGpus: 2, gpuModel: "H100" });
  const filler = host.submit({ preferredGpus: ["GPU-c"] });
  const both = host.submit({ requiredGpus: 2, maxDurationMs: minutes(10) });
  const small = host.submit();
  host.release(filler);
  expect(host.gpusOf(both)).toEqual(["GPU-b", "GPU-c"]);
  expect(host.allocation(small).status).toBe("queued");
});

test("a GPU that is held for nobody is taken before one that is", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), h100("GPU-c", { name: "NVIDIA H200" })], {
    reserveAfterMs: 0,
  });
  host.submit({ preferredGpus: ["GPU-a"], maxDurationMs: minutes(60) });
  host.submit({ requiredGpus: 2, gpuModel: "H100" });
  expect(host.gpusOf(host.submit({ maxDurationMs: minutes(10) }))).toEqual(["GPU-c"]);
  expect(host.gpusOf(host.submit({ maxDurationMs: minutes(10) }))).toEqual(["GPU-b"]);
});

test("a GPU in reclaiming may come free at once, so nothing is lent while the head waits for it alone", () => {
  const { host, holder } = waitingPair();
  host.gpu("GPU-a", { processes: [process(7)], memoryUsedMib: 9_000 });
  host.observe();
  host.release(holder);
  expect(host.state.gpus.get("GPU-a")?.hold.kind).toBe("reclaiming");
  expect(host.allocation(host.submit({ maxDurationMs: minutes(1) })).status).toBe("queued");
});

test("nothing is held for a request that a busy GPU keeps from starting, though no lease is on it", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")], { reserveAfterMs: 0 });
  host.gpu("GPU-a", { utilizationPercent: 95, processes: [process(1, { type: "G" })] });
  host.observe();
  const calm = host.submit({ requiredGpus: 2, maxUtilizationPercent: 50 });
  expect(host.allocation(calm).status).toBe("queued");
  expect(host.gpusOf(host.submit())).toEqual(["GPU-b"]);
});
