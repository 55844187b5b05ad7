/**
 * Every key of the configuration file, with its default: the one place that knows them. `Config` is what the program
 * sees; `config.ts` turns one into the other.
 */
import { z } from "zod";
import { WORKLOAD_DEFAULTS } from "../core/analyzer/defaults.ts";
import { MAX_SHARES } from "../core/host/shared-memory.ts";
import { MAX_PRIORITY, MIN_PRIORITY, type WorkloadType } from "../core/model/workload.ts";
import { apiKeys, keyHolder, PRINCIPAL } from "./api-keys.ts";
import { cluster } from "./cluster.ts";
import type { Path } from "./document.ts";
import { listener, METRICS_FORMS } from "./listeners.ts";
import { memoryByGpu } from "./memory-by-gpu.ts";
import { ownModels } from "./models.ts";
import { partialQuota, quota, quotasByName } from "./quotas.ts";
import {
  decimal,
  duration,
  flag,
  host,
  httpUrl,
  integer,
  listOf,
  nullable,
  oneOf,
  port,
  section,
  serviceUrl,
  setting,
  text,
} from "./settings.ts";
import { secretsByPrincipal, webhookSecrets } from "./webhook-secrets.ts";
import { windowKeysAt, windows } from "./windows.ts";
import { WORK_NAMES, work } from "./work.ts";

const LOG_LEVELS = ["fatal", "error", "warn", "info", "debug", "trace"] as const;

/** `<model>x<count>`, and `-mig` behind it; which models there are, the simulated source knows. */
const SIMULATED_HOST = /^[a-z][a-z0-9-]*x[1-9]\d{0,3}(?:-mig)?$/i;
/** A keyword, a host name (also `*.example.com`), an address or a CIDR block; the webhooks know what each means. */
const WEBHOOK_HOST = /^(?:\*\.)?[\p{L}\p{N}_.:[\]-]+(?:\/\d{1,3})?$/u;
/** As the API takes it. */
const SERVICE = text("a service's name: 1 to 128 of A-Z a-z 0-9 . _ -", /^[A-Za-z0-9._-]{1,128}$/);
const PEM_FILE = text("the absolute path of a file", /^\/[^\p{Cc}]*$/u);
const HEADER_NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/;

/** As browsers write it: in lower case, without a path or a port that goes without saying. */
const ORIGIN = /^https?:\/\/[a-z0-9.[\]:-]+$/;

const ADDRESS_OR_BLOCK = /^[0-9A-Fa-f.:]+(?:\/\d{1,3})?$/;

/** What one client may have: far above what an honest one asks for. */
function clientLimits(streams: number) {
  const most = nullable(integer(1, 1_000_000_000));
  return section({
    requests_per_second: setting(nullable(integer(50, 1_000_000)), 2_000),
    requests_under_way: setting(most, 8_192),
    long_polls: setting(most, 4_096),
    streams: setting(most, streams),
    pending_deliveries: setting(most, 10_000),
    stored_mb_per_day: setting(most, 1_024),
    idempotency_keys_per_day: setting(most, 1_000_000),
  });
}

export const DEFAULT_STORAGE_PATH = "data/gpu-orchestrator.db";
export const SIMULATED_STORAGE_PATH = "data/simulated.db";

