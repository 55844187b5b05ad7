/** How work stands as a whole: the LLM Orchestrator's health, status and metrics. */
import { type Answer, json, NOT_STORED } from "../../http/exchange/answers.ts";
import { type Endpoint, endpoint, type Operation } from "../../http/exchange/endpoint.ts";
import { openRunsOf } from "../../work/state.ts";
import { type Exposed, exposition } from "../exposition.ts";
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
      const isOpen = body.endsWith("# EOF\n");
      const own = parts === null ? "" : exposition(exposed(parts), isOpen);
      const whole = isOpen ? `${body.slice(0, -"# EOF\n".length)}${own}# EOF\n` : body + own;
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

function exposed({ books, gate, elsewhere, counters }: RouteParts): Exposed {
  return { state: books.state, now: books.now(), figures: gate.figures, counters, brokerUp: elsewhere.brokerUp };
}
