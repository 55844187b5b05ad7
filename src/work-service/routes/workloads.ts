/** Workloads: the LLM Orchestrator's calls, and ours beside them. */
import type { JsonValue } from "../../core/base/json.ts";
import { type Answer, json, noContent } from "../../http/exchange/answers.ts";
import type { TextBody } from "../../http/exchange/body.ts";
import { type Call, type Endpoint, endpoint } from "../../http/exchange/endpoint.ts";
import { invalid } from "../../http/exchange/problems.ts";
import { openToOthers, refusalOf, warningsOf } from "../../work/argv.ts";
import { isObject } from "../../work/documents/shape.ts";
import { readWorkload, readWorkloadChange } from "../../work/documents/workload.ts";
import { WorkError } from "../../work/errors.ts";
import type { ExecutorSettings } from "../../work/executor-settings.ts";
import type { Run, Workload } from "../../work/model.ts";
import { newSlot, workloadNamed } from "../../work/state.ts";
import { readYaml } from "../documents.ts";
import { workloadMetrics } from "../usage.ts";
import { instant, liveRun, waitingOf, workloadView } from "../views.ts";
import {
  byDefault,
  demandOwner,
  type MaybeParts,
  mayTouch,
  parametersOf,
  type RouteParts,
  waitUntil,
  working,
} from "./parts.ts";
import { keptKey } from "./tasks.ts";

/** How long a schedule call waits for its leases. */
const SCHEDULE_MS = 10_000;
const MAX_LISTED = 1_000;

export function workloadEndpoints(parts: MaybeParts): readonly Endpoint[] {
  const looking = { role: "read", body: "ignored" } as const;
  const running = { role: "run", body: "ignored" } as const;
  const documents = { role: "run", body: "needed", takesText: true } as const;
  return [
    endpoint("/workloads", "key", {
      POST: working(parts, documents, create),
      GET: working(parts, { ...looking, takesQuery: true }, list),
    }),
    endpoint("/workloads/:id", "key", {
      GET: working(parts, looking, one),
      PATCH: working(parts, { role: "run", body: "needed" }, change),
      DELETE: working(parts, running, remove),
    }),
    endpoint("/workloads/:id/restart", "key", { POST: working(parts, running, restart) }),
    endpoint("/schedule", "key", { POST: working(parts, { role: "run", body: "needed" }, schedule) }),
  ];
}

function view({ books, settings, gate, leases }: RouteParts, call: Call, workload: Workload) {
  const shown = workloadView(books.state, workload, settings.serviceHost, mayTouch(call, workload.owner));
  // The worker's clock, by which it was measured.
  const metrics = workloadMetrics(books.state, workload, gate.usage, (uuid) => leases.busyness(uuid), Date.now());
  return metrics === null ? shown : { ...shown, metrics };
}

function create(parts: RouteParts, call: Call): Answer | Promise<Answer> {
  const { books, settings, newId } = parts;
  return parts.idempotency.answer("create-workload", call, {
    first(key) {
      const draft = workloadDraftOf(parts, readYaml((call.body as TextBody).text));
      const uid = newId();
      const { replicas, warnings, ...rest } = draft;
      const now = books.now();
      const workload: Workload = {
        ...rest,
        uid,
        id: draft.id ?? `workload-${uid}`,
        owner: call.actor.principal,
        replicas,
        slots: Array.from({ length: replicas }, (_, replica) => newSlot(replica)),
        generation: 0,
        createdAt: now,
        updatedAt: now,
        deleted: false,
      };
      books.command(
        { type: "submit-workload", workload, maxWorkloads: settings.maxWorkloads },
        keptKey(key, workload.id),
      );
      const shown = view(parts, call, books.state.workloads.get(uid) as Workload);
      const answer = warnings.length === 0 ? shown : { ...shown, warnings };
      return json(201, answer, ["Location", `/workloads/${encodeURIComponent(workload.id)}`]);
    },
    again: ([id = ""]) => json(201, view(parts, call, named(parts, id))),
  });
}

