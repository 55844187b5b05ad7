/** Objects that an older CRD, or a hand in the database, has let through: they stand for themselves, and all others go on. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Resting } from "../../src/controller/reconcile/resting.ts";
import { DatabaseObjects } from "../../src/controller/store/objects.ts";
import { deploymentRow } from "../../src/controller/store/projection.ts";
import { SqliteDatabase } from "../../src/controller/store/sqlite.ts";
import { apply, begin, condition, DEPLOYMENT, end, ends, server, started, until, WORKLOAD } from "./fake-cluster.ts";
import { condition as conditionOf, look, workload } from "./objects.ts";

const OTHER = "/apis/llm.orchestrator.io/v1/namespaces/ns/llmworkloads/other";
const MODEL = "/apis/llm.orchestrator.io/v1/llmmodels/bad";
const base = {
  apiVersion: "llm.orchestrator.io/v1",
  kind: "LLMWorkload",
  metadata: { name: "other", namespace: "ns" },
};
const PATHS = [
  "/internal/deployments",
  "/internal/deployments/other",
  "/internal/deployments/other/status",
  "/internal/deployments/status?model_id=x",
  "/internal/resources/available",
  "/admin/v1/deployments/other/why",
  "/admin/v1/deployments/other/rollout",
  "/admin/v1/infrastructure/health",
  "/apis/llm.orchestrator.io/v1/llmworkloads",
  "/apis/llm.orchestrator.io/v1/namespaces/ns/llmworkloads/other",
  "/apis/llm.orchestrator.io/v1/namespaces/ns/llmworkloads/other/scale",
  "/apis/llm.orchestrator.io/v1/llmmodels",
  "/metrics",
];

describe("in a cluster", () => {
  beforeEach(begin);
  afterEach(end);

  test.each([
    ["no spec", {}],
    ["a spec that is a list", { spec: [] }],
    ["targets that are none", { spec: { scaling: { targetMetrics: { a: 1 } } } }],
    ["a spec of other types", { spec: { scaling: "x", resources: 3, performance: null, engine: [], security: "y" } }],
    [
      "a status of other types",
      { spec: {}, status: { conditions: "x", endpoints: 3, plan: "y", revision: 4, desiredReplicas: "many" } },
    ],
    ["conditions that are none", { spec: {}, status: { conditions: [null, 3], state: "weird" } }],
  ])("an object with %s is not accepted, and lists, figures and other workloads are as they are", async (_, more) => {
    server.set(OTHER, { ...base, ...more });
    server.set(MODEL, { metadata: { name: "bad" }, spec: [], status: { conditions: "x" } });
    apply();
    await until(() => server.get(DEPLOYMENT) !== undefined, "a Deployment");
    const accepted = () => {
      const { conditions } = server.get(OTHER).status ?? {};
      return Array.isArray(conditions) ? conditions.find((one) => one?.type === "Accepted") : undefined;
    };
    await until(() => accepted()?.status === "False", "not accepted");
    const { spec = {} } = server.get(OTHER);
    expect(deploymentRow({ ...workload(), spec })).toMatchObject({ deployment_id: "chat" });
    expect(accepted()).toMatchObject({ reason: "Invalid", message: expect.stringContaining("spec") });
    const { port } = await started.api.listen("127.0.0.1", 0);
    ends.push(() => started.api.drain());
    for (const path of PATHS) {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`);
      expect(`${answer.status} ${path}`).toBe(`200 ${path}`);
      await answer.body?.cancel();
    }
  });

  test.each(["llama-3.1-8b", "7b", "x".repeat(64)])(
    "the name %s is not accepted, and nothing is made",
    async (name) => {
      const path = `/apis/llm.orchestrator.io/v1/namespaces/ns/llmworkloads/${name}`;
      apply();
      const { spec } = server.get(WORKLOAD);
      server.set(path, { ...base, metadata: { name, namespace: "ns" }, spec });
      const accepted = () =>
        server.get(path).status?.conditions?.find((one: { type: string }) => one.type === "Accepted");
      await until(() => accepted() !== undefined && condition("Accepted") !== undefined, "a judgement");
      expect(accepted()).toMatchObject({
        status: "False",
        message: expect.stringContaining("metadata.name: expected"),
      });
      expect(server.all("configmaps").map(({ metadata }) => metadata.name)).not.toContain(`${name}-config`);
    },
  );

  test("a pass that is under way ends with the workload that it is at when the controller is to end", async () => {
    for (let index = 0; index < 60; index++) {
      apply();
      const name = `chat-${index}`;
      server.set(WORKLOAD.replace(/chat$/, name), { ...server.get(WORKLOAD), metadata: { name, namespace: "ns" } });
    }
    await until(() => server.all("deployments").length > 0, "a first Deployment");
    await started.loop.stop();
    expect(server.all("deployments").length).toBeLessThan(50);
  });
});

test("a name of 63 letters is accepted", () => {
  const name = "x".repeat(63);
  const long = look({ ...workload(), metadata: { ...workload().metadata, name } });
  expect(conditionOf(long, "Accepted")?.status).toBe("True");
});

test("a workload that rests after a failure is due at once when something else is asked for, and when it is to go", () => {
  const resting = new Resting();
  const { metadata } = workload();
  for (let failures = 0; failures < 30; failures++) resting.failed(metadata, 0);
  expect(resting.isDue(metadata, 299_999)).toBe(false);
  expect(resting.isDue(metadata, 300_000)).toBe(true);
  expect(resting.isDue({ ...metadata, generation: 2 }, 1)).toBe(true);
  expect(resting.isDue({ ...metadata, deletionTimestamp: "2026-01-01T00:00:00Z" }, 1)).toBe(true);
  expect(resting.isDue({ ...metadata, uid: "its successor" }, 1)).toBe(true);
  resting.keep(new Set(["its successor"]));
  expect(resting.size).toBe(0);
});

test.each([["spec"], ["status"], ["metadata"]])(
  "a row whose %s a hand made unreadable takes no other with it",
  async (column) => {
    const database = new SqliteDatabase(":memory:");
    const objects = new DatabaseObjects(database);
    await objects.refresh();
    const { spec } = workload();
    for (const name of ["bad", "good"]) await objects.put({ namespace: "ns", name, labels: {}, annotations: {}, spec });
    await database.run([
      { sql: `UPDATE objects SET ${column} = '{"x' WHERE name = 'bad'` },
      { sql: "UPDATE versions SET last = last + 1" },
      { sql: "UPDATE objects SET version = (SELECT last FROM versions)" },
    ]);
    await objects.refresh();
    const [bad, good] = objects.workloads();
    expect(good?.spec).toEqual(spec);
    expect(bad?.metadata).toMatchObject({ name: "bad", labels: {}, annotations: {} });
    if (bad !== undefined)
      expect(conditionOf(look(bad), "Accepted")?.status).toBe(column === "spec" ? "False" : "True");
    await database.close();
  },
);
