/** What a reload (SIGHUP) may change under a running daemon. */
import { isDeepStrictEqual } from "node:util";
import type { Config } from "./config.ts";

interface Setting {
  /** As in the file. */
  readonly path: string;
  /** Takes effect at once; otherwise at the next start. */
  readonly live: boolean;
}

const live = (path: string): Setting => ({ path, live: true });
const atStart = (path: string): Setting => ({ path, live: false });

/** Every setting; one that is missing here does not compile. */
const SETTINGS: { readonly [Section in keyof Config]: { readonly [Key in keyof Config[Section]]: Setting } } = {
  server: {
    port: atStart("server.port"),
    host: atStart("server.host"),
    readTimeoutMs: atStart("server.read_timeout"),
    writeTimeoutMs: atStart("server.write_timeout"),
    idleTimeoutMs: atStart("server.idle_timeout"),
    allowedHosts: atStart("server.allowed_hosts"),
    allowedOrigins: atStart("server.allowed_origins"),
    allowUnauthenticated: atStart("server.allow_unauthenticated"),
    trustedProxies: atStart("server.trusted_proxies"),
    maxConnections: atStart("server.max_connections"),
    maxRequests: atStart("server.max_requests"),
    tls: atStart("server.tls"),
    socket: atStart("server.socket"),
    adminGroup: atStart("server.admin_group"),
    metrics: atStart("server.metrics"),
    listeners: atStart("server.listeners"),
  },
  limits: {
    principal: live("limits.principal"),
    address: live("limits.address"),
    failedAuthentications: live("limits.failed_authentications"),
  },
  services: {
    deepagentsUrl: atStart("services.deepagents_url"),
    graphServiceUrl: atStart("services.graph_service_url"),
    isDeepagentsStated: atStart("services.deepagents_url"),
    isGraphServiceStated: atStart("services.graph_service_url"),
  },
  scheduler: {
    queueCheckIntervalMs: live("scheduler.queue_check_interval"),
    cleanupIntervalMs: live("scheduler.cleanup_interval"),
    maxQueueSize: live("scheduler.max_queue_size"),
    defaultTtlMultiplier: live("scheduler.default_ttl_multiplier"),
    agingIntervalMs: live("scheduler.aging_interval"),
    reserveAfterMs: live("scheduler.reserve_after"),
    patienceMs: live("scheduler.patience"),
    endlessAfterMs: live("scheduler.endless_after"),
    preferWide: live("scheduler.prefer_wide"),
    holdLate: live("scheduler.hold_late"),
    queueTimeoutMs: live("scheduler.queue_timeout"),
    abandonAfterMs: live("scheduler.abandon_after"),
    claimTimeoutMs: live("scheduler.claim_timeout"),
    fairShare: live("scheduler.fair_share"),
  },
  workloadDefaults: {
    training: live("workload_defaults.training"),
    inference: live("workload_defaults.inference"),
    embedding: live("workload_defaults.embedding"),
    ocr: live("workload_defaults.ocr"),
    graph_processing: live("workload_defaults.graph_processing"),
    generic: live("workload_defaults.generic"),
  },
  analyzer: {
    models: live("analyzer.models"),
    modelDirs: live("analyzer.model_dirs"),
    learn: live("analyzer.learn"),
  },
  monitoring: {
    source: atStart("monitoring.source"),
    nvidiaSmiPath: atStart("monitoring.nvidia_smi_path"),
    refreshIntervalMs: atStart("monitoring.refresh_interval"),
    timeoutMs: atStart("monitoring.timeout"),
    staleAfterMs: atStart("monitoring.stale_after"),
    kernelLog: atStart("monitoring.kernel_log"),
    metricsEnabled: atStart("monitoring.metrics_enabled"),
  },
  simulation: { host: atStart("simulation.host") },
  // Switching authentication off under a daemon that others can reach would open it: that needs a start, which checks.
  auth: {
    enabled: atStart("auth.enabled"),
    headerName: atStart("auth.header_name"),
    store: atStart("auth.store"),
    keys: live("auth.api_keys"),
  },
  storage: { path: atStart("storage.path"), retentionMs: atStart("storage.retention") },
  audit: { retentionMs: atStart("audit.retention") },
  allocator: {
    defaultTtlMs: live("allocator.default_ttl"),
    defaultMaxDurationMs: live("allocator.default_max_duration"),
    idleAfterMs: live("allocator.idle_after"),
    reclaimIdleAfterMs: live("allocator.reclaim_idle_after"),
    reclaimTimeoutMs: live("allocator.reclaim_timeout"),
    verifyRelease: live("allocator.verify_release"),
    degradedGpus: live("allocator.degraded_gpus"),
    memoryMib: live("allocator.memory_mb"),
    idleMemoryMib: live("allocator.idle_memory_mb"),
    foreignUse: live("allocator.foreign_use"),
    foreignUseReadings: live("allocator.foreign_use_readings"),
    foreignUseWebhookUrl: live("allocator.foreign_use_webhook_url"),
  },
  preemption: {
    enabled: live("preemption.enabled"),
    minPriorityGap: live("preemption.min_priority_gap"),
    graceMs: live("preemption.grace_period"),
    minRuntimeMs: live("preemption.min_runtime"),
  },
  quotas: {
    principals: live("quotas.principals"),
    services: live("quotas.services"),
    defaultPrincipal: live("quotas.default_principal"),
    defaultService: live("quotas.default_service"),
  },
  sharing: {
    headroomPercent: live("sharing.headroom_percent"),
    headroomMib: live("sharing.headroom_mb"),
    maxLeasesPerGpu: live("sharing.max_leases_per_gpu"),
    settleAfterMs: live("sharing.settle_after"),
    settleTimeoutMs: live("sharing.settle_timeout"),
  },
  webhooks: {
    secrets: live("webhooks.secret"),
    secretsByPrincipal: live("webhooks.secrets"),
    allowedHosts: live("webhooks.allowed_hosts"),
    timeoutMs: live("webhooks.timeout"),
    giveUpAfterMs: live("webhooks.give_up_after"),
    concurrency: live("webhooks.concurrency"),
  },
  windows: { reserved: live("windows") },
  // Read by two processes, which must not see two versions of them.
  work: {
    enabled: atStart("work.enabled"),
    allowUnauthenticated: atStart("work.allow_unauthenticated"),
    worker: atStart("work.worker"),
    executors: atStart("work.executors"),
    taskTypes: atStart("work.task_types"),
    models: atStart("work.models"),
    defaultModels: atStart("work.default_models"),
    profiles: atStart("work.profiles"),
    dir: atStart("work.dir"),
    resultsDir: atStart("work.results_dir"),
    node: atStart("work.node"),
    tags: atStart("work.tags"),
    labels: atStart("work.labels"),
    runAs: atStart("work.run_as"),
    allowRoot: atStart("work.allow_root"),
    allowSameUser: atStart("work.allow_same_user"),
    cage: atStart("work.cage"),
    maxWorkloads: atStart("work.max_workloads"),
    maxTasks: atStart("work.max_tasks"),
    serviceHost: atStart("work.service_host"),
    ports: atStart("work.ports"),
    secrets: atStart("work.secrets"),
    secretFolders: atStart("work.secret_folders"),
  },
  cluster: {
    role: atStart("cluster.role"),
    redisUrl: atStart("cluster.redis_url"),
    nodeUrl: atStart("cluster.node_url"),
    secretFile: atStart("cluster.secret_file"),
    heartbeatTtlMs: atStart("cluster.heartbeat_ttl"),
    heartbeatIntervalMs: atStart("cluster.heartbeat_interval"),
    mloc: atStart("cluster.mloc"),
  },
  logging: { level: live("logging.level"), file: atStart("logging.file") },
};

