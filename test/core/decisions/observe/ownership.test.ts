/** Whose process it is. */
import { expect, test } from "vitest";
import { blockOf } from "../../../../src/core/host/condition.ts";
import type { ProcessOrigin } from "../../../../src/core/model/reading.ts";
import { h100, process, SimulatedHost, seconds } from "../../../simulation/simulated-host.ts";

const PID = 500;

/** From a parent that was there long ago, unless said otherwise. */
function origin(host: SimulatedHost, over: Partial<ProcessOrigin> = {}): ProcessOrigin {
  return { user: "ada", startedAt: host.now, ancestors: [], cgroup: null, ...over };
}

function ownerOf(host: SimulatedHost, pid: number, uuid = "GPU-a") {
  return host.state.sight.gpus.get(uuid)?.owners.get(pid);
}

function detail(host: SimulatedHost, uuid: string) {
  const gpu = host.state.gpus.get(uuid);
  return gpu === undefined ? undefined : blockOf(gpu, host.state, host.now)?.detail;
}

test("the named process and all that come from it belong to the lease", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const before = host.now - seconds(60);
  const id = host.submit({ workloadData: { pid: PID } });
  host.advance(seconds(10));
  host.gpu("GPU-a", {
    processes: [
      process(PID, { origin: origin(host, { startedAt: before }) }),
      process(501, { origin: origin(host, { ancestors: [{ pid: PID, startedAt: before }] }) }),
      process(900, { origin: origin(host) }),
      process(901),
    ],
  });
  host.observe();
  expect([PID, 501, 900, 901].map((pid) => ownerOf(host, pid))).toEqual([id, id, undefined, undefined]);
});

test("a pid that was given again since the request names nobody", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit({ workloadData: { pid: PID } });
  host.advance(seconds(10));
  host.gpu("GPU-a", { processes: [process(PID, { origin: origin(host) })] });
  host.observe();
  expect(ownerOf(host, PID)).toBeUndefined();
});

test.each([[1], [0], [-5], [1.5], ["500"], [null]])("a pid of %j names nobody", (pid) => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const before = host.now - seconds(60);
  host.submit({ workloadData: { pid } });
  host.gpu("GPU-a", {
    processes: [process(77, { origin: origin(host, { ancestors: [{ pid: 1, startedAt: before }] }) })],
  });
  host.observe();
  expect(ownerOf(host, 77)).toBeUndefined();
});

test("a worker that was detached is known by its group, until the lease ends", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const before = host.now - seconds(60);
  const cgroup = "/docker/abc";
  const id = host.submit({ workloadData: { pid: PID } });
  const main = process(PID, { origin: origin(host, { startedAt: before, cgroup }) });
  const detached = process(777, { origin: origin(host, { cgroup }) });
  host.gpu("GPU-a", { processes: [main] });
  host.observe();
  host.gpu("GPU-a", { processes: [detached] });
  host.observe();
  expect(ownerOf(host, 777)).toBe(id);
  host.release(id);
  host.observe();
  expect(ownerOf(host, 777)).toBeUndefined();
});

test("a group in which two leases live tells neither", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const before = host.now - seconds(60);
  const cgroup = "/user.slice/session-1.scope";
  const one = host.submit({ workloadData: { pid: 500 } });
  const two = host.submit({ workloadData: { pid: 600 } });
  host.gpu("GPU-a", { processes: [process(500, { origin: origin(host, { startedAt: before, cgroup }) })] });
  host.gpu("GPU-b", {
    processes: [
      process(600, { origin: origin(host, { startedAt: before, cgroup }) }),
      process(700, { origin: origin(host, { cgroup }) }),
    ],
  });
  host.observe();
  expect([500, 600, 700].map((pid) => ownerOf(host, pid))).toEqual([one, two, undefined]);
});

test("whoever uses a GPU beside his lease is named for it, and the GPU is not granted", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const before = host.now - seconds(60);
  const id = host.submit({ workloadData: { pid: PID } });
  const other = host.gpusOf(id)?.[0] === "GPU-a" ? "GPU-b" : "GPU-a";
  host.gpu(other, { processes: [process(PID, { origin: origin(host, { startedAt: before }) })], memoryUsedMib: 1_004 });
  host.observe();
  expect(detail(host, other)).toBe(`process ${PID} (python) of user ada, of ${id}, whose lease is of other GPUs`);
  expect(host.whyQueued(host.submit())).toMatchObject({ [other]: "occupied" });
});

test("a process too small to work occupies nothing; one that hides its memory does", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.gpu("GPU-a", { processes: [process(9, { usedMemoryMib: 63 })], memoryUsedMib: 70 });
  host.observe();
  expect(detail(host, "GPU-a")).toBeUndefined();
  host.gpu("GPU-a", { processes: [process(9, { usedMemoryMib: 64 })], memoryUsedMib: 70 });
  host.observe();
  expect(detail(host, "GPU-a")).toContain("process 9");
  host.gpu("GPU-a", { processes: [process(9, { usedMemoryMib: null })], memoryUsedMib: 70 });
  host.observe();
  expect(detail(host, "GPU-a")).toContain("process 9");
  // It does not explain what others use, either.
  host.gpu("GPU-a", { processes: [process(9, { usedMemoryMib: 10 })], memoryUsedMib: 20_000 });
  host.observe();
  expect(detail(host, "GPU-a")).toBe("20000 MiB in use by no visible process");
});

test("a stranger that came after the lease's end occupies its GPU, but does not keep it from being given back", () => {
  const host = new SimulatedHost([h100("GPU-a")], { reclaimTimeoutMs: seconds(60) });
  const id = host.submit();
  host.gpu("GPU-a", { processes: [process(7, { origin: origin(host) })], memoryUsedMib: 9_000 });
  host.advance(seconds(5));
  host.release(id);
  const ended = host.now;
  host.advance(seconds(1));
  const stranger = process(8, { usedMemoryMib: 3_000, origin: origin(host, { startedAt: ended + 500 }) });
  host.gpu("GPU-a", { processes: [stranger], memoryUsedMib: 9_000 });
  host.observe();
  // Memory that is not the stranger's has not come back yet.
  expect(host.state.gpus.get("GPU-a")?.hold.kind).toBe("reclaiming");
  host.gpu("GPU-a", { memoryUsedMib: 3_004 });
  host.observe();
  expect(host.state.gpus.get("GPU-a")?.hold.kind).toBe("free");
  expect(detail(host, "GPU-a")).toContain("process 8");
});
