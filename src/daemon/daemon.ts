/** Starts the parts of the daemon, changes their settings, and stops them. This room alone knows all others. */
import { type AdvisorSettings, Advisors } from "../advisors/advisors.ts";
import type { Config } from "../config/config.ts";
import { describeConfig } from "../config/describe.ts";
import { type LoadedConfig, reloaded } from "../config/load.ts";
import { policyOf } from "../config/policy.ts";
import { ConfigError, formatProblem } from "../config/problems.ts";
import { reloadable } from "../config/reload.ts";
import { anyCurrentReading } from "../core/host/condition.ts";
import { indexNow } from "../core/host/indices.ts";
import type { HttpServer } from "../http/server.ts";
import type { Metrics } from "../metrics/metrics.ts";
import { Learning } from "../models/learning.ts";
import { modelFiles } from "../models/model-files.ts";
import type { BoundProcesses } from "../monitor/bound-processes.ts";
import { type Poller, startPolling } from "../monitor/poller.ts";
import { readBootId } from "../platform/boot-id.ts";
import { type Clock, clockAtStart } from "../platform/clock.ts";
import { thisProgram } from "../platform/executable.ts";
import { createLogger, type Logger, reopenLog } from "../platform/logger.ts";
import { everyNight } from "../platform/nightly.ts";
import { notifySystemd, startWatchdog } from "../platform/notify.ts";
import { urlHost } from "../platform/url-host.ts";
import type { GpuSource } from "../ports/gpu-source.ts";
import { StorageUnavailableError } from "../ports/refusals.ts";
import type { DeliverySettlement } from "../ports/webhooks.ts";
import type { GpuHistory } from "../scheduler/gpu-history.ts";
import type { Scheduler } from "../scheduler/scheduler.ts";
import { type HostLock, lockHost } from "../store/host-lock.ts";
import { Revocations } from "../store/revocations.ts";
import { openStore, type SqliteStore } from "../store/store.ts";
import { checkWebhookUrl, parseAllowedHosts } from "../webhooks/address-policy.ts";
import { type Deliverer, type DeliverySettings, startDelivering } from "../webhooks/deliverer.ts";
import { bodyAsSent } from "../wire/webhooks/bodies.ts";
import type { WorkService } from "../work-service/service.ts";
import { watchBoundLeases } from "./bound-leases.ts";
import { certificateOf } from "./certificate.ts";
import { lockedProgram } from "./host-lock.ts";
import { KeyBook } from "./key-book.ts";
import { knowledgeOf } from "./knowledge.ts";
import { listenTrouble, socketTrouble } from "./listen-trouble.ts";
import { buildParts, tickInterval } from "./parts.ts";
import { deliverTasks } from "./task-deliveries.ts";
import { Watching } from "./watching.ts";
import { EmbeddedWorker } from "./work.ts";

const DELIVERIES_PER_RECEIVER = 4;
/** Between two attempts to begin on a database that cannot be written. */
const BEGIN_AGAIN_MS = 1_000;
const FILE_CHECK_MS = 500;

export interface Daemon {
  readonly port: number;
  /** Reads the settings again; a bad file keeps the old ones. Never rejects. */
  reload(): Promise<void>;
  /** Drains and closes everything; leases stay. */
  stop(): Promise<void>;
}

/**
 * Starts the daemon.
 *
 * @param load reads the settings again, at each reload.
 * @throws ConfigError, StoreRefusedError, or what listening throws, with everything closed again.
 */
export async function startDaemon(loaded: LoadedConfig, load: () => LoadedConfig, version: string): Promise<Daemon> {
  const { level, file } = loaded.config.logging;
  const log = createLogger(level, file);
  for (const problem of loaded.warnings) log.warn({ setting: problem.path }, formatProblem(problem));
  const { storage, audit, monitoring } = loaded.config;
  const lock = hostLock(monitoring, log);
  const store = openStore({ ...storage, auditRetentionMs: audit.retentionMs });
  const time = await beginTime(store, log).catch(async (error: unknown) => {
    await store.close();
    throw error;
  });
  const running = new RunningDaemon(loaded, load, log, version, store, time);
  running.onStop(() => lock?.release());
  try {
    await running.start(loaded.file);
  } catch (error) {
    await running.stop();
    throw error;
  }
  return running;
}

function hostLock(monitoring: Config["monitoring"], log: Logger): HostLock | null {
  const program = lockedProgram(monitoring);
  if (program === null) return null;
  const lock = lockHost(program);
  if (lock.missing !== null) {
    log.warn({ reason: lock.missing }, "nothing keeps a second daemon from leasing this host's GPUs too");
  }
  return lock;
}

