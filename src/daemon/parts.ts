/** Builds the parts of the daemon from its settings, each with those that it needs. None of them runs yet. */
import type { Config } from "../config/config.ts";
import { policyOf } from "../config/policy.ts";
import { type ApiKey, createHttpServer, type HttpServer, type HttpSettings } from "../http/server.ts";
import { createMetrics, type Metrics } from "../metrics/metrics.ts";
import { NvidiaSmiSource } from "../monitor/nvidia-smi/source.ts";
import { SimulatedSource } from "../monitor/simulated/source.ts";
import type { Clock } from "../platform/clock.ts";
import { sortableIds } from "../platform/ids.ts";
import type { Logger } from "../platform/logger.ts";
import type { GpuSource } from "../ports/gpu-source.ts";
import type { Knowledge } from "../ports/knowledge.ts";
import type { Lessons } from "../ports/learned.ts";
import type { StoredState } from "../ports/store.ts";
import { GpuHistory } from "../scheduler/gpu-history.ts";
import { Scheduler } from "../scheduler/scheduler.ts";
import type { SqliteStore } from "../store/store.ts";
import { createWorkService, type WorkService, workDatabaseBeside } from "../work-service/service.ts";
import { DaemonLeases } from "./work.ts";

/** A drain that takes longer is cut short: the promise is exit within 10 s. */
const DRAIN_MS = 8_000;

/** Each costs a file descriptor and some 10 KiB; the promise is at least 4,096. */
const MAX_CONNECTIONS = 16_384;

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
  /** The API keys as they are now. */
  readonly keys: () => readonly ApiKey[];
  /** Why webhooks may not be sent there, as the settings are now; `null` when they may. */
  readonly checkWebhookUrl: (url: string) => string | null;
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
}

export function buildParts(given: Given): Parts {
  const { config, version, store, clock, log, keys, checkWebhookUrl, readiness, knowledge, lessons } = given;
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
  const settings = httpSettings(config);
  const history = new GpuHistory({ store, clock, state: () => scheduler.state });
  const work = createWorkService({
    config: config.work,
    databasePath: workDatabaseBeside(config.storage.path),
    leases: new DaemonLeases(scheduler, simulated !== null),
    ...{ clock, log, version, metrics },
  });
  const http = createHttpServer({
    ...{
      scheduler,
      history,
      settings,
      keys,
      checkWebhookUrl,
      knowledge,
      lessons,
      metrics,
      version,
      log,
      readiness,
      work: work.http,
    },
  });
  return { source, scheduler, history, metrics, work, http };
}

/** The two intervals of the reference: whatever looks for due deadlines does both jobs. */
export function tickInterval({ scheduler }: Config): number {
  return Math.min(scheduler.queueCheckIntervalMs, scheduler.cleanupIntervalMs);
}

function nvidiaSmi({ monitoring }: Config, clock: Clock, { gpus }: StoredState): GpuSource {
  return new NvidiaSmiSource({
    ...(monitoring.nvidiaSmiPath === null ? {} : { path: monitoring.nvidiaSmiPath }),
    timeoutMs: monitoring.timeoutMs,
    clock,
    inventory: gpus,
  });
}

function httpSettings({ auth, server }: Config): HttpSettings {
  return {
    auth: { enabled: auth.enabled, headerName: auth.headerName },
    allowedHosts: server.allowedHosts,
    readTimeoutMs: server.readTimeoutMs,
    writeTimeoutMs: server.writeTimeoutMs,
    idleTimeoutMs: server.idleTimeoutMs,
    maxConnections: MAX_CONNECTIONS,
    maxStreams: MAX_STREAMS,
    streamStallMs: STREAM_STALL_MS,
    drainTimeoutMs: DRAIN_MS,
  };
}
