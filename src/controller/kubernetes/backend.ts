/**
 * Replicas as pods of a cluster: a workload's children are applied, and what Kubernetes makes of them is watched.
 *
 *  1. Nothing is applied that is there already, as far as we would set it; what others set stays.
 *  2. Drains go by eviction, so budgets hold; a node is drained only when nothing but its own daemons is left.
 */

import { LoadWatch } from "../load-watch.ts";
import { ControllerError } from "../objects/errors.ts";
import { keyOf, LABEL } from "../objects/meta.ts";
import type { Workload } from "../objects/workload.ts";
import type { Backend, Look, NodeDrain } from "../reconcile/backend.ts";
import type { Wanted } from "../reconcile/reconcile.ts";
import type { ReconcileSettings } from "../reconcile/settings.ts";
import { type KubeConnection, KubeError } from "./connection.ts";
import { inventoryIn } from "./inventory.ts";
import type { KubeObjects } from "./objects.ts";
import { isOver, nodeOf, nodesSeen, tracksSeen } from "./pods.ts";
import { type Child, childrenOf, deploymentPath, productsIn, tokenSecret } from "./render.ts";
import { type KubeObject, Watch } from "./watch.ts";

const OURS = "app.kubernetes.io/managed-by=gpu-orchestrator";
const CHILDREN = {
  deployments: "/apis/apps/v1/deployments",
  poddisruptionbudgets: "/apis/policy/v1/poddisruptionbudgets",
  services: "/api/v1/services",
  configmaps: "/api/v1/configmaps",
} as const;

/** What is refused is asked for again, since rights come and names become free, but with growing pauses. */
const FIRST_REFUSAL_MS = 1_000;
const LONGEST_REFUSAL_MS = 60_000;

interface Refused {
  readonly text: string;
  readonly error: Error;
  readonly until: number;
  readonly pauseMs: number;
}

export class KubeBackend implements Backend {
  readonly kind = "kubernetes";
  readonly #connection: KubeConnection;
  readonly #objects: KubeObjects;
  readonly #settings: ReconcileSettings;
  readonly #nodes: Watch;
  readonly #pods: Watch;
  readonly #priorities: Watch;
  readonly #children: Readonly<Record<keyof typeof CHILDREN, Watch>>;
  readonly #load = new LoadWatch();
  /** By path: what we applied, and the version that it had then. What a server makes of it otherwise is its own affair. */
  readonly #applied = new Map<string, { readonly text: string; readonly version: string }>();
  /** By path: what the server did not take, and until when it is not asked for the same again. */
  readonly #refused = new Map<string, Refused>();
  /** Nodes that are to be emptied, until when, and by pod what an eviction was refused with. */
  readonly #drains = new Map<string, { readonly until: number; readonly refusals: Map<string, string> }>();

