/** The work service: built by the daemon beside what leases, switched off unless the settings say so. */
import { resolve } from "node:path";
import type { z } from "zod";
import type { ZodOpenApiPathsObject } from "zod-openapi";
import type { ClusterConfig } from "../config/cluster.ts";
import { isLoopback } from "../config/config.ts";
import type { WorkConfig } from "../config/work.ts";
import type { Endpoint } from "../http/exchange/endpoint.ts";
import { Idempotency } from "../http/exchange/idempotency.ts";
import { News } from "../http/exchange/news.ts";
import type { Refusals } from "../http/exchange/problems.ts";
import { readBootId } from "../platform/boot-id.ts";
import type { Clock } from "../platform/clock.ts";
import { sortableIds } from "../platform/ids.ts";
import { uptimeMs } from "../platform/uptime.ts";
import { parseCpuMillis, parseMemoryBytes } from "../work/quantities.ts";
import { Books } from "./books.ts";
import type { TaskDelivery, TaskSettlement } from "./deliveries.ts";

import type { WORK_LINKS } from "./described.ts";
import { Elsewhere } from "./elsewhere/elsewhere.ts";
import { WorkCounters } from "./exposition.ts";
import { Gate } from "./gate.ts";
import type { Leases } from "./leases.ts";
import { type Log, Look } from "./look.ts";
import { tellOf } from "./news.ts";
import { opened } from "./opened.ts";
import { WORK_REFUSALS } from "./refusals.ts";
import { overviewEndpoints } from "./routes/overview.ts";
import type { RouteParts, WorkRouteSettings } from "./routes/parts.ts";
import { planEndpoints } from "./routes/plan.ts";
import { runEndpoints } from "./routes/runs.ts";
import { type MetricsPage, statusEndpoints } from "./routes/status.ts";
import { resultToSend, taskEndpoints } from "./routes/tasks.ts";
import { workloadEndpoints } from "./routes/workloads.ts";
import { type TakeLock, WorkStore } from "./store.ts";

export interface WorkServiceParts {
  readonly config: WorkConfig;
  readonly cluster: ClusterConfig;
  readonly databasePath: string;
  /** Left out: nobody else can have it. */
  readonly takeLock?: TakeLock;
  readonly leases: Leases;
  readonly clock: Clock;
  readonly log: Log;
  readonly version: string;
  readonly metrics: MetricsPage | null;
  /** Why nothing may be sent there; `null`: it may. */
  readonly checkUrl: (url: string) => string | null;
  /** Whether `GET /metrics` at this port answers JSON by itself. */
  readonly prefersJsonAt: (port: number | null) => boolean;
}

/** What is to be told of tasks that have ended, and what came of it. */
export interface TaskDeliveries {
  due(now: number, limit: number): readonly TaskDelivery[];
  nextDueAt(): number | null;
  /** @throws WorkError `work-storage-unavailable` */
  settle(settlement: TaskSettlement): void;
  /** @throws Error when there is nothing to send any more, or too much. */
  bodyOf(delivery: TaskDelivery): Promise<Buffer | string>;
  /** Calls `wake` whenever there may be more. */
  onMore(wake: () => void): void;
}

export interface WorkService {
  /** `null`: work is switched off. */
  readonly deliveries: TaskDeliveries | null;
  readonly http: {
    readonly endpoints: readonly Endpoint[];
    readonly refusals: Refusals;
    /** `null`: work is switched off. */
    readonly news: News | null;
    /** All of them for the API's document. */
    readonly described: () => Promise<{
      readonly paths: ZodOpenApiPathsObject;
      readonly taskWebhook: z.ZodObject;
      readonly links: typeof WORK_LINKS;
    }>;
  };
  start(): Promise<void>;
  stop(): Promise<void>;
}

export function createWorkService(parts: WorkServiceParts): WorkService {
  const { config, version, metrics, prefersJsonAt } = parts;
  const running = config.enabled ? new Running(parts) : null;
  const own = running?.routes ?? null;
  const endpoints = [
    // Before the tasks, one of which its path would be.
    ...planEndpoints(own),
    ...taskEndpoints(own),
    ...workloadEndpoints(own),
    ...runEndpoints(own),
    ...statusEndpoints(own, version, metrics, prefersJsonAt),
    ...overviewEndpoints(own),
  ];
  return {
    http: { endpoints, refusals: WORK_REFUSALS, news: running?.news ?? null, described },
    deliveries: running?.deliveries ?? null,
    start: async () => running?.start(),
    stop: async () => running?.stop(),
  };
}

