/** The calls for work: what the daemon runs, beside what it leases. */
import { problemIn } from "./problem.ts";
import type { Reply, Transport } from "./transport.ts";

const CALL_TIMEOUT_MS = 90_000;

/** Of a task, as `GET /api/v1/tasks/{id}` has it: what the verbs look at. */
export interface TaskRecord {
  readonly task_id: string;
  readonly name: string;
  readonly owner: string;
  readonly status: "PENDING" | "DISPATCHED" | "DONE" | "FAILED" | "CANCELLED";
  readonly error: string | null;
  readonly reason: string | null;
  readonly submitted_at: string;
  readonly exit_code: number | null;
  readonly attempts: readonly { readonly run_id: string; readonly gpu_uuids: readonly string[] }[];
}

export interface WorkloadRecord {
  readonly id: string;
  readonly name: string;
  readonly owner: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAt: string;
  /** Absent: nothing has been measured. Parts of what was asked for. */
  readonly metrics?: { readonly cpuUsage: number | null; readonly memoryUsage: number | null };
  readonly status: {
    readonly phase: string;
    readonly message: string;
    readonly replicas: number;
    readonly readyReplicas: number;
    readonly nodes: readonly {
      readonly replica: number;
      readonly run_id: string | null;
      readonly url: string | null;
      readonly node: string | null;
      readonly state: string;
      readonly restarts: number;
      readonly gpu_uuids: readonly string[];
      readonly reason: string | null;
      readonly position: number | null;
      readonly eta: string | null;
    }[];
  };
}

export interface WorkerRecord {
  readonly worker_id: string;
  readonly status: string;
  readonly last_seen: string;
  readonly stale: boolean;
  readonly executors: readonly string[];
  readonly cage: string;
  readonly runs: readonly string[];
}

/** One try of a task or replica, as `GET /work` has it. */
export interface RunLine {
  readonly run_id: string;
  readonly replica: number;
  readonly state: "waiting" | "assigned" | "starting" | "running" | "ready" | "unready" | "stopping" | "ended";
  /** `null`: none has it yet. */
  readonly node: string | null;
  readonly gpu_uuids: readonly string[];
  readonly started_at: string | null;
  readonly ended_at: string | null;
  readonly end_reason: string | null;
  readonly exit_code: number | null;
}

/** `GET /runs/{id}`. */
export interface RunRecord extends RunLine {
  readonly owner: string;
  readonly port: number | null;
  readonly detail: string | null;
  readonly signal: string | null;
  readonly reason: string | null;
  readonly position: number | null;
  readonly eta: string | null;
  readonly cage: string | null;
  /** Which hold for it there. */
  readonly limits: readonly string[] | null;
  /** Which its books were, of one that runs and whose books are lost. */
  readonly lost_books?: string;
}

/** Of a task in `GET /work`. */
export interface TaskLine extends Omit<TaskRecord, "attempts" | "submitted_at"> {
  readonly position: number | null;
  readonly eta: string | null;
  readonly submitted_at: string | null;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly cancelling: boolean;
  /** What each replica asks for. */
  readonly gpus: number;
  readonly replicas: number;
  readonly retries: number;
  readonly max_retries: number;
  /** Newest first, twelve at most. */
  readonly runs: readonly RunLine[];
}

/** Of a workload in `GET /work`. */
export interface WorkloadLine extends Omit<WorkloadRecord, "createdAt"> {
  readonly createdAt: string | null;
  /** Its runs are being stopped. */
  readonly deleted: boolean;
  /** Newest first, twelve at most. */
  readonly runs: readonly RunLine[];
}

/** `GET /work`: what there is to see of work, whoever looks. */
export interface WorkOverview {
  readonly counts: {
    readonly workloads: number;
    readonly open_tasks: number;
    readonly tasks: number;
    readonly runs: number;
  };
  /** The newest 200. */
  readonly workloads: readonly WorkloadLine[];
  /** The 500 oldest that are open, then the 50 that ended last. */
  readonly tasks: readonly TaskLine[];
}

export interface WorkClientOptions {
  readonly transport: Transport;
  readonly key: () => string | null;
}

export class WorkClient {
  readonly #options: WorkClientOptions;

  constructor(options: WorkClientOptions) {
    this.#options = options;
  }

