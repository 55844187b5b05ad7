/** Objects in a kube-apiserver: the truth of the backend `kubernetes`, seen through watches, changed by merge patches. */
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { canonicalJson } from "../objects/canonical.ts";
import { changedConditions } from "../objects/conditions.ts";
import { ControllerError } from "../objects/errors.ts";
import { legibleModelStatus, legibleStatus } from "../objects/legible.ts";
import { ANNOTATION, API_VERSION, FINALIZER, keyOf, LABEL, type Metadata } from "../objects/meta.ts";
import type { Model, ModelSpec, ModelStatus } from "../objects/model.ts";
import type { Revision } from "../objects/revision.ts";
import { readSpec } from "../objects/rules.ts";
import type { Created, Objects, RequestKey, WorkloadDraft } from "../objects/store.ts";
import type { Workload, WorkloadSpec, WorkloadStatus } from "../objects/workload.ts";
import { Refusals } from "../reconcile/refusals.ts";
import { type KubeConnection, KubeError } from "./connection.ts";
import { OURS } from "./owned.ts";
import { ownerOf, revisionIn, revisionObject } from "./revisions.ts";
import { Tidings } from "./tidings.ts";
import { called, unlessGone } from "./trouble.ts";
import { type KubeObject, Watch } from "./watch.ts";

const BASE = `/apis/${API_VERSION}`;
/** Of its own, so that an apply of anything else does not take the finalizer away. */
const FINALIZER_MANAGER = "gpu-orchestrator-finalizer";

