/** A daemon in memory, with GPUs and workloads of one replica each, as the backend `host` asks for them. */
import type { Client } from "../../src/client/client.ts";
import { ApiProblem, Unreachable } from "../../src/client/errors.ts";
import type { WorkClient, WorkloadRecord } from "../../src/client/work.ts";
import { LABEL } from "../../src/controller/objects/meta.ts";

type State = "waiting" | "starting" | "ready" | "backing-off" | "stopping";

interface Held {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  replicas: number;
  state: State | null;
  restarts: number;
}

/** How the next calls end. `mute`: done, and the answer is lost. */
export type Line = "up" | "down" | "mute";

export class HostDaemon {
  readonly gpus: number;
  readonly #held = new Map<string, Held>();
  line: Line = "up";
  /** All that was asked of it but looks. */
  writes = 0;
  readonly made: string[] = [];

  constructor(gpus: number) {
    this.gpus = gpus;
  }

  get held(): readonly Held[] {
    return [...this.#held.values()];
  }

  get taken(): number {
    return this.held.filter(({ state }) => state !== null && state !== "waiting").length;
  }

  /** What stops has stopped, what starts serves, what waits has a GPU if there is one; `isSlow` says who is not yet so far. */
  advance(isSlow: () => boolean): void {
    for (const one of this.#held.values()) {
      if (one.replicas === 0 && one.state !== null && !isSlow()) one.state = null;
      else if ((one.state === "starting" || one.state === "backing-off") && !isSlow()) one.state = "ready";
    }
    for (const one of this.#held.values()) {
      if (one.state === "waiting" && this.taken < this.gpus && !isSlow()) one.state = "starting";
    }
  }

  /** A replica's program ends by itself; the daemon starts it again. */
  crash(index: number): void {
    const running = this.held.filter(({ state }) => state === "ready" || state === "starting");
    const one = running[index % Math.max(1, running.length)];
    if (one === undefined) return;
    one.state = "backing-off";
    one.restarts++;
  }

  readonly client = {
    list: async () => {
      this.#asked();
      const gpus = Array.from({ length: this.gpus }, (_, index) => ({
        ...{ uuid: `GPU-${index}`, name: "NVIDIA H100 80GB HBM3", memory_total: 81_559, utilization: 0 },
        state: index < this.taken ? "leased" : "free",
      }));
      return { gpus, allocations: [], drain: null };
    },
  } as unknown as Client;

  readonly work = {
    workers: async () => [{ worker_id: "node-a" }],
    workloads: async () => {
      this.#asked();
      return this.held.map(recordOf);
    },
    createWorkload: async (document: string) => {
      const { id, name, labels, replicas } = JSON.parse(document);
      await this.#write(() => {
        if (this.#held.has(id)) throw new ApiProblem(409, "workload-exists", `${id} is there`);
        this.made.push(labels[LABEL.workload]);
        this.#held.set(id, { id, name, labels, replicas, state: "waiting", restarts: 0 });
      });
    },
    scale: async (id: string, replicas: number) => {
      await this.#write(() => {
        const one = this.#there(id);
        one.replicas = replicas;
        one.state = one.state === "waiting" ? null : "stopping";
      });
    },
    deleteWorkload: async (id: string) => {
      await this.#write(() => this.#held.delete(this.#there(id).id));
    },
  } as unknown as WorkClient;

  #there(id: string): Held {
    const one = this.#held.get(id);
    if (one === undefined) throw new ApiProblem(404, "workload-not-found", `there is no ${id}`);
    return one;
  }

  #asked(): void {
    if (this.line === "down") throw new Unreachable("nobody answers", true);
  }

  async #write(act: () => void): Promise<void> {
    this.#asked();
    this.writes++;
    act();
    if (this.line === "mute") throw new Unreachable("the answer is lost", false);
  }
}

function recordOf({ id, name, labels, replicas, state, restarts }: Held): WorkloadRecord {
  const has = state !== null && state !== "waiting";
  const run = {
    ...{ replica: 0, run_id: "run", node: has ? "node-a" : null, restarts, position: null, eta: null },
    ...{ state: state ?? "waiting", url: state === "ready" ? `http://127.0.0.1:1/${id}` : null },
    ...{ gpu_uuids: has ? ["GPU-0"] : [], reason: has ? null : "no-gpu-free" },
  };
  const status = {
    ...{ phase: "running", message: "", replicas, readyReplicas: state === "ready" ? 1 : 0 },
    nodes: state === null ? [] : [run],
  };
  return { id, name, owner: "me", labels, createdAt: "2026-01-01T00:00:00Z", status };
}
