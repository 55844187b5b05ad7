/**
 * One host as a cluster of one node. Each replica is a workload of the daemon's running work with one replica of its
 * own, so that the one that is to go can be chosen; the daemon leases its GPUs, queues it, and starts it again when it
 * fails, with a growing pause, up to {@link MAX_RESTARTS} times.
 */
import { createHash } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "../../client/client.ts";
import { ApiProblem, Unreachable } from "../../client/errors.ts";
import type { WorkClient, WorkloadRecord } from "../../client/work.ts";
import { formatCpu, formatMemory, parseCpuMillis, parseMemoryBytes } from "../../work/quantities.ts";
import { LoadWatch } from "../load-watch.ts";
import { ControllerError } from "../objects/errors.ts";
import { legibleSpec } from "../objects/legible.ts";
import { ANNOTATION, HUB_VARIABLES, hubSecretOf, keyOf, LABEL } from "../objects/meta.ts";
import type { Workload, WorkloadSpec } from "../objects/workload.ts";
import type { Backend, DrainHow, Look, NodeDrain } from "../reconcile/backend.ts";
import type { Plan } from "../reconcile/plan.ts";
import type { Wanted } from "../reconcile/reconcile.ts";
import { Refusals } from "../reconcile/refusals.ts";
import { surplusOf } from "../reconcile/rollout.ts";
import type { LoadSeen, NodeSeen, ReplicaSeen, TrackSeen } from "../reconcile/seen.ts";
import type { Fence } from "./fence.ts";
import { isRefusal } from "./refusal.ts";

/** One restart may be bad luck; so many without being ready is a loop. */
const CRASH_LOOP_RESTARTS = 3;
/** With pauses of an hour at the end: for six weeks. */
const MAX_RESTARTS = 1_000;
const STOP_LOOK_MS = 200;
const MAX_RUN_PRIORITY = 10;

export interface HostSettings {
  /** What runs the replicas: one of the daemon's `work.executors`. */
  readonly executor: string;
  readonly priorities: Readonly<Record<Plan["qosClass"], number>>;
  /** Of tokens, as the daemon's `work.secret_folders` has it for this controller; `null`: none is kept. */
  readonly secrets: string | null;
}

export class HostBackend implements Backend {
  readonly kind = "host";
  readonly #client: Client;
  readonly #work: WorkClient;
  readonly #settings: HostSettings;
  readonly #load = new LoadWatch();
  /** A document that was refused is refused again: it is not asked for at each look. */
  readonly #refusals = new Refusals();
  /** `null`: there is no other controller. */
  readonly #fence: Fence | null;

  constructor(client: Client, work: WorkClient, settings: HostSettings, fence: Fence | null = null) {
    this.#client = client;
    this.#work = work;
    this.#settings = settings;
    this.#fence = fence;
  }

