/**
 * `npm run bench:cluster-peers`: the same on one control plane with what Kubernetes has of its own, and with the controller. A
 * rollout without a spare GPU beside a Deployment's, what a HorizontalPodAutoscaler does to both, how soon a GPU that comes
 * free is another's, and a drain. Prints its figures as JSON. A short form of it is a test (peers.test.ts).
 */
import { parseArgs } from "node:util";
import { until } from "./control-plane.ts";
import { type Any, applied } from "./controller.ts";
import { NAMESPACE, Story } from "./story.ts";

const GPUS = 4;
const PLAIN = `/apis/apps/v1/namespaces/${NAMESPACE}/deployments`;
const WORKLOADS = `/apis/llm.orchestrator.io/v1/namespaces/${NAMESPACE}/llmworkloads`;
const HPAS = `/apis/autoscaling/v2/namespaces/${NAMESPACE}/horizontalpodautoscalers`;
const LONG_MS = 300_000;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export interface PeersShape {
  /** Of the workloads that are rolled, each with every GPU taken. */
  readonly replicas: readonly number[];
  /** A rollout that has not come through by then counts as stuck. */
  readonly patienceMs: number;
  /** Of what is measured by repeating it. */
  readonly samples: number;
}

/** `null` where it was not through when the patience was over. */
interface Rolled {
  readonly took_ms: number | null;
  /** Replicas that served at the worst moment. */
  readonly least_serving: number;
}

export interface PeersFigures {
  readonly rollouts: readonly { readonly replicas: number; readonly deployment: Rolled; readonly ours: Rolled }[];
  /** From a HorizontalPodAutoscaler's new bounds to as many replicas that serve. */
  readonly hpa_ms: { readonly deployment: number; readonly ours: number };
  /** From a pod that is gone to the node of the one that waited for its GPU. */
  readonly release_to_bound_ms: { readonly pods: readonly number[]; readonly ours: readonly number[] };
  readonly drain: { readonly took_ms: number; readonly least_serving: number; readonly replicas: number };
}

export async function peersRun(shape: PeersShape, say: (words: string) => void): Promise<PeersFigures> {
  const story = await Story.begin({ n1: GPUS });
  try {
    const run = new PeersRun(story, shape.patienceMs);
    const rollouts: PeersFigures["rollouts"][number][] = [];
    for (const replicas of shape.replicas) {
      await run.fill(GPUS - replicas);
      const deployment = await run.deploymentRolls(replicas);
      const ours = await run.workloadRolls(replicas);
      rollouts.push({ replicas, deployment, ours });
      say(JSON.stringify(rollouts.at(-1)));
    }
    await run.fill(0);
    const hpa = { deployment: await run.deploymentByHpa(), ours: await run.workloadByHpa() };
    say(JSON.stringify(hpa));
    const pods: number[] = [];
    const ours: number[] = [];
    await run.fill(GPUS - 1);
    for (let index = 0; index < shape.samples; index++) {
      pods.push(await run.podAfterPod(index));
      ours.push(await run.workloadAfterWorkload(index));
    }
    await run.fill(0);
    say(JSON.stringify({ pods, ours }));
    return { rollouts, hpa_ms: hpa, release_to_bound_ms: { pods, ours }, drain: await run.drain() };
  } finally {
    await story.end();
  }
}

class PeersRun {
  readonly #story: Story;
  readonly #patienceMs: number;

  constructor(story: Story, patienceMs: number) {
    this.#story = story;
    this.#patienceMs = patienceMs;
  }

