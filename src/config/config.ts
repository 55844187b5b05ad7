/** The settings as the rest of the program sees them: complete, checked against each other, frozen. */
import { BlockList, isIP } from "node:net";
import type { FairShare, MemoryByGpu, Policy, Quota, Quotas, SharingPolicy } from "../core/model/policy.ts";
import type { Role } from "../core/model/roles.ts";
import type { WorkloadDefaults } from "../core/model/workload.ts";
import { type ClusterConfig, toCluster } from "./cluster.ts";
import type { Path } from "./document.ts";
import type { Listener } from "./listeners.ts";
import { toQuota, toQuotas } from "./quotas.ts";
import { DEFAULT_STORAGE_PATH, type FileConfig, SIMULATED_STORAGE_PATH } from "./schema.ts";
import { toWork, type WorkConfig } from "./work.ts";

export interface ApiKey {
  /** 64 lower-case hex digits. */
  readonly sha256: string;
  /** Who owns what this key asks for. Several keys may have one principal. */
  readonly principal: string;
  readonly role: Role;
  /** What its principal may have, where that is given with the key; `null`: it is not. */
  readonly quotas: Quota | null;
  /** From when on it is nobody's, in ms since 1970; absent: never. */
  readonly expiresAt?: number;
  /** It may ask on behalf of other principals; absent: not. */
  readonly delegate?: boolean;
}

/** Paths of PEM files. */
export interface Tls {
  readonly cert: string;
  readonly key: string;
}

/** `null`: no limit. */
export interface ClientLimits {
  readonly requestsPerSecond: number | null;
  readonly requestsUnderWay: number | null;
  readonly longPolls: number | null;
  readonly streams: number | null;
  readonly pendingDeliveries: number | null;
  readonly storedBytesPerDay: number | null;
  readonly idempotencyKeysPerDay: number | null;
}

