/** What would become of a document, without it. */
import { type Answer, json } from "../../http/exchange/answers.ts";
import { type Call, type Endpoint, endpoint } from "../../http/exchange/endpoint.ts";
import { commandOf, NOWHERE } from "../../work/argv.ts";
import { isObject } from "../../work/documents/shape.ts";
import { WorkError } from "../../work/errors.ts";
import type { ExecutorSettings } from "../../work/executor-settings.ts";
import type { WorkSpec } from "../../work/model.ts";
import { topicOf } from "../../work/node-choice.ts";
import { chooseServing } from "../../work/offers.ts";
import { wishOf } from "../look.ts";
import { type MaybeParts, type RouteParts, working } from "./parts.ts";
import { draftOf, yamlOf } from "./tasks.ts";
import { workloadDraftOf } from "./workloads.ts";

export function planEndpoints(parts: MaybeParts): readonly Endpoint[] {
  const documents = { role: "run", body: "needed", takesText: true } as const;
  return [endpoint("/api/v1/tasks/plan", "key", { POST: working(parts, documents, plan) })];
}

interface Planned {
  readonly kind: "task" | "service";
  readonly name: string;
  readonly spec: WorkSpec;
  readonly warnings: readonly string[];
}

function plannedOf(parts: RouteParts, call: Call): Planned {
  const { value } = yamlOf(call.body);
  if (!isObject(value) || value.kind !== "Service") return { kind: "task", ...draftOf(parts, call) };
  const { spec, message, ...draft } = workloadDraftOf(parts, value);
  if (spec === null) throw new WorkError("not-allowed", message ?? "work.models has no settings for its model");
  return { kind: "service", spec, ...draft };
}

function plan(parts: RouteParts, call: Call): Answer {
  const { books, leases, settings } = parts;
  const draft = plannedOf(parts, call);
  const { kind, spec } = draft;
  const executor = settings.executors[spec.executor] as ExecutorSettings;
  const offers = [...books.state.workers.values()].map((worker) => ({
    worker,
    freeGpus: worker.link === undefined ? leases.freeGpus() : (worker.freeGpus ?? null),
  }));
  const asked = { owner: call.actor.principal, spec };
  const choice = chooseServing(books.state, asked, offers, books.now());
  const isElsewhere = choice.node !== null && !choice.isHere;
  const { gpu } = spec.resources;
  // What another node would lease, its own daemon knows.
  const lease = gpu === null || isElsewhere ? null : leases.plan(wishOf(call.actor.principal, draft.name, spec, gpu));
  const { argv } = commandOf(kind, spec, executor, { ...NOWHERE, gpuUuids: lease?.gpuUuids ?? [] });
  return json(200, {
    topic: topicOf(spec.taskType),
    executor: spec.executor,
    node: choice.node,
    fits: lease?.fits ?? true,
    starts_now: choice.node !== null && (isElsewhere ? choice.startsNow : (lease?.grantedNow ?? true)),
    reason: choice.node === null ? choice.reason : (lease?.reason ?? null),
    gpu_uuids: lease?.gpuUuids ?? [],
    argv,
    warnings: draft.warnings,
  });
}
