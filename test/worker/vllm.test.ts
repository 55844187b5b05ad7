/** The executor vllm, against a fake of its server that knows the real flags. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readTask } from "../../src/work/documents/task.ts";
import { assignedTask, reportTo } from "../../src/work/nodes.ts";
import { TASK_SETTINGS } from "../work/fixtures.ts";
import { Site, until } from "./site.ts";

const FAKE = new URL("../fixtures/fake-vllm.mjs", import.meta.url).pathname;
const command = [process.execPath, FAKE];
const modules = mkdtempSync(join(tmpdir(), "gpuo-datasets-"));
// A stand-in for the package, with rows that say what they were asked for.
writeFileSync(
  join(modules, "datasets.py"),
  `class Rows(list):
    column_names = ["text", "label"]
    def take(self, count):
        return Rows(self[:count])

def load_dataset(source, config=None, split=None, streaming=False, data_files=None):
    return Rows({"text": f"{source} text {i}", "label": i} for i in range(5))
`,
);
const executors = {
  vllm: { type: "vllm" as const, command },
  dataset: { type: "vllm" as const, command, env: { PYTHONPATH: modules } },
};
const site = new Site({ executors });
const readiness = { http: "/health", intervalMs: 100 };
const named = new Site({
  executors,
  work: {
    models: {
      llama2: { executor: "vllm", identifier: "meta/llama2", args: ["--enforce-eager"], gpu: null, readiness },
    },
  },
});
beforeAll(async () => void (await Promise.all([site.start(), named.start()])));
afterAll(async () => {
  await Promise.all([site.close(), named.close()]);
  rmSync(modules, { recursive: true, force: true });
});

const model = { source: { identifier: "org/model", revision: "main" }, vllm: { max_model_len: 128, dtype: "auto" } };

describe("the reader of datasets", () => {
  /** The prompts of each, or why there are none. */
  const read = (all: readonly object[]): unknown[] => {
    const program = `import dataset, json, sys
def one(data):
    try:
        return dataset.prompts_of(data)
    except dataset.DatasetError as error:
        return str(error)
print(json.dumps([one(data) for data in json.loads(sys.argv[1])]))`;
    const folder = new URL("../../executors/python", import.meta.url).pathname;
    const env = { PATH: process.env.PATH, PYTHONPATH: `${modules}:${folder}` };
    const { stdout, stderr } = spawnSync("python3", ["-B", "-c", program, JSON.stringify(all)], {
      env,
      encoding: "utf8",
    });
    expect(stderr).toBe("");
    return JSON.parse(stdout);
  };

  test("fetches no address but the url's, and opens no folder, whatever a document has come to say", () => {
    const folders = ["hf://a/b", "file:///etc", "/etc", "./a", "../a", "~/a", "a/../b", "a/b/c", "a\n"];
    const wrong = [
      ...["http://127.0.0.1/x.json", ...folders].flatMap((name) => [{ name }, { dataset_name: name }]),
      ...folders.map((url) => ({ url })),
    ];
    for (const [i, said] of read(wrong).entries()) {
      expect(said, JSON.stringify(wrong[i])).toContain("expected name or org/name");
    }
    const right = [{ url: "http://127.0.0.1/x.json" }, { name: "org/data" }, { url: "org/data", name: "part" }];
    expect(read(right.map((data) => ({ ...data, max_samples: 1 })))).toEqual([
      ["json text 0"],
      ["org/data text 0"],
      ["org/data text 0"],
    ]);
  });
});

