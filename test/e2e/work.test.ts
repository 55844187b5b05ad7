/** The calls of both seeds' documents, as in the transcripts of what their own programs answered, against the built program. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Described } from "../http/described.ts";
import { eventually, isBuilt, startDaemon, type TestDaemon, temporaryFolder } from "./daemon.ts";
import { freePort } from "./free-port.ts";

const MLOC_SEED = "../shared/seeds/003_2cb4773746aba6d6.txt";
const further = await freePort();
const config = `
server: {listeners: [{port: ${further}, metrics: json}]}
auth:
  enabled: true
  api_keys:
    alice-key-0123456789: {principal: alice, role: run}
    bobs-key-01234567890: {principal: bob, role: run}
    plain-key-0123456789: carol
work:
  enabled: true
  allow_root: true
  allow_same_user: true
  executors:
    sh: {type: process, programs: [/bin/sh]}
    echo: {type: echo}
    sim: {type: simulated}
  task_types: {inference: sim, ppo: sim, echo: echo, job: sh}
  models:
    llama2: {executor: sim, readiness: {http: /health, interval: 200ms}}
`;
const folder = temporaryFolder();
let daemon: TestDaemon;

const key = (name: string) => ({ authorization: `Bearer ${name}` });
const ALICE = key("alice-key-0123456789");
/** Each answer is as the API's document has it. */
async function call(method: string, path: string, body?: unknown, headers: Record<string, string> = ALICE) {
  const answer = await daemon.call(method, path, body, headers);
  const reply = {
    status: answer.status,
    headers: Object.fromEntries(answer.headers),
    text: JSON.stringify(answer.body),
    json: typeof answer.body === "string" ? undefined : answer.body,
  };
  if (answer.status !== 204 && answer.status !== 405) described.expect(method, templateOf(path), reply);
  return answer;
}

let described: Described;

function templateOf(path: string): string {
  const [bare = ""] = path.split("?");
  const fits = (template: string) =>
    new RegExp(`^${template.replace("{id}", "[^/]+").replace("{rest}", ".+")}$`).test(bare);
  const [template = bare] = described.templates.filter(fits).sort((a, b) => a.length - b.length);
  return described.templates.includes(bare) ? bare : template;
}

async function submit(yaml: string, headers: Record<string, string> = ALICE) {
  const answer = await fetch(`${daemon.url}/api/v1/tasks`, {
    method: "POST",
    headers: { "content-type": "text/yaml", ...headers },
    body: yaml,
  });
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
}

const task = (spec: string, name = "job") =>
  `apiVersion: gpu-orchestrator/v1\nkind: Task\nmetadata: {name: ${name}}\nspec: ${spec}\n`;
const isOver = (id: unknown) =>
  eventually(
    () => call("GET", `/api/v1/tasks/${id}?wait=10s`),
    ({ body }) => ["DONE", "FAILED", "CANCELLED"].includes(body.status),
    60_000,
  );

const runs = describe.skipIf(!isBuilt);

beforeAll(async () => {
  if (!isBuilt) return;
  daemon = await startDaemon({ folder, config });
  described = new Described((await daemon.call("GET", "/openapi.json")).body);
  await eventually(
    () => call("GET", "/workers"),
    ({ body }) => body.length === 1,
    60_000,
  );
});
afterAll(async () => {
  if (!isBuilt) return;
  const { body: workloads } = await call("GET", "/workloads");
  for (const { id } of workloads) await call("DELETE", `/workloads/${id}`);
  await eventually(
    () => call("GET", "/status"),
    ({ body }) => body.runs === 0,
    60_000,
  );
  await daemon.end();
  daemon.removeFolder();
});

