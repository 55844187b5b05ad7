/** What Prometheus reads of work. How things stand is looked up at the scrape; what happens is counted when it does. */
import type { WorkEvent } from "../work/events.ts";
import { END_REASONS, type Run, type Worker } from "../work/model.ts";
import { isAwake, STALE_AFTER_MS } from "../work/node-choice.ts";
import { jobOf, openRunsOf, type WorkState } from "../work/state.ts";
import type { GateFigures } from "./gate.ts";

const WORK = "gpu_orchestrator_work_";
const CLUSTER = "gpu_orchestrator_cluster_";
/** Upper bounds of the histogram of starts, in seconds. */
const START_BUCKETS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

type Labels = Readonly<Record<string, string>>;
type Line = readonly [labels: Labels, value: number];

/** What has happened since this process began. */
export class WorkCounters {
  /** By executor, then by reason. */
  readonly #ends = new Map<string, Map<string, number>>();
  readonly #starts = { count: 0, sum: 0, buckets: START_BUCKETS.map(() => 0) };
  /** Of which it is known when they were handed out, and not yet that they began. */
  readonly #awaited = new Map<string, number>();

  /** @param executors are shown before any of their runs has ended, so that the first one is seen to. */
  constructor(executors: readonly string[]) {
    for (const executor of executors) this.#endsOf(executor);
  }

  #endsOf(executor: string): Map<string, number> {
    const known = this.#ends.get(executor) ?? new Map(END_REASONS.map((reason) => [reason, 0]));
    this.#ends.set(executor, known);
    return known;
  }

  /** @param state as it is after them. */
  take(events: readonly WorkEvent[], state: WorkState): void {
    for (const event of events) {
      if (event.type === "run-handed-out") this.#awaited.set(event.run, event.at);
      else if (event.type === "run-seen" && event.startedAt !== null) this.#started(event.run, event.startedAt);
      else if (event.type === "run-ended") {
        this.#awaited.delete(event.run);
        const run = state.runs.get(event.run);
        const ends = this.#endsOf(run === undefined ? "" : executorOf(state, run));
        ends.set(event.reason, (ends.get(event.reason) ?? 0) + 1);
      }
    }
  }

  #started(run: string, at: number): void {
    const from = this.#awaited.get(run);
    if (from === undefined) return;
    this.#awaited.delete(run);
    const seconds = Math.max(0, at - from) / 1_000;
    this.#starts.count++;
    this.#starts.sum += seconds;
    START_BUCKETS.forEach((most, i) => {
      if (seconds <= most) this.#starts.buckets[i] = (this.#starts.buckets[i] ?? 0) + 1;
    });
  }

  get ends(): readonly Line[] {
    return [...this.#ends].flatMap(([executor, reasons]) =>
      [...reasons].map(([reason, count]): Line => [{ executor, reason }, count]),
    );
  }

  get starts() {
    return this.#starts;
  }
}

function executorOf(state: WorkState, run: Run): string {
  return jobOf(state, run.job)?.spec?.executor ?? "";
}

export interface Exposed {
  readonly state: WorkState;
  readonly now: number;
  readonly figures: GateFigures;
  readonly counters: WorkCounters;
  /** `null`: this host is alone. */
  readonly brokerUp: boolean | null;
}

/** @param isOpen in the OpenMetrics format, in which a counter's family is named without `_total`. */
export function exposition({ state, now, figures, counters, brokerUp }: Exposed, isOpen: boolean): string {
  const workers = [...state.workers.values()];
  return [
    gauge(`${WORK}runs`, "Runs that have not ended, and those whose results are not in place yet", runsIn(state)),
    counter(`${WORK}run_ends`, "Runs that have ended", counters.ends, isOpen),
    gauge(`${WORK}tasks`, "Tasks in the books", tasksIn(state)),
    startsOf(counters),
    counter(
      `${WORK}orphans_stopped`,
      "Runs and processes with a mark of ours that nobody wanted, since the worker began",
      [[{}, figures.orphansStopped]],
      isOpen,
    ),
    gauge(`${WORK}unkillable_runs`, "Runs with processes that SIGKILL has not ended", [[{}, figures.unkillable]]),
    gauge(
      `${WORK}worker_up`,
      "Whether the worker was heard of in the last two minutes",
      workers.map(({ node, lastSeen }) => [{ node }, now - lastSeen < STALE_AFTER_MS ? 1 : 0]),
    ),
    brokerUp === null ? "" : ofCluster(workers, brokerUp, now),
  ].join("");
}

function runsIn(state: WorkState): Line[] {
  const found = new Map<string, Map<string, number>>();
  for (const run of openRunsOf(state)) {
    const executor = executorOf(state, run);
    const states = found.get(executor) ?? new Map<string, number>();
    found.set(executor, states.set(run.phase, (states.get(run.phase) ?? 0) + 1));
  }
  return [...found].flatMap(([executor, states]) =>
    [...states].map(([name, count]): Line => [{ executor, state: name }, count]),
  );
}

function tasksIn(state: WorkState): Line[] {
  const found = new Map<string, number>();
  for (const { status } of state.tasks.values()) found.set(status, (found.get(status) ?? 0) + 1);
  return [...found].map(([status, count]) => [{ status }, count]);
}

function startsOf({ starts: { count, sum, buckets } }: WorkCounters): string {
  const name = `${WORK}start_seconds`;
  const lines = START_BUCKETS.map((most, i): Line => [{ le: String(most) }, buckets[i] ?? 0]);
  const all = [...lines, [{ le: "+Inf" }, count] satisfies Line].map((line) => sample(`${name}_bucket`, line));
  const help = "From a run being told to its worker, with its lease, to its first process";
  return `${head(name, help, "histogram")}${all.join("")}${name}_sum ${sum}\n${name}_count ${count}\n`;
}

function ofCluster(workers: readonly Worker[], brokerUp: boolean, now: number): string {
  const awake = workers.filter((worker) => isAwake(worker, now)).length;
  return [
    gauge(`${CLUSTER}nodes`, "Nodes that work can be given to, and those that are not heard of", [
      [{ state: "up" }, awake],
      [{ state: "silent" }, workers.length - awake],
    ]),
    gauge(`${CLUSTER}broker_up`, "Whether Redis is there", [[{}, brokerUp ? 1 : 0]]),
  ].join("");
}

function gauge(name: string, help: string, lines: readonly Line[]): string {
  return head(name, help, "gauge") + lines.map((line) => sample(name, line)).join("");
}

function counter(name: string, help: string, lines: readonly Line[], isOpen: boolean): string {
  return (
    head(isOpen ? name : `${name}_total`, help, "counter") + lines.map((line) => sample(`${name}_total`, line)).join("")
  );
}

function head(name: string, help: string, type: string): string {
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
}

function sample(name: string, [labels, value]: Line): string {
  const named = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text)}"`);
  return `${name}${named.length === 0 ? "" : `{${named.join(",")}}`} ${value}\n`;
}

/** As Prometheus reads a label's value: a node's name may be any text. */
function escaped(value: string): string {
  return value.replace(/["\\]/g, "\\$&").replace(/\n/g, "\\n");
}
