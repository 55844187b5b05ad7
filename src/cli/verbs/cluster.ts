/** The verbs of a controller. */
import { readFileSync } from "node:fs";
import { parseAllDocuments, stringify } from "yaml";
import {
  ClusterClient,
  type ClusterNode,
  type ClusterObject,
  type ClusterRollout,
  type ClusterWorkload,
} from "../../client/cluster.ts";
import { nodeTransport } from "../../client/node-transport.ts";
import { visible } from "../../platform/printable.ts";
import { filled } from "../connect.ts";
import { type CommonOptions, type Context, contextOf } from "../context.ts";
import { NoSuchError, UsageError } from "../exits.ts";
import { type Column, table } from "../table.ts";
import { sinceText } from "../words.ts";

const DEFAULT_URL = "http://127.0.0.1:8003";
const KINDS: ReadonlySet<string> = new Set(["LLMWorkload", "LLMModel"]);

async function clusterContext(options: CommonOptions): Promise<Context & { readonly cluster: ClusterClient }> {
  const url = options.url ?? filled(process.env.GPU_ORCHESTRATOR_CONTROLLER_URL) ?? DEFAULT_URL;
  const context = await contextOf(options.host === undefined ? { ...options, url } : options);
  return {
    ...context,
    cluster: new ClusterClient({ transport: nodeTransport(context.url), key: () => context.key }),
  };
}

export async function apply({ file, ...options }: CommonOptions & { readonly file: string }): Promise<void> {
  const { cluster, terminal } = await clusterContext(options);
  // All are read before the first is sent: a mistake in the second changes nothing.
  for (const object of objectsIn(file)) {
    const made = await cluster.apply(object);
    if (terminal.json) terminal.data(made);
    else terminal.line(`${object.kind.toLowerCase()}/${object.metadata.name} applied`);
  }
}

function objectsIn(file: string): ClusterObject[] {
  let text: string;
  try {
    text = readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    throw new UsageError(`${file}: ${(error as Error).message}`);
  }
  const documents = parseAllDocuments(text);
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

/** What stands in its way. */
function detailOf({ status: { conditions = [] } }: ClusterWorkload): string {
  const bad = conditions.find(
    ({ type, status }) => (status === "True") === (type === "Stuck") && type !== "ScalingActive" && type !== "Ready",
  );
  return bad === undefined ? "" : `${bad.reason}: ${(bad.message ?? "").split("\n", 1)[0]}`;
}

export async function workloads(what: string, name: string | undefined, options: CommonOptions): Promise<void> {
  const context = await clusterContext(options);
  const { cluster, terminal } = context;
  if (what === "ls") {
    const all = await cluster.workloads();
    if (terminal.json) for (const one of all) terminal.data(one);
    else for (const line of table(all, WORKLOADS(Date.now()), terminal)) terminal.line(line);
    return;
  }
  const workload = await named(cluster, name);
  const id = workload.metadata.name;
  if (what === "get") terminal.line(JSON.stringify(workload, null, terminal.json ? 0 : 2));
  else if (what === "why") terminal.line(JSON.stringify(await cluster.why(id), null, terminal.json ? 0 : 2));
  else if (what === "events") {
    for (const event of await cluster.events(id)) {
      if (terminal.json) terminal.data(event);
      else terminal.line(visible(`${event.at}  ${event.type}  ${event.reason}  ${event.message}`));
    }
  } else if (what === "rm") {
    await cluster.remove(workload.metadata);
    terminal.say(`${id} is being deleted`);
  } else throw new UsageError(`workloads ${what}: expected ls, get, why, events or rm`);
}

export async function scale(name: string, replicas: string, options: CommonOptions): Promise<void> {
  const { cluster, terminal } = await clusterContext(options);
  const workload = await named(cluster, name);
  if (replicas === "auto") {
    const { replicas: _, ...spec } = workload.spec;
    await cluster.apply({ ...workload, spec } as ClusterObject);
    terminal.say(`${name} has as many replicas as its load wants`);
    return;
  }
  const count = Number(replicas);
  if (!/^\d+$/.test(replicas)) throw new UsageError(`${replicas}: expected a whole number, or auto`);
  await cluster.scale(workload.metadata, count);
  terminal.say(`${name} is to have ${count} replicas`);
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
  const { cluster, terminal } = await clusterContext(options);
  const { metadata } = await named(cluster, name);
  if (what === "undo" || what === "promote" || what === "abort") {
    const number = Number(to);
    if (to !== undefined && !Number.isInteger(number)) throw new UsageError("--to: expected a revision's number");
    const { message } = await cluster.roll(metadata.name, what, to === undefined ? {} : { to_revision: number });
    terminal.say(message);
    return;
  }
  if (what !== "status") throw new UsageError(`rollout ${what}: expected status, undo, promote or abort`);
  const state = await cluster.rollout(metadata.name);
  if (terminal.json) return terminal.data(state);
  const { status, updated_replicas: updated, replicas, reason, message } = state;
  const why = [reason, message].filter((one) => one !== null && one !== "").join(": ");
  terminal.line(visible(`${status}: ${updated} of ${replicas ?? "?"} replicas are of this revision; ${why}`));
  for (const line of table(state.revisions, REVISIONS(Date.now()), terminal)) terminal.line(line);
}

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
  const { cluster, terminal } = await clusterContext(options);
  if (what === "ls") {
    const all = await cluster.nodes();
    if (terminal.json) for (const one of all) terminal.data(one);
    else for (const line of table(all, NODES, terminal)) terminal.line(line);
    return;
  }
  if (what !== "drain" && what !== "cordon" && what !== "uncordon") {
    throw new UsageError(`nodes ${what}: expected ls, drain, cordon or uncordon`);
  }
  if (node === undefined) throw new UsageError("which node?");
  const seconds = Number(deadline ?? 0);
  if (!Number.isInteger(seconds) || seconds < 0) throw new UsageError("--deadline: expected seconds");
  const how = { ...(deadline === undefined ? {} : { deadline: seconds }), ...(force === true ? { force } : {}) };
  terminal.say((await cluster.node(node, what, what === "drain" ? how : undefined)).message);
}

export async function printCrds(cel: boolean): Promise<void> {
  const { crds } = await import("../../controller/kubernetes/crds.ts");
  printYaml(crds(cel));
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

function printYaml(objects: readonly object[]): void {
  process.stdout.write(objects.map((one) => stringify(one, { aliasDuplicateObjects: false })).join("---\n"));
}