  /** So many GPUs are somebody else's. */
  async fill(gpus: number): Promise<void> {
    await applied(this.#story.plane, plain("filler", gpus));
    await until(
      `${gpus} GPUs are taken`,
      () => this.#serving("filler").length === gpus && this.#pods("filler") === gpus,
    );
  }

  async deploymentRolls(replicas: number): Promise<Rolled> {
    await applied(this.#story.plane, plain("plain", replicas));
    await until("the Deployment serves", () => this.#serving("plain").length === replicas);
    const rolled = await this.#rolled(
      "plain",
      () => applied(this.#story.plane, plain("plain", replicas, "2")),
      async () => {
        const { metadata, spec, status } = await this.#story.get(`${PLAIN}/plain`);
        const { observedGeneration, updatedReplicas = 0, availableReplicas = 0 } = status;
        const isDone = updatedReplicas === spec.replicas && availableReplicas === spec.replicas;
        return isDone && status.replicas === spec.replicas && observedGeneration === metadata.generation;
      },
    );
    await this.#removed(`${PLAIN}/plain`, "plain");
    return rolled;
  }

  async workloadRolls(replicas: number): Promise<Rolled> {
    await this.#story.serves("ours", replicas);
    const rolled = await this.#rolled(
      "ours",
      () => this.#story.change("ours", { modelVersion: "13b" }),
      () => this.#isReady("ours"),
    );
    await this.#removed(`${WORKLOADS}/ours`, "ours");
    return rolled;
  }

  async deploymentByHpa(): Promise<number> {
    await applied(this.#story.plane, plain("plain", 1));
    await until("the Deployment serves", () => this.#serving("plain").length === 1);
    const tookMs = await this.#byHpa("apps/v1", "Deployment", "plain");
    await this.#removed(`${PLAIN}/plain`, "plain");
    return tookMs;
  }

  async workloadByHpa(): Promise<number> {
    await this.#story.serves("ours", 1);
    const tookMs = await this.#byHpa("llm.orchestrator.io/v1", "LLMWorkload", "ours");
    await this.#story.ready("ours", 3);
    await this.#removed(`${WORKLOADS}/ours`, "ours");
    return tookMs;
  }

  async #byHpa(apiVersion: string, kind: string, name: string): Promise<number> {
    const resource = { name: "cpu", target: { type: "Utilization", averageUtilization: 80 } };
    const spec = { scaleTargetRef: { apiVersion, kind, name }, metrics: [{ type: "Resource", resource }] };
    const metadata = { name, namespace: NAMESPACE };
    const bounded = (minReplicas: number) => ({
      ...{ apiVersion: "autoscaling/v2", kind: "HorizontalPodAutoscaler", metadata },
      spec: { ...spec, minReplicas, maxReplicas: 3 },
    });
    await applied(this.#story.plane, bounded(1));
    await until("the autoscaler has looked", async () => {
      const { status } = await this.#story.get(`${HPAS}/${name}`);
      return (status?.conditions ?? []).some((one: Any) => one.type === "AbleToScale" && one.status === "True");
    });
    const begun = performance.now();
    await applied(this.#story.plane, bounded(3));
    await until("three serve", () => this.#serving(name).length === 3);
    const tookMs = performance.now() - begun;
    await this.#story.plane.connection.call(`${HPAS}/${name}`, { method: "DELETE" });
    return Math.round(tookMs);
  }

  /** A pod that waits for a GPU, and the one that has it goes. */
  async podAfterPod(index: number): Promise<number> {
    const [holder, waiter] = [`holder-${index}`, `waiter-${index}`];
    await applied(this.#story.plane, pod(holder));
    await until("one has the GPU", () => this.#serving(holder).length === 1);
    await applied(this.#story.plane, pod(waiter));
    await until("the other waits", () => this.#waits(waiter));
    await this.#story.plane.connection.call(podPath(holder), { method: "DELETE" });
    const tookMs = await this.#boundAfter(holder, waiter);
    await this.#removed(podPath(waiter), waiter);
    return tookMs;
  }

  async workloadAfterWorkload(index: number): Promise<number> {
    const [holder, waiter] = [`first-${index}`, `second-${index}`];
    await this.#story.serves(holder, 1);
    await this.#story.apply(waiter, 1);
    await until("the other waits", () => this.#waits(waiter));
    await this.#story.remove(holder);
    const tookMs = await this.#boundAfter(holder, waiter);
    await this.#removed(`${WORKLOADS}/${waiter}`, waiter);
    return tookMs;
  }

  async drain(): Promise<PeersFigures["drain"]> {
    const replicas = 2;
    await this.#story.kubelet.addNode({ name: "n2", gpus: GPUS });
    await this.#story.serves("ours", replicas);
    const node = this.#serving("ours")[0]?.spec?.nodeName as string;
    const nodes = "/admin/v1/infrastructure/nodes";
    const rolled = await this.#rolled(
      "ours",
      () => this.#story.controller.call("POST", `${nodes}/${node}/drain`, { deadline: 300 }),
      async () => {
        const isEmpty = !this.#story.kubelet.pods.some(({ spec }) => spec?.nodeName === node);
        return isEmpty && this.#serving("ours").length === replicas && (await this.#isReady("ours"));
      },
      LONG_MS,
    );
    return { took_ms: rolled.took_ms ?? Number.NaN, least_serving: rolled.least_serving, replicas };
  }

  async #rolled(
    name: string,
    change: () => Promise<unknown>,
    isDone: () => Promise<boolean>,
    patienceMs = this.#patienceMs,
  ): Promise<Rolled> {
    let least = Number.POSITIVE_INFINITY;
    const looking = setInterval(() => {
      least = Math.min(least, this.#serving(name).length);
    }, 20);
    const begun = performance.now();
    try {
      await change();
      while (performance.now() - begun < patienceMs) {
        if (await isDone()) return { took_ms: Math.round(performance.now() - begun), least_serving: least };
        await pause(50);
      }
      return { took_ms: null, least_serving: least };
    } finally {
      clearInterval(looking);
    }
  }

  async #isReady(name: string): Promise<boolean> {
    const { metadata, status } = await this.#story.workload(name);
    const ready = (status?.conditions ?? []).find((one: Any) => one.type === "Ready");
    return ready?.status === "True" && ready.observedGeneration === metadata.generation;
  }

  async #boundAfter(holder: string, waiter: string): Promise<number> {
    let goneAt = 0;
    for (const late = Date.now() + LONG_MS; Date.now() < late; await pause(5)) {
      if (goneAt === 0 && this.#pods(holder) === 0) goneAt = performance.now();
      const isBound = this.#of(waiter).some(({ spec }) => spec?.nodeName !== undefined);
      if (isBound) return Math.round(Math.max(0, performance.now() - (goneAt === 0 ? performance.now() : goneAt)));
    }
    throw new Error(`${waiter} is not bound`);
  }

  #of(name: string) {
    return this.#story.kubelet.pods.filter(
      ({ metadata: { labels = {} } }) => labels.app === name || labels["llm-orchestrator.io/workload"] === name,
    );
  }

  #pods(name: string): number {
    return this.#of(name).length;
  }

  #waits(name: string): boolean {
    return this.#of(name).some(({ spec, status }) => {
      const conditions = (status as Any)?.conditions ?? [];
      const isTold = conditions.some((one: Any) => one.type === "PodScheduled" && one.status === "False");
      return spec?.nodeName === undefined && isTold;
    });
  }

  #serving(name: string) {
    return this.#of(name).filter(({ metadata, status }) => {
      const conditions = (status as Any)?.conditions ?? [];
      const isReady = conditions.some((one: Any) => one.type === "Ready" && one.status === "True");
      return isReady && metadata.deletionTimestamp === undefined;
    });
  }

