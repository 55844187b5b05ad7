/** The verbs of a controller's models: what they say of themselves, and their signatures. */
import { createPrivateKey, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import type { ClusterClient, ClusterModel } from "../../client/cluster.ts";
import { visible } from "../../platform/printable.ts";
import type { CommonOptions } from "../context.ts";
import { NoSuchError, notRead, UsageError } from "../exits.ts";
import { type Column, table } from "../table.ts";
import { sinceText } from "../words.ts";
import { clusterContext, objectsIn, printYaml } from "./cluster.ts";

const MODELS: (now: number) => readonly Column<ClusterModel>[] = (now) => [
  { head: "NAME", cell: ({ metadata }) => metadata.name },
  { head: "MODEL", cell: ({ spec }) => `${spec.name} ${spec.version}`, shrinksTo: 8, goes: 3 },
  { head: "SOURCE", cell: ({ spec: { source } }) => source?.uri ?? "", shrinksTo: 8, goes: 1 },
  { head: "PHASE", cell: ({ status }) => status.phase ?? "Registering" },
  { head: "SIGNED", cell: ({ status }) => conditionOf(status, "Signed")?.reason ?? "", goes: 2 },
  { head: "USED BY", cell: ({ status }) => String(status.deployments?.length ?? 0), align: "right" },
  { head: "AGE", cell: ({ metadata }) => sinceText(metadata.creationTimestamp, now), align: "right", goes: 4 },
];

function conditionOf({ conditions = [] }: ClusterModel["status"], type: string) {
  return conditions.find((one) => one.type === type);
}

interface ModelOptions extends CommonOptions {
  readonly file?: string;
  /** Of the private key, in PEM. */
  readonly key?: string;
  readonly keyId?: string;
  /** Where a model that is registered is on the hub. */
  readonly hub?: string;
  readonly type?: string;
  /** Whose workloads may use it; absent: everybody's. */
  readonly tenant?: readonly string[];
  readonly public?: boolean;
}

const ACTS: ReadonlySet<string> = new Set(["ls", "get", "register", "verify", "rm"]);
const TYPE = "text-generation";

export async function models(what: string, name: string | undefined, given: ModelOptions): Promise<void> {
  const { file, key, keyId, hub, type, tenant, public: isPublic, ...options } = given;
  if (what === "sign") return sign(file, key, keyId);
  if (!ACTS.has(what)) throw new UsageError(`models ${what}: expected ls, get, register, sign, verify or rm`);
  const registered = what === "register" ? modelOf(name, { hub, type, tenant, isPublic }) : null;
  const { cluster, terminal } = await clusterContext(options);
  if (registered !== null) {
    await register(cluster, registered);
    if (terminal.json) terminal.data(await named(cluster, registered.metadata.name));
    else terminal.say(`${registered.metadata.name} is registered: ${name}, ${hub} on the hub`);
    return;
  }
  if (what === "ls") {
    const all = await cluster.models();
    if (terminal.json) for (const one of all) terminal.data(one);
    else if (all.length === 0) terminal.line("there are no models");
    else for (const line of table(all, MODELS(Date.now()), terminal)) terminal.line(line);
    return;
  }
  const model = await named(cluster, name);
  if (what === "get") terminal.line(JSON.stringify(model, null, terminal.json ? 0 : 2));
  else if (what === "rm") {
    const removed = await cluster.removeModel(model.metadata.name);
    if (terminal.json) terminal.data(removed);
    else terminal.say(`${model.metadata.name} is deleted; workloads of it that run go on`);
  } else {
    const { conditions = [] } = model.status;
    if (terminal.json) for (const one of conditions) terminal.data(one);
    for (const { type, status, reason = "", message = "" } of terminal.json ? [] : conditions) {
      terminal.line(visible(`${type}=${status}  ${reason}  ${message}`.trimEnd()));
    }
    // Whoever asks in a script wants to know by the exit code.
    if (conditionOf(model.status, "Signed")?.status !== "True") process.exitCode = 1;
  }
}

interface Registering {
  readonly hub: string | undefined;
  readonly type: string | undefined;
  readonly tenant: readonly string[] | undefined;
  readonly isPublic: boolean | undefined;
}

/** @param called is the model's name and version, such as `llama2/7b`. @throws UsageError */
function modelOf(called: string | undefined, { hub, type = TYPE, tenant, isPublic }: Registering) {
  const [, name, version] = /^([^/]+)\/([^/]+)$/.exec(called ?? "") ?? [];
  if (name === undefined || version === undefined || hub === undefined) {
    throw new UsageError(
      "models register: needs NAME/VERSION and --hub, such as llama2/7b --hub meta-llama/Llama-2-7b-hf",
    );
  }
  const access = {
    ...(isPublic === undefined ? {} : { public: isPublic }),
    ...(tenant === undefined ? {} : { tenants: [...tenant] }),
  };
  const source = { type: "hub", uri: hub };
  const spec = { name, version, type, framework: "pytorch", source };
  return {
    apiVersion: "llm.orchestrator.io/v1",
    kind: "LLMModel" as const,
    metadata: { name: `${name}-${version}`.toLowerCase().replaceAll(/[^a-z0-9-]+/g, "-") },
    spec: Object.keys(access).length === 0 ? spec : { ...spec, access },
  };
}

/** What a version is does not change: one that is there is left as it is. @throws UsageError */
async function register(cluster: ClusterClient, model: ReturnType<typeof modelOf>): Promise<void> {
  const { metadata, spec } = model;
  const there = (await cluster.models()).find(
    (one) => one.metadata.name === metadata.name || (one.spec.name === spec.name && one.spec.version === spec.version),
  );
  if (there !== undefined) {
    throw new UsageError(
      `${spec.name} ${spec.version} is ${there.metadata.name} already; gpuo cluster apply changes it`,
    );
  }
  await cluster.apply(model);
}

async function named(cluster: ClusterClient, name: string | undefined): Promise<ClusterModel> {
  if (name === undefined) throw new UsageError("which model?");
  const found = (await cluster.models()).find(({ metadata }) => metadata.name === name);
  if (found === undefined) throw new NoSuchError(`there is no model ${name}`);
  return found;
}

/** Prints the file with its models signed; nothing is sent, and the key leaves this program nowhere. */
async function sign(file: string | undefined, keyFile: string | undefined, keyId: string | undefined): Promise<void> {
  if (file === undefined || keyFile === undefined || keyId === undefined) {
    throw new UsageError("models sign: needs --file, --key and --key-id");
  }
  const { signModel } = await import("../../controller/objects/model-rules.ts");
  const key = privateKeyIn(keyFile);
  const signed = (await objectsIn(file)).map((object) => {
    if (object.kind !== "LLMModel") return object;
    const { spec } = object as ClusterModel;
    try {
      return { ...object, spec: { ...spec, signature: signModel(spec as never, keyId, key) } };
    } catch (error) {
      throw new UsageError(`${file}: ${object.metadata.name}: ${(error as Error).message}`);
    }
  });
  printYaml(signed);
}

function privateKeyIn(path: string): KeyObject {
  try {
    return createPrivateKey(readFileSync(path));
  } catch (error) {
    // OpenSSL's own words say a number.
    const { code } = error as NodeJS.ErrnoException;
    throw new UsageError(code?.startsWith("ERR_OSSL") ? `${path}: is no private key in PEM` : notRead(path, error));
  }
}
