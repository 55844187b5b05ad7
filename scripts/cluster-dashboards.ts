/**
 * The LLM Orchestrator's four dashboards, of the controller's own metrics: the cluster's GPUs, workloads, models, and how
 * the controller does.
 */
import type { Builder } from "@grafana/grafana-foundation-sdk/cog";
import type { Dashboard, DashboardBuilder, Panel } from "@grafana/grafana-foundation-sdk/dashboard";
import { dashboard, graph, HOST, laidOut, quantiles, stat, variable } from "./dashboard-panels.ts";

const WORKLOAD = `${HOST}, namespace="$namespace", workload="$workload"`;
const name = (metric: string) => `llm_orchestrator_${metric}`;
const of = (metric: string, more = "") => `${name(metric)}{${HOST}${more}}`;
const load = (metric: string) => of("load", `, metric="${metric}"`);
const perMinute = (counter: string, by: string) => `60 * sum by (${by}) (rate(${of(counter)}[$__rate_interval]))`;

export function clusterDashboards(): Readonly<Record<string, Dashboard>> {
  return {
    "cluster.json": laidOut(frame("cluster", "LLM cluster", "Where the GPUs of a cluster are, and who waits."), {
      Now: clusterNow(),
      "GPUs and nodes": nodes(),
      Scheduling: scheduling(),
    }),
    "workloads.json": laidOut(workloadFrame(), { "All workloads": workloads(), $workload: workload() }),
    "models.json": laidOut(frame("models", "LLM models", "What is served, and how much it is used."), {
      Models: models(),
    }),
    "controller.json": laidOut(frame("controller", "LLM controller", "Whether the controller does its work."), {
      Now: controllerNow(),
      "Its loop": loop(),
      "The apiserver": apiserver(),
      "The database": database(),
    }),
  };
}

function frame(uid: string, title: string, description: string): DashboardBuilder {
  const known = `label_values(${name("backend_up")}, instance)`;
  return dashboard(`gpu-orchestrator-${uid}`, title, description, variable("instance", "Controller", known));
}

function workloadFrame(): DashboardBuilder {
  const values = (label: string, more = "") => `label_values(${of("desired_replicas", more)}, ${label})`;
  return frame("workloads", "LLM workloads", "How many replicas serve, and what is asked of them.")
    .withVariable(variable("namespace", "Namespace", values("namespace")))
    .withVariable(variable("workload", "Workload", values("workload", ', namespace="$namespace"')));
}

function clusterNow(): Builder<Panel>[] {
  return [
    stat({
      title: "GPUs",
      description: "Of all nodes.",
      unit: "short",
      queries: { gpus: `sum(${of("node_gpus")})` },
    }),
    stat({
      title: "Taken",
      description: "Share of the GPUs that pods hold or are bound to.",
      unit: "percentunit",
      queries: { taken: `sum(${of("node_gpus_used")}) / sum(${of("node_gpus")})` },
    }),
    stat({
      title: "Nodes away",
      description: "Nodes with GPUs that do not answer, or take nothing new.",
      unit: "short",
      queries: { away: `count(${of("node_ready")} == 0) or vector(0)` },
    }),
    stat({
      title: "Workloads that wait",
      description: "Workloads of which a replica has no node yet.",
      unit: "short",
      queries: { waiting: `count(${of("condition", ', type="Schedulable"')} == 0) or vector(0)` },
    }),
  ];
}