export interface Config {
  readonly server: {
    /** 0: any free port. */
    readonly port: number;
    readonly host: string;
    readonly readTimeoutMs: number;
    readonly writeTimeoutMs: number;
    readonly idleTimeoutMs: number;
    /** Names taken in `Host` beside IP literals, `localhost` and the host's own name. Lower case. */
    readonly allowedHosts: readonly string[];
    readonly allowedOrigins: readonly string[];
    readonly allowUnauthenticated: boolean;
    /** Addresses and CIDR blocks whose `X-Forwarded-For` is believed. */
    readonly trustedProxies: readonly string[];
    readonly maxConnections: number;
    /** Under way at once; `null`: as many as come. */
    readonly maxRequests: number | null;
    /** `null`: plain HTTP. */
    readonly tls: Tls | null;
    /** A unix socket for users of this host; `null`: none. With it, nothing listens at the port unless keys are on. */
    readonly socket: string | null;
    /** A group whose members are admins over the socket, as root is. */
    readonly adminGroup: string | null;
    /** What `GET /metrics` at the port answers whoever prefers nothing. */
    readonly metrics: Listener["metrics"];
    readonly listeners: readonly Listener[];
  };
  /** What one client may have: a principal where a key tells, otherwise an address. */
  readonly limits: {
    readonly principal: ClientLimits;
    readonly address: ClientLimits;
    /** Wrong keys from one address before it has to wait; `null`: no limit. */
    readonly failedAuthentications: number | null;
  };
  readonly services: {
    /** `null` switches a service off. */
    readonly deepagentsUrl: string | null;
    readonly graphServiceUrl: string | null;
    /** A service is asked only where somebody has said so: anybody on the host can bind the port of the default. */
    readonly isDeepagentsStated: boolean;
    readonly isGraphServiceStated: boolean;
  };
  readonly scheduler: {
    readonly queueCheckIntervalMs: number;
    readonly cleanupIntervalMs: number;
    readonly maxQueueSize: number;
    readonly defaultTtlMultiplier: number;
    readonly agingIntervalMs: number;
    readonly reserveAfterMs: number;
    readonly patienceMs: number;
    readonly endlessAfterMs: number;
    readonly preferWide: boolean;
    readonly holdLate: boolean;
    /** `null`: a request waits for ever. */
    readonly queueTimeoutMs: number | null;
    readonly abandonAfterMs: number;
    readonly claimTimeoutMs: number;
    /** `null`: off. */
    readonly fairShare: FairShare | null;
  };
  readonly workloadDefaults: Policy["workloadDefaults"];
  readonly analyzer: {
    /** Models beside those of the catalogue, by the canonical form of their names. */
    readonly models: Policy["models"];
    /** Absolute paths of the folders that `model_path` may lead into. */
    readonly modelDirs: readonly string[];
    /** Whether what earlier leases used is asked for. What is seen is shown either way. */
    readonly learn: boolean;
  };
  readonly monitoring: {
    readonly source: "nvidia-smi" | "simulated";
    /** `null`: found in PATH. */
    readonly nvidiaSmiPath: string | null;
    readonly refreshIntervalMs: number;
    readonly timeoutMs: number;
    readonly staleAfterMs: number;
    /** Where the kernel's log is read; `null`: nowhere. */
    readonly kernelLog: string | null;
    readonly metricsEnabled: boolean;
  };
  /** What `monitoring.source: simulated` shows, such as `h100x8`. */
  readonly simulation: { readonly host: string };
  readonly auth: {
    readonly enabled: boolean;
    readonly headerName: string;
    /** Where further keys are: nowhere else, or in the database. */
    readonly store: "file" | "database";
    readonly keys: readonly ApiKey[];
  };
  readonly storage: { readonly path: string; readonly retentionMs: number };
  readonly audit: { readonly retentionMs: number };
  readonly allocator: {
    /** `null`: a lease without a TTL of its own has no end. */
    readonly defaultTtlMs: number | null;
    readonly defaultMaxDurationMs: number | null;
    readonly idleAfterMs: number;
    /** `null`: an idle lease stays. */
    readonly reclaimIdleAfterMs: number | null;
    readonly reclaimTimeoutMs: number;
    readonly verifyRelease: Policy["verifyRelease"];
    readonly degradedGpus: Policy["degradedGpus"];
    /** Sizes of GPUs whose driver tells none, and what is in use on GPUs that nobody uses. */
    readonly memoryMib: MemoryByGpu;
    readonly idleMemoryMib: MemoryByGpu;
    readonly foreignUse: Policy["foreignUse"];
    readonly foreignUseReadings: number;
    /** Whom to tell of it; `null`: nobody. */
    readonly foreignUseWebhookUrl: string | null;
  };
  readonly preemption: {
    readonly enabled: boolean;
    /** Levels of priority, at least 1. */
    readonly minPriorityGap: number;
    readonly graceMs: number;
    readonly minRuntimeMs: number;
  };
  /** Beside those that are given with the API keys. */
  readonly quotas: Quotas;
  readonly sharing: SharingPolicy;
  readonly webhooks: {
    /** `whsec_` and base64, or other text: all of them sign. None: webhooks are not signed. */
    readonly secrets: readonly string[];
    /** Instead of those, for what tells a principal. */
    readonly secretsByPrincipal: Readonly<Record<string, readonly string[]>>;
    /** `external`, `loopback`, host names (also `*.example.com`), addresses and CIDR blocks. */
    readonly allowedHosts: readonly string[];
    readonly timeoutMs: number;
    /** A delivery that still fails this long after its first attempt is given up. */
    readonly giveUpAfterMs: number;
    /** Deliveries under way at once. */
    readonly concurrency: number;
  };
  readonly windows: { readonly reserved: Policy["windows"] };
  readonly work: WorkConfig;
  readonly cluster: ClusterConfig;
  readonly logging: {
    readonly level: FileConfig["logging"]["level"];
    /** `null`: standard output. */
    readonly file: string | null;
  };
}

/**
 * Gives the keys of the file their names and units, and fills in the defaults that depend on other settings.
 *
 * @param isStated whether a setting was given, by whatever means, and is not the default by nobody's word.
 */
