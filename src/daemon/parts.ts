/** Builds the parts of the daemon from its settings, each with those that it needs. None of them runs yet. */
import type { Config } from "../config/config.ts";
import { policyOf } from "../config/policy.ts";
import { Peers } from "../http/exchange/peers.ts";
import { createHttpServer, type HttpServer, type HttpSettings } from "../http/server.ts";
import { createMetrics, type Metrics } from "../metrics/metrics.ts";
import { BoundProcesses } from "../monitor/bound-processes.ts";
import { NvidiaSmiSource } from "../monitor/nvidia-smi/source.ts";
import { SimulatedSource } from "../monitor/simulated/source.ts";
import type { Clock } from "../platform/clock.ts";
import { openFilesLimit } from "../platform/descriptors.ts";
import { sortableIds } from "../platform/ids.ts";
import type { Logger } from "../platform/logger.ts";
import type { GpuSource } from "../ports/gpu-source.ts";
import type { Knowledge } from "../ports/knowledge.ts";
import type { Lessons } from "../ports/learned.ts";
import { NO_PAST } from "../ports/past-decisions.ts";
import type { StoredState } from "../ports/store.ts";
import type { WebhookTester } from "../ports/webhooks.ts";
import { GpuHistory } from "../scheduler/gpu-history.ts";
import { Scheduler } from "../scheduler/scheduler.ts";
import { LookBack } from "../store/look-back.ts";
import { IN_MEMORY, takeLock } from "../store/open.ts";
import type { SqliteStore } from "../store/store.ts";
import { createWorkService, type WorkService } from "../work-service/service.ts";
import { workDatabaseBeside } from "../work-service/store.ts";
import { certificateOf } from "./certificate.ts";
import type { KeyBook } from "./key-book.ts";
import { DaemonLeases } from "./work.ts";

/** A drain that takes longer is cut short: the promise is exit within 10 s. */
const DRAIN_MS = 8_000;

/** Descriptors beside those of connections and webhooks: `nvidia-smi`, the database, logs, and what node opens itself. */
const OTHER_DESCRIPTORS = 256;
/** Below this the limit of open files is not heeded: it would leave nothing to serve with. */
const MIN_CONNECTIONS = 64;
/** Counting webhooks reads the outbox, so what was counted stands for a while. */
const COUNT_KEPT_MS = 250;

/** Readers of the event stream; each has a connection of its own. */
const MAX_STREAMS = 1_024;

/** A reader that takes nothing for so long has gone, or is no use. */
const STREAM_STALL_MS = 30_000;

export interface Given {
  readonly config: Config;
  readonly version: string;
  readonly store: SqliteStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly keyBook: KeyBook;
  /** What one client may have, as it is now. */
  readonly limits: () => Config["limits"];
  /** Why webhooks may not be sent there, as the settings are now; `null` when they may. */
  readonly checkWebhookUrl: (url: string) => string | null;
  /** `null`: the daemon sends no webhooks yet. */
  readonly webhookTester: () => WebhookTester | null;
  readonly knowledge: Knowledge;
  readonly lessons: Lessons;
  /** Why requests for GPUs cannot be served; `null` when they can. */
  readonly readiness: () => string | null;
}

export interface Parts {
  readonly source: GpuSource;
  readonly scheduler: Scheduler;
  readonly history: GpuHistory;
  /** `null`: the settings want none. */
  readonly metrics: Metrics | null;
  readonly work: WorkService;
  readonly http: HttpServer;
  readonly processes: BoundProcesses;
}

