/** What tells how the controller itself is. Open to all, as probes need it. */
import { type Answer, json, NOT_STORED } from "../../http/exchange/answers.ts";
import { type Endpoint, endpoint } from "../../http/exchange/endpoint.ts";
import { addressOf } from "../store/address.ts";
import { healthView } from "./nodes.ts";
import type { ApiParts } from "./parts.ts";

export function serviceEndpoints(parts: ApiParts, isDraining: () => boolean): readonly Endpoint[] {
  const open = { role: "read", body: "ignored" } as const;
  const isHost = parts.settings.backend === "host";
  const unready = () =>
    isDraining() ? "the controller is shutting down" : (parts.loop.trouble ?? (isHost ? parts.database.unread : null));
  return [
    endpoint("/health", "probe", { GET: { ...open, answer: () => json(200, healthView(parts)) } }),
    endpoint("/healthz", "probe", { GET: { ...open, answer: () => json(200, { status: "ok" }) } }),
    endpoint("/readyz", "probe", {
      GET: {
        ...open,
        answer() {
          const reason = unready();
          return reason === null ? json(200, { ready: true }) : json(503, { ready: false, reason });
        },
      },
    }),
    endpoint("/metrics", "open", { GET: { ...open, answer: () => metrics(parts) } }),
    endpoint("/openapi.json", "open", {
      GET: {
        ...open,
        answer: async () => json(200, (await import("./openapi.ts")).openApiDocument(parts)),
      },
    }),
    endpoint("/admin/v1/config", "key", {
      GET: { role: "admin", body: "ignored", answer: () => json(200, configView(parts)) },
    }),
  ];
}

function configView({ settings }: ApiParts) {
  const { backend, simulate, api, auth, postgres, namespace, inert } = settings;
  const database = postgres === null ? settings.database : addressOf(postgres);
  return {
    backend,
    simulate,
    api,
    auth: { enabled: auth.enabled, keys: auth.keys.length },
    database,
    namespace,
    inert,
  };
}

function metrics({ objects, loop, database }: ApiParts): Answer {
  const lines: string[] = [];
  const gauge = (name: string, help: string, samples: readonly (readonly [string, number])[]) => {
    lines.push(`# HELP llm_orchestrator_${name} ${help}`, `# TYPE llm_orchestrator_${name} gauge`);
    for (const [labels, value] of samples) lines.push(`llm_orchestrator_${name}${labels} ${value}`);
  };
  const workloads = objects.workloads();
  const states = Map.groupBy(workloads, ({ status }) => status.state ?? "pending");
  gauge(
    "workloads",
    "Workloads by state",
    [...states].map(([state, of]) => [`{state="${state}"}`, of.length] as const),
  );
  const each = (of: (workload: (typeof workloads)[number]) => number) =>
    workloads.map(
      (one) => [`{namespace="${one.metadata.namespace}",workload="${one.metadata.name}"}`, of(one)] as const,
    );
  gauge(
    "desired_replicas",
    "Replicas that are wanted",
    each(({ status }) => status.desiredReplicas ?? 0),
  );
  gauge(
    "ready_replicas",
    "Replicas that serve",
    each(({ status }) => status.readyReplicas ?? 0),
  );
  gauge(
    "condition",
    "1 where a condition of a workload is True, 0 where it is False; none where that is unknown",
    workloads.flatMap(({ metadata: { namespace, name }, status: { conditions = [] } }) =>
      conditions.flatMap(({ type, status }) =>
        status === "Unknown"
          ? []
          : [[`{namespace="${namespace}",workload="${name}",type="${type}"}`, status === "True" ? 1 : 0] as const],
      ),
    ),
  );
  const nodes = loop.seen?.nodes ?? [];
  gauge(
    "node_gpus",
    "GPUs of a node",
    nodes.map((node) => [`{node="${node.name}"}`, node.gpus] as const),
  );
  gauge(
    "node_gpus_used",
    "GPUs of a node that are taken",
    nodes.map((node) => [`{node="${node.name}"}`, node.usedGpus] as const),
  );
  gauge("backend_up", "1 when the backend answers", [["", loop.trouble === null ? 1 : 0]]);
  gauge("database_up", "1 when the database answers", [["", database.trouble === null ? 1 : 0]]);
  gauge("database_buffered_rows", "Rows of history that wait for the database", [["", database.figures.buffered]]);
  const counter = (name: string, help: string, value: number) =>
    lines.push(
      `# HELP llm_orchestrator_${name} ${help}`,
      `# TYPE llm_orchestrator_${name} counter`,
      `llm_orchestrator_${name} ${value}`,
    );
  counter("database_written_rows_total", "Rows of history that the database has taken", database.figures.written);
  counter("database_dropped_rows_total", "Rows of history that are lost: too many waited", database.figures.dropped);
  lines.push("# HELP llm_orchestrator_looks_total Looks at the backend", "# TYPE llm_orchestrator_looks_total counter");
  lines.push(`llm_orchestrator_looks_total ${loop.looks}`);
  return {
    status: 200,
    type: "text/plain; version=0.0.4; charset=utf-8",
    body: `${lines.join("\n")}\n`,
    headers: NOT_STORED,
  };
}
