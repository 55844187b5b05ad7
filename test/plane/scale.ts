/**
 * `npm run bench:cluster -- --nodes 1000 --workloads 500 --replicas 5000`: a controller with so much to look after, and
 * how long it takes for what. Prints its figures as JSON. A short form of it is a test (scale.test.ts).
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { ControlPlane, cpuSecondsOf, until } from "./control-plane.ts";
import { type Any, applied, idleWrites, install, TestController } from "./controller.ts";
import { Kubelet } from "./kubelet.ts";

export interface Shape {
  readonly nodes: number;
  readonly workloads: number;
  /** Of all workloads together. */
  readonly replicas: number;
  /** So long nothing is changed, and nothing may be written. */
  readonly idleSeconds: number;
  /** Of what is measured by repeating it. */
  readonly samples: number;
}

export interface Figures {
  readonly nodes: number;
  readonly workloads: number;
  readonly replicas: number;
  /** From the first apply to the last workload that is Ready, stand-in for kubelets included. */
  readonly roll_out_ms: number;
  /** What each program had of the processors meanwhile, in seconds of one. */
  readonly roll_out_cpu_s: Readonly<Record<string, number>>;
  /** How often one lost its Lease, and was started again. */
  readonly lost_leases: number;
  /** From the start of a second process to its /readyz. */
  readonly sync_ms: number;
  readonly rss_mib: number;
  /** From an apply to the last child. */
  readonly apply_to_children_p50_ms: number;
  readonly apply_to_children_p99_ms: number;
  readonly drift_repaired_p50_ms: number;
  readonly drift_repaired_p99_ms: number;
  /** From an apiserver that serves again to a change that is done. */
  readonly apiserver_restart_to_converged_ms: number;
  readonly idle_seconds: number;
  readonly idle_writes: number;
  readonly idle_cpu_percent: number;
  readonly leader_change_ms: number;
}

const NAMESPACE = "llm-workloads";
const WORKLOADS = `/apis/llm.orchestrator.io/v1/namespaces/${NAMESPACE}/llmworkloads`;
const DEPLOYMENTS = `/apis/apps/v1/namespaces/${NAMESPACE}/deployments`;
const GPUS = 8;
const LONG_MS = 3_600_000;
/** Of how long a node may be silent: a kubelet with nothing new writes its node's status each five minutes. */
const SILENT_SECONDS = 600;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export async function scaleRun(shape: Shape, say: (words: string) => void): Promise<Figures> {
  const plane = await ControlPlane.start(SILENT_SECONDS);
  const kubelet = new Kubelet(plane.connection, (SILENT_SECONDS / 4) * 1_000);
  let controller: TestController | null = null;
  let revived = 0;
  try {
    const names = Array.from({ length: shape.nodes }, (_, index) => `node-${index}`);
    await kubelet.addNodes(names.map((name) => ({ name, gpus: GPUS })));
    say(`${shape.nodes} nodes are there`);
    const account = await install(plane);
    await until("the workloads are served", () => plane.connection.call(WORKLOADS).then(() => true), 60_000);
    controller = await started(plane, account, "first");
    // One that lost its Lease has ended, and is started again, as by its Deployment.
    const revive = async () => {
      if (controller?.hasEnded === true) controller = await started(plane, account, `again-${revived++}`);
    };
    const run = new ScaleRun(plane, shape, say);
    const spent = cpuOf(plane, controller);
    const rollOutMs = await run.rollOut(revive);
    const rollOutCpu = Object.entries(cpuOf(plane, controller)).map(([name, s]) => [
      name,
      Math.round(s - (spent[name] ?? 0)),
    ]);
    say(JSON.stringify(Object.fromEntries(rollOutCpu)));
    await controller.stop();
    const begun = performance.now();
    controller = await started(plane, account, "second");
    const syncMs = performance.now() - begun;
    await run.allReady(revive);
    say(`a new process was ready after ${Math.round(syncMs)} ms`);
    const children = await run.sampled((index) => run.applyToChildren(index));
    const drifts = await run.sampled((index) => run.driftRepaired(index));
    const restartMs = await run.apiserverRestart(revive);
    await run.allReady(revive);
    const idle = await run.idle(controller);
    const rssMib = rssOf(controller);
    const next = await started(plane, account, "next");
    const killed = performance.now();
    await controller.stop("SIGKILL");
    controller = next;
    await until("the next one leads", () => next.log.some(({ msg }) => msg === "this controller leads"), 60_000);
    const ms = (value: number) => Math.round(value);
    return {
      ...{ nodes: shape.nodes, workloads: shape.workloads, replicas: shape.replicas },
      roll_out_ms: ms(rollOutMs),
      roll_out_cpu_s: Object.fromEntries(rollOutCpu),
      lost_leases: revived,
      sync_ms: ms(syncMs),
      rss_mib: rssMib,
      apply_to_children_p50_ms: ms(quantile(children, 0.5)),
      apply_to_children_p99_ms: ms(quantile(children, 0.99)),
      drift_repaired_p50_ms: ms(quantile(drifts, 0.5)),
      drift_repaired_p99_ms: ms(quantile(drifts, 0.99)),
      apiserver_restart_to_converged_ms: ms(restartMs),
      ...idle,
      leader_change_ms: ms(performance.now() - killed),
    };
  } finally {
    await controller?.stop("SIGKILL");
    await kubelet.stop();
    await plane.stop();
  }
}

