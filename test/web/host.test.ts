import { expect, test } from "vitest";
import type { MigDevice, Reading } from "../../src/web/api/answers.ts";
import * as host from "../../src/web/model/host.ts";
import { gpu, holder, lease, list, waiting } from "./gpus.ts";

const instance = (over: Partial<MigDevice>) => ({ ...gpu(0), profile: "1g.10gb", ...over }) as MigDevice;

test("every GPU is counted once: held, free, cordoned, out of service or on its way back", () => {
  const gpus = [
    gpu(0),
    gpu(1, { state: "leased", holders: [holder("a")] }),
    gpu(2, { state: "lost", holders: [holder("b")] }),
    gpu(3, { state: "lost" }),
    gpu(4, { state: "reclaiming" }),
    gpu(5, { state: "cordoned" }),
    gpu(6, { state: "mig", mig_devices: [instance({ holders: [holder("c")] }), instance({})] }),
    gpu(7, { state: "mig", mig_devices: [instance({})] }),
  ];
  const counts = host.countsOf(list({ gpus, queue: [waiting("d")] }));
  expect(counts).toEqual({ all: 8, held: 3, free: 2, cordoned: 1, out: 1, returning: 1, waiting: 1 });
  expect(host.headline(counts)).toBe("2 of 8 GPUs free, 1 waiting");
  expect(host.headline(host.countsOf(list()))).toBe("no GPUs");
});

test("who holds a GPU includes those who hold instances of it, each once", () => {
  const cut = gpu(0, {
    state: "mig",
    mig_devices: [instance({ holders: [holder("a")] }), instance({ holders: [holder("a"), holder("b")] })],
  });
  expect(host.firstHolders(cut).map(({ allocation_id }) => allocation_id)).toEqual(["a-1", "b-1"]);
  expect(host.leasesOn(cut, [lease("a"), lease("b"), lease("c")]).map(({ id }) => id)).toEqual(["a-1", "b-1"]);
});

test("a lease ends at the earliest of what ends it whatever is renewed, and those without an end come last", () => {
  const at = (time: string) => Date.parse(`2026-11-30T${time}Z`);
  const soon = lease("soon", {
    expires_at: "2026-11-30T12:00:00Z",
    notice: { leave_by: "2026-11-30T11:00:00Z", reason: "preempted", detail: "" },
  });
  const renewed = lease("renewed", { expires_at: "2026-11-30T11:30:00Z", ttl_seconds: 60 });
  const bounded = lease("bounded", {
    ...{ expires_at: "2026-11-30T10:00:30Z", ttl_seconds: 60 },
    ...{ allocated_at: "2026-11-30T10:00:00Z", max_duration_seconds: 7_200 },
  });
  const endless = lease("endless");
  expect(host.endOf(soon)).toEqual({ at: at("11:00:00"), kind: "hard" });
  expect(host.endOf(renewed)).toEqual({ at: at("11:30:00"), kind: "unless-renewed" });
  expect(host.endOf(bounded)).toEqual({ at: at("12:00:00"), kind: "hard" });
  expect(host.endOf(endless)).toBeNull();
  const names = host.byEnd([endless, bounded, renewed, soon]).map(({ service_name }) => service_name);
  expect(names).toEqual(["soon", "renewed", "bounded", "endless"]);
});

const reading = (...gpus: Reading["gpus"]): Reading => ({
  at: "2026-11-30T10:00:00Z",
  driver_version: null,
  cuda_version: null,
  storage_healthy: true,
  monitor: { healthy: true, last_reading_at: null, failure: null, warnings: [] },
  gpus,
});

test("a reading brings figures and states, and says when a state has changed", () => {
  const now = (state: "free" | "unknown") =>
    reading({ ...gpu(0), pids: [], state, memory_used: 7, utilization: 42, power_draw: null });
  const before = list({ gpus: [gpu(0)] });
  const same = host.withReading(before, now("free"));
  expect(same.moved).toBe(false);
  expect(same.list.gpus[0]).toMatchObject({ utilization: 42, power_draw: null, memory_total: 81_559 });
  expect(host.withReading(same.list, now("free")).list.gpus[0]).toBe(same.list.gpus[0]);
  expect(host.withReading(before, now("unknown")).moved).toBe(true);
  expect(host.withReading(list({ gpus: [gpu(0), gpu(1)] }), now("free")).moved).toBe(true);
});

test("a reading with another ailment, another instance's state or another process makes the list out of date", () => {
  const cut = gpu(0, { mig_devices: [instance({ gpu_instance_id: 1, compute_instance_id: 0, memory_used: 9 })] });
  const told = (over: Partial<Reading["gpus"][number]>) =>
    host.withReading(list({ gpus: [cut] }), reading({ ...cut, pids: [], ...over }));
  expect(told({})).toMatchObject({ moved: false, list: { gpus: [cut] } });
  expect(told({}).list.gpus[0]).toBe(cut);
  expect(told({ ailment: { state: "isolated", reason: "fabric", since: null } }).moved).toBe(true);
  expect(told({ pids: [7] }).moved).toBe(true);
  const part = cut.mig_devices[0] as MigDevice;
  expect(told({ mig_devices: [{ ...part, state: "occupied" }] }).moved).toBe(true);
  const grown = told({ mig_devices: [{ ...part, memory_used: 900 }] });
  expect(grown).toMatchObject({ moved: false, list: { gpus: [{ mig_devices: [{ memory_used: 900 }] }] } });
});

test("devices are called by what people count, and instances by their GPU", () => {
  const cut = gpu(3, { mig_devices: [instance({ uuid: "MIG-a", index: 1 }), instance({ uuid: null })] });
  expect(host.namesOf([cut, gpu(4, { id: null })])).toEqual([
    ["GPU-3", "GPU 3"],
    ["MIG-a", "GPU 3 MIG 1"],
  ]);
});

test("a model is said once when all GPUs are of it", () => {
  expect(host.onlyModel([gpu(0), gpu(1)])).toBe("NVIDIA H100 80GB HBM3");
  expect(host.onlyModel([gpu(0), gpu(1, { name: "NVIDIA L40S" })])).toBeNull();
  expect(host.onlyModel([])).toBeNull();
});

test("a search of the queue means those who have all its words, in any case", () => {
  const queue = [waiting("Trainer"), waiting("ocr", "waiting for trainer"), waiting("embed")];
  expect(host.matching(queue, " trainer ")).toEqual(queue.slice(0, 2));
  expect(host.matching(queue, "TRAINER ocr")).toEqual([queue[1]]);
  expect(host.matching(queue, "")).toBe(queue);
});
