/** Several leases on one GPU. */
import { expect, test } from "vitest";
import { blockOf } from "../../../src/core/host/condition.ts";
import { RequestNeverFitsError } from "../../../src/core/model/errors.ts";
import type { SharedHold } from "../../../src/core/model/holds.ts";
import type { GpuProcess } from "../../../src/core/model/reading.ts";
import { type Ask, h100, minutes, process, SimulatedHost, seconds, t4 } from "../../simulation/simulated-host.ts";

/** Of an H100's 81,559 MiB, less 5 %. */
const SHAREABLE = 81_559 - 4_078;

function shared(memoryMib: number, over: Ask = {}): Ask {
  return { sharing: "shared", minMemoryMib: memoryMib, webhookUrl: null, ...over };
}

function holdOf(host: SimulatedHost, uuid = "GPU-a"): SharedHold {
  const hold = host.state.gpus.get(uuid)?.hold;
  if (hold?.kind !== "shared") throw new Error(`${uuid} is ${hold?.kind}`);
  return hold;
}

/** Processes with names of their own, so that each is its lease's by descent. */
function running(host: SimulatedHost, processes: Readonly<Record<number, number>>, uuid = "GPU-a"): void {
  const list = Object.entries(processes).map(
    ([pid, usedMemoryMib]): GpuProcess =>
      process(Number(pid), {
        usedMemoryMib,
        origin: { user: "ada", startedAt: host.now - minutes(60), ancestors: [], cgroup: null },
      }),
  );
  const usedMib = 4 + list.reduce((sum, { usedMemoryMib }) => sum + (usedMemoryMib ?? 0), 0);
  host.gpu(uuid, { processes: list, memoryUsedMib: usedMib });
}

/** A lease whose processes are those below `pid`, and whose memory has settled. */
function settled(host: SimulatedHost, memoryMib: number, over: Ask = {}): string {
  const id = host.submit(shared(memoryMib, over));
  host.advance(minutes(2));
  expect(host.allocation(id).status).toBe("leased");
  return id;
}

test("two leases share a GPU when what both reserve is there, and the third waits for memory", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const first = settled(host, 40_000, { serviceName: "chat" });
  const second = settled(host, SHAREABLE - 40_000 - 4, { serviceName: "embed" });
  expect([first, second].map((id) => host.gpusOf(id))).toEqual([["GPU-a"], ["GPU-a"]]);
  const third = host.submit(shared(1));
  expect(why(host, third)).toEqual({ "GPU-a": "memory" });
  host.release(first);
  expect(host.gpusOf(third)).toEqual(["GPU-a"]);
});

test("a shared lease says what is reserved for it, and an exclusive one that it has its GPUs alone", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  expect(host.lease(host.submit(shared(4_000)))?.sharedMib).toBe(4_000);
  expect(host.lease(host.submit({ minMemoryMib: 4_000 }))?.sharedMib).toBeNull();
});

test("an exclusive and a shared lease are never on one GPU, whichever came first", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const part = settled(host, 1_000, { preferredGpus: ["GPU-a"] });
  const whole = host.submit({ preferredGpus: ["GPU-a"] });
  expect([host.gpusOf(part), host.gpusOf(whole)]).toEqual([["GPU-a"], ["GPU-b"]]);
  expect(why(host, host.submit())).toEqual({ "GPU-a": "held", "GPU-b": "held" });
  expect(why(host, host.submit(shared(77_000)))).toEqual({ "GPU-a": "memory", "GPU-b": "held" });
});

test("more than there is beside the head-room can never be had", () => {
  const host = new SimulatedHost([h100("GPU-a"), t4("GPU-t")]);
  expect(() => host.submit(shared(SHAREABLE + 1))).toThrow(RequestNeverFitsError);
  expect(() => host.submit(shared(SHAREABLE + 1))).toThrow("the largest here has 77481 MiB to share");
  expect(() => host.submit({ minMemoryMib: SHAREABLE + 1 })).not.toThrow();
});