  submitTask(yaml: string, idempotencyKey: string): Promise<Readonly<Record<string, unknown>>> {
    return this.#json("POST", "/api/v1/tasks", yaml, {
      "content-type": "application/yaml",
      "idempotency-key": idempotencyKey,
    });
  }

  createWorkload(yaml: string, idempotencyKey: string): Promise<WorkloadRecord> {
    return this.#json("POST", "/workloads", yaml, {
      "content-type": "application/yaml",
      "idempotency-key": idempotencyKey,
    });
  }

  planTask(yaml: string): Promise<Readonly<Record<string, unknown>>> {
    return this.#json("POST", "/api/v1/tasks/plan", yaml, { "content-type": "application/yaml" });
  }

  tasks(): Promise<readonly TaskRecord[]> {
    return this.#json("GET", "/api/v1/tasks");
  }

  /** @param wait such as `30s`: the answer is held until the task is over, for so long. */
  task(id: string, wait?: string): Promise<TaskRecord> {
    return this.#json("GET", `/api/v1/tasks/${encodeURIComponent(id)}${wait === undefined ? "" : `?wait=${wait}`}`);
  }

  cancelTask(id: string): Promise<TaskRecord> {
    return this.#json("DELETE", `/api/v1/tasks/${encodeURIComponent(id)}`);
  }

  result(id: string): Promise<unknown> {
    return this.#json("GET", `/api/v1/tasks/${encodeURIComponent(id)}/result`);
  }

  workloads(): Promise<readonly WorkloadRecord[]> {
    return this.#json("GET", "/workloads");
  }

  workload(id: string): Promise<WorkloadRecord> {
    return this.#json("GET", `/workloads/${encodeURIComponent(id)}`);
  }

  deleteWorkload(id: string): Promise<null> {
    return this.#json("DELETE", `/workloads/${encodeURIComponent(id)}`);
  }

  scale(id: string, replicas: number): Promise<WorkloadRecord> {
    const body = JSON.stringify({ replicas });
    return this.#json("PATCH", `/workloads/${encodeURIComponent(id)}`, body, { "content-type": "application/json" });
  }

  label(id: string, labels: Readonly<Record<string, string>>): Promise<WorkloadRecord> {
    const body = JSON.stringify({ labels });
    return this.#json("PATCH", `/workloads/${encodeURIComponent(id)}`, body, { "content-type": "application/json" });
  }

  stopRun(id: string): Promise<unknown> {
    return this.#json("POST", `/runs/${encodeURIComponent(id)}/stop`);
  }

  runs(): Promise<readonly RunRecord[]> {
    return this.#json("GET", "/runs");
  }

  /** Of lost books, with the others of its task or workload. An admin's. */
  adoptRun(id: string): Promise<RunRecord> {
    return this.#json("POST", `/runs/${encodeURIComponent(id)}/adopt`);
  }

  workers(): Promise<readonly WorkerRecord[]> {
    return this.#json("GET", "/workers");
  }

  /** What a run has written, as it comes; with `follow` until the run ends. */
  async *logs(
    run: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): AsyncGenerator<string, void, undefined> {
    const path = `/runs/${encodeURIComponent(run)}/logs?${new URLSearchParams(query)}`;
    const reply = await this.#send("GET", path, null, {}, signal);
    if (reply.status !== 200) throw problemIn(reply, await reply.text());
    const decoder = new TextDecoder();
    for await (const piece of reply.pieces()) yield decoder.decode(piece, { stream: true });
  }

  async #json<T>(
    method: string,
    path: string,
    body: string | null = null,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<T> {
    const reply = await this.#send(method, path, body, headers, AbortSignal.timeout(CALL_TIMEOUT_MS));
    const text = await reply.text();
    if (reply.status < 200 || reply.status >= 300) throw problemIn(reply, text);
    return (text === "" ? null : JSON.parse(text)) as T;
  }

  #send(
    method: string,
    path: string,
    body: string | null,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Reply> {
    const key = this.#options.key();
    const authorization = key === null ? {} : { authorization: `Bearer ${key}` };
    return this.#options.transport({
      method,
      path,
      headers: { accept: "application/json, text/plain", ...authorization, ...headers },
      body,
      signal,
    });
  }
}
