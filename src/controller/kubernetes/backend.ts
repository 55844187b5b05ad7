/** Replicas as pods of a cluster: a workload's children are applied, and what Kubernetes makes of them is watched. */
import { LoadWatch } from "../load-watch.ts";
import { ControllerError } from "../objects/errors.ts";
import { keyOf } from "../objects/meta.ts";
import type { Revision } from "../objects/revision.ts";
import type { Workload } from "../objects/workload.ts";
import type { Backend, DrainHow, Look, NodeDrain } from "../reconcile/backend.ts";
import { productsOf } from "../reconcile/fleet.ts";
import type { Wanted } from "../reconcile/reconcile.ts";
import type { Removal } from "../reconcile/recovery.ts";
import type { NodeSeen, TrackSeen } from "../reconcile/seen.ts";
import type { ReconcileSettings } from "../reconcile/settings.ts";
import type { PodSettings } from "../settings/seed-environment.ts";
import { type Family, family, type Labels } from "../watching/figures.ts";
import { Avoidance } from "./avoidance.ts";
import { Births } from "./births.ts";
import { Children } from "./children.ts";
import { type KubeConnection, KubeError } from "./connection.ts";
import { Drains } from "./drains.ts";
import { GpuUsage } from "./gpu-usage.ts";
import { groupPath } from "./group.ts";
import { inventoryIn } from "./inventory.ts";
import type { KubeObjects } from "./objects.ts";
import { OwnKinds } from "./own-kinds.ts";
import { PodUsage } from "./pod-usage.ts";
import { gpusOf, nodeKept, nodesSeen, podKept, workloadOf } from "./pods.ts";
import { externalUrl, type Gateway } from "./reach.ts";
import {
  childrenOf,
  deploymentPath,
  productsIn,
  type TemplateSettings,
  templateIn,
  templateOf,
  tokenSecret,
} from "./render.ts";
import { isSameToUs, Sameness } from "./sameness.ts";
import { asTrouble, called, thereIs, unlessGone } from "./trouble.ts";
import { type KubeObject, Watch } from "./watch.ts";

/** By this a ReplicaSet that has too many pods chooses: the cheapest goes. */
const DELETION_COST = "controller.kubernetes.io/pod-deletion-cost";
const CHEAPEST = "-1000000";
const DISCOVER_MS = 60_000;
const AGAIN_MS = 5_000;

export interface KubeBackendSettings {
  readonly reconcile: ReconcileSettings;
  /** Of the controller itself. */
  readonly namespace: string;
  readonly gateway: Gateway | null;
  /** That says how busy GPUs are; `null`: there is none. */
  readonly prometheus: string | null;
  readonly pods: PodSettings;
}

export class KubeBackend implements Backend {
  readonly kind = "kubernetes";
  readonly #connection: KubeConnection;
  readonly #objects: KubeObjects;
  readonly #settings: KubeBackendSettings;
  readonly #nodes: Watch;
  readonly #pods: Watch;
  readonly #priorities: Watch;
  readonly #children: Children;
  readonly #kinds: OwnKinds;
  readonly #drains: Drains;
  readonly #avoidance: Avoidance;
  readonly #load = new LoadWatch();
  readonly #births = new Births();
  readonly #same = new Sameness();
  readonly #usage: PodUsage;
  readonly #gpus: GpuUsage;
  /** Keys of pods that no drain touches while their successors come up: as decided since the last look. */
  readonly #spared = new Set<string>();
  /** Nodes that were to be emptied at the last look: what is asked for since is decided on at the next. */
  #draining: ReadonlySet<string> = new Set();
  /** Of the last look: the same for all workloads of a pass. */
  #seenNodes: readonly NodeSeen[] = [];
  #hasRuntimeClass = false;
  #discoveredAt = Number.NEGATIVE_INFINITY;

