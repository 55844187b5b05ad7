/** What the parts must hear of each other: new webhooks, GPUs that should be looked at soon, and what goes to the log. */
import type { Config } from "../config/config.ts";
import { readingsAreAwaited } from "../core/host/condition.ts";
import type { HostState } from "../core/host/state.ts";
import type { Observation } from "../core/model/reading.ts";
import type { KernelNews } from "../core/readings/xid.ts";
import { type KernelLog, watchKernelLog } from "../monitor/kernel-log/kernel-log.ts";
import type { Poller } from "../monitor/poller.ts";
import type { Clock } from "../platform/clock.ts";
import type { Logger } from "../platform/logger.ts";
import type { Committed, Observer } from "../ports/observer.ts";
import type { Deliverer } from "../webhooks/deliverer.ts";
import { EventLog } from "./event-log.ts";

/** How often to look while a GPU is being reclaimed, or recovers, and somebody waits for one. */
const AWAITED_REFRESH_MS = 1_000;

export interface WatchingParts {
  readonly clock: Clock;
  readonly log: Logger;
  readonly monitoring: Pick<Config["monitoring"], "kernelLog" | "refreshIntervalMs" | "source">;
  readonly readKernelLog: (news: KernelNews) => Promise<void>;
}

export class Watching implements Observer {
  readonly #parts: WatchingParts;
  readonly #eventLog: EventLog;
  #poller: Pick<Poller, "probeSoon" | "setInterval"> | null = null;
  #deliverer: Pick<Deliverer, "wake"> | null = null;
  #kernelLog: KernelLog | null = null;
  #stopped = false;
  /** The interval that the poller was last given, in ms; 0: none. */
  #pace = 0;
  /** Why the last observation had no reading; `null`: it had one. */
  #failing: string | null = null;

  constructor(parts: WatchingParts) {
    this.#parts = parts;
    this.#eventLog = new EventLog(parts.log);
  }

  /** These run now: they are to hear from here on. */
  connect(poller: Pick<Poller, "probeSoon" | "setInterval">, deliverer: Pick<Deliverer, "wake">): void {
    this.#poller = poller;
    this.#deliverer = deliverer;
  }

  /** Reads the kernel's log no longer. */
  stop(): void {
    this.#stopped = true;
    this.#kernelLog?.stop();
  }

  committed({ at, events, notifications, state, lastSeq }: Committed): void {
    if (notifications > 0) this.#deliverer?.wake();
    const ended = events.some((event) => event.type === "ended" && event.verify.length > 0);
    this.#pacePolling(state);
    if (ended) this.#poller?.probeSoon();
    this.#eventLog.write(events, lastSeq - events.length + 1, at);
  }

  observed(observation: Observation, state: HostState): void {
    const { log } = this.#parts;
    this.#pacePolling(state);
    // The log names GPUs by slot: which GPU that is, only a reading tells.
    if (observation.ok) this.#watchKernelLog();
    const failure = observation.ok ? null : observation.failure;
    const message = failure?.message ?? null;
    if (message === this.#failing) return;
    this.#failing = message;
    if (failure === null) log.info({ gpus: state.sight.gpus.size }, "GPU readings are good");
    else log.warn({ reason: failure.message, kind: failure.kind, exit_code: failure.exitCode }, "no GPU reading");
  }

  storage(healthy: boolean, reason: string | null): void {
    const { log } = this.#parts;
    if (healthy) log.info({}, "the database takes changes again");
    else log.error({ reason }, "the database refuses changes; nothing is granted until it takes them again");
  }

  #watchKernelLog(): void {
    const { clock, log, monitoring, readKernelLog } = this.#parts;
    const { kernelLog: path, source } = monitoring;
    if (this.#kernelLog !== null || path === null || source === "simulated" || this.#stopped) return;
    let problem: string | null = null;
    this.#kernelLog = watchKernelLog({
      path,
      clock,
      onNews: async (news) => {
        await readKernelLog(news);
        if (news.problem === problem) return;
        problem = news.problem;
        if (problem === null) log.info({ path }, "the kernel's log can be read");
        else log.warn({ path, problem }, "the kernel's log cannot be read: Xid errors are not seen");
      },
    });
  }

  #pacePolling(state: HostState): void {
    const { refreshIntervalMs } = this.#parts.monitoring;
    const wanted = readingsAreAwaited(state) ? Math.min(AWAITED_REFRESH_MS, refreshIntervalMs) : refreshIntervalMs;
    if (wanted === this.#pace) return;
    this.#pace = wanted;
    this.#poller?.setInterval(wanted);
  }
}
