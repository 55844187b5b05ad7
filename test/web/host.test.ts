import { expect, test } from "vitest";
import type { MigDevice, Reading } from "../../src/web/api/answers.ts";
import * as host from "../../src/web/model/host.ts";
import { gpu, holder, lease, list, waiting } from "./gpus.ts";

const instance = (over: Partial<MigDevice>) => ({ ...gpu(0), profile: "1g.10gb", ...over }) as MigDevice;

test("every GPU is counted once: held, free, out of service or on its way back", () => {
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
  expect(counts).toEqual({ all: 8, held: 3, free: 2, out: 2, returning: 1, waiting: 1 });
  expect(host.headline(counts)).toBe("2 of 8 GPUs free, 1 waiting");
  expect(host.headline(host.countsOf(list()))).toBe("no GPUs");
});

test("who holds a GPU includes those who hold instances of it, each once", () => {
  const cut = gpu(0, {
    state: "mig",
    mig_devices: [instance({ holders: [holder("a")] }), instance({ holders: [holder("a"), holder("b")] })],
  });
  expect(host.servicesOn(cut)).toEqual(["a", "b"]);
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

test("a reading brings figures and states, and says when a state has changed", () => {
  const reading = (state: "free" | "unknown"): Reading => ({
    at: "2026-11-30T10:00:00Z",
    driver_version: null,
    cuda_version: null,
    storage_healthy: true,
    monitor: { healthy: true, last_reading_at: null, failure: null, warnings: [] },
    gpus: [{ ...gpu(0), state, memory_used: 7, utilization: 42, power_draw: null }],
  });
  const before = list({ gpus: [gpu(0)] });
  const same = host.withReading(before, reading("free"));
  expect(same.moved).toBe(false);
  expect(same.list.gpus[0]).toMatchObject({ utilization: 42, power_draw: null, memory_total: 81_559 });
  expect(host.withReading(same.list, reading("free")).list.gpus[0]).toBe(same.list.gpus[0]);
  expect(host.withReading(before, reading("unknown")).moved).toBe(true);
  expect(host.withReading(list({ gpus: [gpu(0), gpu(1)] }), reading("free")).moved).toBe(true);
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