  async look(): Promise<Look> {
    const askedAt = performance.now();
    const [{ gpus, drain }, records, workers] = await reached(
      Promise.all([this.#client.list(), this.#work.workloads(), this.#work.workers()]),
    );
    await reached(this.#fence?.look(records, askedAt) ?? Promise.resolve());
    const mine = records.filter(({ labels }) => labels[LABEL.workload] !== undefined);
    // One that was told to stop is deleted when it has: until then it is seen, with the GPUs that it still holds.
    const over = mine.filter(({ status }) => status.replicas === 0 && status.nodes.length === 0);
    for (const { id } of over) await reached(this.#work.deleteWorkload(id).catch(unlessGone));
    const own = Map.groupBy(
      mine.filter((record) => !over.includes(record)),
      ({ labels }) => labels[LABEL.workload] as string,
    );
    const ready = records.flatMap(({ id, status }) => {
      const [run] = status.nodes;
      return run?.state === "ready" && run.url !== null ? [{ replica: id, url: run.url }] : [];
    });
    const load = this.#load.look(() => ready, performance.now());
    const utilization = new Map(gpus.map(({ uuid, utilization }) => [uuid, utilization]));
    const busy = (record: WorkloadRecord) =>
      averageOf((record.status.nodes[0]?.gpu_uuids ?? []).map((uuid) => utilization.get(uuid)));
    const tracksOf = ({ metadata }: Workload) => tracksIn(own.get(labelOf(metadata)) ?? []);
    return {
      nodes: nodesOf(gpus, drain !== null, workers[0]?.worker_id ?? null),
      tracksOf,
      isolates: false,
      groups: "never",
      serviceOf: () => null,
      gpuUtilizationOf: () => averageOf(gpus.map((gpu) => gpu.utilization)),
      loadOf: ({ metadata, spec }) =>
        (own.get(labelOf(metadata)) ?? []).flatMap((record): LoadSeen[] => {
          const said = load.get(record.id);
          const gpu = record.status.nodes[0]?.state === "ready" ? busy(record) : null;
          const metrics = {
            ...said,
            ...usedBy(record, legibleSpec(spec)),
            ...(gpu === null ? {} : { gpu_utilization: gpu }),
          };
          return Object.keys(metrics).length === 0 ? [] : [{ replica: record.id, metrics }];
        }),
    };
  }

  templateOf(): null {
    return null;
  }

  /** The daemon starts again what fails, by itself. */
  async tend(): Promise<void> {}

  async apply(workload: Workload, { plan, targets }: Wanted, tracks: readonly TrackSeen[]): Promise<readonly string[]> {
    for (const { revision, replicas } of tracks) {
      for (const { name } of surplusOf(replicas, targets.get(revision) ?? 0)) {
        await reached(this.#work.scale(name, 0).catch(unlessGone));
      }
    }
    if (plan === null) return [];
    for (const [revision, target] of targets) {
      const replicas = tracks.find((track) => track.revision === revision)?.replicas ?? [];
      const live = replicas.filter(({ phase }) => phase !== "stopping").length;
      const taken = new Set(replicas.map(({ name }) => name));
      for (let index = 0, missing = target - live; missing > 0; index++) {
        const id = replicaName(workload, revision, index);
        if (taken.has(id)) continue;
        missing--;
        const document = this.#document(workload, plan, revision, id);
        const asked = () => reached(this.#work.createWorkload(document, `${id}-${Date.now()}`));
        await this.#refusals.asking(workload.metadata.uid, document, asked);
      }
    }
    return [];
  }

  #document({ metadata, spec }: Workload, plan: Plan, revision: string, id: string): string {
    const source = /^[A-Za-z0-9]/.test(plan.model) ? { model: { source: { identifier: plan.model } } } : {};
    return JSON.stringify({
      id,
      name: metadata.name,
      modelName: spec.modelName,
      modelType: spec.modelType,
      executor: this.#settings.executor,
      replicas: 1,
      resources: {
        cpu: formatCpu(plan.cpuMillis),
        memory: formatMemory(plan.memoryBytes),
        gpu: plan.gpus,
        ...(plan.product === null ? {} : { gpu_model: plan.product }),
        ...(plan.memoryMib === null ? {} : { gpu_memory_mb: plan.memoryMib }),
      },
      ...source,
      env: plan.env,
      ...(ANNOTATION.hubToken in metadata.annotations ? { secrets: [hubSecretOf(metadata)] } : {}),
      labels: { [LABEL.workload]: labelOf(metadata), [LABEL.revision]: revision },
      priority: this.#settings.priorities[plan.qosClass],
      restart: { policy: "always", backoff: "1s", max_backoff: "1h", give_up_after: MAX_RESTARTS },
      readiness: { http: "/health", interval: "1s" },
    });
  }

  /** Stops all replicas, and waits until they have stopped, no longer than `withinMs`. */
  async stopAll(withinMs: number): Promise<void> {
    const own = async () => (await this.#work.workloads()).filter(({ labels }) => LABEL.workload in labels);
    for (const { id } of await own()) await this.#work.scale(id, 0).catch(unlessGone);
    const until = Date.now() + withinMs;
    while (Date.now() < until) {
      await this.look();
      if ((await own()).length === 0) return;
      await new Promise((resolve) => setTimeout(resolve, STOP_LOOK_MS));
    }
  }

  /** In files that the daemon's worker reads when it starts a replica. One that is kept already stays. */
  async keepToken({ metadata }: Workload, token: string): Promise<void> {
    const { secrets } = this.#settings;
    if (secrets === null) throw new ControllerError("not-yet", "host.secrets_dir names no folder for tokens");
    const folder = join(secrets, hubSecretOf(metadata));
    try {
      mkdirSync(folder, { recursive: true, mode: 0o750 });
      for (const name of HUB_VARIABLES) writeOnce(join(folder, name), token);
    } catch (error) {
      throw new ControllerError("storage-unavailable", `the token could not be kept: ${(error as Error).message}`);
    }
  }

  async forget({ metadata }: Workload): Promise<void> {
    this.#refusals.forget(metadata.uid);
    const { secrets } = this.#settings;
    if (secrets !== null) rmSync(join(secrets, hubSecretOf(metadata)), { recursive: true, force: true });
  }

  /** The daemon has its own. */
  figures(): readonly [] {
    return [];
  }

  async drain(node: string, how: DrainHow): Promise<NodeDrain> {
    const name = await this.#nodeNamed(node);
    // The daemon knows no deadline of 0 s.
    const deadline = how.deadlineMs === null ? {} : { deadline: `${Math.max(1, Math.ceil(how.deadlineMs / 1_000))}s` };
    await reached(this.#client.drainHost("drain", { reason: how.reason, ...deadline }));
    return this.#drainState(name);
  }

  async uncordon(node: string): Promise<NodeDrain> {
    const name = await this.#nodeNamed(node);
    await reached(this.#client.drainHost("undrain", { reason: "uncordoned" }));
    return this.#drainState(name);
  }

  async #nodeNamed(node: string): Promise<string> {
    const { nodes } = await this.look();
    const found = nodes.find(({ name }) => name === node);
    if (found === undefined) throw new ControllerError("node-not-found", `there is no node ${node}`);
    return found.name;
  }

  async #drainState(node: string): Promise<NodeDrain> {
    const { allocations, drain } = await reached(this.#client.list());
    const blockedBy = allocations.map(({ service_name }) => service_name);
    if (drain === null) return { node, status: "ready", blockedBy: [] };
    return { node, status: blockedBy.length === 0 ? "drained" : "draining", blockedBy };
  }
}

/** What the daemon has measured of it: of what was asked for. */
function usedBy(
  { metrics }: WorkloadRecord,
  { resources: { cpu, memory } }: Pick<WorkloadSpec, "resources">,
): LoadSeen["metrics"] {
  const { cpuUsage = null, memoryUsage = null } = metrics ?? {};
  const [cores, bytes] = [(parseCpuMillis(cpu) ?? 0) / 1_000, parseMemoryBytes(memory) ?? 0];
  return {
    ...(cpuUsage === null ? {} : { cpu: cpuUsage * 100, cpu_cores: cpuUsage * cores }),
    ...(memoryUsage === null ? {} : { memory: memoryUsage * 100, memory_bytes: memoryUsage * bytes }),
  };
}

function writeOnce(file: string, text: string): void {
  try {
    // Its group may be the worker's, by the folder's own.
    writeFileSync(file, text, { flag: "wx", mode: 0o640 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

/** A label's value has no slash. */
function labelOf(metadata: Workload["metadata"]): string {
  return keyOf(metadata).replace("/", ".");
}

/** The daemon knows a replica by this: one of an older object of the same name is another. */
function replicaName({ metadata }: Workload, revision: string, index: number): string {
  const uid = createHash("sha256").update(metadata.uid).digest("hex").slice(0, 8);
  return `llmw-${uid}-${revision}-${index}`;
}

function tracksIn(records: readonly WorkloadRecord[]): TrackSeen[] {
  const byRevision = Map.groupBy(records, ({ labels }) => labels[LABEL.revision] ?? "");
  return [...byRevision].map(([revision, of]) => ({
    revision,
    wanted: of.length,
    replicas: of.map(replicaOf),
  }));
}

const PHASES: Readonly<Record<string, ReplicaSeen["phase"]>> = {
  waiting: "waiting",
  starting: "starting",
  ready: "ready",
  unready: "unready",
  stopping: "stopping",
  "backing-off": "unready",
  failed: "failed",
  completed: "failed",
};

function replicaOf({ id, status }: WorkloadRecord): ReplicaSeen {
  const [run] = status.nodes;
  const phase = status.replicas === 0 ? "stopping" : (PHASES[run?.state ?? "waiting"] ?? "unready");
  const restarts = run?.restarts ?? 0;
  const loops = phase !== "ready" && restarts >= CRASH_LOOP_RESTARTS;
  return {
    name: id,
    phase,
    node: run?.node ?? null,
    url: run?.url ?? null,
    gpus: run?.gpu_uuids.length ?? 0,
    restarts,
    trouble: loops
      ? { reason: "CrashLoop", message: `started ${restarts + 1} times; ${status.message || "no last words"}` }
      : null,
    waiting:
      phase === "waiting"
        ? {
            reason: run?.reason ?? (status.message || "waiting"),
            position: run?.position ?? null,
            eta: run?.eta ?? null,
          }
        : null,
  };
}

type Gpus = Awaited<ReturnType<Client["list"]>>["gpus"];

function nodesOf(gpus: Gpus, draining: boolean, worker: string | null): NodeSeen[] {
  if (gpus.length === 0) return [];
  return [
    {
      name: worker ?? "localhost",
      product: gpus[0]?.name ?? null,
      gpuMemoryMib: gpus[0]?.memory_total ?? null,
      gpus: gpus.length,
      usedGpus: gpus.filter(({ state }) => state !== "free").length,
      ready: true,
      schedulable: !draining,
      draining,
      isEmpty: gpus.every(({ state }) => state === "free"),
    },
  ];
}

function averageOf(values: readonly (number | null | undefined)[]): number | null {
  const known = values.filter((value): value is number => typeof value === "number");
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
}

function unlessGone(error: unknown): void {
  if (error instanceof ApiProblem && error.status === 404) return;
  throw error;
}

async function reached<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof ApiProblem && isRefusal(error)) {
      throw new ControllerError("backend-refused", `the daemon: ${wordsOf(error)}`);
    }
    if (error instanceof ApiProblem || error instanceof Unreachable) {
      throw new ControllerError("backend-unavailable", `the daemon: ${error.message}`);
    }
    throw error;
  }
}

function wordsOf({ message, errors }: ApiProblem): string {
  return [message, ...errors.map(({ path, message: what }) => `${path}: ${what}`)].join("; ");
}

/** The daemon's priorities are 1 to 10, a class's 0 to 100 and more. */
export function runPriority(priority: number): number {
  return Math.min(MAX_RUN_PRIORITY, Math.max(1, Math.round(priority / 10)));
}