export function buildParts(given: Given): Parts {
  const { config, version, store, clock, log, keyBook, limits, readiness, knowledge, lessons } = given;
  const { checkWebhookUrl, webhookTester } = given;
  const stored = store.load();
  const simulated =
    config.monitoring.source === "simulated" ? new SimulatedSource({ shape: config.simulation.host, clock }) : null;
  const source = simulated ?? nvidiaSmi(config, clock, stored);
  const scheduler = new Scheduler(
    {
      store,
      clock,
      newId: sortableIds(),
      policy: policyOf(config),
      tickIntervalMs: tickInterval(config),
      wallAheadMs: () => Date.now() - clock.now(),
      onBug: (err) => log.error({ err }, "a bug: this should not happen"),
    },
    stored,
  );
  const hasKeys = config.auth.enabled;
  const metrics = config.monitoring.metricsEnabled
    ? createMetrics({ version, clock, scheduler, source, hasKeys })
    : null;
  for (const observer of [simulated, metrics]) if (observer !== null) scheduler.observeWith(observer);
  const history = new GpuHistory({ store, clock, scheduler });
  const work = createWorkService({
    config: config.work,
    cluster: config.cluster,
    databasePath: workDatabaseBeside(config.storage.path),
    takeLock,
    leases: new DaemonLeases(scheduler, simulated !== null),
    ...{ clock, log, version, metrics },
    checkUrl: checkWebhookUrl,
    prefersJsonAt: jsonPorts(config),
  });
  const { path } = config.storage;
  const processes = new BoundProcesses();
  const http = createHttpServer({
    ...(config.server.socket === null ? {} : { peers: new Peers(config.server.adminGroup, log.warn.bind(log)) }),
    settings: httpSettings(config),
    keyBook,
    keys: () => keyBook.inForce(),
    onKeyUsed: (keyId) => keyBook.used(keyId),
    limits,
    scheduler,
    history,
    audit: store,
    pastDecisions: path === IN_MEMORY ? NO_PAST : new LookBack(path),
    pendingDeliveries: countingPending(store),
    checkWebhookUrl,
    webhookTester,
    knowledge,
    lessons,
    processes,
    readiness,
    metrics,
    version,
    log,
    work: work.http,
  });
  return { source, scheduler, history, metrics, work, http, processes };
}

/** The system chooses port 0 anew each time, so what is none of the others is that one. */
function jsonPorts({ server }: Config): (port: number | null) => boolean {
  const forms = new Map(server.listeners.map(({ port, metrics }) => [port, metrics]));
  return (port) => (port === null ? "prometheus" : (forms.get(port) ?? server.metrics)) === "json";
}

/** The two intervals of the reference: whatever looks for due deadlines does both jobs. */
export function tickInterval({ scheduler }: Config): number {
  return Math.min(scheduler.queueCheckIntervalMs, scheduler.cleanupIntervalMs);
}

/** As the settings say, if the limit of open files leaves enough for everything else. */
function maxConnections({ server, webhooks }: Config): number {
  const files = openFilesLimit();
  if (files === null) return server.maxConnections;
  return Math.min(server.maxConnections, Math.max(MIN_CONNECTIONS, files - OTHER_DESCRIPTORS - webhooks.concurrency));
}

/** @returns how many webhooks of a principal are still to be delivered, as of a moment ago. */
function countingPending(store: SqliteStore): (principal: string, atMost: number) => number {
  const counted = new Map<string, { readonly at: number; readonly count: number }>();
  return (principal, atMost) => {
    const known = counted.get(principal);
    const now = performance.now();
    if (known !== undefined && now - known.at < COUNT_KEPT_MS) return known.count;
    const count = store.pendingDeliveries(principal, atMost);
    counted.set(principal, { at: now, count });
    return count;
  };
}

function nvidiaSmi({ monitoring }: Config, clock: Clock, { gpus }: StoredState): GpuSource {
  return new NvidiaSmiSource({
    ...(monitoring.nvidiaSmiPath === null ? {} : { path: monitoring.nvidiaSmiPath }),
    timeoutMs: monitoring.timeoutMs,
    clock,
    inventory: gpus,
  });
}

function httpSettings(config: Config): HttpSettings {
  const { auth, server } = config;
  return {
    auth: { enabled: auth.enabled, headerName: auth.headerName },
    allowedHosts: server.allowedHosts,
    allowedOrigins: server.allowedOrigins,
    readTimeoutMs: server.readTimeoutMs,
    writeTimeoutMs: server.writeTimeoutMs,
    idleTimeoutMs: server.idleTimeoutMs,
    maxConnections: maxConnections(config),
    ...(server.maxRequests === null ? {} : { maxRequests: server.maxRequests }),
    trustedProxies: server.trustedProxies,
    maxStreams: MAX_STREAMS,
    streamStallMs: STREAM_STALL_MS,
    drainTimeoutMs: DRAIN_MS,
    certificate: certificateOf(server),
  };
}