export class KubeObjects implements Objects {
  readonly #connection: KubeConnection;
  readonly #watched: string | null;
  readonly #listeners = new Set<() => void>();
  readonly #workloads: Watch;
  readonly #models: Watch;
  readonly #revisions: Watch;
  #kept: { readonly at: number; readonly byOwner: ReadonlyMap<string, readonly KubeObject[]> } = {
    at: -1,
    byOwner: new Map(),
  };
  readonly #refusals = new Refusals();
  readonly #known = new WeakMap<KubeObject, Workload>();
  #knownModels: { readonly at: number; readonly models: readonly Model[] } = { at: -1, models: [] };
  readonly #tidings: Tidings;

  /** @param watched is the namespace whose workloads are seen; `null`: all. */
  constructor(connection: KubeConnection, watched: string | null) {
    this.#connection = connection;
    this.#watched = watched;
    this.#tidings = new Tidings(connection);
    const changed = () => {
      for (const tell of this.#listeners) tell();
    };
    const within = watched === null ? BASE : `${BASE}/namespaces/${watched}`;
    this.#workloads = new Watch(connection, `${within}/llmworkloads`, { changed });
    this.#models = new Watch(connection, `${BASE}/llmmodels`, { changed });
    this.#revisions = new Watch(connection, "/apis/apps/v1/controllerrevisions", { changed, labelSelector: OURS });
  }

  get watches(): readonly Watch[] {
    return [this.#workloads, this.#models, this.#revisions];
  }

  start(): void {
    this.#workloads.start();
    this.#models.start();
    this.#revisions.start();
  }

  async stop(): Promise<void> {
    await this.#tidings.stop();
    await Promise.all([this.#workloads.stop(), this.#models.stop(), this.#revisions.stop()]);
  }

  /** Why objects are not up to date; `null`: they are. */
  get trouble(): string | null {
    const ofRevisions = this.#revisions.isForbidden ? null : this.#revisions.trouble;
    const trouble = this.#workloads.trouble ?? this.#models.trouble ?? ofRevisions;
    return trouble?.includes("404") === true
      ? `${trouble}; are the CRDs there? gpuo cluster crds prints them`
      : trouble;
  }

  workloads(): readonly Workload[] {
    return this.#workloads
      .all()
      .map((object) => this.#read(object))
      .sort((a, b) => (keyOf(a.metadata) < keyOf(b.metadata) ? -1 : 1));
  }

  /** Once for each version of an object: reading it is much of the work of a look. */
  #read(object: KubeObject): Workload {
    const known = this.#known.get(object);
    if (known !== undefined) return known;
    const workload = workloadOf(object);
    this.#known.set(object, workload);
    return workload;
  }

  models(): readonly Model[] {
    const at = this.#models.changes;
    if (this.#knownModels.at !== at) {
      const models = this.#models.all().map((object) => ({
        metadata: metadataOf(object),
        spec: (object.spec ?? {}) as ModelSpec,
        status: legibleModelStatus(object.status),
      }));
      this.#knownModels = { at, models };
    }
    return this.#knownModels.models;
  }

  async create(draft: WorkloadDraft, key: RequestKey | null): Promise<Created> {
    if (key === null) return { workload: await this.put(draft), isNew: true };
    const request = requestOf(key);
    const there = await this.#there(draft);
    if (there === null) return { workload: await this.#put(draft, request), isNew: true };
    // Another controller has made it meanwhile, or its name was taken before.
    if (there.metadata.annotations?.[ANNOTATION.request] === request) {
      return { workload: workloadOf(there), isNew: false };
    }
    throw new ControllerError("conflict", `${keyOf(draft)} was made by another request`);
  }

  put(draft: WorkloadDraft): Promise<Workload> {
    return this.#put(draft, this.#requestOf(draft));
  }

  async #put(draft: WorkloadDraft, request: string | undefined): Promise<Workload> {
    const { namespace, name, labels, spec } = draft;
    this.#demandWatched(namespace);
    const { [ANNOTATION.request]: _, ...given } = draft.annotations;
    const annotations = request === undefined ? given : { ...given, [ANNOTATION.request]: request };
    const path = pathOf({ namespace, name });
    const metadata = { name, namespace, labels, annotations };
    const live = this.#workloads.get(namespace, name);
    const made: KubeObject =
      live === undefined
        ? await this.#written(
            this.#connection.apply(path, { apiVersion: API_VERSION, kind: "LLMWorkload", metadata, spec }),
          )
        : // What others have written into labels and annotations stays.
          await this.#patched(path, { metadata: { labels, annotations }, spec: mergePatch(live.spec ?? {}, spec) });
    this.#workloads.learn(made);
    return workloadOf(made);
  }

  /** For as long as the object is there, which bears it. */
  recall(principal: string, key: string): { fingerprint: string; ids: readonly string[] } | undefined {
    const caller = requestOf({ principal, key, fingerprint: "" });
    for (const { metadata } of this.#workloads.all()) {
      const request = metadata.annotations?.[ANNOTATION.request];
      if (request?.startsWith(caller)) return { fingerprint: request.slice(caller.length), ids: [metadata.name] };
    }
    return undefined;
  }

  /** By the server's word, not by what was seen last; `null`: it is not. */
  async #there(draft: WorkloadDraft): Promise<KubeObject | null> {
    try {
      return await this.#connection.call<KubeObject>(pathOf(draft));
    } catch (error) {
      if (error instanceof KubeError && error.status === 404) return null;
      return this.#written(Promise.reject(error));
    }
  }

  /** What is made elsewhere is never seen again: neither its changes nor its end. */
  #demandWatched(namespace: string): void {
    if (this.#watched === null || this.#watched === namespace) return;
    const message = `this controller is for workloads of ${this.#watched}`;
    throw new ControllerError("object-invalid", message, [{ path: "metadata.namespace", message }]);
  }

  #requestOf({ namespace, name }: WorkloadDraft): string | undefined {
    return this.#workloads.get(namespace, name)?.metadata.annotations?.[ANNOTATION.request];
  }

  async putModel(name: string, labels: Metadata["labels"], spec: ModelSpec): Promise<Model> {
    const body = { apiVersion: API_VERSION, kind: "LLMModel", metadata: { name, labels }, spec };
    const made: KubeObject = await this.#written(this.#connection.apply(`${BASE}/llmmodels/${name}`, body));
    this.#models.learn(made);
    return { metadata: metadataOf(made), spec, status: (made.status ?? {}) as ModelStatus };
  }

  async putModelStatus({ metadata, status: before }: Model, status: ModelStatus): Promise<void> {
    const { name, uid } = metadata;
    const live = this.#models.get("", name)?.status ?? {};
    const body = { metadata: { uid }, status: mergePatch(live, status) };
    this.#models.learn(await this.#patched(`${BASE}/llmmodels/${name}/status`, body));
    const regarding = { kind: "LLMModel", metadata } as const;
    for (const condition of changedConditions(before, status)) this.#tidings.tell(regarding, condition);
  }

  async putStatus(workload: Workload, status: WorkloadStatus): Promise<void> {
    const { metadata } = workload;
    const { name, namespace } = metadata;
    const live = this.#workloads.get(namespace, name)?.status ?? {};
    const body = { metadata: { uid: metadata.uid }, status: mergePatch(live, status) };
    const made = await this.#patched(`${pathOf(metadata)}/status`, body);
    this.#workloads.learn(made);
    const regarding = { kind: "LLMWorkload", metadata } as const;
    for (const condition of changedConditions(workload.status, status)) this.#tidings.tell(regarding, condition);
  }

  async remove({ metadata }: Workload): Promise<void> {
    await this.#written(this.#connection.call(pathOf(metadata), { method: "DELETE" }));
  }

  async removeModel({ metadata }: Model): Promise<void> {
    await this.#written(this.#connection.call(`${BASE}/llmmodels/${metadata.name}`, { method: "DELETE" }));
  }

  get unseenRevisions(): string | null {
    return this.#revisions.isForbidden ? this.#revisions.trouble : null;
  }

  revisions({ metadata }: Workload): readonly Revision[] {
    if (this.#kept.at !== this.#revisions.changes) {
      const byOwner = Map.groupBy(this.#revisions.all(), (one) => ownerOf(one) ?? "");
      this.#kept = { at: this.#revisions.changes, byOwner };
    }
    return (this.#kept.byOwner.get(metadata.uid) ?? []).flatMap(revisionIn);
  }

  /** The server takes another number of one that is there, and no other content. */
  async keepRevision(workload: Workload, revision: Revision): Promise<void> {
    const { path, object } = revisionObject(workload, revision);
    const left = this.#leftInPlaceOf(workload, path);
    const asked = async () => {
      if (left !== null) {
        const body = { preconditions: { uid: left.metadata.uid } };
        await unlessGone(this.#connection.call(path, { method: "DELETE", body }));
      }
      return called(this.#connection.apply<KubeObject>(path, object));
    };
    this.#revisions.learn(await this.#refusals.asking(path, canonicalJson(object), asked));
  }

  /** That of a workload of the same name which is gone, before Kubernetes collects it, or where it was orphaned; `null`: none. */
  #leftInPlaceOf({ metadata }: Workload, path: string): KubeObject | null {
    const there = this.#revisions.get(metadata.namespace, path.slice(path.lastIndexOf("/") + 1));
    if (there === undefined || ownerOf(there) === metadata.uid) return null;
    return there.metadata.labels?.[LABEL.workload] === metadata.name ? there : null;
  }

  async dropRevision(workload: Workload, revision: Revision): Promise<void> {
    const { path } = revisionObject(workload, revision);
    await unlessGone(this.#connection.call(path, { method: "DELETE" }));
  }

  /** It is not gone before what it made is. */
  async hold({ metadata }: Workload): Promise<void> {
    if (this.#finalizers(metadata).includes(FINALIZER)) return;
    this.#workloads.learn(await this.#written(this.#applyFinalizers(metadata, [FINALIZER])));
  }

  async forget({ metadata }: Workload): Promise<void> {
    const live = this.#workloads.get(metadata.namespace, metadata.name)?.metadata;
    const { finalizers = [], resourceVersion } = live ?? {};
    if (!finalizers.includes(FINALIZER)) return;
    const left = finalizers.filter((one) => one !== FINALIZER);
    // By a merge: the first seed's own objects bear it too, and it is not ours by `managedFields` there. Of this version only:
    // it is the whole list, and somebody may have put one of theirs on it, or taken it off.
    const body = { metadata: { finalizers: left, uid: metadata.uid, resourceVersion } };
    await this.#patched(pathOf(metadata), body);
  }

  subscribe(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => this.#listeners.delete(changed);
  }

  #finalizers({ namespace, name }: Metadata): readonly string[] {
    return this.#workloads.get(namespace, name)?.metadata.finalizers ?? [];
  }

  #applyFinalizers(metadata: Metadata, finalizers: readonly string[]): Promise<KubeObject> {
    const { name, namespace, uid } = metadata;
    return this.#connection.call(pathOf(metadata), {
      method: "PATCH",
      query: { fieldManager: FINALIZER_MANAGER, force: "true" },
      contentType: "application/apply-patch+yaml",
      body: { apiVersion: API_VERSION, kind: "LLMWorkload", metadata: { name, namespace, uid, finalizers } },
    });
  }

  #patched(path: string, body: object): Promise<KubeObject> {
    const contentType = "application/merge-patch+json";
    return this.#written(this.#connection.call<KubeObject>(path, { method: "PATCH", contentType, body }));
  }

  async #written<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      if (!(error instanceof KubeError)) throw error;
      if (error.status === 404) throw new ControllerError("workload-not-found", error.message);
      if (error.status === 409) throw new ControllerError("conflict", error.message);
      if (error.status === 422) {
        const errors = error.causes.map(({ field = "", message = "" }) => ({ path: field, message }));
        throw new ControllerError("object-invalid", error.message, errors);
      }
      throw new ControllerError("backend-unavailable", error.message);
    }
  }
}