  constructor(connection: KubeConnection, objects: KubeObjects, settings: KubeBackendSettings, changed: () => void) {
    this.#connection = connection;
    this.#objects = objects;
    this.#settings = settings;
    // A large cluster is never still: what changes nothing for us does not ask for another look.
    this.#nodes = new Watch(connection, "/api/v1/nodes", {
      kept: nodeKept,
      changed: (before, after) => {
        if (before === undefined || after === undefined || !isSameToUs(before, after)) changed();
      },
    });
    this.#pods = new Watch(connection, "/api/v1/pods", {
      kept: podKept,
      changed: (before, after) => {
        const pod = after ?? before;
        if (pod === undefined || workloadOf(pod) !== null || gpusOf(pod) > 0) changed();
      },
    });
    this.#priorities = new Watch(connection, "/apis/scheduling.k8s.io/v1/priorityclasses", { changed });
    this.#children = new Children(connection, changed);
    this.#kinds = new OwnKinds(connection);
    this.#drains = new Drains(connection, this.#nodes, this.#pods);
    this.#avoidance = new Avoidance(connection, this.#nodes);
    this.#usage = new PodUsage(connection);
    this.#gpus = new GpuUsage(settings.prometheus);
  }

  get #watches(): readonly Watch[] {
    return [this.#nodes, this.#pods, this.#priorities];
  }

  start(): void {
    for (const watch of this.#watches) watch.start();
    this.#children.start();
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#watches.map((watch) => watch.stop()), this.#children.stop()]);
  }

  async look(): Promise<Look> {
    // Without the right to read priority classes there are none, as in a cluster that has none.
    const needed = this.#watches.filter((one) => one !== this.#priorities || !one.isForbidden);
    const watched = [this.#objects, ...needed, ...this.#children.watches];
    const unseen = watched.find((one) => one.trouble !== null)?.trouble ?? null;
    const trouble = unseen ?? (await this.#kinds.trouble(performance.now()));
    if (trouble !== null) throw new ControllerError("backend-unavailable", trouble);
    await this.#children.discover(performance.now());
    await this.#lookForRuntimeClass(performance.now());
    const pods = this.#pods.all();
    const own = Map.groupBy(pods, (pod) => workloadOf(pod) ?? "");
    own.delete("");
    this.#draining = this.#drains.nodes;
    this.#spared.clear();
    const tracks = this.#same.tracks(own);
    const ready = () =>
      [...own.keys()]
        .flatMap(tracks)
        .flatMap(({ replicas }) => replicas)
        .flatMap(({ name, phase, url }) => (phase === "ready" && url !== null ? [{ replica: name, url }] : []));
    const load = this.#load.look(ready, performance.now());
    const usage = this.#usage.look(performance.now());
    const gpus = this.#gpus.look(performance.now());
    this.#seenNodes = this.#same.nodes(nodesSeen(this.#nodes.all(), pods));
    this.#births.look([...own.values()].flat());
    const tracksOf = ({ metadata }: Workload): readonly TrackSeen[] => tracks(keyOf(metadata));
    return {
      nodes: this.#seenNodes,
      isolates: true,
      groups: this.#children.optional.has("leaderworkersets") ? "there" : "lacking",
      tracksOf,
      stampOf: (workload) => [
        ...[tracksOf(workload), this.#seenNodes, load, usage, gpus, this.#priorities.changes],
        ...[this.#children.optional.has("leaderworkersets"), this.#hasRuntimeClass],
        this.#children.versionsOf(workload.metadata),
      ],
      childrenOf: ({ metadata }) => this.#children.left(metadata),
      gpuUtilizationOf: (node) => this.#gpus.ofNode(node),
      inventory: () => inventoryIn(this.#nodes.all(), pods),
      serviceOf: ({ metadata: { name, namespace } }) => `http://${name}.${namespace}.svc`,
      externalOf: (workload) => this.#externalOf(workload),
      loadOf: (workload) =>
        tracksOf(workload)
          .flatMap(({ replicas }) => replicas)
          .flatMap(({ name, phase }) => {
            const pod = this.#pods.get(workload.metadata.namespace, name);
            const used =
              phase === "ready" && pod !== undefined ? { ...this.#usage.of(pod), ...this.#gpus.of(pod) } : {};
            const metrics = { ...load.get(name), ...used };
            return Object.keys(metrics).length === 0 ? [] : [{ replica: name, metrics }];
          }),
    };
  }

  /** As the server has made it reachable; `null`: it has not, or not yet. */
  #externalOf({ metadata: { namespace, name } }: Workload): string | null {
    const live = this.#children.live(`/api/v1/namespaces/${namespace}/services/${name}`);
    return live === undefined ? null : externalUrl(live, this.#settings.pods.externalHost);
  }

  templateOf(workload: Workload, { plan, revision }: Wanted): Revision["template"] {
    if (plan === null) return null;
    return templateOf(workload, plan, revision, this.#templateSettings());
  }

  #templateSettings(): TemplateSettings {
    const priorityClasses = new Set(this.#priorities.all().map(({ metadata }) => metadata.name));
    return { ...this.#settings, priorityClasses, hasRuntimeClass: this.#hasRuntimeClass };
  }

  /** Looks now and then: without the right to, there is none. */
  async #lookForRuntimeClass(now: number): Promise<void> {
    const { runtimeClass } = this.#settings.pods;
    if (runtimeClass === null || now - this.#discoveredAt < DISCOVER_MS) return;
    this.#discoveredAt = now;
    const path = `/apis/node.k8s.io/v1/runtimeclasses/${runtimeClass}`;
    const isThere = await thereIs(this.#connection.call(path).then(() => true));
    // A revision that began without it would be so for good.
    if (isThere === null) this.#discoveredAt = now - DISCOVER_MS + AGAIN_MS;
    else this.#hasRuntimeClass = isThere;
  }

  runningTemplate(workload: Workload, revision: string): Revision["template"] {
    const live = this.#runner(workload);
    return live === undefined ? null : templateIn(live, revision);
  }

  async apply(
    workload: Workload,
    wanted: Wanted,
    tracks: readonly TrackSeen[],
    template: Revision["template"],
  ): Promise<readonly string[]> {
    const { namespace } = workload.metadata;
    for (const name of podsOf(wanted.spared, tracks)) this.#spared.add(keyOf({ namespace, name }));
    if (wanted.plan !== null) await called(this.#objects.hold(workload));
    for (const name of wanted.leaving) await this.#leave(workload, name);
    const live = this.#runner(workload);
    const { made, gone } = childrenOf(workload, wanted, {
      ...this.#settings,
      ...this.#templateSettings(),
      template,
      products: productsOf(this.#seenNodes),
      liveProducts: live === undefined ? [] : productsIn(live, wanted.revision),
      optional: this.#children.optional,
    });
    this.#children.demandSeen(made);
    const drifts = await this.#children.apply(workload.metadata.name, made, gone);
    for (const removal of wanted.removed) await this.#remove(workload, removal);
    return drifts;
  }

  /** What keeps its pods there now. */
  #runner(workload: Workload): KubeObject | undefined {
    return this.#children.live(deploymentPath(workload)) ?? this.#children.live(groupPath(workload));
  }

  /** When there is one too many, it is this one that goes. */
  async #leave({ metadata: { namespace } }: Workload, name: string): Promise<void> {
    const pod = this.#pods.get(namespace, name);
    if (pod === undefined || pod.metadata.annotations?.[DELETION_COST] === CHEAPEST) return;
    const body = { metadata: { annotations: { [DELETION_COST]: CHEAPEST } } };
    const contentType = "application/merge-patch+json";
    const path = podPath(namespace, name);
    this.#pods.learn(await called(this.#connection.call<KubeObject>(path, { method: "PATCH", contentType, body })));
  }

  async #remove(workload: Workload, { name, isForced, avoided }: Removal): Promise<void> {
    const { namespace } = workload.metadata;
    // Before it goes: its successor is placed at once.
    if (avoided !== null) await this.#avoidance.avoid(workload, avoided, Date.now());
    const query = isForced ? { query: { gracePeriodSeconds: "0" } } : {};
    await unlessGone(this.#connection.call(podPath(namespace, name), { method: "DELETE", ...query }));
  }

  async tend(now: number, undecided: ReadonlySet<string>): Promise<void> {
    // A label that somebody lets nobody take away keeps no node from being emptied.
    const failed = await this.#avoidance.tend(now).then(
      () => null,
      (error: Error) => error,
    );
    await this.#drains.goOn({ nodes: this.#draining, spared: this.#spared, undecided, now });
    if (failed !== null) throw failed;
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

  figures(): readonly Family[] {
    const watches = [...this.#objects.watches, ...this.#watches, ...this.#children.all];
    const each = (of: (watch: Watch) => number) =>
      watches.map((watch): [Labels, number] => [{ kind: watch.path.split("/").at(-1) ?? "" }, of(watch)]);
    const draining = this.#seenNodes.filter((node) => node.draining).length;
    return [
      family(
        "watch_up",
        "1 where a watch is up to date",
        "gauge",
        each(({ trouble }) => (trouble === null ? 1 : 0)),
      ),
      family(
        "watch_lists_total",
        "Full lists that a watch has asked for",
        "counter",
        each(({ lists }) => lists),
      ),
      family(
        "watch_changes_total",
        "Changes that a watch has seen",
        "counter",
        each(({ changes }) => changes),
      ),
      family(
        "watched_objects",
        "Objects that a watch knows",
        "gauge",
        each((watch) => watch.all().length),
      ),
      family("draining_nodes", "Nodes with GPUs that are being emptied", "gauge", [[{}, draining]]),
      family("pod_usage_up", "1 where metrics.k8s.io answers", "gauge", [[{}, this.#usage.trouble === null ? 1 : 0]]),
      ...(this.#gpus.isAsked
        ? [
            family("prometheus_up", "1 where the Prometheus answers", "gauge", [
              [{}, this.#gpus.trouble === null ? 1 : 0],
            ]),
          ]
        : []),
      this.#drains.evictions.family(),
      this.#connection.calls.family(),
      ...this.#births.families(),
    ];
  }

  drain(node: string, how: DrainHow): Promise<NodeDrain> {
    return this.#drains.begin(node, how);
  }

  uncordon(node: string): Promise<NodeDrain> {
    return this.#drains.end(node);
  }
}

/** Of replicas, by name: a group's are all of its pods. */
function podsOf(names: readonly string[], tracks: readonly TrackSeen[]): readonly string[] {
  const replicas = tracks.flatMap((track) => track.replicas).filter(({ name }) => names.includes(name));
  return replicas.flatMap(({ name, pods = [name] }) => pods);
}

function podPath(namespace: string, name: string): string {
  return `/api/v1/namespaces/${namespace}/pods/${name}`;
}