interface Time {
  readonly clock: Clock;
  readonly bootId: string;
  /** How much older the wall clock makes what is stored than it is, in ms: it was set ahead since the last run. */
  readonly aheadMs: number;
  /** Has it written down; `null`: it is. */
  readonly begin: (() => Promise<void>) | null;
}

/** Goes on from where the last run's time stood, whatever has become of the wall clock since. */
async function beginTime(store: SqliteStore, log: Logger): Promise<Time> {
  const bootId = readBootId();
  const { clock, bootedAt, movedMs } = clockAtStart(store.lastTime(), bootId);
  const write = () => store.begin({ at: clock.now(), bootId, bootedAt, movedMs });
  let begin: Time["begin"] = null;
  try {
    await write();
  } catch (error) {
    if (!(error instanceof StorageUnavailableError)) throw error;
    begin = write;
  }
  if (movedMs !== 0) {
    log.warn({ moved_ms: movedMs }, "the wall clock was set since the last run; deadlines have moved with it");
  }
  return { clock, bootId, aheadMs: Math.max(0, movedMs), begin };
}

class RunningDaemon implements Daemon {
  #loaded: LoadedConfig;
  #config: Config;
  readonly #load: () => LoadedConfig;
  readonly #log: Logger;
  readonly #version: string;
  readonly #store: SqliteStore;
  readonly #time: Time;
  readonly #clock: Clock;
  readonly #metrics: Metrics | null;
  readonly #scheduler: Scheduler;
  readonly #history: GpuHistory;
  readonly #source: GpuSource;
  readonly #http: HttpServer;
  readonly #processes: BoundProcesses;
  readonly #advisors: Advisors;
  readonly #keyBook: KeyBook;
  readonly #work: WorkService;
  #worker: EmbeddedWorker | null = null;
  #deliverer: Deliverer | null = null;
  /** Of what is told of tasks: they have books of their own. */
  #taskDeliverer: Deliverer | null = null;
  #poller: Poller | null = null;
  readonly #watching: Watching;
  #webhookHosts: ReturnType<typeof parseAllowedHosts>;
  #notReady: string | null = "starting";
  #fileTrouble: string | null = null;
  #isTimeWritten = false;
  #stopping: Promise<void> | null = null;
  readonly #cleanups: (() => void)[] = [];
  port = 0;