async function described() {
  // Slow to load, and hardly ever asked for.
  const { TASK_WEBHOOK, WORK_LINKS, WORK_PATHS } = await import("./described.ts");
  return { paths: WORK_PATHS, taskWebhook: TASK_WEBHOOK, links: WORK_LINKS };
}

class Running {
  readonly routes: RouteParts;
  readonly news = new News();
  readonly #parts: WorkServiceParts;
  readonly #store: WorkStore;
  readonly #gate: Gate;
  readonly #elsewhere: Elsewhere;
  #look: Look | null = null;

  constructor(parts: WorkServiceParts) {
    const { config, cluster, clock, leases, log, version, databasePath, takeLock, checkUrl } = parts;
    this.#parts = parts;
    this.#store = new WorkStore(databasePath, takeLock);
    // MLOC's workers send what they have done themselves.
    const uploadsItself = Object.entries(config.executors).flatMap(([name, { type }]) =>
      type === "mloc" ? [name] : [],
    );
    this.#keepTime();
    const books = new Books(this.#store, clock, new Set(uploadsItself));
    tellOf(books, clock, this.news);
    this.#gate = new Gate(books, resolve(config.dir), log, leases);
    const counters = new WorkCounters(Object.keys(config.executors));
    books.onChange((events) => counters.take(events, books.state));
    this.#elsewhere = new Elsewhere({ books, leases, config, cluster, clock, log });
    const ids = sortableIds();
    const recall = (principal: string, key: string) => this.#store.findKey(principal, key, books.now());
    this.routes = {
      books,
      leases,
      gate: this.#gate,
      elsewhere: this.#elsewhere,
      counters,
      settings: settingsOf(config),
      idempotency: new Idempotency({ recall }),
      deliveries: this.#store.deliveries,
      checkUrl,
      newId: () => ids(books.now()),
      version,
      startedAt: Date.now(),
    };
  }

  #keepTime(): void {
    const { clock, log } = this.#parts;
    try {
      const ms = this.#store.moveTo({ at: clock.now(), bootId: readBootId(), uptimeMs: uptimeMs() });
      if (ms !== 0)
        log.warn({ moved_ms: ms }, "the clock was set since work's books were written; what is due has moved with it");
    } catch (error) {
      log.error({ err: error }, "work's books could not be brought to this clock");
    }
  }

  get deliveries(): TaskDeliveries {
    const { deliveries } = this.#store;
    return {
      due: (now, limit) => deliveries.due(now, limit),
      nextDueAt: () => deliveries.nextDueAt(),
      settle: (settlement) => this.#store.settle(settlement),
      bodyOf: ({ task, body }) => (body === null ? resultToSend(this.routes, task) : Promise.resolve(body)),
      onMore: (wake) => {
        this.routes.books.onChange((events) => {
          if (events.some(({ type }) => type === "task-ended")) wake();
        });
      },
    };
  }

  async start(): Promise<void> {
    const { config, leases, clock, log } = this.#parts;
    await this.#gate.listen(config.worker === "external");
    this.#look = new Look(this.routes.books, leases, clock, log, () => this.#gate.strangers.living);
    await this.#elsewhere.start();
  }

  /** Runs go on; who comes next finds them. */
  async stop(): Promise<void> {
    this.#look?.stop();
    await this.#elsewhere.stop();
    await this.#gate.close();
    this.#store.close();
  }
}

function settingsOf(config: WorkConfig): WorkRouteSettings {
  const profiles = Object.entries(config.profiles).map(([name, { cpu, memory, gpu }]) => {
    const profile = {
      cpuMillis: parseCpuMillis(cpu) ?? 1_000,
      memoryBytes: parseMemoryBytes(memory) ?? 2 ** 31,
      gpus: gpu,
    };
    return [name, profile] as const;
  });
  return {
    executors: opened(config.executors),
    taskTypes: config.taskTypes,
    models: config.models,
    defaultModels: config.defaultModels,
    profiles: Object.fromEntries(profiles),
    maxTasks: config.maxTasks,
    maxWorkloads: config.maxWorkloads,
    serviceHost: config.serviceHost,
    services: { name: config.serviceHost, isLoopback: isLoopback(config.serviceHost) },
    dir: resolve(config.dir),
    resultsDir: resolve(config.resultsDir),
  };
}
