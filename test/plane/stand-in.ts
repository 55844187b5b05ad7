/**
 * What the Deployment controller, the scheduler and the garbage collector do for a Deployment, for an apiserver without any:
 * pods of its template, bound to nodes with free GPUs, as many as it wants and of no other revision. No rollout in steps,
 * no Deployment's status: what needs those is tested on a whole control plane.
 */
import { type KubeConnection, KubeError } from "../../src/controller/kubernetes/connection.ts";
import { type KubeObject, Watch } from "../../src/controller/kubernetes/watch.ts";

const OURS = "app.kubernetes.io/managed-by=gpu-orchestrator";
const GPU = "nvidia.com/gpu";
const WORKLOAD = "llm-orchestrator.io/workload";
const REVISION = "llm-orchestrator.io/revision";

interface Template {
  readonly metadata: { readonly labels: Readonly<Record<string, string>> };
  readonly spec: {
    readonly containers: readonly { readonly resources?: { readonly limits?: Record<string, string> } }[];
  };
}

export class StandIn {
  readonly #connection: KubeConnection;
  readonly #deployments: Watch;
  readonly #pods: Watch;
  readonly #nodes: Watch;
  readonly troubles: string[] = [];
  #running: Promise<void> | null = null;
  #again = false;
  #count = 0;
  #isStopped = false;

  constructor(connection: KubeConnection) {
    this.#connection = connection;
    const changed = () => this.#soon();
    this.#deployments = new Watch(connection, "/apis/apps/v1/deployments", { changed, labelSelector: OURS });
    this.#pods = new Watch(connection, "/api/v1/pods", { changed });
    this.#nodes = new Watch(connection, "/api/v1/nodes", { changed });
    for (const watch of [this.#deployments, this.#pods, this.#nodes]) watch.start();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all([this.#deployments, this.#pods, this.#nodes].map((watch) => watch.stop()));
    await this.#running;
  }

  /** A namespace takes pods as soon as it has an account for them. */
  async admitPods(namespace: string): Promise<void> {
    const body = { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "default" } };
    await this.#connection.call(`/api/v1/namespaces/${namespace}/serviceaccounts`, { method: "POST", body });
  }

  #soon(): void {
    if (this.#isStopped) return;
    this.#again = true;
    this.#running ??= this.#work().finally(() => {
      this.#running = null;
    });
  }

  async #work(): Promise<void> {
    while (this.#again && !this.#isStopped) {
      this.#again = false;
      if ([this.#deployments, this.#pods, this.#nodes].some(({ trouble }) => trouble !== null)) return;
      const own = Map.groupBy(this.#pods.all(), ({ metadata }) =>
        keyOf(metadata.namespace, metadata.labels?.[WORKLOAD]),
      );
      const wanted = new Set(this.#deployments.all().map(({ metadata }) => keyOf(metadata.namespace, metadata.name)));
      for (const deployment of this.#deployments.all()) {
        const { namespace, name } = deployment.metadata;
        await this.#tried(() => this.#fill(deployment, own.get(keyOf(namespace, name)) ?? []));
      }
      for (const [key, pods] of own) {
        if (wanted.has(key) || key.endsWith("/")) continue;
        for (const pod of pods) await this.#tried(() => this.#end(pod));
      }
    }
  }

  async #tried(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (!(error instanceof KubeError && error.status === 404)) this.troubles.push((error as Error).message);
    }
  }

  async #fill({ metadata, spec }: KubeObject, pods: readonly KubeObject[]): Promise<void> {
    const { replicas, template } = spec as unknown as { readonly replicas: number; readonly template: Template };
    const revision = template.metadata.labels[REVISION];
    const alive = pods.filter((pod) => pod.metadata.deletionTimestamp === undefined);
    const old = alive.filter((pod) => pod.metadata.labels?.[REVISION] !== revision);
    const current = alive.filter((pod) => !old.includes(pod));
    for (const pod of [...old, ...current.slice(replicas)]) await this.#end(pod);
    for (let missing = replicas - current.length; missing > 0; missing--) {
      const node = this.#nodeFor(template);
      if (node === null) return;
      const name = `${metadata.name}-${revision}-${this.#count++}`;
      const namespace = metadata.namespace ?? "";
      const body = {
        ...{ apiVersion: "v1", kind: "Pod", metadata: { name, namespace, labels: template.metadata.labels } },
        spec: { ...template.spec, nodeName: node },
      };
      this.#pods.learn(
        await this.#connection.call<KubeObject>(`/api/v1/namespaces/${namespace}/pods`, { method: "POST", body }),
      );
    }
  }

  /** The first node with as many GPUs free; `null`: none has. */
  #nodeFor(template: Template): string | null {
    const asked = gpusOf(template.spec);
    for (const { metadata, spec, status } of this.#nodes.all()) {
      if (spec?.unschedulable === true) continue;
      const { allocatable = {} } = (status ?? {}) as { readonly allocatable?: Readonly<Record<string, string>> };
      const used = this.#pods
        .all()
        .filter((pod) => pod.spec?.nodeName === metadata.name)
        .reduce((sum, pod) => sum + gpusOf(pod.spec as unknown as Template["spec"]), 0);
      if (used + asked <= Number(allocatable[GPU] ?? 0)) return metadata.name;
    }
    return null;
  }

  /** A kubelet ends it, once that has been asked of it. */
  async #end({ metadata: { namespace, name, deletionTimestamp } }: KubeObject): Promise<void> {
    if (deletionTimestamp !== undefined) return;
    this.#pods.learn(
      await this.#connection.call<KubeObject>(`/api/v1/namespaces/${namespace}/pods/${name}`, { method: "DELETE" }),
    );
  }
}

function gpusOf({ containers }: Template["spec"]): number {
  return containers.reduce((sum, { resources }) => sum + Number(resources?.limits?.[GPU] ?? 0), 0);
}

function keyOf(namespace = "", name = ""): string {
  return `${namespace}/${name}`;
}