describe("the executor vllm", () => {
  test("as a task serves the model, sends it the prompts, and ends with its answers", async () => {
    const id = site.submit([], {
      taskType: "inference",
      executor: "vllm",
      command: null,
      model,
      inference: { prompts: ["one two", "three"], max_tokens: 1 },
    });
    expect(await site.isOver(id)).toMatchObject({ status: "DONE", error: null });
    const result = JSON.parse(readFileSync(join(site.dir, "results", id, "responses.json"), "utf8"));
    expect(result).toMatchObject({
      ok: true,
      model: "org/model",
      items: [
        { index: 0, output: "FAKE: one two", finish_reason: "length" },
        { index: 1, output: "FAKE: three", finish_reason: "length" },
      ],
      usage: { prompt_tokens: 3, completion_tokens: 3, total_tokens: 6, num_requests: 2 },
    });
  });

  test("as a service becomes ready, and is stopped by its signal", async () => {
    const uid = site.serve({ executor: "vllm", model, readiness: { http: "/health", interval: "100ms" } });
    const run = await site.phase(uid, "ready");
    const port = run.phase === "ready" ? run.port : null;
    expect((await fetch(`http://127.0.0.1:${port}/health`)).status).toBe(200);
    const { argv } = JSON.parse(site.read(run.id, "order.json") ?? "{}");
    expect(argv.slice(argv.indexOf("serve"), argv.indexOf("serve") + 4)).toEqual([
      "serve",
      "org/model",
      "--host",
      "127.0.0.1",
    ]);
    site.books.command({ type: "delete-workload", id: uid });
    await site.phase(uid, "ended");
    expect(site.run(uid)).toMatchObject({ exitCode: 0, reason: "cancelled" });
  });

  test("as a task that uses a service waits until that is ready, and starts no engine of its own", async () => {
    const spec = {
      taskType: "inference",
      executor: "vllm",
      command: null,
      inference: { prompts: ["one two"], max_tokens: 1 },
    };
    const named = (service: string) => ({ ...spec, model: { service } });
    expect(() => site.submit([], named("nothing"), 0)).toThrow("is no workload of yours");
    const uid = site.serve({ executor: "vllm", model, readiness: { http: "/health", interval: "100ms" } });
    const id = site.submit([], named(uid), 0);
    expect(site.run(id)).toBe(undefined);
    expect(await site.isOver(id)).toMatchObject({ status: "DONE", error: null });
    const result = JSON.parse(readFileSync(join(site.dir, "results", id, "responses.json"), "utf8"));
    expect(result).toMatchObject({ ok: true, model: "org/model", items: [{ output: "FAKE: one two" }] });
    const run = site.run(id)?.id as string;
    expect(JSON.parse(site.read(run, "order.json") ?? "{}").argv.at(-1)).toBe("--");
    site.books.command({ type: "delete-workload", id: uid });
    const never = site.serve({ executor: "vllm", model, readiness: { http: "/nothing", interval: "100ms" } });
    const late = site.submit([], named("service"), 0);
    site.books.command({ type: "delete-workload", id: never });
    expect(await site.isOver(late)).toMatchObject({ status: "FAILED", error: "service-gone" });
  });

  test("as a service of a workload with a name of its own for its model goes by that name, with the arguments of its settings", async () => {
    const uid = named.workload({
      name: "chat",
      modelName: "llama2",
      resources: { gpu: 1 },
      liveness: { completion: true, interval: "1s", timeout: "5s", failures: 1 },
    });
    const run = await named.phase(uid, "ready");
    const { argv, probes } = JSON.parse(named.read(run.id, "order.json") ?? "{}");
    expect(
      argv.slice(argv.indexOf("serve") + 1).filter((word: string) => !/^--(?:host|port)$|^127|^\d+$/.test(word)),
    ).toEqual([
      "meta/llama2",
      "--served-model-name",
      "llama2",
      "--tensor-parallel-size",
      "--gpu-memory-utilization",
      "0.9",
      "--shutdown-timeout",
      "--enforce-eager",
    ]);
    expect(probes.model).toBe("llama2");
    const base = `http://127.0.0.1:${run.phase === "ready" ? run.port : 0}/v1`;
    expect(await (await fetch(`${base}/models`)).json()).toMatchObject({ data: [{ id: "llama2" }] });
    const asked = async (name: string) => {
      const body = JSON.stringify({ model: name, prompt: "a b", max_tokens: 1 });
      return (await fetch(`${base}/completions`, { method: "POST", body })).status;
    };
    expect([await asked("llama2"), await asked("meta/llama2")]).toEqual([200, 404]);
    const prompts = { inference: { prompts: ["one"], max_tokens: 1 } };
    const id = named.submit(
      [],
      { taskType: "inference", executor: "vllm", command: null, model: { service: uid }, ...prompts },
      0,
    );
    expect(await named.isOver(id)).toMatchObject({ status: "DONE", error: null });
    const result = JSON.parse(readFileSync(join(named.dir, "results", id, "responses.json"), "utf8"));
    expect(result).toMatchObject({ ok: true, model: "llama2" });
    // By now it has been asked for a token more than once.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(named.run(uid)).toMatchObject({ id: run.id, phase: "ready" });
    named.books.command({ type: "delete-workload", id: uid });
  });

  test("as a task asks a service that calls its model otherwise by the name that it lists", async () => {
    const server = `require("node:http").createServer((req, res) => {
        let text = "";
        req.on("data", (chunk) => (text += chunk)).on("end", () => {
          if (req.url === "/v1/models") return res.end(JSON.stringify({ data: [{ id: "what-it-loaded" }] }));
          if (req.url === "/v1/completions" && JSON.parse(text).model !== "what-it-loaded") res.writeHead(404);
          res.end(JSON.stringify({ choices: [{ text: "yes" }] }));
        });
      }).listen(Number(process.env.PORT), "127.0.0.1")`;
    const uid = site.serve({
      command: [process.execPath, "-e", server],
      model: { source: { identifier: "org/model" } },
      readiness: { http: "/health", interval: "100ms" },
    });
    const asks = { model: { service: uid }, inference: { prompts: ["one"] } };
    const id = site.submit([], { taskType: "inference", executor: "vllm", command: null, ...asks }, 0);
    expect(await site.isOver(id)).toMatchObject({ status: "DONE", error: null });
    const result = JSON.parse(readFileSync(join(site.dir, "results", id, "responses.json"), "utf8"));
    expect(result).toMatchObject({ ok: true, model: "what-it-loaded", items: [{ output: "yes" }] });
    site.books.command({ type: "delete-workload", id: uid });
  });

  test("of a controller whose service is away begins nothing, and says so as nobody's fault", async () => {
    const document = {
      apiVersion: "gpu-orchestrator/v1",
      kind: "Task",
      metadata: { name: "job" },
      spec: { taskType: "inference", executor: "vllm", model: { service: "w" }, inference: { prompts: ["a"] } },
    };
    const { spec } = readTask(document as never, TASK_SETTINGS);
    const given = { kind: "task", job: "t", owner: "alice", replica: 0, replicas: 1, epoch: 1, lease: null } as const;
    const service = { port: 20_001, model: "m" };
    const task = assignedTask("books", "job", { ...given, run: "away-0-1", spec, service }, Date.now());
    site.books.command({ type: "submit-task", task, maxTasks: 100 });
    await site.isOver(task.id);
    const [report] = reportTo(site.books.state, "books");
    expect(report).toMatchObject({ run: "away-0-1", startedAt: null });
    expect(report?.ended).toMatchObject({ reason: "failed", detail: "its service w does not serve on this node now" });
  });

  test("reads the prompts of a dataset with a Python of the host's; what keeps it from that is the task's error", async () => {
    const submit = (data: object, resources?: object) =>
      site.submit([], {
        taskType: "inference",
        executor: "dataset",
        command: null,
        model,
        inference: { max_tokens: 1 },
        data,
        ...(resources && { resources }),
      });
    const id = submit({ type: "dataset", url: "org/data", column: "text", max_samples: 2 });
    expect(await site.isOver(id)).toMatchObject({ status: "DONE", error: null });
    const result = JSON.parse(readFileSync(join(site.dir, "results", id, "responses.json"), "utf8"));
    expect(result.items.map(({ output }: { output: string }) => output)).toEqual([
      "FAKE: org/data text 0",
      "FAKE: org/data text 1",
    ]);
    const shared = submit({ type: "dataset", url: "org/data" }, { replicas: 2 });
    expect(await site.isOver(shared)).toMatchObject({ status: "DONE", error: null });
    const whole = JSON.parse(readFileSync(join(site.dir, "results", shared, "responses.json"), "utf8"));
    expect(whole.items.map(({ index, output }: { index: number; output: string }) => [index, output])).toEqual(
      [0, 1, 2, 3, 4].map((i) => [i, `FAKE: org/data text ${i}`]),
    );
    expect(whole.usage.num_requests).toBe(5);
    const wrong = submit({ type: "dataset", url: "org/data", column: "none" });
    expect(await site.isOver(wrong)).toMatchObject({ status: "FAILED" });
    const said = JSON.parse(readFileSync(join(site.dir, "results", wrong, "responses.json"), "utf8"));
    expect(said.error).toBe("the dataset cannot be read: data.column: the dataset has no column none, but text, label");
  });
});

