/** The verbs of a controller. */
import { parseAllDocuments, stringify } from "yaml";
import {
  type Cluster,
  ClusterClient,
  type ClusterNode,
  type ClusterObject,
  type ClusterRollout,
  type ClusterWorkload,
} from "../../client/cluster.ts";
import { Unreachable } from "../../client/errors.ts";
import { nodeTransport } from "../../client/node-transport.ts";
import type { Transport } from "../../client/transport.ts";
import type { KubeSettings } from "../../controller/kubernetes/connection.ts";
import { visible } from "../../platform/printable.ts";
import { wholeOf } from "../ask.ts";
import { filled } from "../connect.ts";
import { type CommonOptions, type Context, contextOf } from "../context.ts";
import { NoController, NoSuchError, UsageError } from "../exits.ts";
import { textIn } from "../given.ts";
import { type Column, table } from "../table.ts";
import { plural, sinceText } from "../words.ts";

const DEFAULT_URL = "http://127.0.0.1:8003";
const KINDS: ReadonlySet<string> = new Set(["LLMWorkload", "LLMModel"]);

export async function clusterContext(options: CommonOptions): Promise<Context & { readonly cluster: ClusterClient }> {
  const url = options.url ?? filled(process.env.GPU_ORCHESTRATOR_CONTROLLER_URL) ?? DEFAULT_URL;
  const context = await contextOf(options.host === undefined ? { ...options, url } : options);
  return {
    ...context,
    cluster: new ClusterClient({ transport: toController(nodeTransport(context.url)), key: () => context.key }),
  };
}

function toController(transport: Transport): Transport {
  return async (ask) => {
    try {
      return await transport(ask);
    } catch (error) {
      throw error instanceof Unreachable ? new NoController(error.message, error.refused, error) : error;
    }
  };
}

export async function apply({ file, ...options }: CommonOptions & { readonly file: string }): Promise<void> {
  const { cluster, terminal } = await clusterContext(options);
  // All are read before the first is sent: a mistake in the second changes nothing.
  for (const object of await objectsIn(file)) {
    const made = await cluster.apply(object);
    if (terminal.json) terminal.data(made);
    else terminal.line(`${object.kind.toLowerCase()}/${object.metadata.name} applied`);
  }
}

export async function objectsIn(file: string): Promise<ClusterObject[]> {
  const documents = parseAllDocuments(await textIn(file));
  const found = "empty" in documents ? [] : documents;
  return found.map((document, index) => {
    const [problem] = document.errors;
    if (problem !== undefined) throw new UsageError(`${file}: ${problem.message.split("\n", 1)[0]}`);
    const object = document.toJS({ maxAliasCount: 100 }) as Partial<ClusterObject> | null;
    if (!KINDS.has(object?.kind ?? "") || typeof object?.metadata?.name !== "string") {
      throw new UsageError(`${file}: document ${index + 1} is neither an LLMWorkload nor an LLMModel with a name`);
    }
    return object as ClusterObject;
  });
}

const WORKLOADS: (now: number) => readonly Column<ClusterWorkload>[] = (now) => [
  { head: "NAMESPACE", cell: ({ metadata }) => metadata.namespace, goes: 2 },
  { head: "NAME", cell: ({ metadata }) => metadata.name },
  { head: "MODEL", cell: ({ spec }) => `${spec.modelName} ${spec.modelVersion}`, shrinksTo: 8, goes: 3 },
  { head: "STATE", cell: ({ status }) => status.state ?? "pending" },
  {
    head: "READY",
    cell: ({ status }) => `${status.readyReplicas ?? 0}/${status.desiredReplicas ?? "?"}`,
    align: "right",
  },
  { head: "AGE", cell: ({ metadata }) => sinceText(metadata.creationTimestamp, now), align: "right", goes: 4 },
  { head: "DETAIL", cell: (workload) => detailOf(workload), shrinksTo: 8, goes: 1 },
];

/** Those that are well while they are false. */
const TROUBLES: ReadonlySet<string> = new Set(["Stuck", "Drifted"]);

/** What stands in its way. */
export function detailOf({ status: { conditions = [] } }: Pick<ClusterWorkload, "status">): string {
  const bad = conditions.find(
    ({ type, status }) => (status === "True") === TROUBLES.has(type) && type !== "ScalingActive" && type !== "Ready",
  );
  if (bad === undefined) return "";
  return [bad.reason, (bad.message ?? "").split("\n", 1)[0]].filter((words) => words !== "").join(": ");
}

const WORKLOAD_ACTS: ReadonlySet<string> = new Set(["get", "why", "events", "rm"]);

