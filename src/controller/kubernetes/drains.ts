/**
 * Nodes that are to be emptied.
 *
 *  1. What is asked for stands on the node, so any controller can take the call, and the one that leads goes on with it,
 *     whoever that is by then.
 *  2. It goes by eviction, so budgets hold; a node is drained only when nothing but its own daemons is left.
 *  3. What is refused is asked for again until the deadline. After it nothing more is evicted, unless `force` was said:
 *     then pods are deleted.
 *  4. A node that takes pods again is drained no more, whoever uncordoned it.
 *  5. Only what was decided on with a drain in sight is evicted: neither from a node whose drain was asked for since, nor
 *     a pod of a workload that was not looked after.
 *  6. A refused eviction is asked for again after a pause: evictions share their pace with all other writes.
 */
import { ControllerError } from "../objects/errors.ts";
import { ANNOTATION, keyOf } from "../objects/meta.ts";
import type { DrainHow, NodeDrain } from "../reconcile/backend.ts";
import { Count } from "../watching/figures.ts";
import { type KubeConnection, KubeError } from "./connection.ts";
import { isEvictable, nodeOf, workloadOf } from "./pods.ts";
import { asTrouble, unlessGone } from "./trouble.ts";
import type { KubeObject, Watch } from "./watch.ts";

/** Before a refused eviction is asked for again. */
const REFUSED_MS = 5_000;

export interface Tending {
  /** Nodes that were to be emptied when the workloads were decided on. */
  readonly nodes: ReadonlySet<string>;
  /** Pods that are waited for: a successor comes up first. */
  readonly spared: ReadonlySet<string>;
  /** Workloads on which nothing was decided. */
  readonly undecided: ReadonlySet<string>;
  readonly now: number;
}

interface Refusal {
  readonly words: string;
  /** A deletion at the deadline does not wait for it. */
  readonly ofEviction: boolean;
  /** `null`: nothing was asked of the server. */
  readonly until: number | null;
}

interface Drain {
  readonly until: number;
  readonly isForced: boolean;
}

export class Drains {
  readonly #connection: KubeConnection;
  readonly #nodes: Watch;
  readonly #pods: Watch;
  /** By node and pod: what an eviction was refused with. */
  readonly #refusals = new Map<string, ReadonlyMap<string, Refusal>>();
  readonly evictions = new Count(
    "evictions_total",
    "Evictions that were asked for: taken or refused",
    ["taken", "refused"].map((result) => ({ result })),
  );

  constructor(connection: KubeConnection, nodes: Watch, pods: Watch) {
    this.#connection = connection;
    this.#nodes = nodes;
    this.#pods = pods;
  }

  /** @throws ControllerError `node-not-found` */
  async begin(node: string, { reason, deadlineMs, force }: DrainHow): Promise<NodeDrain> {
    const until = deadlineMs === null ? null : new Date(Date.now() + deadlineMs).toISOString();
    const said = until === null ? null : JSON.stringify({ until, force, reason });
    await this.#patch(node, { spec: { unschedulable: true }, metadata: { annotations: { [ANNOTATION.drain]: said } } });
    return this.state(node);
  }