export function toConfig(file: FileConfig, isStated: (path: Path) => boolean): Config {
  const { server, services, scheduler, monitoring, auth, storage, allocator, preemption, quotas, sharing, webhooks } =
    file;
  return deepFreeze({
    server: {
      port: server.port,
      host: server.host,
      readTimeoutMs: server.read_timeout,
      writeTimeoutMs: server.write_timeout,
      idleTimeoutMs: server.idle_timeout,
      allowedHosts: server.allowed_hosts,
      allowedOrigins: server.allowed_origins,
      allowUnauthenticated: server.allow_unauthenticated,
      trustedProxies: server.trusted_proxies,
      maxConnections: server.max_connections,
      maxRequests: server.max_requests,
      tls: toTls(server.tls),
      socket: server.socket,
      adminGroup: server.admin_group,
      metrics: server.metrics,
      listeners: server.listeners,
    },
    limits: {
      principal: toClientLimits(file.limits.principal),
      address: toClientLimits(file.limits.address),
      failedAuthentications: file.limits.failed_authentications,
    },
    services: {
      deepagentsUrl: services.deepagents_url,
      graphServiceUrl: services.graph_service_url,
      isDeepagentsStated: isStated(["services", "deepagents_url"]),
      isGraphServiceStated: isStated(["services", "graph_service_url"]),
    },
    scheduler: {
      queueCheckIntervalMs: scheduler.queue_check_interval,
      cleanupIntervalMs: scheduler.cleanup_interval,
      maxQueueSize: scheduler.max_queue_size,
      defaultTtlMultiplier: scheduler.default_ttl_multiplier,
      agingIntervalMs: scheduler.aging_interval,
      reserveAfterMs: scheduler.reserve_after,
      patienceMs: scheduler.patience,
      endlessAfterMs: scheduler.endless_after,
      preferWide: scheduler.prefer_wide,
      holdLate: scheduler.hold_late,
      queueTimeoutMs: scheduler.queue_timeout,
      abandonAfterMs: scheduler.abandon_after,
      claimTimeoutMs: scheduler.claim_timeout,
      fairShare: toFairShare(scheduler.fair_share),
    },
    workloadDefaults: {
      training: toWorkloadDefaults(file.workload_defaults.training),
      inference: toWorkloadDefaults(file.workload_defaults.inference),
      embedding: toWorkloadDefaults(file.workload_defaults.embedding),
      ocr: toWorkloadDefaults(file.workload_defaults.ocr),
      graph_processing: toWorkloadDefaults(file.workload_defaults.graph_processing),
      generic: toWorkloadDefaults(file.workload_defaults.generic),
    },
    analyzer: {
      models: file.analyzer.models,
      modelDirs: file.analyzer.model_dirs,
      learn: file.analyzer.learn,
    },
    monitoring: {
      source: monitoring.source,
      nvidiaSmiPath: monitoring.nvidia_smi_path,
      refreshIntervalMs: monitoring.refresh_interval,
      timeoutMs: monitoring.timeout,
      staleAfterMs: monitoring.stale_after ?? 3 * monitoring.refresh_interval + monitoring.timeout,
      kernelLog: monitoring.kernel_log,
      metricsEnabled: monitoring.metrics_enabled,
    },
    simulation: { host: file.simulation.host },
    auth: { enabled: auth.enabled, headerName: auth.header_name, store: auth.store, keys: toKeys(file) },
    storage: { path: storagePath(storage.path, monitoring.source), retentionMs: storage.retention },
    audit: { retentionMs: file.audit.retention },
    allocator: {
      defaultTtlMs: allocator.default_ttl,
      defaultMaxDurationMs: allocator.default_max_duration,
      idleAfterMs: allocator.idle_after,
      reclaimIdleAfterMs: allocator.reclaim_idle_after,
      reclaimTimeoutMs: allocator.reclaim_timeout,
      verifyRelease: allocator.verify_release,
      degradedGpus: allocator.degraded_gpus,
      memoryMib: allocator.memory_mb,
      idleMemoryMib: allocator.idle_memory_mb,
      foreignUse: allocator.foreign_use,
      foreignUseReadings: allocator.foreign_use_readings,
      foreignUseWebhookUrl: allocator.foreign_use_webhook_url,
    },
    preemption: {
      enabled: preemption.enabled,
      minPriorityGap: preemption.min_priority_gap,
      graceMs: preemption.grace_period,
      minRuntimeMs: preemption.min_runtime,
    },
    quotas: {
      principals: toQuotas(quotas.principals, quotas.default_principal),
      services: toQuotas(quotas.services, quotas.default_service),
      defaultPrincipal: toQuota(quotas.default_principal, quotas.default_principal),
      defaultService: toQuota(quotas.default_service, quotas.default_service),
    },
    sharing: {
      headroomPercent: sharing.headroom_percent,
      headroomMib: sharing.headroom_mb,
      maxLeasesPerGpu: sharing.max_leases_per_gpu,
      settleAfterMs: sharing.settle_after,
      settleTimeoutMs: sharing.settle_timeout,
    },
    webhooks: {
      secrets: webhooks.secret ?? [],
      secretsByPrincipal: webhooks.secrets,
      allowedHosts: webhooks.allowed_hosts ?? defaultWebhookHosts(server.host),
      timeoutMs: webhooks.timeout,
      giveUpAfterMs: webhooks.give_up_after,
      concurrency: webhooks.concurrency,
    },
    windows: { reserved: file.windows },
    work: toWork(file.work, monitoring.source === "simulated"),
    cluster: toCluster(file.cluster),
    logging: file.logging,
  });
}

