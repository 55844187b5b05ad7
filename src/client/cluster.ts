/** The controller's calls: workloads, deployments and nodes. */
import { problemIn } from "./problem.ts";
import type { Transport } from "./transport.ts";

const CALL_TIMEOUT_MS = 30_000;
const BASE = "/apis/llm.orchestrator.io/v1";

export interface ClusterObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

/** An LLMWorkload, as far as the verbs look at it. */
export interface ClusterWorkload extends ClusterObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly creationTimestamp: string;
  };
  readonly spec: {
    readonly modelName: string;
    readonly modelVersion: string;
    readonly replicas?: number;
  } & Readonly<Record<string, unknown>>;
  readonly status: {
    readonly state?: string;
    readonly desiredReplicas?: number;
    readonly readyReplicas?: number;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
  };
}

/** An LLMModel, as far as the verbs look at it. */
export interface ClusterModel extends ClusterObject {
  readonly metadata: { readonly name: string; readonly creationTimestamp: string };
  readonly spec: {
    readonly name: string;
    readonly version: string;
    readonly type: string;
    readonly source?: { readonly type: string; readonly uri: string };
  } & Readonly<Record<string, unknown>>;
  readonly status: {
    readonly phase?: string;
    readonly deployments?: readonly object[];
    readonly conditions?: ClusterWorkload["status"]["conditions"];
  };
}

/** Where replicas run, as `GET /admin/v1/clusters` has it. */
export interface Cluster {
  readonly name: string;
  readonly backend: string;
  readonly reachable: boolean;
  /** Why it is not; `null`: it is. */
  readonly reason: string | null;
  readonly nodes: number;
  readonly total_gpus: number;
  readonly allocated_gpus: number;
}

export interface ClusterRollout {
  readonly status: string;
  readonly replicas: number | null;
  readonly updated_replicas: number;
  readonly reason: string | null;
  readonly message: string | null;
  readonly revisions: readonly {
    readonly number: number;
    readonly revision: string;
    readonly current: boolean;
    readonly model_version: string | null;
    readonly image: string | null;
    readonly restarted_at: string | null;
    readonly made_at: string;
  }[];
}

export interface ClusterNode {
  readonly node_id: string;
  readonly gpu_type: string | null;
  readonly gpu_count: number;
  readonly gpus_allocated: number;
  readonly status: string;
}

export class ClusterClient {
  readonly #transport: Transport;
  readonly #key: () => string | null;

  constructor({ transport, key }: { readonly transport: Transport; readonly key: () => string | null }) {
    this.#transport = transport;
    this.#key = key;
  }

  apply(object: ClusterObject): Promise<ClusterObject> {
    const { name, namespace = "default" } = object.metadata;
    const within = object.kind === "LLMModel" ? "" : `/namespaces/${encodeURIComponent(namespace)}`;
    return this.#json("PUT", `${BASE}${within}/${object.kind.toLowerCase()}s/${encodeURIComponent(name)}`, object);
  }

  async workloads(): Promise<readonly ClusterWorkload[]> {
    return (await this.#json<{ items: ClusterWorkload[] }>("GET", `${BASE}/llmworkloads`)).items;
  }

  async models(): Promise<readonly ClusterModel[]> {
    return (await this.#json<{ items: ClusterModel[] }>("GET", `${BASE}/llmmodels`)).items;
  }

  removeModel(name: string): Promise<unknown> {
    return this.#json("DELETE", `${BASE}/llmmodels/${encodeURIComponent(name)}`);
  }

  clusters(): Promise<readonly Cluster[]> {
    return this.#json("GET", "/admin/v1/clusters");
  }

  scale({ namespace, name }: ClusterWorkload["metadata"], replicas: number): Promise<unknown> {
    return this.#json("PUT", `${pathOf(namespace, name)}/scale`, { spec: { replicas } });
  }

  remove({ namespace, name }: ClusterWorkload["metadata"]): Promise<unknown> {
    return this.#json("DELETE", pathOf(namespace, name));
  }

  why(name: string): Promise<Readonly<Record<string, unknown>>> {
    return this.#json("GET", `/admin/v1/deployments/${encodeURIComponent(name)}/why`);
  }

  events(
    name: string,
  ): Promise<
    readonly { readonly at: string; readonly type: string; readonly reason: string; readonly message: string }[]
  > {
    return this.#json("GET", `/admin/v1/deployments/${encodeURIComponent(name)}/events`);
  }

  rollout(name: string): Promise<ClusterRollout> {
    return this.#json("GET", `/admin/v1/deployments/${encodeURIComponent(name)}/rollout`);
  }

  roll(name: string, act: "undo" | "promote" | "abort", body: object): Promise<{ readonly message: string }> {
    return this.#json("POST", `/admin/v1/deployments/${encodeURIComponent(name)}/rollout/${act}`, body);
  }

  nodes(): Promise<readonly ClusterNode[]> {
    return this.#json("GET", "/admin/v1/infrastructure/nodes");
  }

  node(name: string, act: "drain" | "cordon" | "uncordon", how?: object): Promise<{ readonly message: string }> {
    return this.#json("POST", `/admin/v1/infrastructure/nodes/${encodeURIComponent(name)}/${act}`, how);
  }

  async #json<T>(method: string, path: string, body?: object): Promise<T> {
    const key = this.#key();
    const reply = await this.#transport({
      method,
      path,
      headers: {
        accept: "application/json",
        ...(key === null ? {} : { authorization: `Bearer ${key}` }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
    const text = await reply.text();
    if (reply.status < 200 || reply.status >= 300) throw problemIn(reply, text);
    return JSON.parse(text) as T;
  }
}

function pathOf(namespace: string, name: string): string {
  return `${BASE}/namespaces/${encodeURIComponent(namespace)}/llmworkloads/${encodeURIComponent(name)}`;
}