export const fileSchema = z.strictObject({
  server: section({
    port: setting(port, "8086"),
    host: setting(host, "127.0.0.1"),
    read_timeout: setting(duration("100ms", "1d"), "15s"),
    write_timeout: setting(duration("100ms", "1d"), "15s"),
    idle_timeout: setting(duration("100ms", "1d"), "60s"),
    allowed_hosts: setting(listOf(host), []),
    allowed_origins: setting(listOf(text("an origin such as https://gpus.example.org", ORIGIN)), []),
    allow_unauthenticated: setting(flag, false),
    trusted_proxies: setting(listOf(text("an address or a CIDR block", ADDRESS_OR_BLOCK)), []),
    tls: section({
      cert: setting(nullable(PEM_FILE), null),
      key: setting(nullable(PEM_FILE), null),
    }),
    max_connections: setting(integer(16, 1_000_000), 8_192),
    max_requests: setting(nullable(integer(1, 1_000_000)), null),
    socket: setting(nullable(text("an absolute path", /^\/[^\0]{1,100}$/)), null),
    admin_group: setting(nullable(text("a group's name", /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$/)), null),
    metrics: setting(oneOf(METRICS_FORMS), "prometheus"),
    listeners: setting(listOf(listener), []),
  }),
  limits: section({
    principal: clientLimits(32),
    address: clientLimits(256),
    failed_authentications: setting(nullable(integer(1, 1_000_000)), 20),
  }),
  services: section({
    deepagents_url: setting(serviceUrl, "http://localhost:9004"),
    graph_service_url: setting(serviceUrl, "http://localhost:8081"),
  }),
  scheduler: section({
    queue_check_interval: setting(duration("100ms", "1h"), "5s"),
    cleanup_interval: setting(duration("100ms", "1h"), "5s"),
    max_queue_size: setting(integer(0, 1_000_000), 100),
    default_ttl_multiplier: setting(decimal(0.01, 1_000), 2.0),
    aging_interval: setting(duration("1s", "3650d"), "10m"),
    reserve_after: setting(duration("0s", "3650d"), "1m"),
    patience: setting(duration("0s", "3650d"), "12h"),
    endless_after: setting(duration("1s", "3650d"), "24h"),
    prefer_wide: setting(flag, true),
    hold_late: setting(flag, false),
    queue_timeout: setting(nullable(duration("100ms", "3650d")), null),
    abandon_after: setting(duration("100ms", "1d"), "30s"),
    claim_timeout: setting(duration("100ms", "1d"), "60s"),
    fair_share: section({
      enabled: setting(flag, false),
      half_life: setting(duration("1m", "30d"), "24h"),
      max_delay: setting(duration("1s", "30d"), "10m"),
    }),
  }),
  workload_defaults: section({
    training: workload("training"),
    inference: workload("inference"),
    embedding: workload("embedding"),
    ocr: workload("ocr"),
    graph_processing: workload("graph_processing"),
    generic: workload("generic"),
  }),
  analyzer: section({
    model_dirs: setting(listOf(text("the absolute path of a folder", /^\/[^\p{Cc}]*$/u)), []),
    learn: setting(flag, false),
    models: setting(ownModels, {}),
  }),
  monitoring: section({
    source: setting(oneOf(["nvidia-smi", "simulated"]), "nvidia-smi"),
    nvidia_smi_path: setting(nullable(text("the path of a program", /^[^\p{Cc}]+$/u)), null),
    refresh_interval: setting(duration("100ms", "1h"), "5s"),
    timeout: setting(duration("100ms", "10m"), "10s"),
    stale_after: setting(nullable(duration("100ms", "1d")), null),
    kernel_log: setting(nullable(text("the path of a file", /^[^\p{Cc}]+$/u)), "/dev/kmsg"),
    metrics_enabled: setting(flag, true),
  }),
  simulation: section({
    host: setting(text("a model and a number of GPUs such as h100x8", SIMULATED_HOST), "h100x8"),
  }),
  auth: section({
    enabled: setting(flag, false),
    header_name: setting(text("the name of an HTTP header", HEADER_NAME), "X-API-Key"),
    store: setting(oneOf(["file", "database"]), "file"),
    api_keys: apiKeys(),
  }),
  storage: section({
    path: setting(text("the path of a file, or :memory:", /^[^\p{Cc}]+$/u), DEFAULT_STORAGE_PATH),
    retention: setting(duration("30d", "3650d"), "30d"),
  }),
  audit: section({
    retention: setting(duration("1d", "3650d"), "90d"),
  }),
  allocator: section({
    default_ttl: setting(nullable(duration("1s", "3650d")), null),
    default_max_duration: setting(nullable(duration("1s", "3650d")), null),
    idle_after: setting(duration("1s", "3650d"), "15m"),
    reclaim_idle_after: setting(nullable(duration("0s", "3650d")), null),
    reclaim_timeout: setting(duration("100ms", "1d"), "60s"),
    verify_release: setting(oneOf(["when_used", "always", "never"]), "when_used"),
    degraded_gpus: setting(oneOf(["exclude", "avoid"]), "exclude"),
    memory_mb: memoryByGpu(),
    idle_memory_mb: memoryByGpu(),
    foreign_use: setting(oneOf(["exclude", "notify", "adopt"]), "exclude"),
    foreign_use_readings: setting(integer(1, 10_000), 3),
    foreign_use_webhook_url: setting(nullable(httpUrl), null),
  }),
  preemption: section({
    enabled: setting(flag, false),
    min_priority_gap: setting(integer(1, MAX_PRIORITY - MIN_PRIORITY), 1),
    grace_period: setting(duration("1s", "1d"), "30s"),
    min_runtime: setting(duration("0s", "3650d"), "0s"),
  }),
  quotas: section({
    default_principal: quota(),
    default_service: quota(),
    principals: quotasByName(PRINCIPAL),
    services: quotasByName(SERVICE),
  }),
  sharing: section({
    headroom_percent: setting(decimal(0, 50), 5),
    headroom_mb: setting(integer(0, 1_000_000_000), 512),
    max_leases_per_gpu: setting(integer(1, MAX_SHARES), 16),
    settle_after: setting(duration("0s", "1h"), "10s"),
    settle_timeout: setting(duration("0s", "1d"), "2m"),
  }),
  webhooks: section({
    secret: setting(nullable(webhookSecrets), null),
    secrets: secretsByPrincipal(),
    allowed_hosts: setting(
      nullable(listOf(text("`external`, `loopback`, a name, an address or a CIDR block", WEBHOOK_HOST))),
      null,
    ),
    timeout: setting(duration("100ms", "5m"), "10s"),
    give_up_after: setting(duration("1s", "30d"), "3d"),
    concurrency: setting(integer(1, 1_000), 64),
  }),
  windows: windows(),
  work: work(),
  cluster: cluster(),
  logging: section({
    level: setting(oneOf(LOG_LEVELS), "info"),
    file: setting(nullable(text("the path of a file", /^[^\p{Cc}]+$/u)), null),
  }),
});

