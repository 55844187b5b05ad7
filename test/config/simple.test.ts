import { expect, test } from "vitest";
import type { ConfigError } from "../../src/config/problems.ts";
import { simpleSettings } from "../../src/config/simple.ts";

const read = (text: string) => simpleSettings(text, "simple.yaml");

test("the settings of its document act under our names", () => {
  const { settings, warnings } = read(`
port: 8080
logLevel: "debug"
maxWorkloads: 7
defaultCPU: "500m"
defaultMemory: "3Gi"
defaultGPU: 1
metricsInterval: "30s"
monitoring: {metricsInterval: "15s"}
performance: {maxConcurrentRequests: 5000, requestTimeout: "60s", healthCheckInterval: "10s"}
logging: {level: "warn"}
resourceProfiles:
  small: {cpu: "500m", memory: "1Gi", gpu: 0, description: "for testing"}
modelConfigs:
  llama2: {type: "text-generation", contextLength: 4096}
development: {simulateMetrics: true}
`);
  expect(warnings).toEqual([]);
  const model = { executor: "simulated", readiness: { http: "/health", interval: "10s" } };
  expect(settings).toMatchObject({
    server: { port: 8080, metrics: "json", read_timeout: "60s", write_timeout: "60s", max_requests: 5000 },
    monitoring: { source: "simulated", refresh_interval: "15s" },
    work: {
      max_workloads: 7,
      executors: { simulated: { type: "simulated" } },
      models: { "*": model, llama2: model },
      profiles: {
        small: { cpu: "500m", memory: "1Gi", gpu: 0 },
        default: { cpu: "500m", memory: "3Gi", gpu: 1 },
      },
    },
    logging: { level: "warn" },
  });
});

test("without a word of it, GPUs are the host's own, and replicas are simulated all the same", () => {
  const { settings } = read("");
  expect(settings).toMatchObject({
    server: { port: 8080 },
    monitoring: { source: "nvidia-smi" },
    work: { models: { "*": { executor: "simulated" } } },
    logging: { level: "info" },
  });
});

test("keys without meaning here are named once, at the highest that has none", () => {
  const { warnings } = read("features: {a: true, b: true}\ndevelopment: {simulateMetrics: false, enableDebug: true}\n");
  expect(warnings.map(({ path }) => path)).toEqual(["features", "development.enableDebug"]);
});

test("what is wrong is told with its place, all at once", () => {
  try {
    read("port: eighty\nperformance: {requestTimeout: soon}\n");
    expect.unreachable();
  } catch (error) {
    expect((error as ConfigError).problems.map(({ path, message }) => `${path}: ${message}`)).toEqual([
      "port: expected a whole number from 0",
      "performance.requestTimeout: expected a duration such as 30s",
    ]);
  }
});

test("its log may go to a file, and it listens elsewhere without keys only where everything is simulated", () => {
  expect(read('logging: {level: "warn", file: "orchestrator.log"}').settings).toMatchObject({
    logging: { level: "warn", file: "orchestrator.log" },
  });
  const at = (text: string, host?: string) => simpleSettings(text, "simple.yaml", host).settings.server;
  const simulated = "development: {simulateMetrics: true}";
  expect(at(simulated, "0.0.0.0")).toMatchObject({ allow_unauthenticated: true });
  expect(at("", "0.0.0.0")).not.toHaveProperty("allow_unauthenticated");
  expect(at(simulated)).not.toHaveProperty("allow_unauthenticated");
});