  /** Takes over `store`, and closes it. */
  constructor(
    loaded: LoadedConfig,
    load: () => LoadedConfig,
    log: Logger,
    version: string,
    store: SqliteStore,
    time: Time,
  ) {
    const { config } = loaded;
    this.#loaded = loaded;
    this.#config = config;
    this.#load = load;
    this.#log = log;
    this.#version = version;
    this.#webhookHosts = parseAllowedHosts(config.webhooks.allowedHosts);
    this.#store = store;
    this.#time = time;
    this.#clock = time.clock;
    this.#advisors = new Advisors(advisorSettings(config), time.clock, log);
    const learning = new Learning(store);
    this.#keyBook = new KeyBook({
      auth: () => this.#config.auth,
      store,
      revocations: new Revocations(config.storage.path),
      clock: time.clock,
      log,
    });
    const parts = buildParts({
      config,
      version,
      store,
      clock: time.clock,
      log,
      keyBook: this.#keyBook,
      limits: () => this.#config.limits,
      checkWebhookUrl: (url) => checkWebhookUrl(url, this.#webhookHosts),
      webhookTester: () => this.#deliverer,
      knowledge: knowledgeOf({
        files: modelFiles(() => this.#config.analyzer.modelDirs, time.clock),
        advisors: this.#advisors,
        learning,
        counts: () => this.#config.analyzer.learn,
        clock: time.clock,
      }),
      lessons: learning,
      readiness: () => this.#readiness(),
    });
    this.#source = parts.source;
    this.#scheduler = parts.scheduler;
    this.#history = parts.history;
    this.#metrics = parts.metrics;
    this.#http = parts.http;
    this.#processes = parts.processes;
    this.#work = parts.work;
    this.#watching = new Watching({
      clock: time.clock,
      log,
      monitoring: config.monitoring,
      readKernelLog: (news) => this.#scheduler.readKernelLog(news),
    });
    for (const observer of [this.#watching, learning]) this.#scheduler.observeWith(observer);
  }

  async start(file: string | null): Promise<void> {
    const { monitoring, server } = this.#config;
    if (monitoring.source === "simulated") {
      this.#log.warn(
        { simulated: true, host: this.#config.simulation.host },
        "the GPUs are SIMULATED: nothing here is real hardware",
      );
    }
    const isReadOnly = !(await this.#begin());
    const port = await this.#listen();
    this.port = port;
    this.#webhookHosts = parseAllowedHosts(this.#config.webhooks.allowedHosts, port);
    this.#poller = startPolling({
      source: this.#source,
      clock: this.#clock,
      refreshIntervalMs: monitoring.refreshIntervalMs,
      onObservation: (observation) => {
        // A reading that could not be stored was seen all the same; the next one tries again.
        this.#scheduler.observe(observation).catch(() => undefined);
      },
      onError: (err) => this.#log.error({ err }, "a GPU source broke its promise"),
    });
    if (isReadOnly) {
      this.#log.error({}, "the database cannot be written: read-only, with the keys in force, until it can");
      this.#beginLater();
    } else this.#goOn();
    this.#watchFile();
    this.#keyBook.start();
    void this.#advisors.start();
    this.#cleanups.push(() => this.#advisors.stop());
    await this.#startWork(file);
    // Ended records beyond their retention go at night.
    this.#cleanups.push(
      everyNight(this.#clock, () => void this.#prune()),
      startWatchdog(this.#clock),
    );
    this.#notReady = null;
    this.#log.info(
      {
        version: this.#version,
        url:
          port === 0
            ? `unix:${server.socket}`
            : `${server.tls === null ? "http" : "https"}://${urlHost(server.host)}:${port}`,
        file,
        simulated: monitoring.source === "simulated",
      },
      "serving",
    );
    this.#log.debug({ settings: describeConfig(this.#config) }, "settings");
    notifySystemd(`READY=1\nSTATUS=serving on port ${port}`);
  }

  /** @returns the port; 0: none, since only users of this host are served, by the socket. */
  async #listen(): Promise<number> {
    const { server, auth } = this.#config;
    if (server.socket !== null) {
      const { socket } = server;
      await this.#http.listenOnSocket(socket).catch((error: unknown) => {
        throw socketTrouble(error, socket);
      });
      this.#log.info({ socket: server.socket, admin_group: server.adminGroup }, "users of this host are served");
      if (!auth.enabled) return 0;
    }
    const listening = this.#http.listen(server.host, server.port).catch((error: unknown) => {
      throw listenTrouble(error, server.host, server.port);
    });
    const { port } = await listening;
    for (const further of server.listeners) {
      await this.#http.listenToo(server.host, further.port).catch((error: unknown) => {
        throw listenTrouble(error, server.host, further.port);
      });
    }
    return port;
  }

  /** @returns false when that cannot be stored now: the daemon only shows what there is then, with its keys in force. */
  async #begin(): Promise<boolean> {
    try {
      if (this.#time.begin !== null && !this.#isTimeWritten) {
        await this.#time.begin();
        this.#isTimeWritten = true;
        this.#scheduler.restore(this.#store.load());
      }
      await this.#scheduler.start(this.#time.bootId, Date.now());
      return true;
    } catch (error) {
      if (!(error instanceof StorageUnavailableError)) throw error;
      this.#scheduler.startReadOnly();
      return false;
    }
  }

  #beginLater(): void {
    const cancel = this.#clock.after(BEGIN_AGAIN_MS, async () => {
      const hasBegun = await this.#begin().catch((err) => {
        this.#log.error({ err }, "the daemon could not begin");
        return false;
      });
      if (this.#stopping !== null) return;
      if (!hasBegun) return this.#beginLater();
      this.#log.info({}, "the database takes changes: no longer read-only");
      this.#goOn();
    });
    this.#cleanups.push(cancel);
  }

  /** Looks at the database's file every half second: see `SqliteStore.checkFile`. */
  #watchFile(): void {
    let known: string | null = null;
    const timer = setInterval(() => {
      const trouble = this.#store.checkFile();
      if (trouble !== known && trouble !== null) this.#log.error({ trouble }, "nothing is granted any more");
      known = trouble;
      this.#fileTrouble = trouble;
    }, FILE_CHECK_MS);
    this.#cleanups.push(() => clearInterval(timer));
  }

  /** What runs once changes can be stored. */
  #goOn(): void {
    const poller = this.#poller as Poller;
    this.#deliverer = startDelivering({
      outbox: this.#store,
      settle: (settlement) => this.#settle(settlement),
      clock: this.#clock,
      settings: this.#deliverySettings(),
      bodyAsSent: ({ body }) => bodyAsSent(body, indexNow(this.#scheduler.state)),
      log: this.#log,
    });
    this.#taskDeliverer = deliverTasks(this.#work, {
      clock: this.#clock,
      settings: this.#deliverySettings(),
      log: this.#log,
      settled: (settlement) => this.#metrics?.webhookSettled(settlement),
    });
    this.#history.start();
    this.#watching.connect(poller, this.#deliverer);
    const stopWatchingProcesses = watchBoundLeases({
      processes: this.#processes,
      clock: this.#clock,
      state: () => this.#scheduler.state,
      processGone: (id) => this.#scheduler.processGone(id),
    });
    this.#cleanups.push(stopWatchingProcesses);
  }

  async reload(): Promise<void> {
    notifySystemd("RELOADING=1");
    reopenLog(this.#log);
    if (this.#config.logging.file !== null) this.#worker?.reopenLog();
    try {
      const loaded = reloaded(this.#loaded, this.#load);
      const { config, ignored } = reloadable(this.#config, loaded.config);
      const webhookHosts = parseAllowedHosts(config.webhooks.allowedHosts, this.port);
      // Before anything that can fail: a key that was taken away must not live on because a disk is full.
      this.#loaded = loaded;
      this.#config = config;
      this.#webhookHosts = webhookHosts;
      for (const one of [this.#deliverer, this.#taskDeliverer]) one?.reconfigure(this.#deliverySettings());
      this.#log.level = config.logging.level;
      const certificate = certificateOf(config.server);
      if (certificate !== null) this.#http.renewCertificate(certificate);
      await this.#scheduler.reconfigure(policyOf(config), tickInterval(config));
      this.#metrics?.configReload(true);
      this.#log.info({ need_restart: ignored }, "settings reloaded");
    } catch (error) {
      this.#metrics?.configReload(false);
      if (error instanceof ConfigError) {
        this.#log.error({ problems: error.problems.map(formatProblem) }, "the settings are bad; the old ones stay");
      } else {
        this.#log.error({ err: error }, "the settings could not be reloaded; the old ones stay");
      }
    }
    notifySystemd("READY=1");
  }

  onStop(cleanup: () => void): void {
    this.#cleanups.push(cleanup);
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#drain();
    return this.#stopping;
  }

  async #drain(): Promise<void> {
    this.#notReady = "draining";
    notifySystemd("STOPPING=1");
    for (const cleanup of this.#cleanups) cleanup();
    await this.#http.drain();
    this.#worker?.stop();
    await this.#taskDeliverer?.stop();
    await this.#work.stop();
    await this.#poller?.stop();
    this.#watching.stop();
    await Promise.all([this.#source.close(), this.#deliverer?.stop()]);
    await this.#scheduler.stop();
    await this.#history.stop();
    await this.#keyBook.stop();
    await this.#store.close();
    this.#log.info({}, "stopped; leases stay as they are");
  }

  async #startWork(file: string | null): Promise<void> {
    await this.#work.start();
    const { work, monitoring, simulation } = this.#config;
    if (!work.enabled || work.worker !== "embedded") return;
    const settings = file === null ? [] : ["--config", file];
    const simulated = monitoring.source === "simulated" ? ["--simulate", simulation.host] : [];
    const argv = [...thisProgram(), "worker", ...settings, ...simulated];
    this.#worker = new EmbeddedWorker(argv, this.#clock, this.#log);
    this.#worker.start();
  }

  /** Why requests for GPUs cannot be served; `null` when they can. */
  #readiness(): string | null {
    if (this.#notReady !== null) return this.#notReady;
    if (this.#fileTrouble !== null) return this.#fileTrouble;
    if (!this.#scheduler.storageHealthy) return "the database cannot be written";
    const { state } = this.#scheduler;
    // As for a request: one failed probe does not take away the readings before it.
    if (anyCurrentReading(state, this.#clock.now())) return null;
    return `no current GPU readings: ${state.sight.failure?.message ?? "none yet"}`;
  }

  async #settle(settlement: DeliverySettlement): Promise<void> {
    await this.#scheduler.settle(settlement);
    this.#metrics?.webhookSettled(settlement);
  }

  #deliverySettings(): DeliverySettings {
    const { secrets, secretsByPrincipal, timeoutMs, giveUpAfterMs, concurrency } = this.#config.webhooks;
    return {
      secrets,
      secretsByPrincipal,
      timeoutMs,
      giveUpAfterMs,
      concurrency,
      perHostConcurrency: Math.min(DELIVERIES_PER_RECEIVER, concurrency),
      allowedHosts: this.#webhookHosts,
    };
  }

  async #prune(): Promise<void> {
    try {
      let more = true;
      // A bounded part at a time, so that requests come in between.
      while (more && this.#stopping === null) {
        const pruned = await this.#store.prune(this.#clock.now() - this.#time.aheadMs);
        this.#log.info({ pruned }, "old records pruned");
        more = pruned.more;
      }
    } catch (err) {
      this.#log.error({ err }, "old records could not be pruned");
    }
  }
}

/** Those that somebody has named: the defaults are shown, and not asked. */
function advisorSettings({ services }: Config): AdvisorSettings {
  return {
    deepagentsUrl: services.isDeepagentsStated ? services.deepagentsUrl : null,
    graphServiceUrl: services.isGraphServiceStated ? services.graphServiceUrl : null,
  };
}
