/** The controller as the command line starts it. */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { Client } from "../client/client.ts";
import { nodeTransport } from "../client/node-transport.ts";
import { WorkClient } from "../client/work.ts";
import { Idempotency } from "../http/exchange/idempotency.ts";
import type { HttpServer } from "../http/exchange/server.ts";
import { boundHeap } from "../platform/heap.ts";
import { sortableIds } from "../platform/ids.ts";
import { createLogger, type Logger } from "../platform/logger.ts";
import { urlHost } from "../platform/url-host.ts";
import { createApiServer, createOpenServer } from "./api/server.ts";
import { TenantService } from "./api/tenant-service.ts";
import { HostBackend, runPriority } from "./host/backend.ts";
import { type ChildDaemon, secretFolderOf, startChildDaemon } from "./host/child.ts";
import { Fence } from "./host/fence.ts";
import type { Objects } from "./objects/store.ts";
import type { Backend } from "./reconcile/backend.ts";
import { ReconcileLoop } from "./reconcile/loop.ts";
import { type Address, type ControllerFlags, type ControllerSettings, loadSettings } from "./settings/settings.ts";
import type { AuditEntry } from "./store/history.ts";
import { ResourceTracker } from "./store/tracker.ts";
import { Stores } from "./stores.ts";

const DEFAULT_DAEMON = "http://127.0.0.1:8086";
const SIMULATED_STOP_MS = 8_000;
const PRUNE_MS = 3_600_000;
/**
 * After SIGTERM the process is gone within this, whatever still hangs. More than the 8 s of open calls, the 8 of replicas
 * and the 12 of the child, which come one after the other.
 */
const STOP_DEADLINE_MS = 35_000;
/** Of a thousand nodes and five thousand replicas the process has 250 MiB with it (docs/cluster.md). */
const GARBAGE_PERCENT = 15;
/** Who leads no more ends within this, whatever it was writing: another one begins 5 s after the time to renew is over. */
const LOST_DEADLINE_MS = 1_000;

/** Serves until it is told to stop. @throws ConfigError */
export async function runController(flags: ControllerFlags, version: string): Promise<void> {
  const settings = loadSettings(flags, process.env);
  const log = createLogger(settings.logLevel);
  boundHeap(GARBAGE_PERCENT);
  if (settings.inert.length > 0) log.warn({ inert: settings.inert }, "these settings are taken, and have no effect");
  const asked = new AbortController();
  // A terminal's SIGINT and SIGHUP reach this process alone: it stops what it has started, from the first moment on.
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => asked.abort());
  const child = await simulated(settings, log, asked.signal).catch((error) => {
    if (asked.signal.aborted) return "stopped" as const;
    throw error;
  });
  if (child === "stopped") return;
  const controller = await Controller.made(settings, child, version, log);
  let stop: (withinMs?: number) => void = () => undefined;
  const stopped = new Promise<void>((resolve) => {
    stop = (withinMs = STOP_DEADLINE_MS) => {
      setTimeout(() => process.exit(1), withinMs).unref();
      void controller.stop().then(resolve);
    };
    asked.signal.addEventListener("abort", () => stop());
    // Without its GPUs there is nothing left to show.
    void child?.ended.then((how) => {
      if (controller.isStopping) return;
      log.error({ how }, "the daemon with the simulated GPUs has ended");
      process.exitCode = 1;
      stop();
    });
  });
  try {
    if (asked.signal.aborted) stop();
    else
      await controller.start(() => {
        log.error({}, "another controller leads, or the lease could not be renewed: this one ends");
        process.exitCode = 1;
        stop(LOST_DEADLINE_MS);
      });
  } catch (error) {
    await controller.stop();
    throw error;
  }
  await stopped;
}

async function simulated(settings: ControllerSettings, log: Logger, stopped: AbortSignal): Promise<ChildDaemon | null> {
  const { simulate: shape } = settings;
  if (shape === null) return null;
  log.warn({ simulated: true, host: shape }, "the GPUs and the engines are SIMULATED: nothing here is real hardware");
  return startChildDaemon(shape, childFolder(settings), stopped);
}

function childFolder({ database }: ControllerSettings): string {
  return join(database, "..", "controller-daemon");
}

/** What a backend is made of: where objects are, where replicas run, and whether this process decides. */
interface Ground {
  readonly objects: Objects;
  readonly backend: Backend;
  leads(): boolean;
  start(lost: () => void): void;
  stop(): Promise<void>;
}

function hostGround(settings: ControllerSettings, child: ChildDaemon | null, stores: Stores, log: Logger): Ground {
  const transport = nodeTransport(child?.url ?? settings.daemon.url ?? DEFAULT_DAEMON);
  const key = () => child?.key ?? settings.daemon.key;
  const work = new WorkClient({ transport, key });
  const fence = fenceOf(settings, work, stores, log);
  const { premium, standard, basic } = settings.reconcile.qos;
  const how = {
    executor: settings.daemon.executor,
    secrets: child === null ? settings.daemon.secrets : secretFolderOf(childFolder(settings)),
    priorities: {
      premium: runPriority(premium.priority),
      standard: runPriority(standard.priority),
      basic: runPriority(basic.priority),
    },
  };
  const backend = new HostBackend(new Client({ transport, key }), work, how, fence);
  return {
    objects: stores.objects,
    backend,
    leads: () => stores.leads && (fence?.decides ?? true),
    start: () => stores.follow(),
    async stop() {
      await fence?.release().catch((err) => log.warn({ err }, "the next controller waits a little longer"));
      if (child === null) return;
      // Work outlives its daemon; what stood in for engines is of no use to anybody without this process.
      await backend.stopAll(SIMULATED_STOP_MS).catch((err) => log.warn({ err }, "replicas may be left"));
      await child.stop();
    },
  };
}

