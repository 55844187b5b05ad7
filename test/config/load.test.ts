import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { chooseConfigFile, loadConfig } from "../../src/config/load.ts";
import { ConfigError, formatProblems } from "../../src/config/problems.ts";
import { WORKLOAD_DEFAULTS } from "../../src/core/analyzer/defaults.ts";
import { configOf, problemsIn, scratchFolder } from "./load-text.ts";

const DEFAULTS = loadConfig({ path: null, explicit: false, env: {}, flags: {} }).config;

const NO_QUOTA = { maxGpus: null, maxQueued: null, maxPriority: null, gpuTime: null };

const CLIENT_LIMITS = {
  requestsPerSecond: 2_000,
  requestsUnderWay: 8_192,
  longPolls: 4_096,
  streams: 256,
  pendingDeliveries: 10_000,
  storedBytesPerDay: 1_024 ** 3,
  idempotencyKeysPerDay: 1_000_000,
};

test("without a file the defaults are those that are documented", () => {
  expect(DEFAULTS).toEqual({
    server: {
      listeners: [],
      maxRequests: null,
      metrics: "prometheus",
      port: 8086,
      host: "127.0.0.1",
      readTimeoutMs: 15_000,
      writeTimeoutMs: 15_000,
      idleTimeoutMs: 60_000,
      allowedHosts: [],
      allowedOrigins: [],
      allowUnauthenticated: false,
      trustedProxies: [],
      maxConnections: 8_192,
      socket: null,
      adminGroup: null,
      tls: null,
    },
    limits: { principal: { ...CLIENT_LIMITS, streams: 32 }, address: CLIENT_LIMITS, failedAuthentications: 20 },
    services: {
      deepagentsUrl: "http://localhost:9004",
      graphServiceUrl: "http://localhost:8081",
      isDeepagentsStated: false,
      isGraphServiceStated: false,
    },
    scheduler: {
      queueCheckIntervalMs: 5_000,
      cleanupIntervalMs: 5_000,
      maxQueueSize: 100,
      defaultTtlMultiplier: 2,
      agingIntervalMs: 600_000,
      reserveAfterMs: 60_000,
      patienceMs: 43_200_000,
      endlessAfterMs: 86_400_000,
      preferWide: true,
      holdLate: false,
      queueTimeoutMs: null,
      fairShare: null,
      abandonAfterMs: 30_000,
      claimTimeoutMs: 60_000,
    },
    workloadDefaults: WORKLOAD_DEFAULTS,
    analyzer: { models: {}, modelDirs: [], learn: false },
    monitoring: {
      source: "nvidia-smi",
      nvidiaSmiPath: null,
      refreshIntervalMs: 5_000,
      timeoutMs: 10_000,
      staleAfterMs: 25_000,
      kernelLog: "/dev/kmsg",
      metricsEnabled: true,
    },
    simulation: { host: "h100x8" },
    auth: { enabled: false, headerName: "X-API-Key", store: "file", keys: [] },
    storage: { path: "data/gpu-orchestrator.db", retentionMs: 30 * 86_400_000 },
    audit: { retentionMs: 90 * 86_400_000 },
    allocator: {
      defaultTtlMs: null,
      defaultMaxDurationMs: null,
      idleAfterMs: 900_000,
      reclaimIdleAfterMs: null,
      reclaimTimeoutMs: 60_000,
      verifyRelease: "when_used",
      degradedGpus: "exclude",
      memoryMib: {},
      idleMemoryMib: {},
      foreignUse: "exclude",
      foreignUseReadings: 3,
      foreignUseWebhookUrl: null,
    },
    preemption: { enabled: false, minPriorityGap: 1, graceMs: 30_000, minRuntimeMs: 0 },
    quotas: { principals: {}, services: {}, defaultPrincipal: NO_QUOTA, defaultService: NO_QUOTA },
    sharing: {
      headroomPercent: 5,
      headroomMib: 512,
      maxLeasesPerGpu: 16,
      settleAfterMs: 10_000,
      settleTimeoutMs: 120_000,
    },
    webhooks: {
      secrets: [],
      secretsByPrincipal: {},
      allowedHosts: ["external", "loopback"],
      timeoutMs: 10_000,
      giveUpAfterMs: 3 * 86_400_000,
      concurrency: 64,
    },
    work: {
      enabled: false,
      allowUnauthenticated: false,
      worker: "embedded",
      executors: {},
      defaultModels: { vllm: null, ppo: null },
      taskTypes: { inference: "vllm", ppo: "ppo", echo: "echo" },
      models: {},
      profiles: {
        small: { cpu: "500m", memory: "1Gi", gpu: 0 },
        medium: { cpu: "2000m", memory: "8Gi", gpu: 1 },
        large: { cpu: "8000m", memory: "32Gi", gpu: 4 },
      },
      dir: "data/work",
      resultsDir: "data/results",
      node: null,
      tags: [],
      labels: {},
      runAs: null,
      allowRoot: false,
      allowSameUser: false,
      cage: "auto",
      maxWorkloads: 100,
      maxTasks: 10_000,
      serviceHost: "127.0.0.1",
      ports: { from: 20_000, to: 29_999 },
      secrets: {},
      secretFolders: {},
    },
    windows: { reserved: [] },
    cluster: {
      role: null,
      redisUrl: null,
      nodeUrl: null,
      secretFile: null,
      heartbeatTtlMs: 120_000,
      heartbeatIntervalMs: 30_000,
      mloc: false,
    },
    logging: { level: "info", file: null },
  });
});

