/** A lease that is bound to a process ends with it. */
import { expect, test } from "vitest";
import { h100, minutes, process as onGpu, SimulatedHost } from "../../simulation/simulated-host.ts";

const BOUND = { boundTo: { pid: 50, startTicks: 1 } };

test("it ends as process-gone, and the next in line is served", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit({ ...BOUND, ttlMs: minutes(10) });
  const next = host.submit();
  host.do({ type: "process-gone", id });
  expect(host.endReason(id)).toBe("process-gone");
  expect(host.gpusOf(next)).toEqual(["GPU-a"]);
});

test("its GPU is looked at as after any lease: while somebody uses it, nobody else gets it", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit(BOUND);
  host.gpu("GPU-a", { processes: [onGpu(99)], memoryUsedMib: 5_000 });
  host.advance(minutes(1));
  host.do({ type: "process-gone", id });
  expect(host.gpusOf(host.submit())).toBe(null);
});

test("a request that waits ends with its process too", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit();
  const id = host.submit(BOUND);
  host.do({ type: "process-gone", id });
  expect(host.endReason(id)).toBe("process-gone");
});

test("one that is bound to no process, and one that has ended, stay as they are", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = host.submit();
  expect(host.do({ type: "process-gone", id })).toEqual([]);
  expect(host.allocation(id).status).toBe("leased");
  host.release(id);
  expect(host.do({ type: "process-gone", id })).toEqual([]);
});
