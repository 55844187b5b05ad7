import { expect, test } from "vitest";
import { reloaded } from "../../src/config/load.ts";
import { policyOf } from "../../src/config/policy.ts";
import { reloadable } from "../../src/config/reload.ts";
import { settingPaths } from "../../src/config/schema.ts";
import { configOf, load } from "./load-text.ts";

test("a reload that changes nothing ignores nothing", () => {
  const config = configOf("");
  expect(reloadable(config, configOf(""))).toEqual({ config, ignored: [] });
});

test("keys, queueing, allocation, webhooks and the log level change at once", () => {
  const auth = (keys: string) => `auth: {enabled: true, api_keys: ${keys}}`;
  const next = configOf(`
${auth("{another-key-of-some-length: {principal: alice, role: admin}}")}
scheduler: {max_queue_size: 7, reserve_after: 0s}
workload_defaults: {ocr: {default_memory_mb: 1}}
allocator: {default_ttl: 1h}
webhooks: {concurrency: 3, allowed_hosts: [example.com]}
logging: {level: debug}
`);
  const { config, ignored } = reloadable(configOf(auth("{a-key-of-some-length: bob}")), next);
  expect(ignored).toEqual([]);
  expect(config).toEqual(next);
  expect(Object.isFrozen(config) && Object.isFrozen(config.auth)).toBe(true);
});

test("what needs a start stays as it is and is named", () => {
  const old = configOf("");
  const { config, ignored } = reloadable(
    old,
    configOf(`
server: {port: 1, idle_timeout: 1s}
services: {deepagents_url: ""}
monitoring: {source: simulated, refresh_interval: 1s}
simulation: {host: t4x1}
storage: {path: other.db, retention: 60d}
logging: {level: warn}
`),
  );
  expect(config).toEqual({ ...old, logging: { level: "warn", file: null } });
  expect(ignored).toEqual([
    "server.port",
    "server.idle_timeout",
    "services.deepagents_url",
    "monitoring.source",
    "monitoring.refresh_interval",
    "monitoring.stale_after",
    "simulation.host",
    "storage.path",
    "storage.retention",
    "work.dir",
  ]);
});

test("authentication cannot be switched off under a running daemon, nor its keys be emptied that way", () => {
  const old = configOf("{server: {host: 0.0.0.0}, auth: {enabled: true, api_keys: {a-key-of-some-length: bob}}}");
  const { config, ignored } = reloadable(old, configOf(""));
  expect(config.auth).toEqual(old.auth);
  expect(ignored).toEqual(["server.host", "auth.enabled", "auth.api_keys", "webhooks.allowed_hosts"]);
});

test("webhooks to loopback are not allowed by a host that is not yet bound to it", () => {
  const old = configOf("server: {host: 0.0.0.0, allow_unauthenticated: true}");
  expect(reloadable(old, configOf("")).config.webhooks.allowedHosts).toEqual(["external"]);
});

test("every path that a reload may ignore is a setting of the file", () => {
  const known = new Set(settingPaths().map((path) => path.join(".")));
  const everything = configOf(`
server: {port: 1, host: 0.0.0.0, read_timeout: 1s, write_timeout: 1s, idle_timeout: 1s, allowed_hosts: [a], allow_unauthenticated: true}
services: {deepagents_url: "", graph_service_url: ""}
monitoring: {source: simulated, nvidia_smi_path: /x, refresh_interval: 1s, timeout: 1s, stale_after: 2s, kernel_log: null, metrics_enabled: false}
simulation: {host: t4x1}
auth: {enabled: true, header_name: X-Key, api_keys: {a-key-of-some-length: bob}}
storage: {path: x, retention: 31d}
`);
  const { ignored } = reloadable(configOf(""), everything);
  expect(ignored).toHaveLength(24);
  expect(ignored.filter((path) => !known.has(path))).toEqual([]);
});

test("the policy of decisions follows the settings", () => {
  const config = configOf(`
scheduler: {max_queue_size: 1, default_ttl_multiplier: 3, aging_interval: 2s, reserve_after: 3s, patience: 19s, endless_after: 20s, prefer_wide: false, hold_late: true, queue_timeout: 4s, abandon_after: 5s, claim_timeout: 6s, fair_share: {enabled: true, half_life: 15m, max_delay: 16s}}
allocator: {default_ttl: 7s, default_max_duration: 18s, reclaim_timeout: 8s, verify_release: always, idle_after: 11s, reclaim_idle_after: 12s, degraded_gpus: avoid, foreign_use: adopt, foreign_use_readings: 7, foreign_use_webhook_url: "http://127.0.0.1:9/ops"}
monitoring: {refresh_interval: 9s, stale_after: 10s}
sharing: {headroom_percent: 13, headroom_mb: 14, max_leases_per_gpu: 15, settle_after: 16s, settle_timeout: 17s}
workload_defaults: {generic: {default_gpus: 2}}
preemption: {enabled: true, min_priority_gap: 2, grace_period: 13s, min_runtime: 14s}
`);
  expect(policyOf(config)).toEqual({
    workloadDefaults: config.workloadDefaults,
    models: {},
    maxQueueSize: 1,
    defaultTtlMultiplier: 3,
    agingIntervalMs: 2_000,
    reserveAfterMs: 3_000,
    patienceMs: 19_000,
    endlessAfterMs: 20_000,
    preferWide: false,
    holdLate: true,
    queueTimeoutMs: 4_000,
    abandonAfterMs: 5_000,
    claimTimeoutMs: 6_000,
    defaultTtlMs: 7_000,
    defaultMaxDurationMs: 18_000,
    reclaimTimeoutMs: 8_000,
    idleAfterMs: 11_000,
    reclaimIdleAfterMs: 12_000,
    verifyRelease: "always",
    degradedGpus: "avoid",
    memoryMib: config.allocator.memoryMib,
    idleMemoryMib: config.allocator.idleMemoryMib,
    foreignUse: "adopt",
    foreignUseReadings: 7,
    foreignUseWebhookUrl: "http://127.0.0.1:9/ops",
    refreshIntervalMs: 9_000,
    staleAfterMs: 10_000,
    quotas: config.quotas,
    fairShare: { halfLifeMs: 900_000, maxDelayMs: 16_000 },
    windows: [],
    preemption: { minPriorityGap: 2, graceMs: 13_000, minRuntimeMs: 14_000 },
    sharing: {
      headroomPercent: 13,
      headroomMib: 14,
      maxLeasesPerGpu: 15,
      settleAfterMs: 16_000,
      settleTimeoutMs: 17_000,
    },
  });
  expect(policyOf(configOf("preemption: {grace_period: 13s}")).preemption).toBeNull();
  expect(policyOf(config).workloadDefaults.generic.defaultGpus).toBe(2);
});

test("a file that has become empty is a bad one at a reload, and one that always was is not", () => {
  const before = load("auth: {enabled: true, api_keys: {a-key-of-some-length: bob}}");
  for (const emptied of ["", "# to be written\n", "---\n"]) {
    expect(() => reloaded(before, () => load(emptied))).toThrow(/holds no settings any more/);
    expect(reloaded(load(""), () => load(emptied)).hasSettings).toBe(false);
  }
  const gone = { ...load(""), file: null };
  expect(() => reloaded(before, () => gone)).toThrow(/holds no settings any more/);
  expect(reloaded(load(""), () => before)).toBe(before);
});