/** @throws WorkError when it is wrong, or the host has not opened what it wants. */
export function workloadDraftOf(parts: RouteParts, document: JsonValue): ReturnType<typeof readWorkload> {
  const { models, profiles, executors } = parts.settings;
  const draft = readWorkload(document, { models, profiles, byDefault: byDefault(parts) });
  if (draft.spec === null) return draft;
  const executor = executors[draft.spec.executor] as ExecutorSettings;
  const refusal =
    refusalOf("service", draft.spec, executors) ??
    openToOthers("service", draft.spec, executor, parts.settings.services);
  if (refusal !== null) throw refusal;
  return { ...draft, warnings: [...draft.warnings, ...warningsOf("service", draft.spec, executor)] };
}

function list(parts: RouteParts, call: Call): Answer {
  const { label, before, limit = String(MAX_LISTED) } = parametersOf(call.url, "label", "before", "limit");
  const [, key, value] = /^([^=]+)=(.*)$/s.exec(label ?? "") ?? [];
  if (label !== undefined && key === undefined) throw invalid([{ path: "label", message: "expected KEY=VALUE" }]);
  const most = Number(limit);
  if (!Number.isInteger(most) || most < 1 || most > MAX_LISTED) {
    throw invalid([{ path: "limit", message: `expected a whole number from 1 to ${MAX_LISTED}` }]);
  }
  const all = [...parts.books.state.workloads.values()].filter(
    ({ deleted, labels }) => !deleted && (key === undefined || labels[key] === value),
  );
  const from = all.filter(({ uid }) => before === undefined || uid < before);
  const page = from.slice(-most);
  const more = from.length > page.length && page[0] !== undefined;
  const same = label === undefined ? "" : `&label=${encodeURIComponent(label)}`;
  const link = more ? ["Link", `</workloads?before=${page[0]?.uid}&limit=${most}${same}>; rel="next"`] : [];
  return json(
    200,
    page.map((workload) => view(parts, call, workload)),
    link,
  );
}

function named({ books }: RouteParts, id: string): Workload {
  const workload = workloadNamed(books.state, id);
  if (workload === undefined) throw new WorkError("workload-not-found", "Workload not found");
  return workload;
}

function owned(parts: RouteParts, call: Call): Workload {
  const workload = named(parts, call.id);
  demandOwner(call, workload.owner, `workload ${call.id}`);
  return workload;
}

function one(parts: RouteParts, call: Call): Answer {
  return json(200, view(parts, call, named(parts, call.id)));
}

function change(parts: RouteParts, call: Call): Answer {
  owned(parts, call);
  const { replicas, labels } = readWorkloadChange(call.body as JsonValue);
  parts.books.command({ type: "change-workload", id: call.id, replicas, labels });
  return json(200, view(parts, call, named(parts, call.id)));
}

function remove(parts: RouteParts, call: Call): Answer {
  owned(parts, call);
  parts.books.command({ type: "delete-workload", id: call.id });
  return noContent([]);
}

function restart(parts: RouteParts, call: Call): Answer {
  owned(parts, call);
  parts.books.command({ type: "restart-workload", id: call.id });
  return json(202, view(parts, call, named(parts, call.id)));
}

/** It has been scheduled since it was made: this waits until each replica has its place, and says where. */
async function schedule(parts: RouteParts, call: Call): Promise<Answer> {
  const { body } = call;
  const id = isObject(body) ? body.workloadId : undefined;
  if (typeof id !== "string") throw invalid([{ path: "workloadId", message: "expected the id of a workload" }]);
  named(parts, id);
  const runs = () => {
    const { slots } = named(parts, id);
    return slots.map((slot) => liveRun(parts.books.state, slot));
  };
  const isPlaced = () => runs().every((run) => run !== undefined && run.phase !== "waiting");
  await waitUntil(parts, call, named(parts, id).spec === null ? 0 : SCHEDULE_MS, isPlaced);
  const schedulingTime = instant(parts.books.now());
  if (isPlaced()) {
    const first = runs()[0] as Exclude<Run, { phase: "waiting" }> | undefined;
    return json(200, { workloadId: id, scheduledNode: first?.node ?? null, schedulingTime, status: "scheduled" });
  }
  const workload = named(parts, id);
  const waiting = waitingOf(runs().find((run) => run?.phase === "waiting"));
  const reason = waiting.reason ?? workload.message;
  return json(202, { workloadId: id, scheduledNode: null, schedulingTime, status: "pending", ...waiting, reason });
}