/** This process is the stand-in for kubelets, and who asks whether all is Ready. */
function cpuOf(plane: ControlPlane, { child }: TestController): Record<string, number> {
  const { user, system } = process.cpuUsage();
  return { controller: cpuSecondsOf(child), ...plane.cpuSeconds(), "stand-in": (user + system) / 1e6 };
}

async function started(plane: ControlPlane, account: string, name: string): Promise<TestController> {
  const controller = await TestController.start(plane, account, name);
  await until(`${name} is ready`, async () => (await controller.get("/readyz")).status === 200, 300_000);
  return controller;
}

class ScaleRun {
  readonly #plane: ControlPlane;
  readonly #shape: Shape;
  readonly #say: (words: string) => void;

  constructor(plane: ControlPlane, shape: Shape, say: (words: string) => void) {
    this.#plane = plane;
    this.#shape = shape;
    this.#say = say;
  }

  async rollOut(revive: () => Promise<void>): Promise<number> {
    const { workloads, replicas } = this.#shape;
    const begun = performance.now();
    for (let index = 0; index < workloads; index++) {
      // The first ones have what does not divide.
      const own = Math.floor(replicas / workloads) + (index < replicas % workloads ? 1 : 0);
      await this.#apply(`load-${index}`, own, 1);
    }
    this.#say(`${workloads} workloads are applied`);
    await this.allReady(revive);
    return performance.now() - begun;
  }

  async allReady(revive: () => Promise<void>): Promise<void> {
    let told = 0;
    await until(
      "all workloads are Ready",
      async () => {
        await revive();
        const { items } = await this.#get(WORKLOADS);
        const isReady = ({ metadata, status }: Any) =>
          (status?.conditions ?? []).some(
            ({ type, status: holds, observedGeneration }: Any) =>
              type === "Ready" && holds === "True" && observedGeneration === metadata.generation,
          );
        const ready = items.filter(isReady).length;
        if (ready !== told) this.#say(`${ready} of ${items.length} workloads are Ready`);
        told = ready;
        await pause(1_000);
        return ready === items.length;
      },
      LONG_MS,
    );
  }