  constructor(connection: KubeConnection, objects: KubeObjects, settings: ReconcileSettings, changed: () => void) {
    this.#connection = connection;
    this.#objects = objects;
    this.#settings = settings;
    const watch = (path: string, labelSelector?: string) =>
      new Watch(connection, path, labelSelector === undefined ? { changed } : { changed, labelSelector });
    this.#nodes = watch("/api/v1/nodes");
    this.#pods = watch("/api/v1/pods");
    this.#priorities = watch("/apis/scheduling.k8s.io/v1/priorityclasses");
    this.#children = {
      deployments: watch(CHILDREN.deployments, OURS),
      poddisruptionbudgets: watch(CHILDREN.poddisruptionbudgets, OURS),
      services: watch(CHILDREN.services, OURS),
      configmaps: watch(CHILDREN.configmaps, OURS),
    };
  }

  get #watches(): readonly Watch[] {
    return [this.#nodes, this.#pods, this.#priorities, ...Object.values(this.#children)];
  }

  start(): void {
    for (const watch of this.#watches) watch.start();
  }

  async stop(): Promise<void> {
    await Promise.all(this.#watches.map((watch) => watch.stop()));
  }

  async look(): Promise<Look> {
    const trouble = [this.#objects, ...this.#watches].find((one) => one.trouble !== null)?.trouble ?? null;
    if (trouble !== null) throw new ControllerError("backend-unavailable", trouble);
    const pods = this.#pods.all();
    const own = Map.groupBy(
      pods.filter(({ metadata }) => metadata.labels?.[LABEL.workload] !== undefined),
      ({ metadata: { namespace = "", labels } }) => keyOf({ namespace, name: labels?.[LABEL.workload] as string }),
    );
    const podsOf = ({ metadata }: Workload) => own.get(keyOf(metadata)) ?? [];
    const ready = tracksSeen([...own.values()].flat())
      .flatMap(({ replicas }) => replicas)
      .flatMap(({ name, phase, url }) => (phase === "ready" && url !== null ? [{ replica: name, url }] : []));
    const load = await this.#load.look(ready, Date.now());
    await this.#goOnDraining();
    return {
      nodes: nodesSeen(this.#nodes.all(), pods),
      tracksOf: (workload) => tracksSeen(podsOf(workload)),
      inventory: () => inventoryIn(this.#nodes.all(), pods),
      serviceOf: ({ metadata: { name, namespace } }) => `http://${name}.${namespace}.svc`,
      loadOf: (workload) =>
        podsOf(workload).flatMap(({ metadata }) => {
          const metrics = load.get(metadata.name);
          return metrics === undefined ? [] : [{ replica: metadata.name, metrics }];
        }),
    };
  }

  async apply(workload: Workload, wanted: Wanted): Promise<void> {
    const priorityClasses = new Set(this.#priorities.all().map(({ metadata }) => metadata.name));
    const nodes = nodesSeen(this.#nodes.all(), []);
    const live = this.#live(deploymentPath(workload));
    const { made, gone } = childrenOf(workload, wanted, {
      reconcile: this.#settings,
      priorityClasses,
      products: nodes.flatMap(({ product }) => product ?? []),
      liveProducts: live === undefined ? [] : productsIn(live, wanted.revision),
    });
    if (wanted.plan !== null) await called(this.#objects.hold(workload));
    for (const child of made) await this.#make(child);
    for (const path of gone) await this.#unmake(path);
  }

  async #make({ path, object }: Child): Promise<void> {
    const live = this.#live(path);
    const text = JSON.stringify(object);
    const applied = this.#applied.get(path);
    if (live !== undefined && applied?.text === text && applied.version === live.metadata.resourceVersion) return;
    if (live !== undefined && isWithin(object, live)) return;
    const refused = this.#refused.get(path);
    if (refused?.text === text && Date.now() < refused.until) throw refused.error;
    try {
      const made: KubeObject = await called(this.#connection.apply(path, object));
      this.#refused.delete(path);
      this.#applied.set(path, { text, version: made.metadata.resourceVersion });
      this.#watchOf(path).learn(made);
    } catch (error) {
      const pauseMs = refused?.text === text ? Math.min(LONGEST_REFUSAL_MS, refused.pauseMs * 2) : FIRST_REFUSAL_MS;
      this.#refused.set(path, { text, error: error as Error, until: Date.now() + pauseMs, pauseMs });
      throw error;
    }
  }

  async #unmake(path: string): Promise<void> {
    this.#refused.delete(path);
    const live = this.#live(path);
    if (live === undefined || live.metadata.deletionTimestamp !== undefined) return;
    this.#applied.delete(path);
    try {
      await this.#connection.call(path, { method: "DELETE", query: { propagationPolicy: "Background" } });
    } catch (error) {
      if (!(error instanceof KubeError) || error.status !== 404) throw asTrouble(error);
    }
  }

  #watchOf(path: string): Watch {
    const kind = path.split("/").at(-2) as keyof typeof CHILDREN;
    return this.#children[kind];
  }

  #live(path: string): KubeObject | undefined {
    const [name = "", , namespace = ""] = path.split("/").toReversed();
    return this.#watchOf(path).get(namespace, name);
  }

  async keepToken(workload: Workload, token: string): Promise<void> {
    const { path, object } = tokenSecret(workload, token);
    try {
      await this.#connection.call(path, { method: "POST", body: object });
    } catch (error) {
      // The same request has made it before.
      if (!(error instanceof KubeError) || error.reason !== "AlreadyExists") throw asTrouble(error);
    }
  }

  async drain(node: string, { deadlineMs }: { reason: string; deadlineMs: number | null }): Promise<NodeDrain> {
    await this.#cordon(node, true);
    const refusals = this.#drains.get(node)?.refusals ?? new Map();
    if (deadlineMs !== null) this.#drains.set(node, { until: Date.now() + deadlineMs, refusals });
    return this.#drainState(node);
  }

  async uncordon(node: string): Promise<NodeDrain> {
    this.#drains.delete(node);
    await this.#cordon(node, false);
    return { node, status: "ready", blockedBy: [] };
  }

  async #cordon(node: string, unschedulable: boolean): Promise<void> {
    const path = `/api/v1/nodes/${node}`;
    const contentType = "application/merge-patch+json";
    try {
      const body = { spec: { unschedulable } };
      const made: KubeObject = await this.#connection.call(path, { method: "PATCH", contentType, body });
      this.#nodes.learn(made);
    } catch (error) {
      if (error instanceof KubeError && error.status === 404) {
        throw new ControllerError("node-not-found", `there is no node ${node}`);
      }
      throw asTrouble(error);
    }
  }

  #drainState(node: string): NodeDrain {
    const refusals = this.#drains.get(node)?.refusals;
    const left = this.#evictable(node).map(({ metadata }) => {
      const refusal = refusals?.get(keyOf(metadata));
      return refusal === undefined ? keyOf(metadata) : `${keyOf(metadata)}: ${refusal}`;
    });
    return { node, status: left.length === 0 ? "drained" : "draining", blockedBy: left };
  }

  /** Its pods, but for those that belong to the node itself. */
  #evictable(node: string): KubeObject[] {
    return this.#pods.all().filter((pod) => {
      const { annotations = {}, ownerReferences = [] } = pod.metadata as KubeObject["metadata"] & {
        readonly ownerReferences?: readonly { readonly kind: string }[];
      };
      const isMirror = "kubernetes.io/config.mirror" in annotations;
      const isDaemon = ownerReferences.some(({ kind }) => kind === "DaemonSet");
      return nodeOf(pod) === node && !isOver(pod) && !isMirror && !isDaemon;
    });
  }

  /** Asks for each eviction again at the next look: a budget or a right may be missing now and not then. */
  async #goOnDraining(): Promise<void> {
    for (const [node, { until, refusals }] of this.#drains) {
      const left = this.#evictable(node).filter(({ metadata }) => metadata.deletionTimestamp === undefined);
      if (left.length === 0 || Date.now() > until) {
        this.#drains.delete(node);
        continue;
      }
      for (const { metadata } of left) {
        const refusal = await this.#evict(metadata);
        if (refusal === null) refusals.delete(keyOf(metadata));
        else refusals.set(keyOf(metadata), refusal);
      }
    }
  }

  /** The server's words, if it refuses: that is of one pod, and holds up no other. */
  async #evict({ name, namespace = "" }: KubeObject["metadata"]): Promise<string | null> {
    const body = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace } };
    try {
      await this.#connection.call(`/api/v1/namespaces/${namespace}/pods/${name}/eviction`, { method: "POST", body });
      return null;
    } catch (error) {
      if (!(error instanceof KubeError)) throw error;
      return error.status === 404 ? null : error.message;
    }
  }
}