test("what nobody may change is frozen, down to the last list", () => {
  const unfrozen: string[] = [];
  const check = (value: unknown, path: string) => {
    if (typeof value !== "object" || value === null) return;
    if (!Object.isFrozen(value)) unfrozen.push(path);
    for (const [key, child] of Object.entries(value)) check(child, `${path}.${key}`);
  };
  check(configOf("{auth: {enabled: true, api_keys: {a-key-of-some-length: bob}}}"), "config");
  expect(unfrozen).toEqual([]);
});

test.each(["", "\n# nothing yet\n", "---\n", "null", "{}", "server:\nauth:\n  api_keys:\n", "\uFEFFserver:\n"])(
  "a file that says nothing (%j) means the defaults",
  (content) => {
    expect(configOf(content)).toEqual(DEFAULTS);
  },
);

test("the environment beats the file, and flags beat the environment", () => {
  const file = "{server: {port: 1111, host: 127.0.0.2}, services: {graph_service_url: 'http://file:1'}}";
  const env = { PORT: "2222", GPU_ORCHESTRATOR_HOST: "127.0.0.3", DEEPAGENTS_URL: "http://env:2" };

  expect(configOf(file).server).toMatchObject({ port: 1111, host: "127.0.0.2" });
  expect(configOf(file, { env }).server).toMatchObject({ port: 2222, host: "127.0.0.3" });
  expect(configOf(file, { env }).services).toEqual({
    deepagentsUrl: "http://env:2",
    graphServiceUrl: "http://file:1",
    isDeepagentsStated: true,
    isGraphServiceStated: true,
  });
  expect(configOf(file).services).toMatchObject({ isDeepagentsStated: false, isGraphServiceStated: true });
  expect(configOf(file, { env, flags: { port: "3333", host: "::1" } }).server).toMatchObject({
    port: 3333,
    host: "::1",
  });
});

test("a service is switched off by the empty string or null, in the file and in the environment", () => {
  const off = { deepagentsUrl: null, graphServiceUrl: null };
  expect(configOf('services: {deepagents_url: "", graph_service_url: null}').services).toMatchObject(off);
  expect(configOf("", { env: { DEEPAGENTS_URL: "", GRAPH_SERVICE_URL: "" } }).services).toMatchObject(off);
});

test("MLOC's environment is read, its token is a key that may run work, and its levels are Python's", () => {
  const env = {
    ORCHESTRATOR_TOKEN: "dev-token",
    HEARTBEAT_TTL_SEC: "60",
    HEARTBEAT_INTERVAL_SEC: "10",
    LOG_LEVEL: "WARNING",
  };
  const { auth, cluster, logging } = configOf("auth: {api_keys: {a-key-of-sixteen-letters: alice}}", { env });
  expect(auth.enabled).toBe(true);
  expect(auth.keys.map(({ principal, role }) => [principal, role])).toEqual([
    ["alice", "allocate"],
    ["orchestrator", "run"],
  ]);
  expect(cluster).toMatchObject({ heartbeatTtlMs: 60_000, heartbeatIntervalMs: 10_000 });
  expect(logging.level).toBe("warn");
});

test("an ORCHESTRATOR_TOKEN that can be no key is named with the other problems, and never printed", () => {
  const refused = (token: string, file = "") => problemsIn(file, { env: { ORCHESTRATOR_TOKEN: token } });
  const placeholder = expect.stringContaining("environment ORCHESTRATOR_TOKEN: a placeholder");
  expect(refused("change-me-now", "server: {port: x}")).toEqual([expect.stringContaining("server.port"), placeholder]);
  for (const token of ["change-me-now", "sha256:xyz", "   "]) {
    expect(refused(token)).toEqual([expect.stringContaining("ORCHESTRATOR_TOKEN")]);
    expect(refused(token).join()).not.toContain(token);
  }
});

