import { describe, expect, test } from "vitest";
import { NOTHING_KNOWN } from "../../../src/core/analyzer/known.ts";
import { type KnowledgeAsk, NO_KNOWLEDGE } from "../../../src/ports/knowledge.ts";
import { gpuReading } from "../../fixtures/readings.ts";
import { apiKey, startDaemon } from "../daemon.ts";

const card = (index: number, memoryTotalMib: number) => ({ ...gpuReading(index), memoryTotalMib, memoryUsedMib: 0 });
const LLAMA = { model: "meta-llama/Llama-3.1-70B-Instruct", context_length: 8192 };

type Daemon = Awaited<ReturnType<typeof startDaemon>>;
const analyze = async (daemon: Daemon, data: object, body: object = {}) =>
  (await daemon.call("POST", "/gpu/workload", { body: { workload_type: "inference", workload_data: data, ...body } }))
    .json;

describe("the analysis of a named model", () => {
  test("shows what its memory is made of, who gave each number, and that the parts add up", async () => {
    const daemon = await startDaemon({ gpus: [card(0, 81_559), card(1, 81_559)] });
    const answer = await analyze(daemon, LLAMA);
    expect(answer).toMatchObject({
      required_gpus: 2,
      tensor_parallel: 2,
      confidence: "high",
      fits: true,
      source: { required_gpus: "model", min_memory_mb: "model", priority: "rule", max_utilization: "rule" },
    });
    const { total_mb, per_gpu_mb, ...parts } = answer.memory;
    const sum = Object.values(parts as Record<string, number>).reduce((all, part) => all + part, 0);
    expect(Math.abs(sum - total_mb)).toBeLessThanOrEqual(6);
    expect(per_gpu_mb).toBe(answer.min_memory_mb);
    expect(Math.abs(per_gpu_mb * 2 - total_mb)).toBeLessThanOrEqual(2);
  });

  test("is split for the cards of this host, mixed ones included", async () => {
    const eight = await startDaemon({ gpus: Array.from({ length: 8 }, (_, index) => card(index, 24_576)) });
    expect(await analyze(eight, LLAMA)).toMatchObject({ required_gpus: 8, fits: true });
    // Two of the large ones do, although most are small.
    const mixed = await startDaemon({
      gpus: [card(0, 24_576), card(1, 81_559), card(2, 24_576), card(3, 81_559), card(4, 24_576)],
    });
    expect(await analyze(mixed, LLAMA)).toMatchObject({ required_gpus: 2, fits: true });
    expect((await mixed.allocate({ workload_type: "inference", workload_data: LLAMA })).json.gpu_ids).toEqual([1, 3]);
  });

  test("stands in the answer to an allocate as it does in that to a workload, granted, queued and asked again", async () => {
    const daemon = await startDaemon({ gpus: [card(0, 81_559), card(1, 81_559)] });
    const { source, memory, tensor_parallel, confidence, notes } = await analyze(daemon, LLAMA);
    const shown = { source, memory, tensor_parallel, confidence, notes };
    const body = { service_name: "svc", workload_type: "inference", workload_data: LLAMA };
    const ask = () => daemon.call("POST", "/gpu/allocate", { body, headers: { "Idempotency-Key": "one" } });
    expect(await ask()).toMatchObject({ status: 200, json: shown });
    expect(await ask()).toMatchObject({ status: 200, json: shown });
    const queued = await daemon.allocate({ workload_type: "inference", workload_data: LLAMA });
    expect(queued).toMatchObject({ status: 202, json: shown });
  });

  test("is left out of an allocate that names none, and where the host has changed since", async () => {
    const daemon = await startDaemon({ gpus: [card(0, 81_559)] });
    for (const data of [{}, { model: null }]) {
      const { json } = await daemon.allocate({ workload_type: "inference", workload_data: data });
      for (const field of ["memory", "source", "confidence", "notes", "tensor_parallel"]) {
        expect(json).not.toHaveProperty(field);
      }
    }
    const body = { service_name: "svc", workload_type: "inference", workload_data: { model: "Qwen/Qwen3-32B" } };
    const ask = () => daemon.call("POST", "/gpu/allocate", { body, headers: { "Idempotency-Key": "two" } });
    expect((await ask()).json).toMatchObject({ tensor_parallel: 1 });
    await daemon.see([card(0, 40_960), card(1, 40_960)]);
    expect((await ask()).json).not.toHaveProperty("memory");
  });

  test("that fits no split is not granted: fits is false, and an allocate is refused with 422", async () => {
    const daemon = await startDaemon({ gpus: [card(0, 24_576), card(1, 24_576)] });
    const answer = await analyze(daemon, LLAMA);
    expect(answer).toMatchObject({ fits: false, required_gpus: 2 });
    expect(answer.notes.join()).toContain("does not fit on the GPUs of this host");
    const refused = await daemon.allocate({ workload_type: "inference", workload_data: LLAMA });
    expect(refused).toMatchObject({ status: 422, json: { code: "request-never-fits" } });
  });

  test("that only busy cards could hold waits", async () => {
    const daemon = await startDaemon({ gpus: [card(0, 81_559), card(1, 81_559)] });
    await daemon.allocate({ required_gpus: 2 });
    expect(await analyze(daemon, LLAMA)).toMatchObject({ required_gpus: 2, fits: true });
    expect((await daemon.allocate({ workload_type: "inference", workload_data: LLAMA })).status).toBe(202);
  });

  test("looks at the cards that the request accepts", async () => {
    const daemon = await startDaemon({
      gpus: [
        { ...card(0, 81_559), name: "NVIDIA H100" },
        { ...card(1, 200_000), name: "NVIDIA B200" },
      ],
    });
    expect(await analyze(daemon, LLAMA)).toMatchObject({ required_gpus: 1, fits: true });
    expect(await analyze(daemon, LLAMA, { gpu_model: "h100" })).toMatchObject({ fits: false });
  });

  test("of the settings' own models is known by its name", async () => {
    const config = {
      model_type: "llama",
      hidden_size: 4096,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      vocab_size: 32_000,
    };
    const daemon = await startDaemon({ policy: { models: { "house-model": { id: "acme/house-model", config } } } });
    const answer = await analyze(daemon, { model: "acme/house-model" });
    expect(answer.sources.min_memory_mb).toContain("acme/house-model in bf16");
  });
});

