/** `gpus` in an allocate, a plan and a workload, as their callers see it. */
import { expect, test } from "vitest";
import { gpuReading } from "../../fixtures/readings.ts";
import { startDaemon } from "../daemon.ts";

const three = () => [gpuReading(0), gpuReading(1), gpuReading(2)];

test("a list of indices and UUIDs gets just those, at the top level or in workload_data", async () => {
  const daemon = await startDaemon({ gpus: three() });
  const { json: first } = await daemon.allocate({ gpus: [2, gpuReading(0).uuid] });
  expect(first).toMatchObject({ status: "allocated", gpu_ids: [0, 2], required_gpus: 2 });
  expect(first.exact_gpus).toEqual([gpuReading(2).uuid, gpuReading(0).uuid]);
  const { status, json } = await daemon.allocate({ workload_data: { gpus: [2] }, webhook_url: "http://127.0.0.1/a" });
  expect([status, json.status]).toEqual([202, "queued"]);
  expect(json.gpus.map(({ reason }: { reason: string }) => reason)).toEqual(["named", "named", "held"]);
  expect((await daemon.allocate({ gpus: null })).json).toMatchObject({ gpu_ids: [1] });
});

test("a number is no list, and another number of GPUs contradicts it", async () => {
  const daemon = await startDaemon({ gpus: three() });
  const wrong = async (body: object) => (await daemon.allocate(body)).json.errors;
  expect(await wrong({ gpus: 2 })).toEqual([
    { path: "gpus", message: expect.stringContaining("did you mean required_gpus?") },
  ]);
  expect((await wrong({ gpus: [1], required_gpus: 2 }))[0]).toMatchObject({ path: "required_gpus" });
  expect((await wrong({ gpus: [] }))[0]).toMatchObject({ path: "gpus" });
  expect((await wrong({ gpus: [1.5] }))[0]).toMatchObject({ path: "gpus.0" });
  expect((await daemon.allocate({ gpus: [1], required_gpus: 1 })).status).toBe(200);
  expect((await daemon.allocate({ gpus: [7] })).json).toMatchObject({ code: "request-never-fits" });
});

test("plan and workload take it too", async () => {
  const daemon = await startDaemon({ gpus: three() });
  await daemon.allocate({ gpus: [1] });
  const body = { service_name: "a", gpus: [1, 2] };
  expect((await daemon.call("POST", "/gpu/plan", { body })).json).toMatchObject({
    outcome: "queued",
    required_gpus: 2,
  });
  expect((await daemon.call("POST", "/gpu/workload", { body })).json).toMatchObject({ required_gpus: 2, fits: true });
});