  async #removed(path: string, name: string): Promise<void> {
    await this.#story.plane.connection.call(path, { method: "DELETE" });
    await until(`${name} is gone`, async () => this.#pods(name) === 0 && (await this.#story.isGone(path)));
  }
}

function template(name: string, version: string) {
  const resources = { limits: { "nvidia.com/gpu": "1" } };
  const container = { name: "llm-server", image: "vllm", env: [{ name: "VERSION", value: version }], resources };
  return { metadata: { labels: { app: name } }, spec: { terminationGracePeriodSeconds: 1, containers: [container] } };
}

/** As somebody writes it who changes no default. */
function plain(name: string, replicas: number, version = "1") {
  const spec = { replicas, selector: { matchLabels: { app: name } }, template: template(name, version) };
  return { apiVersion: "apps/v1", kind: "Deployment", metadata: { name, namespace: NAMESPACE }, spec };
}

function pod(name: string) {
  const { metadata, spec } = template(name, "1");
  return { apiVersion: "v1", kind: "Pod", metadata: { name, namespace: NAMESPACE, ...metadata }, spec };
}

function podPath(name: string): string {
  return `/api/v1/namespaces/${NAMESPACE}/pods/${name}`;
}

if (import.meta.main) {
  const options = {
    patience: { type: "string", default: "120" },
    samples: { type: "string", default: "10" },
  } as const;
  const { patience, samples } = parseArgs({ options }).values;
  const shape = { replicas: [1, 2, 4], patienceMs: Number(patience) * 1_000, samples: Number(samples) };
  const figures = await peersRun(shape, (words) => console.error(`${new Date().toISOString()} ${words}`));
  console.log(JSON.stringify(figures, null, 2));
}
