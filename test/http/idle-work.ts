/** Running work as part of the server, by itself: nobody runs anything and no GPU is granted to it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import type { ExecutorSettings, WorkConfig } from "../../src/config/work.ts";
import type { Clock } from "../../src/platform/clock.ts";
import type { Leases } from "../../src/work-service/leases.ts";
import { createWorkService } from "../../src/work-service/service.ts";

const NOTHING_GRANTED: Leases = {
  ask: async () => ({ status: "refused", reason: "not now", retryMs: 1_000 }),
  watch: async () => ({ status: "refused", reason: "not now", retryMs: 1_000 }),
  endOf: () => null,
  marked: () => [],
  markedByOthers: () => [],
  release: async () => undefined,
  plan: () => ({ fits: true, grantedNow: false, gpuUuids: [], reason: "not now" }),
  mostQueued: () => 10,
  freeGpus: () => 2,
  busyness: () => null,
  troubleOf: () => null,
  emptinessOf: () => ({ is: "empty" }),
  gpus: () => [],
  driver: () => ({ version: null, cuda: null }),
  simulated: true,
};

const EXECUTOR: ExecutorSettings = {
  type: "process",
  command: null,
  python: null,
  module: null,
  class: null,
  engine: "podman",
  programs: ["/bin/true"],
  images: [],
  args: [],
  env: {},
  passEnv: [],
  userEnv: ["GREETING"],
  mounts: [],
  network: "none",
  cdi: true,
  allowRemoteCode: false,
};

/** A page of metrics that says nothing. */
export const NO_METRICS = {
  render: async () => ({ contentType: "text/plain", body: "" }),
  observeRequest: () => undefined,
  limitReached: () => undefined,
};

/** Little of it may be open, so that its limits are met. */
export function idleWork(clock: Clock, more: Partial<WorkConfig> = {}) {
  const folder = mkdtempSync(join(tmpdir(), "gpu-orchestrator-fuzz-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const { work, cluster } = loadConfig({ path: null, explicit: false, env: {}, flags: {} }).config;
  const executors = { process: EXECUTOR, echo: { ...EXECUTOR, type: "echo" }, vllm: { ...EXECUTOR, type: "vllm" } };
  const service = createWorkService({
    config: {
      ...work,
      ...{ enabled: true, executors: executors as typeof work.executors, maxTasks: 20, maxWorkloads: 20 },
      ...{ dir: folder, resultsDir: join(folder, "results") },
      ...more,
    },
    cluster,
    databasePath: ":memory:",
    leases: NOTHING_GRANTED,
    clock,
    checkUrl: (url) => (url.includes("169.254") ? "link-local" : null),
    prefersJsonAt: () => false,
    log: { info: () => undefined, warn: () => undefined, error: () => undefined },
    version: "0.0.0",
    metrics: NO_METRICS,
  });
  onTestFinished(() => service.stop());
  return service.http;
}