test("without a model there is no memory figure, and confidence is low unless the numbers are stated", async () => {
  const daemon = await startDaemon();
  expect(await analyze(daemon, {})).toMatchObject({ memory: null, tensor_parallel: null, confidence: "low" });
  expect(await analyze(daemon, { min_memory_mb: 100 })).toMatchObject({
    confidence: "high",
    source: { min_memory_mb: "explicit" },
  });
});

describe("what others know", () => {
  test("is asked with a wait for an analysis, with none for an allocate, and both decide by it", async () => {
    const asked: { readonly ask: KnowledgeAsk; readonly waitMs: number }[] = [];
    const advice = { from: "DeepAgents", gpus: 2, memoryMib: 1_000, priority: 9 };
    const daemon = await startDaemon({
      knowledge: {
        ...NO_KNOWLEDGE,
        of(ask, waitMs) {
          asked.push({ ask, waitMs });
          return Promise.resolve({ ...NOTHING_KNOWN, advice });
        },
      },
    });
    const answer = await analyze(daemon, {}, { service_name: "trainer" });
    expect(answer).toMatchObject({
      ...{ required_gpus: 2, min_memory_mb: 1_000, priority: 9 },
      source: { required_gpus: "advisor", min_memory_mb: "advisor", priority: "advisor" },
    });
    const granted = await daemon.allocate({ workload_type: "inference" });
    expect(granted.json).toMatchObject({ priority: 9, gpu_ids: [0, 1], memory_mb: 1_000 });
    expect(asked.map(({ waitMs }) => waitMs)).toEqual([2_000, 0]);
    expect(asked.map(({ ask }) => ask.serviceName)).toEqual(["trainer", "trainer"]);
    // What is stated stands.
    expect((await daemon.allocate({ workload_type: "inference", required_gpus: 1, priority: 2 })).json).toMatchObject({
      priority: 2,
    });
  });
});

test("an advisor that recommends more than the host has is not listened to", async () => {
  const advice = { from: "DeepAgents", gpus: 99, memoryMib: 999_999_999, priority: 3 };
  const knowledge = { ...NO_KNOWLEDGE, of: () => Promise.resolve({ ...NOTHING_KNOWN, advice }) };
  const daemon = await startDaemon({ knowledge });
  expect(await analyze(daemon, {})).toMatchObject({
    ...{ required_gpus: 1, min_memory_mb: 4_096, priority: 3 },
    source: { required_gpus: "rule", min_memory_mb: "rule", priority: "advisor" },
  });
});