function nodes(): Builder<Panel>[] {
  return [
    graph({
      title: "GPUs taken by node",
      description: "GPUs that pods hold or are bound to, on each node.",
      unit: "short",
      stacked: true,
      queries: { "{{node}}": of("node_gpus_used") },
    }),
    graph({
      title: "Free GPUs",
      description:
        "On nodes that answer and take new pods; the most that one node has is the largest replica that starts.",
      unit: "short",
      queries: {
        free: `sum((${of("node_gpus")} - ${of("node_gpus_used")}) * ${of("node_ready")})`,
        "most of one node": `max((${of("node_gpus")} - ${of("node_gpus_used")}) * ${of("node_ready")})`,
      },
    }),
    graph({
      title: "Nodes",
      description:
        "Nodes with GPUs, those that take new pods, those being emptied, and whether the use of pods is told.",
      unit: "short",
      queries: {
        all: `count(${of("node_gpus")})`,
        open: `sum(${of("node_ready")})`,
        draining: of("draining_nodes"),
        "metrics.k8s.io answers": of("pod_usage_up"),
      },
    }),
    graph({
      title: "Evictions",
      description: "Evictions of drains a minute: taken by the apiserver, or refused, mostly by a budget.",
      unit: "short",
      queries: { "{{result}}": perMinute("evictions_total", "result") },
    }),
  ];
}

function scheduling(): Builder<Panel>[] {
  return [
    graph({
      title: "Time to a node",
      description: "From a pod's making to its node.",
      unit: "s",
      queries: quantiles(name("schedule_seconds")),
    }),
    graph({
      title: "Time to serve",
      description: "From a pod's node to its first answer: image, weights and warm-up.",
      unit: "s",
      queries: quantiles(name("start_seconds")),
    }),
  ];
}

function workloads(): Builder<Panel>[] {
  return [
    graph({
      title: "Workloads by state",
      description: "How many workloads are in each state.",
      unit: "short",
      stacked: true,
      queries: { "{{state}}": of("workloads") },
    }),
    graph({
      title: "Replicas",
      description: "Replicas that are wanted and that serve, of all workloads.",
      unit: "short",
      queries: {
        wanted: `sum(${of("desired_replicas")})`,
        serve: `sum(${of("ready_replicas")})`,
      },
    }),
    graph({
      title: "Scaling",
      description: "Changes of the number of replicas a minute, by a hand or by the load.",
      unit: "short",
      queries: { "{{type}}": perMinute("scalings_total", "type") },
    }),
    graph({
      title: "Out of order",
      description: "Workloads that are stuck, or whose children somebody else has changed.",
      unit: "short",
      queries: {
        stuck: `sum(${of("condition", ', type="Stuck"')})`,
        drifted: `sum(${of("condition", ', type="Drifted"')})`,
      },
    }),
  ];
}

function workload(): Builder<Panel>[] {
  const own = (metric: string) => `${name(metric)}{${WORKLOAD}}`;
  const said = (metric: string) => `${name("load")}{${WORKLOAD}, metric="${metric}"}`;
  return [
    graph({
      title: "Its replicas",
      description: "Wanted, serving, and serving the current revision.",
      unit: "short",
      queries: {
        wanted: own("desired_replicas"),
        serve: own("ready_replicas"),
        "of this revision": own("updated_replicas"),
      },
    }),
    graph({
      title: "Its requests",
      description: "Requests that wait and that run in a replica, on average.",
      unit: "short",
      queries: { waiting: said("queue_length"), running: said("running") },
    }),
    graph({
      title: "Its latency",
      description: "What 95 of 100 requests take at most, on average over the replicas.",
      unit: "ms",
      queries: { "95 %": said("latency") },
    }),
    graph({
      title: "Its cache",
      description: "Share of the KV cache that is in use, and of prompt tokens that were found in it.",
      unit: "percent",
      queries: { "in use": said("kv_cache"), "found there": said("cache_hits") },
    }),
  ];
}

