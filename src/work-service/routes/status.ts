/** How work stands as a whole: the LLM Orchestrator's health, status and metrics. */
import { type Answer, json, NOT_STORED } from "../../http/exchange/answers.ts";
import { type Endpoint, endpoint, type Operation } from "../../http/exchange/endpoint.ts";
import type { Worker } from "../../work/model.ts";
import { isAwake } from "../../work/node-choice.ts";
import { openRunsOf } from "../../work/state.ts";
import { instant, workloadView } from "../views.ts";
import { type MaybeParts, type RouteParts, working } from "./parts.ts";

export interface MetricsPage {
  render(accept: string | undefined): Promise<{ readonly contentType: string; readonly body: string }>;
}

/** @param prefersJsonAt whether JSON is the answer at this port for whoever prefers nothing. */
export function statusEndpoints(
  parts: MaybeParts,
  version: string,
  page: MetricsPage | null,
  prefersJsonAt: (port: number | null) => boolean,
): readonly Endpoint[] {
  const looking = { role: "read", body: "ignored" } as const;
  const health: Operation = {
    ...looking,
    answer: () => json(200, { status: "healthy", timestamp: new Date().toISOString(), version }),
  };
  const metrics: Operation = {
    ...looking,
    async answer({ accept, port }) {
      if (parts !== null && (prefersJson(accept) || (prefersNothing(accept) && prefersJsonAt(port))))
        return json(200, counts(parts));
      if (page === null) return json(200, parts === null ? {} : counts(parts));
      const { contentType, body } = await page.render(accept);
      const own = parts === null ? "" : exposition(parts);
      const whole = body.endsWith("# EOF\n") ? `${body.slice(0, -"# EOF\n".length)}${own}# EOF\n` : body + own;
      return { status: 200, type: contentType, body: whole, headers: NOT_STORED };
    },
  };
  return [
    endpoint("/health", "probe", { GET: health }),
    endpoint("/status", "key", { GET: working(parts, looking, status) }),
    ...(page === null && parts === null ? [] : [endpoint("/metrics", "open", { GET: metrics })]),
  ];
}

/** Whether JSON is named, and nothing that Prometheus reads is. */
function prefersJson(accept: string | undefined): boolean {
  return accept !== undefined && /application\/json/i.test(accept) && !/text\/plain|openmetrics/i.test(accept);
}

function prefersNothing(accept: string | undefined): boolean {
  return accept === undefined || !/text\/plain|openmetrics/i.test(accept);
}

function counts({ books, settings }: RouteParts) {
  const phases = [...books.state.workloads.values()]
    .filter(({ deleted }) => !deleted)
    .map((workload) => workloadView(books.state, workload, settings.serviceHost, false).status.phase);
  const count = (phase: string) => phases.filter((found) => found === phase).length;
  return {
    totalWorkloads: phases.length,
    runningWorkloads: count("running"),
    pendingWorkloads: count("pending"),
    failedWorkloads: count("failed"),
    timestamp: instant(books.now()),
  };
}

function status({ books, leases, settings, version, startedAt }: RouteParts): Answer {
  const { state } = books;
  return json(200, {
    orchestrator: "running",
    workloads: [...state.workloads.values()].filter(({ deleted }) => !deleted).length,
    uptime: uptime(Date.now() - startedAt),
    version,
    timestamp: instant(books.now()),
    tasks: state.openTasks.size,
    runs: openRunsOf(state).filter(({ phase }) => phase !== "ended").length,
    simulated: leases.simulated || Object.values(settings.executors).some(({ type }) => type === "simulated"),
  });
}

/** As Go prints a duration of whole seconds: `2h30m15s`. */
function uptime(ms: number): string {
  const seconds = Math.floor(ms / 1_000);
  const [hours, minutes] = [Math.floor(seconds / 3_600), Math.floor((seconds % 3_600) / 60)];
  return `${hours > 0 ? `${hours}h` : ""}${hours + minutes > 0 ? `${minutes}m` : ""}${seconds % 60}s`;
}

/** In Prometheus' text form; every label's value is a word of ours or a node's name. */
function exposition({ books, gate, elsewhere }: RouteParts): string {
  const { state } = books;
  const runs = new Map<string, number>();
  for (const run of openRunsOf(state)) runs.set(run.phase, (runs.get(run.phase) ?? 0) + 1);
  const ends = new Map<string, number>();
  for (const run of state.runs.values())
    if (run.phase === "ended") ends.set(run.reason, (ends.get(run.reason) ?? 0) + 1);
  const tasks = new Map<string, number>();
  for (const { status: found } of state.tasks.values()) tasks.set(found, (tasks.get(found) ?? 0) + 1);
  const now = books.now();
  const up = [...state.workers.values()].map(({ node, lastSeen }) => [node, now - lastSeen < 120_000 ? 1 : 0] as const);
  return [
    family("runs", "Runs that have not ended, and those whose results are not in place yet", "state", runs),
    family("ended_runs", "Ended runs that are still in the books", "reason", ends),
    family("tasks", "Tasks in the books", "status", tasks),
    family("worker_up", "Whether the worker was heard of in the last two minutes", "node", up),
    plain(
      "orphans_stopped",
      "Processes with a mark of ours that nobody wanted, since the worker began",
      gate.figures.orphansStopped,
    ),
    plain("unkillable_runs", "Runs with processes that SIGKILL has not ended", gate.figures.unkillable),
    ofCluster([...state.workers.values()], elsewhere.brokerUp, now),
  ].join("");
}

/** Nothing of a host that is alone. */
function ofCluster(workers: readonly Worker[], brokerUp: boolean | null, now: number): string {
  if (brokerUp === null) return "";
  const awake = workers.filter((worker) => isAwake(worker, now)).length;
  const lines = [
    "# HELP gpu_orchestrator_cluster_nodes Nodes that work can be given to, and those that are not heard of",
    "# TYPE gpu_orchestrator_cluster_nodes gauge",
    `gpu_orchestrator_cluster_nodes{state="up"} ${awake}`,
    `gpu_orchestrator_cluster_nodes{state="silent"} ${workers.length - awake}`,
    "# HELP gpu_orchestrator_cluster_broker_up Whether Redis is there",
    "# TYPE gpu_orchestrator_cluster_broker_up gauge",
    `gpu_orchestrator_cluster_broker_up ${brokerUp ? 1 : 0}`,
  ];
  return `${lines.join("\n")}\n`;
}

const PREFIX = "gpu_orchestrator_work_";

function family(name: string, help: string, label: string, values: Iterable<readonly [string, number]>): string {
  const lines = [...values].map(([value, number]) => `${PREFIX}${name}{${label}="${escaped(value)}"} ${number}\n`);
  return `# HELP ${PREFIX}${name} ${help}\n# TYPE ${PREFIX}${name} gauge\n${lines.join("")}`;
}

/** As Prometheus reads a label's value: a node's name may be any text. */
function escaped(value: string): string {
  return value.replace(/["\\]/g, "\\$&").replace(/\n/g, "\\n");
}

function plain(name: string, help: string, value: number): string {
  return `# HELP ${PREFIX}${name} ${help}\n# TYPE ${PREFIX}${name} gauge\n${PREFIX}${name} ${value}\n`;
}