export async function workloads(what: string, name: string | undefined, options: CommonOptions): Promise<void> {
  const context = await clusterContext(options);
  const { cluster, terminal } = context;
  if (what === "ls") {
    const all = await cluster.workloads();
    if (terminal.json) for (const one of all) terminal.data(one);
    else if (all.length === 0) terminal.line("there are no workloads");
    else for (const line of table(all, WORKLOADS(Date.now()), terminal)) terminal.line(line);
    return;
  }
  if (!WORKLOAD_ACTS.has(what)) throw new UsageError(`workloads ${what}: expected ls, get, why, events or rm`);
  const workload = await named(cluster, name);
  const id = workload.metadata.name;
  if (what === "get") terminal.line(JSON.stringify(workload, null, terminal.json ? 0 : 2));
  else if (what === "why") terminal.line(JSON.stringify(await cluster.why(id), null, terminal.json ? 0 : 2));
  else if (what === "events") {
    for (const event of await cluster.events(id)) {
      if (terminal.json) terminal.data(event);
      else terminal.line(visible(`${event.at}  ${event.type}  ${event.reason}  ${event.message}`));
    }
  } else {
    const removed = await cluster.remove(workload.metadata);
    if (terminal.json) terminal.data(removed);
    else terminal.say(`${id} is being deleted`);
  }
}

export async function scale(name: string, replicas: string, options: CommonOptions): Promise<void> {
  const count = replicas === "auto" ? 0 : wholeOf("how many replicas, or auto?", replicas, 0);
  const { cluster, terminal } = await clusterContext(options);
  const workload = await named(cluster, name);
  if (replicas === "auto") {
    const { replicas: _, ...spec } = workload.spec;
    const applied = await cluster.apply({ ...workload, spec } as ClusterObject);
    if (terminal.json) terminal.data(applied);
    else terminal.say(`${name} has as many replicas as its load wants`);
    return;
  }
  const scaled = await cluster.scale(workload.metadata, count);
  if (terminal.json) terminal.data(scaled);
  else terminal.say(`${name} is to have ${plural(count, "replica")}`);
}

async function named(cluster: ClusterClient, name: string | undefined): Promise<ClusterWorkload> {
  if (name === undefined) throw new UsageError("which workload?");
  const found = (await cluster.workloads()).find(({ metadata }) => metadata.name === name);
  if (found === undefined) throw new NoSuchError(`there is no workload ${name}`);
  return found;
}

const REVISIONS: (now: number) => readonly Column<ClusterRollout["revisions"][number]>[] = (now) => [
  { head: "NUMBER", cell: ({ number, current }) => `${number}${current ? " *" : ""}` },
  { head: "REVISION", cell: ({ revision }) => revision },
  { head: "VERSION", cell: ({ model_version }) => model_version ?? "" },
  { head: "IMAGE", cell: ({ image }) => image ?? "the settings' own", shrinksTo: 8, goes: 1 },
  { head: "AGE", cell: ({ made_at }) => sinceText(made_at, now), align: "right" },
];

export async function rollout(
  what: string,
  name: string,
  { to, ...options }: CommonOptions & { readonly to?: string },
): Promise<void> {
  if (!ROLLOUT_ACTS.has(what)) throw new UsageError(`rollout ${what}: expected status, undo, promote or abort`);
  const number = to === undefined ? null : wholeOf("--to", to, 1);
  const { cluster, terminal } = await clusterContext(options);
  const { metadata } = await named(cluster, name);
  if (what === "undo" || what === "promote" || what === "abort") {
    const rolled = await cluster.roll(metadata.name, what, number === null ? {} : { to_revision: number });
    if (terminal.json) terminal.data(rolled);
    else terminal.say(rolled.message);
    return;
  }
  const state = await cluster.rollout(metadata.name);
  if (terminal.json) return terminal.data(state);
  const { status, updated_replicas: updated, replicas, reason, message } = state;
  const why = [reason, message].filter((one) => one !== null && one !== "").join(": ");
  terminal.line(visible(`${status}: ${updated} of ${replicas ?? "?"} replicas are of this revision; ${why}`));
  for (const line of table(state.revisions, REVISIONS(Date.now()), terminal)) terminal.line(line);
}

const ROLLOUT_ACTS: ReadonlySet<string> = new Set(["status", "undo", "promote", "abort"]);

const NODES: readonly Column<ClusterNode>[] = [
  { head: "NODE", cell: ({ node_id }) => node_id },
  { head: "STATUS", cell: ({ status }) => status },
  { head: "GPU", cell: ({ gpu_type }) => gpu_type, shrinksTo: 8, goes: 1 },
  { head: "GPUS", cell: ({ gpu_count }) => String(gpu_count), align: "right" },
  { head: "TAKEN", cell: ({ gpus_allocated }) => String(gpus_allocated), align: "right" },
];