  async sampled(measure: (index: number) => Promise<number>): Promise<number[]> {
    const found: number[] = [];
    for (let index = 0; index < this.#shape.samples; index++) found.push(await measure(index));
    return found;
  }

  async applyToChildren(index: number): Promise<number> {
    const name = `sample-${index}`;
    await this.#apply(name, 1, 0);
    const begun = performance.now();
    const core = `/api/v1/namespaces/${NAMESPACE}`;
    const children = [`${DEPLOYMENTS}/${name}`, `${core}/services/${name}`, `${core}/configmaps/${name}-config`];
    for (const path of children) await soon(() => this.#get(path).then(() => true));
    const ms = performance.now() - begun;
    await this.#plane.connection.call(`${WORKLOADS}/${name}`, { method: "DELETE" });
    // Each makes and takes away ten objects, of which the controller writes 20 a second: the next is not to wait for them.
    await pause(1_000);
    return ms;
  }

  async driftRepaired(index: number): Promise<number> {
    const path = `${DEPLOYMENTS}/load-${index % this.#shape.workloads}`;
    const { spec } = await this.#get(path);
    const contentType = "application/merge-patch+json";
    const body = { spec: { revisionHistoryLimit: 3 } };
    await this.#plane.connection.call(path, { method: "PATCH", contentType, body });
    const begun = performance.now();
    await soon(async () => (await this.#get(path)).spec.revisionHistoryLimit === spec.revisionHistoryLimit);
    return performance.now() - begun;
  }

  async apiserverRestart(revive: () => Promise<void>): Promise<number> {
    await this.#plane.killApiserver();
    await pause(5_000);
    this.#plane.startApiserver();
    await this.#plane.serves();
    const begun = performance.now();
    // An apiserver that serves one kind may still refuse those of CRDs.
    let replicas = 0;
    await soon(async () => {
      replicas = (await this.#get(`${WORKLOADS}/load-0`)).spec.replicas + 1;
      return true;
    });
    await soon(() => this.#apply("load-0", replicas, 1).then(() => true));
    await soon(async () => {
      await revive();
      return (await this.#get(`${DEPLOYMENTS}/load-0`)).spec.replicas === replicas;
    });
    return performance.now() - begun;
  }

  async idle(controller: TestController) {
    // What was put back is named for a minute, and no longer.
    await until(
      "no workload says that it drifted",
      async () => {
        const { items } = await this.#get(WORKLOADS);
        const drifted = ({ status }: Any) =>
          (status?.conditions ?? []).some((one: Any) => one.type === "Drifted" && one.status === "True");
        return !items.some(drifted);
      },
      LONG_MS,
    );
    await pause(15_000);
    const since = Date.now();
    const before = cpuSecondsOf(controller.child);
    await pause(this.#shape.idleSeconds * 1_000);
    if (controller.hasEnded) throw new Error(`it ended: ${JSON.stringify(controller.log.slice(-5))}`);
    const writes = idleWrites(this.#plane, since);
    if (writes.length > 0) this.#say(JSON.stringify(writes.slice(0, 5)));
    return {
      idle_seconds: this.#shape.idleSeconds,
      idle_writes: writes.length,
      idle_cpu_percent: Math.round(((cpuSecondsOf(controller.child) - before) / this.#shape.idleSeconds) * 1_000) / 10,
    };
  }

  #get(path: string): Promise<Any> {
    return this.#plane.connection.call<Any>(path);
  }

  async #apply(name: string, replicas: number, gpus: number): Promise<void> {
    const spec = {
      modelName: "llama2",
      modelVersion: "7b",
      modelType: "text-generation",
      replicas,
      resources: { cpu: "1", memory: "1Gi", gpu: String(gpus) },
      scaling: { minReplicas: 1, maxReplicas: 100 },
      performance: {},
    };
    const metadata = { name, namespace: NAMESPACE };
    await applied(this.#plane, { apiVersion: "llm.orchestrator.io/v1", kind: "LLMWorkload", metadata, spec });
  }
}

/** As `until`, looking more often: what is measured is in milliseconds. */
async function soon(holds: () => Promise<boolean>): Promise<void> {
  const late = Date.now() + 300_000;
  while (!(await holds().catch(() => false))) {
    if (Date.now() > late) throw new Error("not within five minutes");
    await pause(10);
  }
}

function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? Number.NaN;
}

function rssOf({ child }: TestController): number {
  const [, kib] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8")) ?? [];
  return Math.round(Number(kib) / 1_024);
}

if (import.meta.main) {
  const number = (byDefault: string) => ({ type: "string", default: byDefault }) as const;
  const options = {
    nodes: number("1000"),
    workloads: number("500"),
    replicas: number("5000"),
    idle: number("300"),
    samples: number("50"),
  };
  const { nodes, workloads, replicas, idle, samples } = parseArgs({ options }).values;
  const shape = {
    ...{ nodes: Number(nodes), workloads: Number(workloads), replicas: Number(replicas) },
    ...{ idleSeconds: Number(idle), samples: Number(samples) },
  };
  const figures = await scaleRun(shape, (words) => console.error(`${new Date().toISOString()} ${words}`));
  console.log(JSON.stringify(figures, null, 2));
}