runs("the LLM Orchestrator's calls (needs dist/)", () => {
  const seed = {
    name: "my-llm-workload",
    modelName: "llama2",
    modelType: "text-generation",
    resources: { cpu: "2000m", memory: "8Gi", gpu: 1 },
    labels: { environment: "development", team: "ai-research" },
  };

  test("a simulated daemon and its worker have books and a folder that no other daemon has", () => {
    const files = readdirSync(join(folder, "data"));
    expect(files).toEqual(expect.arrayContaining(["simulated.work.db", "simulated.work.db.lock", "simulated-work"]));
    expect(files.filter((name) => name.startsWith("work"))).toEqual([]);
  });

  test("health, status and metrics have the fields of its document", async () => {
    expect((await daemon.call("GET", "/health")).body).toMatchObject({
      status: "healthy",
      version: expect.any(String),
    });
    const { body } = await call("GET", "/status");
    expect(body).toMatchObject({ orchestrator: "running", workloads: expect.any(Number), simulated: true });
    expect(body.uptime).toMatch(/^(\d+h)?(\d+m)?\d+s$/);
    const json = await daemon.call("GET", "/metrics", undefined, { accept: "application/json" });
    expect(Object.keys(json.body)).toEqual([
      "totalWorkloads",
      "runningWorkloads",
      "pendingWorkloads",
      "failedWorkloads",
      "timestamp",
    ]);
    const text = await daemon.call("GET", "/metrics");
    expect(text.body).toContain("# TYPE gpu_orchestrator_work_run_ends_total counter");
    const open = await daemon.call("GET", "/metrics", undefined, { accept: "application/openmetrics-text" });
    expect(open.body).toMatch(/# TYPE gpu_orchestrator_work_run_ends counter\n(.*\n)*# EOF\n$/);
  });

  test("a further port has the same calls, and answers whoever prefers nothing as its settings say", async () => {
    const there = `http://127.0.0.1:${further}`;
    const metrics = await fetch(`${there}/metrics`);
    expect(await metrics.json()).toMatchObject({ totalWorkloads: expect.any(Number) });
    const text = await fetch(`${there}/metrics`, { headers: { accept: "text/plain" } });
    expect(await text.text()).toContain("gpu_orchestrator_work_runs");
    expect((await fetch(`${there}/workloads`)).status).toBe(401);
    expect((await fetch(`${there}/workloads`, { headers: ALICE })).status).toBe(200);
  });

  test("a workload is created, scheduled, runs, is listed and deleted", async () => {
    const created = await call("POST", "/workloads", seed);
    expect(created.status).toBe(201);
    expect(created.body).toMatchObject({ ...seed, status: { phase: "pending", replicas: 1, readyReplicas: 0 } });
    const { id } = created.body;
    const scheduled = await call("POST", "/schedule", { workloadId: id });
    expect(scheduled.status).toBe(200);
    expect(Object.keys(scheduled.body)).toEqual(["workloadId", "scheduledNode", "schedulingTime", "status"]);
    expect(scheduled.body.status).toBe("scheduled");
    const ready = await eventually(
      () => call("GET", `/workloads/${id}`),
      ({ body }) => body.status.readyReplicas === 1,
      60_000,
    );
    expect(ready.body.status).toMatchObject({
      phase: "running",
      nodes: [{ state: "ready", gpu_uuids: [expect.any(String)] }],
    });
    expect(await (await fetch(`${ready.body.status.nodes[0].url}/health`)).json()).toEqual({ simulated: true });
    const listed = await call("GET", "/workloads?label=team=ai-research");
    expect(listed.body.map((found: { id: string }) => found.id)).toEqual([id]);
    expect((await call("GET", "/workloads?label=team=other")).body).toEqual([]);
    expect((await call("DELETE", `/workloads/${id}`)).status).toBe(204);
    expect((await call("GET", `/workloads/${id}`)).status).toBe(404);
  });

  test("what is wrong is refused with the codes of its program, and said", async () => {
    const missing = await call("GET", "/workloads/nope");
    expect([missing.status, missing.body.detail]).toEqual([404, "Workload not found"]);
    expect((await call("DELETE", "/workloads/nope")).status).toBe(404);
    expect((await call("PUT", "/workloads", {})).status).toBe(405);
    const broken = await fetch(`${daemon.url}/workloads`, {
      method: "POST",
      headers: { ...ALICE, "content-type": "application/json" },
      body: "notjson: [",
    });
    expect(broken.status).toBe(400);
    const invalid = await call("POST", "/workloads", { id: "x/y", resources: { gpu: -3 } });
    expect(invalid.status).toBe(422);
    expect(invalid.body.errors.map(({ path }: { path: string }) => path).sort()).toEqual([
      "id",
      "name",
      "resources.gpu",
    ]);
    expect((await call("POST", "/schedule", { workloadId: "nope" })).status).toBe(404);
  });

  test("a model without settings stays pending, with the key that is missing", async () => {
    const { body } = await call("POST", "/workloads", { ...seed, id: "unset", modelName: "gpt2" });
    expect(body.status).toMatchObject({ phase: "pending", message: expect.stringContaining('work.models."gpt2"') });
    const scheduled = await call("POST", "/schedule", { workloadId: "unset" });
    expect(scheduled).toMatchObject({ status: 202, body: { status: "pending", scheduledNode: null } });
    expect((await call("POST", "/workloads", { ...seed, id: "unset" })).status).toBe(409);
    expect((await call("DELETE", "/workloads/unset", undefined, key("bobs-key-01234567890"))).status).toBe(403);
    expect((await call("DELETE", "/workloads/unset")).status).toBe(204);
  });
});

runs("MLOC's calls (needs dist/)", () => {
  test.skipIf(!existsSync(MLOC_SEED))(
    "its document's two tasks are taken, done and answered as it answers (needs ../shared)",
    async () => {
      const yamls = [...readFileSync(MLOC_SEED, "utf8").matchAll(/```yaml\n(apiVersion[\s\S]*?)```/g)].map(
        ([, yaml]) => yaml as string,
      );
      const answers = await Promise.all(yamls.map((yaml) => submit(yaml)));
      expect(answers.map(({ status, body }) => [status, body.ok, body.topic])).toEqual([
        [200, true, "tasks.inference"],
        [200, true, "tasks.ppo"],
      ]);
      for (const { body } of answers)
        expect((await isOver(body.task_id)).body).toMatchObject({ status: "DONE", error: null });
      const { body: result } = await call("GET", `/api/v1/results/${answers[0]?.body.task_id}`);
      expect(result).toMatchObject({
        ok: true,
        model: "mistralai/Mistral-7B-Instruct-v0.1",
        items: [{ index: 0, finish_reason: "stop" }, { index: 1 }],
      });
      expect(Object.keys(result.usage)).toEqual([
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "latency_sec",
        "num_requests",
      ]);
    },
  );

  test("workers are told with its fields, and clean-up answers as it does", async () => {
    const { body } = await call("GET", "/workers");
    expect(body[0]).toMatchObject({
      worker_id: expect.any(String),
      status: expect.stringMatching(/^(IDLE|RUNNING)$/),
      pid: expect.any(Number),
      env: {},
      tags: [],
      stale: false,
    });
    expect(body[0].hardware).toMatchObject({
      cpu: { logical_cores: expect.any(Number) },
      memory: { total_bytes: expect.any(Number) },
      gpu: { driver_version: expect.any(String), gpus: expect.any(Array) },
      network: {},
    });
    expect(body[0].hardware.gpu.gpus[0]).toEqual({ index: 0, name: expect.any(String), uuid: expect.any(String) });
    expect((await call("GET", `/workers/${body[0].worker_id}`)).status).toBe(200);
    expect((await call("POST", "/admin/cleanup")).body).toEqual({ ok: true, removed: 0 });
    const unknown = await call("GET", "/workers/nope");
    expect([unknown.status, unknown.body.detail]).toEqual([404, "worker not found"]);
    const noTask = await call("GET", "/api/v1/tasks/nope");
    expect([noTask.status, noTask.body.detail]).toEqual([404, "task not found"]);
  });

  test("broken YAML, a missing field and a missing key are refused in its words", async () => {
    expect(await submit("a: [")).toMatchObject({
      status: 400,
      body: { detail: expect.stringContaining("Invalid YAML") },
    });
    expect(await submit("a: 1")).toMatchObject({ status: 400, body: { detail: "Missing required field: apiVersion" } });
    expect(await submit("a: 1\na: 2")).toMatchObject({ status: 400, body: { code: "malformed-yaml" } });
    expect(await submit("---\na: 1\n---\nb: 2")).toMatchObject({
      status: 400,
      body: { detail: "Invalid YAML: more than one document at line 3, column 1" },
    });
    expect(await submit("a: !!python/object:os.system x")).toMatchObject({
      status: 400,
      body: { code: "malformed-yaml" },
    });
    expect((await submit("a: 1", {})).status).toBe(401);
    expect((await submit(task("{taskType: echo}"), key("plain-key-0123456789"))).status).toBe(403);
    const wrapped = await call("POST", "/api/v1/tasks", { yaml: task("{taskType: echo}") });
    expect(wrapped.body.ok).toBe(true);
  });

  test("what no host of ours could hold is answered 200 and ok: false, as there", async () => {
    const { status, body } = await submit(task("{taskType: echo, resources: {hardware: {gpu: {count: 9}}}}"));
    expect([status, body.ok, Object.keys(body)]).toEqual([200, false, ["ok", "task_id", "error"]]);
    expect((await call("GET", `/api/v1/tasks/${body.task_id}`)).body.status).toBe("FAILED");
  });

  test("what the host has not opened is 403 and names the setting; a plan says what would be started", async () => {
    const closed = await submit(task("{taskType: job, command: [/bin/ls]}"));
    expect([closed.status, closed.body.code]).toEqual([403, "not-allowed"]);
    expect(closed.body.detail).toContain("work.executors.sh.programs");
    const plan = await call("POST", "/api/v1/tasks/plan", {
      yaml: task("{taskType: job, command: [/bin/sh, -c, 'true']}"),
    });
    expect(plan.body).toMatchObject({ argv: ["/bin/sh", "-c", "true"], starts_now: true, executor: "sh" });
    const service = `apiVersion: gpu-orchestrator/v1\nkind: Service\nmetadata: {name: s}\nspec: {executor: sh, command: [/bin/sh, -c, cat]}\n`;
    const served = await call("POST", "/api/v1/tasks/plan", { yaml: service });
    expect(served.body).toMatchObject({ argv: ["/bin/sh", "-c", "cat"], starts_now: true, executor: "sh" });
  });

  test("what fails is told with how often it was tried again, not how often it failed", async () => {
    const again = `{taskType: job, command: [/bin/sh, -c, 'exit 3'], retry: {max: 1, backoff: 100ms}}`;
    for (const [spec, retries] of [
      ["{taskType: job, command: [/bin/sh, -c, 'exit 3']}", 0],
      [again, 1],
    ] as const) {
      const { body } = await submit(task(spec));
      const ended = await eventually(
        () => call("GET", `/api/v1/tasks/${body.task_id}?wait=20s`),
        (answer) => answer.body.status === "FAILED",
        60_000,
      );
      expect(ended.body).toMatchObject({ retries, max_retries: retries, exit_code: 3 });
      expect(ended.body.attempts).toHaveLength(retries + 1);
    }
  });

  test("the same Idempotency-Key gives the same task", async () => {
    const headers = { ...ALICE, "idempotency-key": "once" };
    const [first, again] = [
      await submit(task("{taskType: echo}"), headers),
      await submit(task("{taskType: echo}"), headers),
    ];
    expect(again.body.task_id).toBe(first.body.task_id);
    expect((await submit(task("{taskType: job, command: [/bin/sh]}"), headers)).status).toBe(422);
  });

  test("others see that a task is there, and not what is in it", async () => {
    const { body } = await submit(task("{taskType: job, command: [/bin/sh, -c, 'echo private']}"));
    await isOver(body.task_id);
    const bob = key("bobs-key-01234567890");
    expect((await call("GET", `/api/v1/tasks/${body.task_id}`, undefined, bob)).body).toMatchObject({
      raw_yaml: null,
      parsed: null,
      status: "DONE",
    });
    for (const part of ["result", "logs", "files/responses.json"]) {
      expect((await call("GET", `/api/v1/tasks/${body.task_id}/${part}`, undefined, bob)).status, part).toBe(403);
    }
    expect((await call("GET", `/api/v1/tasks/${body.task_id}/logs`)).body).toBe("private\n");
    expect((await call("GET", `/api/v1/tasks/${body.task_id}/files/logs/stdout.log`)).status).toBe(200);
    for (const path of ["..%2f..%2fconfig.yaml", "../../config.yaml", "nope"]) {
      expect((await call("GET", `/api/v1/tasks/${body.task_id}/files/${path}`)).status, path).toBe(404);
    }
  });
});

runs("kill -9 of the daemon (needs dist/)", () => {
  test("leaves what runs running, and its result is there afterwards", async () => {
    const script = `sleep 3; echo "{\\"ok\\": true, \\"gpu\\": \\"$CUDA_VISIBLE_DEVICES\\"}" > $OUT_DIR/responses.json`;
    const { body } = await submit(
      task(`{taskType: job, command: [/bin/sh, -c, '${script}'], resources: {hardware: {gpu: {count: 1}}}}`),
    );
    await eventually(
      () => call("GET", "/runs?state=running"),
      ({ body: found }) => found.length > 0,
      30_000,
    );
    await daemon.end("SIGKILL");
    daemon = await startDaemon({ folder, config });
    const over = await isOver(body.task_id);
    expect(over.body).toMatchObject({ status: "DONE", attempts: [{ end_reason: "exited" }] });
    const result = await call("GET", `/api/v1/tasks/${body.task_id}/result`);
    expect(result.body).toEqual({ ok: true, gpu: over.body.attempts[0].gpu_uuids[0] });
    await eventually(
      () => call("GET", "/gpu/list"),
      ({ body: list }) => list.allocations.length === 0,
      30_000,
    );
  });
});