describe("a service of the executor vllm that has a key", () => {
  const keyFile = join(modules, "key");
  writeFileSync(keyFile, "a-key-of-the-hosts\n");
  const keyed = new Site({ executors, work: { secrets: { VLLM_API_KEY: { file: keyFile, principals: [] } } } });
  beforeAll(async () => void (await keyed.start()));
  afterAll(async () => keyed.close());
  const secrets = ["VLLM_API_KEY"];

  test("is asked for a token with it, stays alive, and answers tasks that have it, and no others", async () => {
    const uid = keyed.serve({
      executor: "vllm",
      model,
      secrets,
      readiness: { http: "/health", interval: "100ms" },
      liveness: { completion: true, interval: "1s", timeout: "5s", failures: 1 },
    });
    const run = await keyed.phase(uid, "ready");
    const spec = { taskType: "inference", executor: "vllm", command: null, model: { service: uid } };
    const task = (more: object) =>
      keyed.submit([], { ...spec, inference: { prompts: ["one"], max_tokens: 1 }, ...more }, 0);
    expect(await keyed.isOver(task({ secrets }))).toMatchObject({ status: "DONE", error: null });
    const without = await keyed.isOver(task({}));
    expect(without.status).toBe("FAILED");
    expect(readFileSync(join(keyed.dir, "results", without.id, "responses.json"), "utf8")).toContain("answers 401");
    // By now it has been asked more than once.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(keyed.run(uid)).toMatchObject({ id: run.id, phase: "ready" });
  });

  test("that answers /health and computes nothing any more is unhealthy, and is restarted", async () => {
    const stuck = `require("node:http").createServer((req, res) => { if (req.url === "/health") res.end(); })
      .listen(Number(process.env.PORT), "127.0.0.1")`;
    const uid = keyed.serve({
      command: [process.execPath, "-e", stuck],
      readiness: { http: "/health", interval: "100ms" },
      liveness: { completion: true, interval: "1s", timeout: "1s", failures: 2 },
      stop: { grace: "1s" },
      restart: { policy: "on-failure", backoff: "10s" },
    });
    const { id } = await keyed.phase(uid, "ready");
    await until("it is over", () => keyed.books.state.runs.get(id)?.phase === "ended");
    expect(keyed.books.state.runs.get(id)).toMatchObject({ reason: "unhealthy" });
  });
});