test("a key of the file that is ORCHESTRATOR_TOKEN too stays whose it is", () => {
  const env = { ORCHESTRATOR_TOKEN: "a-key-of-sixteen-letters" };
  const digest = createHash("sha256").update(env.ORCHESTRATOR_TOKEN).digest("hex");
  for (const key of [env.ORCHESTRATOR_TOKEN, `sha256:${digest}`]) {
    const { auth } = configOf(`auth: {api_keys: {"${key}": {principal: alice, role: read}}}`, { env });
    expect([auth.enabled, auth.keys.length]).toEqual([true, 1]);
    expect(auth.keys[0]).toMatchObject({ principal: "alice", role: "read" });
  }
});

test("--mloc takes MLOC's defaults where the settings say nothing", () => {
  const flags = { mloc: true };
  const env = { REDIS_URL: "redis://localhost:6379/0", ORCHESTRATOR_TOKEN: "dev-token" };
  const { server, work, cluster } = configOf("work: {max_tasks: 5}", { env, flags });
  expect(server.port).toBe(8000);
  expect(work).toMatchObject({ enabled: true, worker: "external", resultsDir: "./results", maxTasks: 5 });
  expect(work.taskTypes).toEqual({ inference: "mloc", ppo: "ppo" });
  expect(cluster).toMatchObject({ mloc: true, role: null, redisUrl: "redis://localhost:6379/0" });
});

test("--mloc without a Redis has no broker: its tasks are for our own worker", () => {
  const flags = { mloc: true };
  for (const REDIS_URL of [undefined, ""]) {
    const { server, work, cluster } = configOf("", { env: { REDIS_URL, ORCHESTRATOR_TOKEN: "dev-token" }, flags });
    expect([server.port, cluster.mloc, cluster.redisUrl]).toEqual([8000, false, null]);
    expect(work).toMatchObject({ enabled: true, worker: "external", resultsDir: "./results" });
    expect(work.taskTypes).toEqual({ inference: "vllm", ppo: "ppo" });
    expect(work.executors).toMatchObject({ vllm: { type: "vllm" }, ppo: { type: "ppo" } });
  }
  const env = { ORCHESTRATOR_TOKEN: "dev-token" };
  const over = configOf("cluster: {redis_url: 'redis://127.0.0.1:1'}", { env, flags });
  expect(over).toMatchObject({ cluster: { mloc: true }, work: { taskTypes: { inference: "mloc" } } });
  expect(() => configOf("cluster: {mloc: true}", { env, flags })).toThrow(/needs cluster.redis_url/);
});

test("hosts share work only over a Redis that nobody else can read, and with a secret", () => {
  const role = (more: string) => `{role: member, ${more}}`;
  const file = (cluster: string) => `work: {enabled: true, allow_unauthenticated: true}\ncluster: ${cluster}`;
  const secret = "secret_file: /etc/secret";
  expect(() => configOf(file(role(secret)))).toThrow(/needs cluster.redis_url/);
  expect(() => configOf(file(role('redis_url: "redis://127.0.0.1:1"')))).toThrow(/set cluster.secret_file/);
  expect(() => configOf(file(role(`redis_url: "redis://:pass@redis:6379", ${secret}`)))).toThrow(/in the clear/);
  expect(() => configOf(file(role(`redis_url: "redis+sentinel://a:1,b:2/main", ${secret}`)))).toThrow(/in the clear/);
  const sentinels = ["redis+sentinel://127.0.0.1:1,localhost:2/main", "rediss+sentinel://a:1,b:2/main"];
  for (const url of ["rediss://redis:6379", "redis://[::1]:6379", ...sentinels]) {
    expect(configOf(file(role(`redis_url: "${url}", ${secret}`))).cluster.redisUrl).toBe(url);
  }
});

test("an empty PORT or host in the environment counts as not set", () => {
  expect(configOf("server: {port: 1234}", { env: { PORT: "", GPU_ORCHESTRATOR_HOST: "" } }).server).toMatchObject({
    port: 1234,
    host: "127.0.0.1",
  });
});

test("--simulate chooses the simulated source and its shape, over the file", () => {
  const config = configOf("{monitoring: {source: nvidia-smi}, simulation: {host: t4x1}}", {
    flags: { simulate: "a100x4" },
  });
  expect(config.monitoring.source).toBe("simulated");
  expect(config.simulation.host).toBe("a100x4");
});