/** A configuration file as read: every key there, defaults filled in, durations in ms, API keys hashed. */
export type FileConfig = z.output<typeof fileSchema>;

function workload(type: WorkloadType) {
  const byDefault = WORKLOAD_DEFAULTS[type];
  return section({
    default_gpus: setting(integer(1, 1_024), byDefault.defaultGpus),
    default_memory_mb: setting(integer(1, 1_000_000_000), byDefault.defaultMemoryMib),
    default_priority: setting(integer(MIN_PRIORITY, MAX_PRIORITY), byDefault.defaultPriority),
    max_utilization: setting(decimal(0, 100), byDefault.maxUtilizationPercent),
    large_batch_size: setting(integer(0, Number.MAX_SAFE_INTEGER), byDefault.largeBatchSize),
    xlarge_batch_size: setting(integer(0, Number.MAX_SAFE_INTEGER), byDefault.xlargeBatchSize),
    high_concurrency: setting(integer(0, Number.MAX_SAFE_INTEGER), byDefault.highConcurrency),
    very_high_concurrency: setting(integer(0, Number.MAX_SAFE_INTEGER), byDefault.veryHighConcurrency),
  });
}

/** The keys that may stand below `path`; none when a value stands there. */
export function keysAt(path: Path): readonly string[] {
  if (path[0] === "windows") return windowKeysAt(path.slice(1));
  const below = BY_NAME[path.slice(0, 2).join(".")];
  const named = below !== undefined && path.length > 2;
  let object = objectIn(named ? below : fileSchema);
  for (const key of named ? path.slice(3) : path) object = objectIn(object?.shape[key]);
  return Object.keys(object?.shape ?? {});
}

/** What stands below a name that the user has chosen. */
const BY_NAME: Readonly<Record<string, z.ZodType>> = {
  "auth.api_keys": keyHolder,
  "quotas.principals": partialQuota,
  "quotas.services": partialQuota,
  ...WORK_NAMES,
};

/** The path of every setting, in the file's order. */
export function settingPaths(below: Path = []): readonly Path[] {
  const keys = keysAt(below);
  return keys.length === 0 ? [below] : keys.flatMap((key) => settingPaths([...below, key]));
}

/** The object behind what {@link section} wraps around it. */
function objectIn(schema: unknown): z.ZodObject | null {
  if (schema instanceof z.ZodPrefault) return objectIn(schema.def.innerType);
  if (schema instanceof z.ZodPipe) return objectIn(schema.def.out);
  return schema instanceof z.ZodObject ? schema : null;
}