interface DrainOptions extends CommonOptions {
  /** Seconds. */
  readonly deadline?: string;
  readonly force?: boolean;
}

export async function nodes(what: string, node: string | undefined, given: DrainOptions): Promise<void> {
  const { deadline, force, ...options } = given;
  if (what !== "ls" && what !== "drain" && what !== "cordon" && what !== "uncordon") {
    throw new UsageError(`nodes ${what}: expected ls, drain, cordon or uncordon`);
  }
  const seconds = deadline === undefined ? null : wholeOf("--deadline", deadline, 0);
  const { cluster, terminal } = await clusterContext(options);
  if (what === "ls") {
    const all = await cluster.nodes();
    if (terminal.json) for (const one of all) terminal.data(one);
    else if (all.length === 0) terminal.line("there are no nodes");
    else for (const line of table(all, NODES, terminal)) terminal.line(line);
    return;
  }
  if (node === undefined) throw new UsageError("which node?");
  const how = { ...(seconds === null ? {} : { deadline: seconds }), ...(force === true ? { force } : {}) };
  const answer = await cluster.node(node, what, what === "drain" ? how : undefined);
  if (terminal.json) terminal.data(answer);
  else terminal.say(answer.message);
}

const CLUSTERS: readonly Column<Cluster>[] = [
  { head: "CLUSTER", cell: ({ name }) => name },
  { head: "BACKEND", cell: ({ backend }) => backend },
  { head: "STATUS", cell: ({ reachable, reason }) => (reachable ? "reachable" : (reason ?? "away")), shrinksTo: 8 },
  { head: "NODES", cell: ({ nodes }) => String(nodes), align: "right" },
  { head: "GPUS", cell: ({ total_gpus: gpus }) => String(gpus), align: "right" },
  { head: "TAKEN", cell: ({ allocated_gpus: gpus }) => String(gpus), align: "right" },
];

export async function clusters(what: string, options: CommonOptions): Promise<void> {
  if (what !== "ls") throw new UsageError(`clusters ${what}: expected ls`);
  const { cluster, terminal } = await clusterContext(options);
  const all = await cluster.clusters();
  if (terminal.json) for (const one of all) terminal.data(one);
  else for (const line of table(all, CLUSTERS, terminal)) terminal.line(line);
}

export interface CrdOptions {
  /** With rules in CEL; left out: as the server takes them. */
  readonly cel?: boolean;
  readonly kubeconfig?: string;
  readonly context?: string;
}

export async function printCrds({ cel, kubeconfig, context }: CrdOptions): Promise<void> {
  const { crds } = await import("../../controller/kubernetes/crds.ts");
  printYaml(crds(cel ?? (await doesServerTakeCel({ kubeconfig: kubeconfig ?? null, context: context ?? null }))));
}

async function doesServerTakeCel(of: KubeSettings): Promise<boolean> {
  const { KubeConnection } = await import("../../controller/kubernetes/connection.ts");
  const { takesCel } = await import("../../controller/kubernetes/server-version.ts");
  const connection = new KubeConnection(of);
  try {
    return await takesCel(connection);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    // Who names a server means that one.
    if (of.kubeconfig !== null || of.context !== null) throw new UsageError(`${why}; --cel or --no-cel asks no server`);
    process.stderr.write(`no server was asked (${why}): with rules in CEL, as Kubernetes takes them from 1.25 on\n`);
    return true;
  } finally {
    await connection.close();
  }
}

interface ManifestOptions {
  readonly image: string;
  readonly namespace: string;
  readonly workloadNamespace: readonly string[];
  readonly replicas?: string;
  readonly config?: string;
}

export async function printManifests(options: ManifestOptions): Promise<void> {
  const { image, namespace, workloadNamespace: workloadNamespaces } = options;
  const { databaseIn, manifests } = await import("../../controller/kubernetes/manifests.ts");
  const replicas = options.replicas === undefined ? undefined : Number(options.replicas);
  if (replicas !== undefined && !(Number.isInteger(replicas) && replicas >= 1)) {
    throw new UsageError("--replicas: expected 1 or more");
  }
  const database = databaseIn(process.env);
  const { config } = options;
  const { loadSettings } = await import("../../controller/settings/settings.ts");
  const { qos } = loadSettings(config === undefined ? {} : { config }, {}).reconcile;
  const settings = { image, namespace, workloadNamespaces, database, qos };
  printYaml(manifests(replicas === undefined ? settings : { ...settings, replicas }));
}

export function printYaml(objects: readonly object[]): void {
  process.stdout.write(objects.map((one) => stringify(one, { aliasDuplicateObjects: false })).join("---\n"));
}