/** One alone is refused elsewhere: see rules.ts. */
function toTls({ cert, key }: FileConfig["server"]["tls"]): Tls | null {
  return cert === null && key === null ? null : { cert: cert ?? "", key: key ?? "" };
}

const BYTES_PER_MB = 1_024 * 1_024;

function toClientLimits(given: FileConfig["limits"]["principal"]): ClientLimits {
  const { stored_mb_per_day: storedMb } = given;
  return {
    requestsPerSecond: given.requests_per_second,
    requestsUnderWay: given.requests_under_way,
    longPolls: given.long_polls,
    streams: given.streams,
    pendingDeliveries: given.pending_deliveries,
    storedBytesPerDay: storedMb === null ? null : storedMb * BYTES_PER_MB,
    idempotencyKeysPerDay: given.idempotency_keys_per_day,
  };
}

function toFairShare({ enabled, half_life, max_delay }: FileConfig["scheduler"]["fair_share"]): FairShare | null {
  return enabled ? { halfLifeMs: half_life, maxDelayMs: max_delay } : null;
}

function toKeys({ auth, quotas }: FileConfig): readonly ApiKey[] {
  return auth.api_keys.map(({ expires, delegate, ...key }) => ({
    ...key,
    ...(delegate ? { delegate } : {}),
    ...(expires === null ? {} : { expiresAt: expires }),
    quotas: key.quotas === null ? null : toQuota(key.quotas, quotas.default_principal),
  }));
}

/** GPUs that do not exist must not stay behind in the books of a host: unless a path is given, they have their own. */
function storagePath(path: string, source: FileConfig["monitoring"]["source"]): string {
  return source === "simulated" && path === DEFAULT_STORAGE_PATH ? SIMULATED_STORAGE_PATH : path;
}

function toWorkloadDefaults(workload: FileConfig["workload_defaults"]["generic"]): WorkloadDefaults {
  return {
    defaultGpus: workload.default_gpus,
    defaultMemoryMib: workload.default_memory_mb,
    defaultPriority: workload.default_priority,
    maxUtilizationPercent: workload.max_utilization,
    largeBatchSize: workload.large_batch_size,
    xlargeBatchSize: workload.xlarge_batch_size,
    highConcurrency: workload.high_concurrency,
    veryHighConcurrency: workload.very_high_concurrency,
  };
}

/** A daemon that only its own host can reach may call back to it; one that others reach may not be led there. */
function defaultWebhookHosts(host: string): readonly string[] {
  return isLoopback(host) ? ["external", "loopback"] : ["external"];
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/** Whether a server bound to `host` is reachable from this machine only. A name other than `localhost` is not trusted. */
export function isLoopback(host: string): boolean {
  const version = isIP(host);
  // An IPv4 address in IPv6 form (`::ffff:127.0.0.1`) is found by its IPv4 rule.
  return version === 0 ? /^localhost\.?$/i.test(host) : LOOPBACK.check(host, version === 4 ? "ipv4" : "ipv6");
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  for (const child of Object.values(value)) deepFreeze(child);
  return Object.freeze(value);
}