/** `null`: the database is a file, which one controller at a time uses. */
function fenceOf(settings: ControllerSettings, work: WorkClient, stores: Stores, log: Logger): Fence | null {
  const { postgres, daemon } = settings;
  if (postgres === null) return null;
  return new Fence(work, {
    // Not its host: there may be several names for that.
    shared: `${postgres.database}/${postgres.schema}`,
    self: randomUUID(),
    executor: daemon.executor,
    lock: () => stores.lock,
    lost: () => stores.objects.dropUnwritten(),
    steadyMs: () => performance.now(),
    log,
  });
}

async function clusterGround(settings: ControllerSettings, changed: () => void, log: Logger): Promise<Ground> {
  const { Cluster } = await import("./kubernetes/cluster.ts");
  const cluster = new Cluster(settings, changed, log);
  const { objects, backend } = cluster;
  return {
    objects,
    backend,
    leads: () => cluster.leads,
    start: (lost) => cluster.start(lost),
    stop: () => cluster.stop(),
  };
}

/** On both families where no address is given, and on IPv4 where the host has no other. */
async function listenOn(server: HttpServer, { host, port }: Address): Promise<{ readonly port: number }> {
  if (host !== null) return server.listen(host, port);
  try {
    return await server.listen("::", port);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EAFNOSUPPORT") throw error;
    return server.listen("0.0.0.0", port);
  }
}

class Controller {
  readonly #settings: ControllerSettings;
  readonly #log: Logger;
  readonly #stores: Stores;
  readonly #ground: Ground;
  readonly #loop: ReconcileLoop;
  readonly #tracker: ResourceTracker;
  readonly #pruneAll: () => Promise<void>;
  readonly #closeHistory: () => Promise<void>;
  readonly #http: HttpServer;
  readonly #open: readonly { readonly at: Address; readonly server: HttpServer }[];
  #prune: NodeJS.Timeout | null = null;
  #stopping: Promise<void> | null = null;

  static async made(
    settings: ControllerSettings,
    child: ChildDaemon | null,
    version: string,
    log: Logger,
  ): Promise<Controller> {
    const stores = await Stores.open(settings, log);
    let soon: () => void = () => undefined;
    const ground =
      settings.backend === "host"
        ? hostGround(settings, child, stores, log)
        : await clusterGround(settings, () => soon(), log);
    const controller = new Controller(settings, stores, ground, version, log);
    soon = () => controller.#loop.soon();
    return controller;
  }

  private constructor(settings: ControllerSettings, stores: Stores, ground: Ground, version: string, log: Logger) {
    this.#settings = settings;
    this.#log = log;
    this.#stores = stores;
    this.#ground = ground;
    const { objects, backend } = ground;
    const ids = sortableIds();
    const now = () => Date.now();
    const steadyMs = () => performance.now();
    const newId = () => ids(Date.now());
    const history = stores.historyOf(objects, log);
    const both = { objects, history };
    const leads = () => ground.leads();
    this.#loop = new ReconcileLoop({
      ...both,
      backend,
      settings: settings.reconcile,
      leads,
      newId,
      now,
      steadyMs,
      log,
    });
    const seen = () => (this.#loop.trouble === null ? this.#loop.seen : null);
    const everyMs = settings.trackEveryMs;
    this.#tracker = new ResourceTracker({ database: stores.database, objects, seen, leads, now, everyMs, log });
    const idempotency = new Idempotency(objects);
    const parts = {
      ...{ ...both, backend, loop: this.#loop, settings, newId, version, now, idempotency },
      tenants: settings.tenantService === null ? null : new TenantService(settings.tenantService, now),
      ...{ database: stores, audit: (entry: AuditEntry) => history.addAudit(entry) },
    };
    this.#pruneAll = async () => {
      if (leads()) await history.prune(now());
      await stores.prune(now());
    };
    this.#closeHistory = () => history.close();
    this.#http = createApiServer(parts, log);
    this.#open = settings.open.map((at) => ({ at, server: createOpenServer(parts, log) }));
  }

  /** @param lost is run when another controller leads where this one did. */
  async start(lost: () => void): Promise<void> {
    const { host, port: wanted } = this.#settings.api;
    const { port } = await this.#http.listen(host, wanted);
    const urls: string[] = [];
    for (const { at, server } of this.#open) {
      const { port } = await listenOn(server, at);
      urls.push(`http://${urlHost(at.host ?? "localhost")}:${port}`);
    }
    if (urls.length > 0) this.#log.info({ urls }, "probes and scrapes are answered there, too");
    this.#ground.start(lost);
    this.#loop.start();
    this.#tracker.start();
    this.#prune = setInterval(() => {
      this.#pruneAll().catch((error) => this.#log.warn({ trouble: error.message }, "old history could not be removed"));
    }, PRUNE_MS);
    const url = `${this.#settings.certificate === null ? "http" : "https"}://${urlHost(host)}:${port}`;
    const { backend, simulate } = this.#settings;
    this.#log.info({ url, backend, simulated: simulate !== null }, "the controller serves");
  }

  get isStopping(): boolean {
    return this.#stopping !== null;
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#drain();
    return this.#stopping;
  }

  async #drain(): Promise<void> {
    if (this.#prune !== null) clearInterval(this.#prune);
    await Promise.all([this.#http, ...this.#open.map(({ server }) => server)].map((server) => server.drain()));
    await this.#loop.stop();
    await this.#tracker.stop();
    await this.#ground.stop();
    await this.#closeHistory();
    await this.#stores.close();
  }
}