/**
 * The settings to go on with: those of `next` that may change now, all others as they are.
 *
 * @returns also the paths that differ but wait for the next start.
 */
export function reloadable(
  old: Config,
  next: Config,
): { readonly config: Config; readonly ignored: readonly string[] } {
  const ignored: string[] = [];
  const waits = waitsForOthers(old, next);
  const sections = Object.entries(SETTINGS).map(([section, settings]) => {
    const before = old[section as keyof Config] as Readonly<Record<string, unknown>>;
    const after = next[section as keyof Config] as Readonly<Record<string, unknown>>;
    const values = Object.entries(settings as Readonly<Record<string, Setting>>).map(([key, { path, live }]) => {
      if (isDeepStrictEqual(before[key], after[key])) return [key, before[key]];
      if (live && !waits.has(path)) return [key, after[key]];
      ignored.push(path);
      return [key, before[key]];
    });
    return [section, Object.freeze(Object.fromEntries(values))];
  });
  return { config: Object.freeze(Object.fromEntries(sections)) as Config, ignored: [...new Set(ignored)] };
}

/** Live settings that were checked, or derived, together with one that waits for the next start. */
function waitsForOthers(old: Config, next: Config): ReadonlySet<string> {
  const waits = new Set<string>();
  // Without authentication no keys are needed: taking that empty list alone would lock everybody out.
  if (old.auth.enabled !== next.auth.enabled) waits.add("auth.api_keys");
  // The default depends on who can reach the daemon as it is bound now.
  if (old.server.host !== next.server.host) waits.add("webhooks.allowed_hosts");
  return waits;
}