test("head-room in MiB counts where it is more than the share in percent", () => {
  const sharing = { headroomPercent: 1, headroomMib: 2_000, maxLeasesPerGpu: 16, settleAfterMs: 0, settleTimeoutMs: 0 };
  const host = new SimulatedHost([h100("GPU-a", { memoryUsedMib: 0 })], { sharing });
  expect(() => host.submit(shared(81_559 - 1_999))).toThrow(RequestNeverFitsError);
  expect(host.gpusOf(host.submit(shared(81_559 - 2_000)))).toEqual(["GPU-a"]);
});

test("no more leases share a GPU than the settings allow", () => {
  const host = new SimulatedHost([h100("GPU-a")], {
    sharing: { headroomPercent: 5, headroomMib: 512, maxLeasesPerGpu: 2, settleAfterMs: 0, settleTimeoutMs: 0 },
  });
  settled(host, 1_000);
  const second = settled(host, 1_000);
  const third = host.submit(shared(1_000));
  expect(why(host, third)).toEqual({ "GPU-a": "crowded" });
  host.release(second);
  expect(host.gpusOf(third)).toEqual(["GPU-a"]);
});

/** Why one that waits has not been granted; one that does not wait is not asked. */
function why(host: SimulatedHost, id: string): Record<string, string | null> {
  expect(host.allocation(id).status).toBe("queued");
  return host.whyQueued(id);
}

// Placement.

test("a shared lease goes where others share already, to the tightest fit, and leaves empty GPUs whole", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b"), h100("GPU-c")]);
  settled(host, 20_000, { preferredGpus: ["GPU-b"] });
  settled(host, 50_000, { preferredGpus: ["GPU-c"] });
  expect(host.gpusOf(settled(host, 25_000))).toEqual(["GPU-c"]);
  expect(host.gpusOf(settled(host, 25_000))).toEqual(["GPU-b"]);
  expect(host.gpusOf(settled(host, 60_000))).toEqual(["GPU-a"]);
});

test("among empty GPUs the smallest that fits is shared", () => {
  const host = new SimulatedHost([h100("GPU-a"), t4("GPU-t")]);
  expect(host.gpusOf(host.submit(shared(8_000)))).toEqual(["GPU-t"]);
  expect(host.gpusOf(host.submit(shared(20_000)))).toEqual(["GPU-a"]);
});

test("a shared request for several GPUs takes its memory on each", () => {
  const host = new SimulatedHost([h100("GPU-a"), h100("GPU-b")]);
  const pair = host.submit(shared(30_000, { requiredGpus: 2 }));
  expect(host.gpusOf(pair)).toEqual(["GPU-a", "GPU-b"]);
  for (const uuid of ["GPU-a", "GPU-b"]) expect(holdOf(host, uuid).shares).toMatchObject([{ memoryMib: 30_000 }]);
});

test("a GPU that is busier than a request allows is passed over, shared or not", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  settled(host, 1_000);
  host.gpu("GPU-a", { utilizationPercent: 95 });
  host.observe();
  expect(why(host, host.submit(shared(1_000)))).toEqual({ "GPU-a": "utilization" });
});

test("a shared GPU that is busy with no process and no memory in use takes no more leases, whatever they allow", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  settled(host, 1_000);
  host.gpu("GPU-a", { utilizationPercent: 100 });
  host.observe();
  const next = host.submit(shared(1_000, { maxUtilizationPercent: 100 }));
  expect(why(host, next)).toEqual({ "GPU-a": "held" });
  running(host, { 11: 900 });
  host.observe();
  expect(host.gpusOf(next)).toEqual(["GPU-a"]);
});

// Starts are serialised.