function models(): Builder<Panel>[] {
  const by = (metric: string) =>
    `sum by (model) (${load(metric)} * on (instance, namespace, workload) group_left () ${of("ready_replicas")})`;
  return [
    graph({
      title: "Replicas of each model",
      description: "Replicas that serve a version of a model.",
      unit: "short",
      stacked: true,
      queries: { "{{model}} {{version}}": of("model_ready_replicas") },
    }),
    graph({
      title: "Requests of each model",
      description: "Requests that all replicas of a model have finished, a second.",
      unit: "reqps",
      queries: { "{{model}}": by("requests_per_second") },
    }),
    graph({
      title: "Tokens of each model",
      description: "Tokens that all replicas of a model have made, a second.",
      unit: "short",
      queries: { "{{model}}": by("tokens_per_second") },
    }),
    graph({
      title: "Latency of each model",
      description: "What 95 of 100 requests take at most, of the slowest workload of a model.",
      unit: "ms",
      queries: { "{{model}}": `max by (model) (${load("latency")})` },
    }),
    graph({
      title: "Cache hits of each model",
      description: "Share of prompt tokens that were found in the cache, of the workloads of a model.",
      unit: "percent",
      queries: { "{{model}}": `avg by (model) (${load("cache_hits")})` },
    }),
    graph({
      title: "GPUs of workloads",
      description: "How busy the GPUs of the replicas are, where the daemon of one host says it; nothing elsewhere.",
      unit: "percent",
      queries: { "{{workload}}": `${load("gpu_utilization")} or (vector(0) unless on () ${load("gpu_utilization")})` },
    }),
  ];
}

function controllerNow(): Builder<Panel>[] {
  return [
    stat({
      title: "Backend",
      description: "1 when the apiserver or the daemon answers.",
      unit: "short",
      queries: { up: of("backend_up") },
    }),
    stat({
      title: "Leads",
      description: "1 where this controller decides; of several, one does.",
      unit: "short",
      queries: { leads: of("leader") },
    }),
    stat({
      title: "Resting workloads",
      description: "Workloads whose last pass failed, and that wait for the next.",
      unit: "short",
      queries: { resting: of("resting_workloads") },
    }),
    stat({
      title: "Watches that are behind",
      description: "Kinds of objects of which the controller may not know the last.",
      unit: "short",
      queries: { behind: `count(${of("watch_up")} == 0) or vector(0)` },
    }),
  ];
}

function loop(): Builder<Panel>[] {
  return [
    graph({
      title: "Time of a look",
      description: "A look at the backend, and the passes over all workloads that follow from it.",
      unit: "s",
      queries: quantiles(name("look_seconds")),
    }),
    graph({
      title: "Looks and passes",
      description: "A minute: looks, and passes over a workload by how they ended.",
      unit: "short",
      queries: { looks: perMinute("looks_total", "instance"), "{{result}}": perMinute("passes_total", "result") },
    }),
    graph({
      title: "Put right",
      description: "A minute: changes of others that were put back, and replicas that were started anew.",
      unit: "short",
      queries: {
        "put back": perMinute("drifts_total", "instance"),
        "started anew": perMinute("removals_total", "instance"),
      },
    }),
  ];
}

function apiserver(): Builder<Panel>[] {
  return [
    graph({
      title: "Calls",
      description: "Calls to the apiserver a minute, by verb and by how they ended.",
      unit: "short",
      queries: { "{{verb}} {{code}}": perMinute("apiserver_calls_total", "verb, code") },
    }),
    graph({
      title: "Changes that were seen",
      description: "Changes a minute that the watches have brought, by kind.",
      unit: "short",
      queries: { "{{kind}}": perMinute("watch_changes_total", "kind") },
    }),
    graph({
      title: "Full lists",
      description: "How often a watch had to begin anew with a full list, by kind.",
      unit: "short",
      queries: { "{{kind}}": of("watch_lists_total") },
    }),
    graph({
      title: "Objects that are known",
      description: "Objects in the controller's memory, by kind.",
      unit: "short",
      queries: { "{{kind}}": of("watched_objects") },
    }),
  ];
}

function database(): Builder<Panel>[] {
  return [
    graph({
      title: "History",
      description: "Rows that wait for the database, and rows a minute that it has taken, or that are lost.",
      unit: "short",
      queries: {
        waiting: of("database_buffered_rows"),
        taken: perMinute("database_written_rows_total", "instance"),
        lost: perMinute("database_dropped_rows_total", "instance"),
      },
    }),
    graph({
      title: "Database",
      description: "1 when it answers; without it replicas are looked after all the same.",
      unit: "short",
      queries: { up: of("database_up") },
    }),
  ];
}
