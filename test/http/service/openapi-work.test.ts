/** The calls of running work in the API's document. */
import { expect, test } from "vitest";
import { z } from "zod";
import { ManualClock } from "../../../src/platform/clock.ts";
import { readTask } from "../../../src/work/documents/task.ts";
import { emptyWork, withTask } from "../../../src/work/state.ts";
import { deliveriesFor } from "../../../src/work-service/deliveries.ts";
import { WORK_REFUSALS } from "../../../src/work-service/refusals.ts";
import { document as documentOf, TASK_SETTINGS, taskOf } from "../../work/fixtures.ts";
import { startDaemon } from "../daemon.ts";
import { Described } from "../described.ts";
import { idleWork, NO_METRICS } from "../idle-work.ts";

async function start() {
  const work = idleWork(new ManualClock());
  const daemon = await startDaemon({ metrics: NO_METRICS, work });
  const { json } = await daemon.call("GET", "/openapi.json");
  return { daemon, work, json, document: new Described(json) };
}

test("every call stands there, but for those between nodes, with the parameters that it takes", async () => {
  const { work, document } = await start();
  const served = work.endpoints
    .filter(({ documented }) => !documented.startsWith("/cluster/"))
    .flatMap(({ documented, methods }) =>
      Object.entries(methods).map(([method, { takesQuery }]) => [`${method} ${documented}`, takesQuery === true]),
    );
  const known = new Set(served.map(([call]) => call));
  const described = document.calls
    .map((call) => {
      const { parameters = [] } = call.operation as { parameters?: readonly { in: string }[] };
      return [`${call}`, parameters.some((one) => one.in === "query")];
    })
    .filter(([call]) => known.has(call as string));
  expect(described.toSorted()).toEqual(served.toSorted());
});

test("real answers are as it says, in whole", async () => {
  const { daemon, document } = await start();
  const statuses = new Set<number>();
  const check = async (method: string, path: string, template: string, body?: unknown) => {
    const reply = daemon.call(method, path, body === undefined ? {} : { body });
    document.expect(method, template, await reply);
    statuses.add((await reply).status);
    return (await reply).json;
  };
  const yaml = JSON.stringify(documentOf({ executor: "process", resources: { hardware: { gpu: { count: 1 } } } }));
  const tasks = "/api/v1/tasks";
  const plan = await check("POST", `${tasks}/plan`, `${tasks}/plan`, { yaml });
  expect(plan).toMatchObject({ fits: true, starts_now: false });
  for (const wrong of ["a: [", "{}", documentOf({ executor: "none" }), documentOf({ priority: 99 })])
    await check("POST", tasks, tasks, typeof wrong === "string" ? { yaml: wrong } : wrong);
  const workload = await check("POST", "/workloads", "/workloads", { name: "a", modelName: "none" });
  for (const path of ["/workloads", "/runs", "/workers", "/status", "/work", tasks, "/health"])
    await check("GET", path, path);
  await check("GET", `/workloads/${workload.id}`, "/workloads/{id}");
  await check("PATCH", `/workloads/${workload.id}`, "/workloads/{id}", { replicas: 2 });
  await check("POST", `/workloads/${workload.id}/restart`, "/workloads/{id}/restart");
  await check("POST", "/schedule", "/schedule", { workloadId: workload.id });
  await check("POST", "/admin/cleanup", "/admin/cleanup");
  for (const [path, template] of [
    ["/workloads/none", "/workloads/{id}"],
    [`${tasks}/none`, `${tasks}/{id}`],
    [`${tasks}/none/logs`, `${tasks}/{id}/logs`],
    [`${tasks}/none/files/a/b`, `${tasks}/{id}/files/{rest}`],
    ["/runs/none/logs?tail=-1", "/runs/{id}/logs"],
    ["/workers/none", "/workers/{id}"],
  ] as const)
    await check("GET", path, template);
  document.expect("GET", "/metrics", await daemon.call("GET", "/metrics", { headers: { accept: "application/json" } }));
  expect([...statuses].sort()).toEqual([200, 201, 202, 400, 403, 404, 422]);
});

test("what a task's webhook says is as it says", async () => {
  const { json } = await start();
  const { schema } = json.webhooks.task_ended.post.requestBody.content["application/json"];
  const task = { ...taskOf("t", readTask(documentOf({ webhook_url: "https://a.example" }) as never, TASK_SETTINGS)) };
  const state = withTask(emptyWork(), { ...task, status: "DONE", finishedAt: 1 });
  const [told] = deliveriesFor([{ type: "task-ended", id: "t", status: "DONE", error: null, at: 1 }], state, 1);
  const result = z
    .fromJSONSchema({ ...schema, $defs: json.components.schemas })
    .safeParse(JSON.parse(told?.body ?? ""));
  expect(result.error?.issues ?? []).toEqual([]);
});

test("every document's key stands there, and its refusals lead to a line about them", async () => {
  const { json, daemon } = await start();
  const [body] = json.paths["/api/v1/tasks"].post.requestBody.content["application/json"].schema.anyOf;
  expect(body.properties.spec.properties.retry.properties.max).toMatchObject({ type: "integer", maximum: 100 });
  expect(body.properties.spec.properties.model.properties.vllm.properties.dtype.enum).toContain("bfloat16");
  const { text } = await daemon.call("GET", "/docs/problems");
  for (const code of Object.keys(WORK_REFUSALS.kinds)) expect(text).toContain(`id="${code}"`);
});