  async end(node: string): Promise<NodeDrain> {
    this.#refusals.delete(node);
    await this.#patch(node, {
      spec: { unschedulable: false },
      metadata: { annotations: { [ANNOTATION.drain]: null } },
    });
    return { node, status: "ready", blockedBy: [] };
  }

  state(node: string): NodeDrain {
    const refusals = this.#refusals.get(node);
    const left = this.#evictable(node).map(({ metadata }) => {
      const refusal = refusals?.get(keyOf(metadata));
      return refusal === undefined ? keyOf(metadata) : `${keyOf(metadata)}: ${refusal.words}`;
    });
    return { node, status: left.length === 0 ? "drained" : "draining", blockedBy: left };
  }

  /** Nodes that are to be emptied, as they are known now. */
  get nodes(): ReadonlySet<string> {
    const draining = this.#nodes.all().filter((node) => drainOf(node) !== null && node.spec?.unschedulable === true);
    return new Set(draining.map(({ metadata }) => metadata.name));
  }

  /** By those that lead alone. @throws the first error, when all nodes have been gone on with: that is of one, and holds up no other. */
  async goOn(tending: Tending): Promise<void> {
    const failed: unknown[] = [];
    for (const node of this.#nodes.all()) await this.#goOnWith(node, tending).catch((error) => failed.push(error));
    if (failed.length > 0) throw failed[0];
  }

  async #goOnWith(node: KubeObject, tending: Tending): Promise<void> {
    const drain = drainOf(node);
    if (drain === null) return;
    const { name } = node.metadata;
    if (node.spec?.unschedulable !== true) {
      this.#refusals.delete(name);
      await this.#patch(name, { metadata: { annotations: { [ANNOTATION.drain]: null } } });
    } else if (tending.nodes.has(name)) await this.#empty(name, drain, tending);
  }

  async #empty(node: string, { until, isForced }: Drain, tending: Tending): Promise<void> {
    const isLate = tending.now > until;
    if (isLate && !isForced) return;
    const before = this.#refusals.get(node);
    const refusals = new Map<string, Refusal>();
    for (const pod of this.#evictable(node)) {
      if (pod.metadata.deletionTimestamp !== undefined) continue;
      const key = keyOf(pod.metadata);
      const refusal = await this.#go(pod, isLate, before?.get(key), tending);
      if (refusal !== null) refusals.set(key, refusal);
    }
    this.#refusals.set(node, refusals);
  }

  /** @returns why it stays; `null`: it goes. */
  async #go(pod: KubeObject, isLate: boolean, before: Refusal | undefined, tending: Tending): Promise<Refusal | null> {
    const { metadata } = pod;
    const waiting = (words: string) => ({ words, ofEviction: true, until: null });
    if (!isLate && tending.spared.has(keyOf(metadata))) return waiting("its successor is coming up");
    const workload = workloadOf(pod);
    if (!isLate && workload !== null && tending.undecided.has(workload))
      return waiting("nothing could be decided of its workload");
    // A clock that was set back makes no pause longer than it is.
    const leftMs = (before?.until ?? 0) - tending.now;
    if (before !== undefined && before.ofEviction !== isLate && leftMs > 0 && leftMs <= REFUSED_MS) return before;
    const words = await (isLate ? this.#delete(metadata) : this.#evict(metadata));
    return words === null ? null : { words, ofEviction: !isLate, until: tending.now + REFUSED_MS };
  }

  #evictable(node: string): KubeObject[] {
    return this.#pods.all().filter((pod) => nodeOf(pod) === node && isEvictable(pod));
  }

  /** @returns the server's words, if it refuses: that is of one pod, and holds up no other. */
  async #evict({ name, namespace = "" }: KubeObject["metadata"]): Promise<string | null> {
    const body = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace } };
    const path = `/api/v1/namespaces/${namespace}/pods/${name}/eviction`;
    const refusal = await refusalOf(this.#connection.call(path, { method: "POST", body }));
    this.evictions.add({ result: refusal === null ? "taken" : "refused" });
    return refusal;
  }

  #delete({ name, namespace = "" }: KubeObject["metadata"]): Promise<string | null> {
    return refusalOf(this.#connection.call(`/api/v1/namespaces/${namespace}/pods/${name}`, { method: "DELETE" }));
  }

  async #patch(node: string, body: object): Promise<void> {
    const path = `/api/v1/nodes/${node}`;
    const contentType = "application/merge-patch+json";
    try {
      this.#nodes.learn(await this.#connection.call<KubeObject>(path, { method: "PATCH", contentType, body }));
    } catch (error) {
      if (!(error instanceof KubeError) || error.status !== 404) throw asTrouble(error);
      throw new ControllerError("node-not-found", `there is no node ${node}`);
    }
  }
}

async function refusalOf(call: Promise<unknown>): Promise<string | null> {
  try {
    await unlessGone(call);
    return null;
  } catch (error) {
    if (error instanceof ControllerError) return error.message;
    throw error;
  }
}

/** What stands on a node; `null`: it is not to be emptied. */
export function drainOf({ metadata: { annotations = {} } }: KubeObject): Drain | null {
  const said = annotations[ANNOTATION.drain];
  if (said === undefined) return null;
  try {
    const { until, force } = JSON.parse(said) as { readonly until?: string; readonly force?: boolean };
    const at = Date.parse(until ?? "");
    return Number.isFinite(at) ? { until: at, isForced: force === true } : null;
  } catch {
    return null;
  }
}