describe("a workflow", () => {
  test("shows what it depends on, and the GPUs that one's own leases of that hold", async () => {
    const daemon = await startDaemon({
      knowledge: {
        ...NO_KNOWLEDGE,
        workflow: (id) => Promise.resolve(id === "w.2" ? { isKnown: true, dependencies: ["w.0"] } : null),
      },
    });
    await daemon.allocate({ workload_data: { workflow_id: "w.1" } });
    const data = { workflow_id: "w.2", workflow_priority: 8, workflow_dependencies: ["w.1", 5, ""] };
    const answer = await analyze(daemon, data);
    expect(answer).toMatchObject({ priority: 8, source: { priority: "explicit" } });
    expect(answer.workflow).toEqual({
      id: "w.2",
      known: true,
      dependencies: [
        { id: "w.1", gpus: 1 },
        { id: "w.0", gpus: 0 },
      ],
    });
    expect((await analyze(daemon, { workflow_id: "w.9" })).workflow).toEqual({
      id: "w.9",
      known: null,
      dependencies: [],
    });
    expect((await analyze(daemon, {})).workflow).toBeNull();
  });

  test("of somebody else's leases tells nothing", async () => {
    const keys = [apiKey("key-a", "alice"), apiKey("key-b", "bob")];
    const auth = { enabled: true, headerName: "X-API-Key" };
    const daemon = await startDaemon({ settings: { auth }, keys: () => keys });
    const [alice, bob] = [{ "x-api-key": "key-a" }, { "x-api-key": "key-b" }];
    await daemon.allocate({ workload_data: { workflow_id: "w.1" } }, alice);
    const body = { workload_data: { workflow_id: "w.2", workflow_dependencies: ["w.1"] } };
    const asked = async (headers: Record<string, string>) =>
      (await daemon.call("POST", "/gpu/workload", { body, headers })).json.workflow.dependencies;
    expect(await asked(alice)).toEqual([{ id: "w.1", gpus: 1 }]);
    expect(await asked(bob)).toEqual([{ id: "w.1", gpus: 0 }]);
  });
});

describe("what earlier leases used", () => {
  const observed = { memoryMib: 12_000, runs: 3 };
  const daemonWith = (counts: boolean) => {
    const known = { ...NOTHING_KNOWN, observed: { ...observed, counts } };
    return startDaemon({ gpus: [card(0, 8_000)], knowledge: { ...NO_KNOWLEDGE, of: () => Promise.resolve(known) } });
  };

  test("is only suggested unless it is to count", async () => {
    expect(await analyze(await daemonWith(false), {})).toMatchObject({
      ...{ suggested: { min_memory_mb: 12_000, runs: 3 }, min_memory_mb: 4_096 },
      source: { min_memory_mb: "rule" },
    });
  });

  test("counts before models and rules, never beyond the card, and never against what is stated", async () => {
    const daemon = await daemonWith(true);
    expect(await analyze(daemon, {})).toMatchObject({
      ...{ min_memory_mb: 8_000, fits: true, confidence: "high" },
      source: { min_memory_mb: "observed" },
    });
    expect(await analyze(daemon, { min_memory_mb: 100 })).toMatchObject({ min_memory_mb: 100 });
    expect((await daemon.allocate({ workload_type: "inference" })).json).toMatchObject({ min_memory_mb: 8_000 });
  });
});

test("admins see what was learned, and have it forgotten", async () => {
  const kind = {
    key: "k",
    service: "s",
    workloadType: "training" as const,
    model: null,
    settings: {},
    peaksMib: [7, 9],
    readings: 24,
    lastAt: 0,
    suggestedMib: null,
  };
  const forgotten: (string | null)[] = [];
  const lessons = {
    list: () => [kind],
    forget(key: string | null) {
      forgotten.push(key);
      return Promise.resolve(1);
    },
  };
  const keys = [apiKey("key-a", "ada", "admin"), apiKey("key-b", "bob")];
  const daemon = await startDaemon({
    lessons,
    settings: { auth: { enabled: true, headerName: "X-API-Key" } },
    keys: () => keys,
  });
  const as = (key: string) => ({ headers: { "x-api-key": key } });
  expect((await daemon.call("GET", "/gpu/learned", as("key-a"))).json.kinds).toMatchObject([
    { key: "k", service_name: "s", runs: 2, readings: 24, highest_mb: 9, suggested_mb: null },
  ]);
  expect((await daemon.call("GET", "/gpu/learned", as("key-b"))).status).toBe(403);
  expect((await daemon.call("DELETE", "/gpu/learned?key=k", as("key-a"))).json).toEqual({ forgotten: 1 });
  expect((await daemon.call("DELETE", "/gpu/learned", as("key-a"))).json).toEqual({ forgotten: 1 });
  expect((await daemon.call("DELETE", "/gpu/learned", as("key-b"))).status).toBe(403);
  expect(forgotten).toEqual(["k", null]);
});