test("a second lease starts on a GPU only when the first one's memory has stood still", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const first = host.submit(shared(20_000));
  const second = host.submit(shared(20_000, { webhookUrl: "http://127.0.0.1:9/hook" }));
  expect(why(host, second)).toEqual({ "GPU-a": "settling" });
  expect(detail(host)).toContain(`waiting for the memory of ${first} to settle`);
  for (let usedMib = 1_000; usedMib <= 16_000; usedMib += 5_000) {
    host.gpu("GPU-a", { memoryUsedMib: usedMib });
    host.advance(seconds(5));
  }
  expect(why(host, second)).toEqual({ "GPU-a": "settling" });
  host.advance(seconds(5));
  expect(host.allocation(second).status).toBe("queued");
  host.advance(seconds(5));
  expect(host.gpusOf(second)).toEqual(["GPU-a"]);
});

test("one that uses nothing is waited for until the settle timeout, and not a moment longer", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  host.submit(shared(20_000));
  const second = host.submit(shared(20_000, { webhookUrl: "http://127.0.0.1:9/hook" }));
  host.advance(minutes(2) - 1);
  expect(why(host, second)).toEqual({ "GPU-a": "settling" });
  host.advance(1);
  expect(host.gpusOf(second)).toEqual(["GPU-a"]);
});

test("an offer settles from its claim on: before that nobody starts anything", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const whole = host.submit();
  const offered = host.submit(shared(1_000, { webhookUrl: "http://127.0.0.1:9/hook" }));
  const next = host.submit(shared(1_000, { webhookUrl: "http://127.0.0.1:9/hook" }));
  host.release(whole);
  expect(host.allocation(offered).status).toBe("offered");
  host.advance(seconds(59));
  host.do({ type: "claim", id: offered });
  host.advance(minutes(2) - 1);
  expect(why(host, next)).toEqual({ "GPU-a": "settling" });
  host.advance(1);
  expect(host.gpusOf(next)).toEqual(["GPU-a"]);
});

test("what stood still while an offer waited for its client does not count", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const whole = host.submit();
  const offered = host.submit(shared(9_000, { webhookUrl: "http://127.0.0.1:9/hook" }));
  const next = host.submit(shared(1_000, { webhookUrl: "http://127.0.0.1:9/hook" }));
  host.release(whole);
  running(host, { 900: 5_000 });
  host.advance(seconds(30));
  host.do({ type: "claim", id: offered });
  host.advance(seconds(9));
  expect(why(host, next)).toEqual({ "GPU-a": "settling" });
  host.advance(seconds(6));
  expect(host.gpusOf(next)).toEqual(["GPU-a"]);
});

// What is seen counts.

test("memory beyond the reservations counts as taken, whoever has it", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  settled(host, 10_000);
  host.gpu("GPU-a", { memoryUsedMib: 50_000 });
  host.observe();
  expect(why(host, host.submit(shared(SHAREABLE - 50_000 + 1)))).toEqual({ "GPU-a": "memory" });
  expect(host.gpusOf(host.submit(shared(SHAREABLE - 50_000)))).toEqual(["GPU-a"]);
});

test("of each lease the larger of reserved and used counts, and a process of none counts beside them", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const pids = [501, 502];
  running(host, { 501: 2_000 });
  settled(host, 10_000, { workloadData: { pid: pids[0] as number } });
  settled(host, 10_000, { workloadData: { pid: pids[1] as number } });
  running(host, { 501: 15_000, 502: 2_000, 900: 5_000 });
  host.observe();
  const left = SHAREABLE - 4 - 15_000 - 10_000 - 5_000;
  expect(why(host, host.submit(shared(left + 1)))).toEqual({ "GPU-a": "memory" });
  expect(host.gpusOf(host.submit(shared(left)))).toEqual(["GPU-a"]);
});

test("an unknown process counts as its own of whoever may have it, within what is reserved", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  settled(host, 10_000);
  settled(host, 10_000);
  running(host, { 900: 9_000, 901: 8_000 });
  host.observe();
  expect(host.gpusOf(host.submit(shared(SHAREABLE - 4 - 20_000)))).toEqual(["GPU-a"]);
});

