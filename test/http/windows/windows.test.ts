import { expect, test } from "vitest";
import type { ReservedWindow } from "../../../src/core/model/policy.ts";
import { gpuReading } from "../../fixtures/readings.ts";
import { apiKey, startDaemon } from "../daemon.ts";

const HOUR_MS = 3_600_000;

/** The test's clock begins on Friday, 15 January 2027, at 8:00 UTC. */
function window(over: Partial<ReservedWindow> = {}): ReservedWindow {
  return {
    name: "office",
    schedule: "0 10 * * 1-5",
    timeZone: "Europe/Berlin",
    durationMs: 8 * HOUR_MS,
    gpus: 1,
    members: [{ services: [], principals: [], workloadTypes: ["inference"] }],
    spans: [],
    ...over,
  };
}

test("the windows are shown with who may use them and when they are open in the coming seven days", async () => {
  const named = window({ name: "named", schedule: "0 8 * * 5", gpus: ["1", "GPU-elsewhere"], members: [] });
  const daemon = await startDaemon({
    policy: { windows: [window(), named] },
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => [apiKey("k", "eye", "read")],
  });
  const { status, json } = await daemon.call("GET", "/gpu/windows", { headers: { "X-API-Key": "k" } });
  expect(status).toBe(200);
  expect(json.windows[0]).toMatchObject({
    name: "office",
    schedule: "0 10 * * 1-5",
    time_zone: "Europe/Berlin",
    duration_seconds: 28_800,
    gpus: 1,
    gpu_uuids: null,
    for: [{ services: [], principals: [], workload_types: ["inference"] }],
    open: false,
  });
  expect(json.windows[0].occurrences.map(({ from }: { from: string }) => from)).toEqual([
    "2027-01-15T09:00:00.000Z",
    "2027-01-18T09:00:00.000Z",
    "2027-01-19T09:00:00.000Z",
    "2027-01-20T09:00:00.000Z",
    "2027-01-21T09:00:00.000Z",
  ]);
  expect(json.windows[1]).toMatchObject({ gpus: null, gpu_uuids: [gpuReading(1).uuid], open: true });
  expect(json.windows[1].occurrences).toEqual([
    { from: "2027-01-15T07:00:00.000Z", to: "2027-01-15T15:00:00.000Z" },
    { from: "2027-01-22T07:00:00.000Z", to: "2027-01-22T15:00:00.000Z" },
  ]);
});

test("a window that names an index means the GPU that has it now, not one that had it once", async () => {
  const [first, second] = [gpuReading(0), gpuReading(1)];
  const daemon = await startDaemon({ policy: { windows: [window({ schedule: "0 8 * * 5", gpus: ["0"] })] } });
  const named = async () => (await daemon.call("GET", "/gpu/windows")).json.windows[0].gpu_uuids;
  expect(await named()).toEqual([first.uuid]);
  // The first has fallen off its bus, and the driver counts the second from 0.
  await daemon.see([{ ...second, index: 0 }]);
  expect(await named()).toEqual([second.uuid]);
  const { json } = await daemon.call("POST", "/gpu/plan", { body: { workload_type: "training", service_name: "a" } });
  expect(json.gpus.find(({ uuid }: { uuid: string }) => uuid === second.uuid).reason).toBe("window");
});

test("who waits for a window is told so in the answer, in the list, in the record and in a plan, and which end would do", async () => {
  const daemon = await startDaemon({ policy: { windows: [window()] } });
  const body = { required_gpus: 2, workload_type: "training" };
  const { json: planned } = await daemon.call("POST", "/gpu/plan", { body: { service_name: "trainer", ...body } });
  const { status, json: queued } = await daemon.allocate(body);
  expect(status).toBe(202);
  const reason = expect.stringMatching(
    /window office takes 1 GPU in 1h; with a max_duration of at most 59m it would fit now$/,
  );
  const { json: record } = await daemon.call("GET", `/gpu/allocations/${queued.id}`);
  const { json: list } = await daemon.call("GET", "/gpu/list");
  for (const one of [planned, queued, record, list.queue[0]]) expect(one.reason).toEqual(reason);
  expect(planned.gpus.map((gpu: { reason: string }) => gpu.reason).sort()).toEqual([null, "window"]);
  expect([planned.eta, queued.eta]).toEqual([null, null]);
  await daemon.call("DELETE", `/gpu/allocations/${queued.id}`);
  expect((await daemon.allocate({ ...body, max_duration: "59m" })).status).toBe(200);
});

test("a request that a window keeps out for good is queued, since windows can change", async () => {
  const daemon = await startDaemon({ policy: { windows: [window()] } });
  await daemon.allocate({ required_gpus: 2, max_duration: "30m" });
  const { status, json } = await daemon.allocate({ required_gpus: 2 });
  expect(status).toBe(202);
  expect(json.reason).toMatch(/window office takes 1 GPU in 1h, and without a max_duration it cannot start$/);
});