test("what is simulated has a database and a folder of work of its own, unless they are given", () => {
  const { storage, work } = configOf("monitoring: {source: simulated}");
  expect([storage.path, work.dir]).toEqual(["data/simulated.db", "data/simulated-work"]);
  expect(configOf("{monitoring: {source: simulated}, work: {dir: other}}").work.dir).toBe("other");
});

test("a simulated source without a shape is eight H100s", () => {
  const config = configOf("monitoring: {source: simulated}");
  expect([config.monitoring.source, config.simulation.host]).toEqual(["simulated", "h100x8"]);
});

test("a port may be a number or its digits", () => {
  for (const port of ["9000", '"9000"']) expect(configOf(`server: {port: ${port}}`).server.port).toBe(9000);
});

test("a reading is stale after three intervals and a timeout unless something else is said", () => {
  expect(configOf("monitoring: {refresh_interval: 2s, timeout: 1s}").monitoring.staleAfterMs).toBe(7_000);
  expect(configOf("monitoring: {refresh_interval: 2s, stale_after: 3s}").monitoring.staleAfterMs).toBe(3_000);
});

test.each([
  ["127.0.0.1", true],
  ["127.8.8.8", true],
  ["localhost", true],
  ["::1", true],
  ["::ffff:127.0.0.1", true],
  ["0.0.0.0", false],
  ["::", false],
  ["192.168.1.5", false],
  ["gpu-host.example.com", false],
  ["localhost.example.com", false],
])("webhooks to a daemon on %s may go to loopback by default: %s", (host, allowed) => {
  const { webhooks } = configOf(`server: {host: "${host}", allow_unauthenticated: true}`);
  expect(webhooks.allowedHosts).toEqual(allowed ? ["external", "loopback"] : ["external"]);
});

test("aliases of whole sections are followed", () => {
  const { workloadDefaults } = configOf("workload_defaults: {ocr: &same {default_gpus: 2}, generic: *same}");
  expect([workloadDefaults.ocr.defaultGpus, workloadDefaults.generic.defaultGpus]).toEqual([2, 2]);
});

test("the file is the named one, that of CONFIG_PATH, or ./config.yaml if it exists", () => {
  expect(chooseConfigFile("a.yaml", { CONFIG_PATH: "b.yaml" })).toEqual({ path: "a.yaml", explicit: true });
  expect(chooseConfigFile(undefined, { CONFIG_PATH: "b.yaml" })).toEqual({ path: "b.yaml", explicit: true });
  expect(chooseConfigFile(undefined, { CONFIG_PATH: "" })).toEqual({ path: "./config.yaml", explicit: false });
});

test("a missing file is an error only if it was named", () => {
  const path = join(scratchFolder(), "config.yaml");
  expect(loadConfig({ path, explicit: false, env: {}, flags: {} })).toEqual({
    config: DEFAULTS,
    warnings: [],
    file: null,
    hasSettings: false,
  });
  expect(() => loadConfig({ path, explicit: true, env: {}, flags: {} })).toThrow(`${path}: there is no such file`);
});

test("the file that was read is named", () => {
  const path = join(scratchFolder(), "config.yaml");
  writeFileSync(path, "");
  expect(loadConfig({ path, explicit: false, env: {}, flags: {} }).file).toBe(path);
});

test("a folder, a file of another encoding and a file that is too large are refused", () => {
  const path = join(scratchFolder(), "config.yaml");
  mkdirSync(path);
  expect(() => loadConfig({ path, explicit: false, env: {}, flags: {} })).toThrow(
    `${path}: cannot be read: it is a directory`,
  );
  expect(problemsIn(new Uint8Array([0x61, 0xff, 0x3a]))).toEqual(["FILE: is not text in UTF-8"]);
  expect(problemsIn(`#${"x".repeat(256 * 1024)}`)).toEqual(["FILE: larger than 256 KiB"]);
});

test("an error prints every problem in a line of its own, up to a hundred", () => {
  const path = join(scratchFolder(), "config.yaml");
  writeFileSync(path, Array.from({ length: 105 }, (_, index) => `nonsense_${index}: 1\n`).join(""));
  try {
    loadConfig({ path, explicit: true, env: {}, flags: {} });
    expect.unreachable();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const lines = formatProblems(error).split("\n");
    expect(error.problems).toHaveLength(105);
    expect(lines).toHaveLength(101);
    expect(lines[1]).toBe(`${path}:2:1 nonsense_1: unknown key`);
    expect(lines.at(-1)).toBe("... and 5 more");
  }
});