// Outgrowing.

test("a lease that outgrows its reservation is flagged once, runs on, and is cleared when it is back within it", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  running(host, { 501: 100 });
  const id = settled(host, 10_000, { workloadData: { pid: 501 } });
  settled(host, 10_000, { workloadData: { pid: 502 } });
  const flags = () => host.log.filter(({ type }) => type.startsWith("went-")).map(({ type }) => type);
  for (const usedMib of [10_064, 10_065, 12_000, 10_001, 10_000, 10_050]) {
    running(host, { 501: usedMib, 502: 9_000 });
    host.observe();
  }
  expect(flags()).toEqual(["went-over-memory", "went-within-memory"]);
  expect(host.log).toContainEqual({
    type: "went-over-memory",
    id,
    uuid: "GPU-a",
    at: host.now,
    usedMib: 10_065,
    reservedMib: 10_000,
  });
  expect(host.allocation(id).status).toBe("leased");
});

test("a flag stays when a newcomer makes it unclear whose the memory is, and goes when it cannot be too much", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const id = settled(host, 10_000);
  running(host, { 900: 20_000 });
  host.observe();
  settled(host, 5_000);
  const since = () => holdOf(host).shares.find(({ allocationId }) => allocationId === id)?.overSince;
  expect(since()).not.toBeNull();
  running(host, { 900: 10_000 });
  host.observe();
  expect(since()).toBeNull();
});

test("with several leases of which no process is known, nobody is accused", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  settled(host, 10_000);
  settled(host, 10_000);
  running(host, { 900: 30_000 });
  host.observe();
  expect(holdOf(host).shares.map(({ overSince }) => overSince)).toEqual([null, null]);
});

// Release, lease by lease.

function detail(host: SimulatedHost, uuid = "GPU-a"): string | undefined {
  const gpu = host.state.gpus.get(uuid);
  return gpu === undefined ? undefined : blockOf(gpu, host.state, host.now)?.detail;
}

/** Two leases whose processes are known, both in use. */
function twoAtWork(policy = {}) {
  const host = new SimulatedHost([h100("GPU-a")], policy);
  running(host, { 501: 100 });
  const first = settled(host, 30_000, { workloadData: { pid: 501 } });
  running(host, { 501: 20_000, 502: 100 });
  const second = settled(host, 30_000, { workloadData: { pid: 502 } });
  running(host, { 501: 20_000, 502: 20_000 });
  host.observe();
  return { host, first, second };
}

test("the reservation of an ended lease counts until its processes and its memory are gone; the others run on", () => {
  const { host, first, second } = twoAtWork();
  const next = host.submit(shared(40_000, { webhookUrl: "http://127.0.0.1:9/hook" }));
  host.release(first);
  expect(holdOf(host).remains).toMatchObject([{ allocationId: first, memoryMib: 30_000, pid: 501 }]);
  host.advance(seconds(5));
  expect(why(host, next)).toEqual({ "GPU-a": "memory" });
  // Its process has gone, its memory not yet.
  running(host, { 502: 20_000 });
  host.gpu("GPU-a", { memoryUsedMib: 40_000 });
  host.advance(seconds(5));
  expect(holdOf(host).remains).toHaveLength(1);
  running(host, { 502: 20_000 });
  host.advance(seconds(5));
  expect(holdOf(host).remains).toEqual([]);
  expect(host.gpusOf(next)).toEqual(["GPU-a"]);
  expect(host.allocation(second).status).toBe("leased");
});

