/** Requests that name their GPUs: just those, and they wait for them. */
import { expect, test } from "vitest";
import { explain } from "../../../src/core/explain/explain.ts";
import { planOf } from "../../../src/core/explain/plan.ts";
import { ADMIN, ASK, h100, minutes, refusal, SimulatedHost, seconds } from "../../simulation/simulated-host.ts";

const four = () => ["GPU-a", "GPU-b", "GPU-c", "GPU-d"].map((uuid, index) => h100(uuid, { index }));
const named = (...exactGpus: string[]) => ({ exactGpus, requiredGpus: exactGpus.length });

test("it gets the GPUs that it names, by index or UUID, whatever else is free", () => {
  const host = new SimulatedHost(four());
  expect(host.gpusOf(host.submit(named("3", "GPU-b")))).toEqual(["GPU-b", "GPU-d"]);
});

test("it waits for them while others are free, and has them as soon as they are", () => {
  const host = new SimulatedHost(four());
  const holder = host.submit(named("2"));
  const waiting = host.submit(named("2"));
  expect(host.whyQueued(waiting)).toEqual({ "GPU-a": "named", "GPU-b": "named", "GPU-c": "held", "GPU-d": "named" });
  expect(host.gpusOf(host.submit())).toEqual(["GPU-a"]);
  host.release(holder);
  expect(host.gpusOf(waiting)).toEqual(["GPU-c"]);
});

test("those that wait for other GPUs than it are served past it, and its own are held for it", () => {
  const host = new SimulatedHost(four(), { reserveAfterMs: 0 });
  const holder = host.submit({ ...named("0"), maxDurationMs: minutes(10) });
  const head = host.submit(named("0", "1"));
  const other = host.submit(named("2"));
  expect(host.gpusOf(other)).toEqual(["GPU-c"]);
  // GPU 1 is free, and kept: only who is gone before may have it.
  expect(host.gpusOf(host.submit({ ...named("1"), maxDurationMs: minutes(60) }))).toBe(null);
  expect(host.gpusOf(host.submit({ requiredGpus: 1, maxDurationMs: minutes(60) }))).toEqual(["GPU-d"]);
  host.release(holder);
  expect(host.gpusOf(head)).toEqual(["GPU-a", "GPU-b"]);
});

test("its start is foreseen by the GPUs that it names, however soon others come back", () => {
  const host = new SimulatedHost(four(), { reserveAfterMs: 0 });
  host.submit({ ...named("0"), maxDurationMs: minutes(60) });
  host.submit({ ...named("2"), maxDurationMs: minutes(5) });
  host.submit(named("0", "1"));
  expect(host.gpusOf(host.submit({ ...named("1"), maxDurationMs: minutes(30) }))).toEqual(["GPU-b"]);
});

test("an index is that of now: the request waits for the GPU, not for whichever has the number later", () => {
  const host = new SimulatedHost(four());
  const holder = host.submit(named("1"));
  const waiting = host.submit(named("1"));
  expect(host.allocation(waiting).request.exactGpus).toEqual(["GPU-b"]);
  host.gpu("GPU-b", { index: 7 });
  host.observe();
  host.release(holder);
  expect(host.gpusOf(waiting)).toEqual(["GPU-b"]);
});

test("a GPU that is not there, one that is named twice and one that is too small can never be had", () => {
  const host = new SimulatedHost(four());
  expect(refusal(() => host.submit(named("9")))).toBe("request-never-fits");
  expect(refusal(() => host.submit(named("1", "GPU-b")))).toBe("request-never-fits");
  expect(refusal(() => host.submit({ ...named("1"), minMemoryMib: 90_000 }))).toBe("request-never-fits");
  expect(refusal(() => host.submit({ ...named("1"), gpuModel: "T4" }))).toBe("request-never-fits");
});

test("a plan of it says which GPU it would wait for", () => {
  const host = new SimulatedHost(four());
  // Beside its end, a minute is allowed for the GPU to be seen empty.
  host.submit({ ...named("2"), maxDurationMs: minutes(5) });
  const ask = { ...ASK, ...named("2"), maxDurationMs: minutes(5) };
  const plan = planOf(host.state, ask, ADMIN, host.now);
  expect(plan).toMatchObject({ outcome: "queued", position: 1, eta: { latest: host.now + minutes(6) } });
  expect(planOf(host.state, { ...ASK, ...named("3") }, ADMIN, host.now)).toMatchObject({
    outcome: "granted",
    gpus: [{ uuid: "GPU-d" }],
  });
});

test("what it waits for is said in words", () => {
  const host = new SimulatedHost(four());
  host.submit(named("2"));
  const waiting = host.submit(named("2"));
  const { reason } = explain(host.allocation(waiting).request, host.state, host.now + seconds(1));
  expect(reason).toContain("0 of 4 can be had now (3 not among those asked for, 1 leased)");
});