type Part = Readonly<Record<string, unknown>>;

/**
 * From one state of an object to another, as a merge patch (RFC 7386). Not by server-side apply: that leaves null where the
 * last entry of a map goes, which the map's own schema refuses, and takes every field from whoever has set it.
 */
export function mergePatch(before: Part, after: Part): Part {
  const changed = Object.entries(after).flatMap(([name, value]): [string, unknown][] => {
    const old = before[name];
    if (value === undefined || isDeepStrictEqual(old, value)) return [];
    if (!isPart(old) || !isPart(value)) return [[name, value]];
    return [[name, mergePatch(old, value)]];
  });
  const gone = Object.keys(before).filter((name) => after[name] === undefined);
  return Object.fromEntries([...changed, ...gone.map((name) => [name, null] as const)]);
}

function isPart(value: unknown): value is Part {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The key itself may be secret. */
function requestOf({ principal, key, fingerprint }: RequestKey): string {
  return `${createHash("sha256").update(`${principal}\0${key}`).digest("hex")}.${fingerprint}`;
}

function pathOf({ namespace, name }: Pick<Metadata, "namespace" | "name">): string {
  return `${BASE}/namespaces/${namespace}/llmworkloads/${name}`;
}

function metadataOf({ metadata }: KubeObject): Metadata {
  const { name, namespace = "", uid, generation = 1, resourceVersion, labels = {}, annotations = {} } = metadata;
  const { creationTimestamp, deletionTimestamp = null } = metadata;
  return {
    name,
    namespace,
    uid,
    generation,
    resourceVersion,
    labels,
    annotations,
    creationTimestamp,
    deletionTimestamp,
  };
}

/** With its defaults, where it keeps the rules; as it stands where not, so that it can be said what is wrong with it. */
function workloadOf(object: KubeObject): Workload {
  const read = readSpec(object.spec ?? {});
  return {
    metadata: metadataOf(object),
    spec: "breaches" in read ? ((object.spec ?? {}) as unknown as WorkloadSpec) : read.spec,
    status: legibleStatus(object.status),
  };
}
