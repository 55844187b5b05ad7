/** A control plane with nodes, a controller behind a proxy, and the calls that the stories of faults make. */
import { ControlPlane, until } from "./control-plane.ts";
import { type Any, applied, install, installed, TestController } from "./controller.ts";
import { FaultyProxy } from "./faulty-proxy.ts";
import { Kubelet } from "./kubelet.ts";
import { StandIn } from "./stand-in.ts";

export const NAMESPACE = "llm-workloads";
const WORKLOADS = `/apis/llm.orchestrator.io/v1/namespaces/${NAMESPACE}/llmworkloads`;
const DEPLOYMENTS = `/apis/apps/v1/namespaces/${NAMESPACE}/deployments`;

interface StoryParts {
  readonly kubeconfig: string;
  readonly nodes: readonly string[];
}

export class Story {
  readonly plane: ControlPlane;
  readonly kubelet: Kubelet;
  /** `null`: Kubernetes is there itself. */
  readonly standIn: StandIn | null;
  readonly proxy: FaultyProxy;
  readonly #kubeconfig: string;
  readonly #nodes: readonly string[];
  controller: TestController;

  /** @param of is what there is of Kubernetes: with an apiserver only, pods are made and placed by a stand-in. */
  static async begin(nodes: Readonly<Record<string, number>>, of: "plane" | "apiserver" = "plane"): Promise<Story> {
    const plane = await ControlPlane.start(of === "plane" ? undefined : null);
    const standIn = of === "plane" ? null : new StandIn(plane.connection);
    const kubelet = new Kubelet(plane.connection);
    for (const [name, gpus] of Object.entries(nodes)) await kubelet.addNode({ name, gpus });
    const proxy = new FaultyProxy(plane.url);
    const kubeconfig = await install(plane, await proxy.start());
    await until("the workloads are served", () => plane.connection.call(WORKLOADS).then(() => true), 60_000);
    await standIn?.admitPods(NAMESPACE);
    const controller = await TestController.start(plane, kubeconfig, "first");
    const story = new Story({ plane, standIn, kubelet, proxy, kubeconfig, controller, nodes: Object.keys(nodes) });
    await story.isUp();
    return story;
  }

  private constructor(parts: Pick<Story, "plane" | "standIn" | "kubelet" | "proxy" | "controller"> & StoryParts) {
    this.plane = parts.plane;
    this.standIn = parts.standIn;
    this.kubelet = parts.kubelet;
    this.proxy = parts.proxy;
    this.controller = parts.controller;
    this.#kubeconfig = parts.kubeconfig;
    this.#nodes = parts.nodes;
  }

  async end(): Promise<void> {
    await this.controller.stop();
    await this.proxy.stop();
    await this.standIn?.stop();
    await this.kubelet.stop();
    await this.plane.stop();
  }

  start(name: string, more: readonly string[] = [], env: Readonly<Record<string, string>> = {}) {
    return TestController.start(this.plane, this.#kubeconfig, name, more, env);
  }

  /** One that has ended is started again, as by its Deployment. */
  async isUp(): Promise<void> {
    await until("the controller is ready", async () => {
      if (this.controller.hasEnded) this.controller = await this.start(`again-${Date.now()}`);
      return (await this.controller.get("/readyz")).status === 200;
    });
  }

  /** It serves its own kinds before those of CRDs. A kind that is not there at all is no reason to wait. */
  async apiserverReturns(): Promise<void> {
    this.plane.startApiserver();
    await this.plane.serves();
    await until("the workloads are served", () =>
      this.get(WORKLOADS).then(
        () => true,
        (error) => error.status === 404,
      ),
    );
  }

  /** All is whole again, and no workload is there. */
  async mend(): Promise<void> {
    this.proxy.refuses = () => null;
    this.kubelet.fate = () => null;
    await this.apiserverReturns();
    await installed(this.plane);
    for (const name of this.#nodes) {
      this.kubelet.revive(name);
      await this.merge(`/api/v1/nodes/${name}`, { spec: { unschedulable: false } });
    }
    await this.isUp();
    await until("no workload is left", async () => {
      const { items } = await this.get(WORKLOADS);
      const left = items.filter(({ metadata }: Any) => metadata.deletionTimestamp === undefined);
      for (const { metadata } of left) await this.remove(metadata.name);
      return items.length === 0;
    });
    const pods = async () => (await this.get(`/api/v1/namespaces/${NAMESPACE}/pods`)).items.length;
    await until("no pod is left", async () => (await pods()) === 0);
  }

  /** A workload, until all that it wants is there. */
  async serves(name: string, replicas: number): Promise<void> {
    await this.apply(name, replicas);
    await this.ready(name, replicas);
  }

  get(path: string): Promise<Any> {
    return this.plane.connection.call<Any>(path);
  }

  workload(name: string): Promise<Any> {
    return this.get(`${WORKLOADS}/${name}`);
  }

  deployment(name: string): Promise<Any> {
    return this.get(`${DEPLOYMENTS}/${name}`);
  }

  async apply(name: string, replicas: number): Promise<void> {
    const spec = {
      modelName: "llama2",
      modelVersion: "7b",
      modelType: "text-generation",
      replicas,
      resources: { cpu: "1", memory: "1Gi", gpu: "1" },
      scaling: { minReplicas: 1, maxReplicas: 20 },
      performance: {},
    };
    const metadata = { name, namespace: NAMESPACE };
    await applied(this.plane, { apiVersion: "llm.orchestrator.io/v1", kind: "LLMWorkload", metadata, spec });
  }

  change(name: string, spec: object): Promise<Any> {
    return this.merge(`${WORKLOADS}/${name}`, { spec });
  }

  merge(path: string, body: object): Promise<Any> {
    const contentType = "application/merge-patch+json";
    return this.plane.connection.call<Any>(path, { method: "PATCH", contentType, body });
  }

  async remove(name: string): Promise<void> {
    await this.plane.connection.call(`${WORKLOADS}/${name}`, { method: "DELETE" });
  }

  isGone(path: string): Promise<boolean> {
    return this.get(path).then(
      () => false,
      (error) => error.status === 404,
    );
  }

  async condition(name: string, type: string): Promise<Any> {
    const { status } = await this.workload(name);
    return (status?.conditions ?? []).find((one: Any) => one.type === type);
  }

  async ready(name: string, replicas: number, withinMs = 120_000): Promise<void> {
    await until(
      `${name} is Ready with ${replicas}`,
      async () => {
        const { metadata, status } = await this.workload(name);
        const {
          status: holds,
          observedGeneration,
          message,
        } = (status?.conditions ?? []).find((one: Any) => one.type === "Ready") ?? {};
        if (holds === "True" && observedGeneration === metadata.generation && status.readyReplicas === replicas)
          return true;
        throw new Error(`${message}; ${JSON.stringify(status)}`);
      },
      withinMs,
    );
  }

  /** A sample of the controller's own metrics; `null`: there is none. */
  async metric(name: string): Promise<number | null> {
    const page = await (await fetch(`${this.controller.url}/metrics`)).text();
    const line = page.split("\n").find((one) => one.startsWith(`llm_orchestrator_${name} `));
    return line === undefined ? null : Number(line.split(" ").at(-1));
  }
}