/** Whether everything that `wanted` says stands so in `live`. */
export function isWithin(wanted: unknown, live: unknown): boolean {
  if (Array.isArray(wanted)) {
    return Array.isArray(live) && wanted.length === live.length && wanted.every((one, at) => isWithin(one, live[at]));
  }
  if (typeof wanted !== "object" || wanted === null) return wanted === live;
  if (typeof live !== "object" || live === null) return Object.keys(wanted).length === 0;
  return Object.entries(wanted).every(([key, value]) => {
    // Kind and version are not repeated in the items of a list.
    if (key === "apiVersion" || key === "kind")
      return (
        (live as Record<string, unknown>)[key] === undefined || isWithin(value, (live as Record<string, unknown>)[key])
      );
    return isWithin(value, (live as Record<string, unknown>)[key]);
  });
}

/** What the server will not take however often it is asked. 401 is about ourselves, and 409 and 429 are of the moment. */
const REFUSED: ReadonlySet<number> = new Set([400, 403, 404, 405, 413, 415, 422]);

function asTrouble(error: unknown): unknown {
  if (!(error instanceof KubeError)) return error;
  return new ControllerError(REFUSED.has(error.status) ? "backend-refused" : "backend-unavailable", error.message);
}

async function called<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw asTrouble(error);
  }
}