test("what does not go in time keeps new leases away, not those that run, and clears by itself", () => {
  const { host, first, second } = twoAtWork();
  host.release(first);
  host.advance(seconds(60));
  const next = host.submit(shared(1_000, { webhookUrl: "http://127.0.0.1:9/hook" }));
  expect(why(host, next)).toEqual({ "GPU-a": "quarantined" });
  const reason = `what is left of ${first} has not been seen to go`;
  expect(detail(host)).toBe(reason);
  // The event says the same: of what is seen there, much is of the lease that runs.
  expect(host.log.findLast(({ type }) => type === "gpu-quarantined")).toMatchObject({ reason });
  expect(host.allocation(second).status).toBe("leased");
  running(host, { 502: 20_000 });
  host.advance(seconds(5));
  expect(host.gpusOf(next)).toEqual(["GPU-a"]);
});

test("an admin's word ends the wait for what is left", () => {
  const { host, first } = twoAtWork();
  host.release(first);
  host.advance(seconds(60));
  host.do({ type: "clear-quarantine", gpu: "GPU-a", reason: "it is fine", actor: { principal: "ops", admin: true } });
  expect(holdOf(host)).toMatchObject({ remains: [], overdueSince: null });
});

test("when the last one has ended the whole GPU must be seen empty", () => {
  const { host, first, second } = twoAtWork();
  host.release(first);
  host.release(second);
  expect(host.state.gpus.get("GPU-a")?.hold).toMatchObject({ kind: "reclaiming", allocationId: second });
  running(host, { 501: 20_000 });
  host.advance(seconds(5));
  expect(host.state.gpus.get("GPU-a")?.hold.kind).toBe("reclaiming");
  running(host, {});
  host.advance(seconds(5));
  expect(host.state.gpus.get("GPU-a")?.hold.kind).toBe("free");
});

test("a GPU that was overdue when its last lease ended is quarantined until it is empty", () => {
  const { host, first, second } = twoAtWork();
  host.release(first);
  host.advance(seconds(60));
  host.release(second);
  expect(host.state.gpus.get("GPU-a")?.hold.kind).toBe("quarantined");
  running(host, {});
  host.advance(seconds(5));
  expect(host.state.gpus.get("GPU-a")?.hold.kind).toBe("free");
});

test("a lease that was never seen to use its part leaves nothing to wait for", () => {
  const { host } = twoAtWork();
  const third = settled(host, 1_000, { workloadData: { pid: 503 } });
  host.release(third);
  expect(holdOf(host).remains).toEqual([]);
});

// The line.

test("a shared GPU is held for an exclusive head as any other: newcomers do not keep it from emptying", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const part = settled(host, 1_000, { maxDurationMs: minutes(60) });
  const whole = host.submit({ webhookUrl: "http://127.0.0.1:9/hook" });
  host.advance(minutes(1));
  const newcomer = host.submit(shared(1_000, { webhookUrl: "http://127.0.0.1:9/hook" }));
  expect(host.allocation(newcomer).status).toBe("queued");
  host.release(part);
  expect(host.gpusOf(whole)).toEqual(["GPU-a"]);
});

test("a short shared lease goes to a GPU that is held for an exclusive head which cannot start before", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  settled(host, 1_000, { maxDurationMs: minutes(60) });
  const whole = host.submit({ webhookUrl: "http://127.0.0.1:9/hook" });
  host.advance(minutes(1));
  const short = host.submit(shared(1_000, { maxDurationMs: minutes(50) }));
  expect(host.gpusOf(short)).toEqual(["GPU-a"]);
  host.advance(minutes(57));
  expect(host.gpusOf(whole)).toEqual(["GPU-a"]);
});

test("a shared head that waits for memory is not overtaken for good by smaller ones", () => {
  const host = new SimulatedHost([h100("GPU-a")]);
  const large = settled(host, 60_000, { maxDurationMs: minutes(60) });
  const head = host.submit(shared(50_000, { webhookUrl: "http://127.0.0.1:9/hook" }));
  host.advance(minutes(1));
  const small = host.submit(shared(1_000, { webhookUrl: "http://127.0.0.1:9/hook" }));
  expect(host.allocation(small).status).toBe("queued");
  host.release(large);
  expect(host.gpusOf(head)).toEqual(["GPU-a"]);
});
