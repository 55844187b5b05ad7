/**
 * Leases for programs: GPUs for as long as a block runs.
 *
 *   await using lease = await client.lease({ gpus: 2, memory: "20G", maxDuration: "8h" });
 */
import { Client, pause } from "./client.ts";
import { ApiProblem, type LeaseLost, NotGranted, Unreachable } from "./errors.ts";
import { parseMemoryMib } from "./memory.ts";
import { Renewal } from "./renewal.ts";
import type { AllocateBody, Allocation, Granted, Queued } from "./types.ts";

const DEFAULT_TTL = "2m";
const DEFAULT_PATIENCE_MS = 10_000;
const RETRY_MS = 1_000;
const LONG_POLL_MS = 30_000;

export interface LeaseOptions {
  readonly gpus?: number;
  /** Of each: `20G` (GiB), `20GB`, or MiB. */
  readonly memory?: string | number;
  readonly model?: string;
  readonly name?: string;
  readonly type?: string;
  readonly data?: Readonly<Record<string, unknown>>;
  readonly priority?: number;
  readonly ttl?: string | number;
  readonly maxDuration?: string | number;
  readonly shared?: boolean;
  readonly preemptible?: boolean;
  /** `true`: without end, the default; `false`: now or not at all; a duration: no longer. */
  readonly wait?: boolean | string | number;
  /** Gives up the waiting. */
  readonly signal?: AbortSignal;
  readonly onQueued?: (record: Allocation | Queued) => void;
  readonly onLost?: (lost: LeaseLost) => void;
}

export interface LeasingOptions {
  /** Whether the daemon shares this host: then one that refuses connections is down, and ends no lease. */
  readonly isLocal: boolean;
  /** Told of what is held; left out where nobody asks. */
  readonly held?: { add(lease: Lease): void; delete(lease: Lease): void };
}

/** A lease that is held and renewed until it is released. */
export class Lease {
  readonly record: Granted | Allocation;
  /** Aborted with {@link LeaseLost} when the lease is lost: for whatever takes a signal. */
  readonly signal: AbortSignal;
  readonly #client: Client;
  readonly #renewal: Renewal;
  readonly #loss = new AbortController();
  readonly #held: LeasingOptions["held"];
  #isReleased = false;

  constructor(
    client: Client,
    record: Granted | Allocation,
    heldAt: number,
    { isLocal, held }: LeasingOptions,
    onLost: (lost: LeaseLost) => void = () => {},
  ) {
    this.record = record;
    this.signal = this.#loss.signal;
    this.#client = client;
    this.#held = held;
    this.#renewal = new Renewal({
      client,
      lease: record,
      heldAt,
      isLocal,
      onLost: (lost) => {
        held?.delete(this);
        this.#loss.abort(lost);
        onLost(lost);
      },
    });
    held?.add(this);
    this.#renewal.start();
  }

  get id(): string {
    return this.record.id;
  }

  get devices(): NonNullable<Allocation["devices"]> {
    return this.record.devices ?? [];
  }

  /** What a program that uses the GPUs needs in its environment. */
  get env(): Record<string, string> {
    const given = Object.entries(this.record.env ?? {}).map(([name, value]) => [name, String(value)]);
    return {
      ...Object.fromEntries(given),
      NVIDIA_VISIBLE_DEVICES: (this.record.gpu_uuids ?? []).join(","),
      GPU_ORCHESTRATOR_ALLOCATION_ID: this.id,
    };
  }

  /** Why it is lost; `null`: it is held. Right also at once after a pause of the process. */
  get lost(): LeaseLost | null {
    return this.#renewal.lost;
  }

  /** @throws {LeaseLost} when the GPUs may be somebody else's. */
  check(): void {
    const { lost } = this;
    if (lost !== null) throw lost;
  }

  /** Gives the GPUs back; harmless when that was done already, and when the lease is lost. */
  async release(): Promise<void> {
    if (this.#isReleased) return;
    this.#isReleased = true;
    const { lost } = this;
    this.#renewal.stop();
    try {
      if (lost === null) await this.#client.remove(this.id, this.record.fencing_token);
    } catch (error) {
      if (!(error instanceof ApiProblem) || error.code !== "allocation-ended") throw error;
    } finally {
      this.#held?.delete(this);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}

/** The client with leases that are kept. */
export class LeasingClient extends Client {
  readonly #leasing: LeasingOptions;

  constructor(options: ConstructorParameters<typeof Client>[0] & LeasingOptions) {
    super({ patienceMs: DEFAULT_PATIENCE_MS, ...options });
    this.#leasing = options;
  }

  /** Asks, waits, and keeps what is granted until it is released. */
  async lease(options: LeaseOptions = {}): Promise<Lease> {
    const { signal, onQueued, onLost } = options;
    let heldAt = performance.now();
    const answer = await this.#asked(options);
    if (answer.status === "allocated") return new Lease(this, answer, heldAt, this.#leasing, onLost);
    onQueued?.(answer);
    try {
      const record = await this.#granted(answer.id, signal, onQueued);
      // The long poll was sent long before the grant: what counts is when a renewal was.
      heldAt = performance.now();
      const renewed = await this.renew(record.id, record.fencing_token);
      return new Lease(this, { ...record, ...renewed }, heldAt, this.#leasing, onLost);
    } catch (error) {
      // Whoever does not wait any more makes room at once.
      if (!(error instanceof NotGranted)) await this.remove(answer.id).catch(() => {});
      throw error;
    }
  }

  async #asked(options: LeaseOptions): Promise<Granted | Queued> {
    try {
      return await this.allocate(bodyOf(options), crypto.randomUUID());
    } catch (error) {
      if (!(error instanceof ApiProblem) || error.code !== "no-gpu-free") throw error;
      throw new NotGranted(null, "no-gpu-free", error.message);
    }
  }

  /** Over restarts of the daemon, which keeps the place in the queue. */
  async #granted(id: string, signal: AbortSignal | undefined, onQueued: LeaseOptions["onQueued"]): Promise<Allocation> {
    const options = signal === undefined ? {} : { signal };
    for (;;) {
      try {
        return await this.granted(id, onQueued, { ...options, waitMs: LONG_POLL_MS });
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        await pause(RETRY_MS, signal);
      }
    }
  }
}

function bodyOf(options: LeaseOptions): AllocateBody {
  const { gpus = 1, memory, model, name = "node", type, data, priority, ttl = DEFAULT_TTL, maxDuration } = options;
  const { shared, preemptible, wait = true } = options;
  return {
    service_name: name,
    required_gpus: gpus,
    ttl,
    ...(memory === undefined ? {} : { min_memory_mb: memoryOf(memory) }),
    ...(model === undefined ? {} : { gpu_model: model }),
    ...(type === undefined ? {} : { workload_type: type }),
    ...(data === undefined ? {} : { workload_data: { ...data } }),
    ...(priority === undefined ? {} : { priority }),
    ...(maxDuration === undefined ? {} : { max_duration: maxDuration }),
    ...(shared === true ? { sharing: "shared" as const } : {}),
    ...(preemptible === true ? { preemptible } : {}),
    ...(wait === false ? { queue: false } : {}),
    ...(typeof wait === "boolean" ? {} : { queue_timeout: wait }),
  };
}

function memoryOf(memory: string | number): number {
  const mib = typeof memory === "number" ? memory : parseMemoryMib(memory);
  if (mib === null) throw new RangeError(`${memory}: expected memory such as 20G (GiB), 20GB (10^9 bytes) or MiB`);
  return mib;
}
