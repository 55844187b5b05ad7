/** What `/metrics` has: workloads, nodes and models as they are seen, and what the controller has done. */
import { type Answer, NOT_STORED } from "../../http/exchange/answers.ts";
import type { Workload } from "../objects/workload.ts";
import { type Family, family, type Labels, pageOf } from "../watching/figures.ts";
import type { ApiParts } from "./parts.ts";

export function metrics(parts: ApiParts): Answer {
  const families = [
    ...ofWorkloads(parts.objects.workloads()),
    ...ofNodes(parts),
    ...parts.loop.figures(),
    ...parts.backend.figures(),
    ...ofDatabase(parts),
  ];
  const type = "text/plain; version=0.0.4; charset=utf-8";
  return { status: 200, type, body: pageOf(families), headers: NOT_STORED };
}

function ofWorkloads(workloads: readonly Workload[]): Family[] {
  const states = Map.groupBy(workloads, ({ status }) => status.state ?? "pending");
  const each = (of: (workload: Workload) => number) =>
    workloads.map((one): [Labels, number] => [labelsOf(one), of(one)]);
  return [
    family(
      "workloads",
      "Workloads by state",
      "gauge",
      [...states].map(([state, of]) => [{ state }, of.length] as const),
    ),
    family(
      "desired_replicas",
      "Replicas that are wanted",
      "gauge",
      each(({ status }) => status.desiredReplicas ?? 0),
    ),
    family(
      "ready_replicas",
      "Replicas that serve",
      "gauge",
      each(({ status }) => status.readyReplicas ?? 0),
    ),
    family(
      "updated_replicas",
      "Replicas of the current revision that serve",
      "gauge",
      each(({ status }) => status.updatedReplicas ?? 0),
    ),
    family(
      "condition",
      "1 where a condition of a workload is True, 0 where it is False; none where that is unknown",
      "gauge",
      workloads.flatMap((one) =>
        (one.status.conditions ?? []).flatMap(({ type, status }): [Labels, number][] =>
          status === "Unknown" ? [] : [[{ ...labelsOf(one), type }, status === "True" ? 1 : 0]],
        ),
      ),
    ),
    family(
      "load",
      "What the ready replicas of a workload say on average, by metric; none that nobody says",
      "gauge",
      workloads.flatMap((one) =>
        Object.entries(one.status.currentMetrics ?? {}).map(([metric, value]): [Labels, number] => [
          { ...labelsOf(one), model: one.spec.modelName, metric },
          value,
        ]),
      ),
    ),
    family("model_ready_replicas", "Replicas that serve a model, of all its workloads", "gauge", byModel(workloads)),
  ];
}

function labelsOf({ metadata: { namespace, name } }: Workload): Labels {
  return { namespace, workload: name };
}

function byModel(workloads: readonly Workload[]): readonly (readonly [Labels, number])[] {
  const models = Map.groupBy(workloads, ({ spec }) => `${spec.modelName}\0${spec.modelVersion}`);
  return [...models.values()].map((of) => {
    const { modelName: model = "", modelVersion: version = "" } = of[0]?.spec ?? {};
    return [{ model, version }, of.reduce((sum, { status }) => sum + (status.readyReplicas ?? 0), 0)];
  });
}

function ofNodes({ loop }: ApiParts): Family[] {
  const nodes = loop.seen?.nodes ?? [];
  const each = (of: (node: (typeof nodes)[number]) => number) =>
    nodes.map((node): [Labels, number] => [{ node: node.name }, of(node)]);
  return [
    family(
      "node_gpus",
      "GPUs of a node",
      "gauge",
      each(({ gpus }) => gpus),
    ),
    family(
      "node_gpus_used",
      "GPUs of a node that are taken",
      "gauge",
      each(({ usedGpus }) => usedGpus),
    ),
    family(
      "node_ready",
      "1 where a node answers and takes replicas",
      "gauge",
      each(({ ready, schedulable }) => (ready && schedulable ? 1 : 0)),
    ),
    family("backend_up", "1 when the backend answers", "gauge", [[{}, loop.trouble === null ? 1 : 0]]),
  ];
}

function ofDatabase({ database: { trouble, figures } }: ApiParts): Family[] {
  const one = (name: string, help: string, type: "gauge" | "counter", value: number) =>
    family(`database_${name}`, help, type, [[{}, value]]);
  return [
    one("up", "1 when the database answers", "gauge", trouble === null ? 1 : 0),
    one("buffered_rows", "Rows of history that wait for the database", "gauge", figures.buffered),
    one("written_rows_total", "Rows of history that the database has taken", "counter", figures.written),
    one("dropped_rows_total", "Rows of history that are lost: too many waited", "counter", figures.dropped),
  ];
}
