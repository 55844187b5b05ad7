/**
 * MLOC's own protocol: its workers tell of themselves in hashes of Redis, and hear of a task by PUBLISH. Nothing of it is
 * signed or acknowledged, so a task that was published may have been started, whatever is heard afterwards.
 */
import { connectRedis, type Redis } from "./connection.ts";
import { fieldsIn } from "./flat.ts";
import type { Log } from "./streams.ts";

const WORKERS = "workers:ids";
const EVENTS = "workers.events";
/** Events come at once; this finds what no event told. */
const LOOK_MS = 1_000;
const PAUSE_MS = 500;

/** As it tells of itself. What it does not tell, or garbles, is empty. */
export interface MlocWorker {
  readonly id: string;
  readonly status: string;
  readonly startedAt: string | null;
  readonly pid: number | null;
  readonly env: unknown;
  readonly hardware: unknown;
  readonly tags: readonly string[];
  readonly lastSeen: string | null;
  readonly isStale: boolean;
  /** The last task that it began, and the last that it ended. */
  readonly began: string | null;
  readonly ended: string | null;
}

export class Mloc {
  readonly #url: string;
  readonly #log: Log;
  readonly #seen: (workers: readonly MlocWorker[]) => void;
  readonly #ending = new AbortController();
  #redis: Redis | null = null;
  #listening: Redis | null = null;
  #loop: Promise<void> | null = null;
  #wake: (() => void) | null = null;
  #saidDown = false;

  /** @param seen hears of all workers, again and again. */
  constructor(url: string, log: Log, seen: (workers: readonly MlocWorker[]) => void) {
    this.#url = url;
    this.#log = log;
    this.#seen = seen;
  }

  start(): void {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    this.#wake?.();
    this.#close();
    await this.#loop;
  }

  get up(): boolean {
    return this.#redis?.isOpen === true;
  }

  /** @returns how many heard it; `null`: Redis is not there, and nobody did. */
  async publish(topic: string, worker: string, message: object): Promise<number | null> {
    const redis = this.#redis;
    if (redis === null) return null;
    // As its own server does, so that whoever looks sees a worker that has work; but before, since a quick worker is done
    // before this call is back.
    const mark = (status: string) => redis.call(["HSET", `worker:${worker}`, "status", status]);
    await mark("RUNNING");
    const heard = Number(await redis.call(["PUBLISH", topic, JSON.stringify(message)]));
    if (heard === 0) await mark("IDLE");
    return heard;
  }

  /** Forgets those that have not been heard of. @returns how many. */
  async removeStale(): Promise<number> {
    const redis = this.#redis;
    if (redis === null) return 0;
    const stale = (await workersIn(redis)).filter(({ isStale }) => isStale);
    for (const { id } of stale) {
      await redis.call(["SREM", WORKERS, id]);
      await redis.call(["DEL", `worker:${id}`, `worker:${id}:hb`]);
      const event = { type: "UNREGISTER", worker_id: id, ts: new Date().toISOString() };
      await redis.call(["PUBLISH", EVENTS, JSON.stringify(event)]);
    }
    return stale.length;
  }

  #close(): void {
    this.#redis?.close();
    this.#listening?.close();
    this.#redis = null;
    this.#listening = null;
  }

  async #run(): Promise<void> {
    while (!this.#ending.signal.aborted) {
      try {
        await this.#session();
      } catch (error) {
        this.#close();
        if (this.#ending.signal.aborted) return;
        if (!this.#saidDown) this.#log.warn({ err: error }, "MLOC's Redis is not there");
        this.#saidDown = true;
        await this.#pause(PAUSE_MS);
      }
    }
  }

  async #session(): Promise<void> {
    const redis = await connectRedis(this.#url, this.#ending.signal);
    this.#redis = redis;
    this.#listening = await connectRedis(this.#url, this.#ending.signal);
    await this.#listening.subscribe(EVENTS, () => this.#wake?.());
    this.#saidDown = false;
    while (!this.#ending.signal.aborted) {
      this.#seen(await workersIn(redis));
      await this.#pause(LOOK_MS);
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake?.(), ms);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = null;
        resolve();
      };
      if (this.#ending.signal.aborted) this.#wake();
    });
  }
}

async function workersIn(redis: Redis): Promise<MlocWorker[]> {
  const ids = ((await redis.call(["SMEMBERS", WORKERS])) as readonly string[]).toSorted();
  const found: MlocWorker[] = [];
  for (const id of ids) {
    const fields = fieldsIn((await redis.call(["HGETALL", `worker:${id}`])) as readonly string[]);
    if (fields.size === 0) continue;
    const ttl = Number(await redis.call(["TTL", `worker:${id}:hb`]));
    found.push(workerOf(id, fields, ttl < 0));
  }
  return found;
}

function workerOf(id: string, fields: ReadonlyMap<string, string>, isStale: boolean): MlocWorker {
  const tags = jsonIn(fields.get("tags_json"));
  return {
    id,
    status: fields.get("status") ?? "UNKNOWN",
    startedAt: fields.get("started_at") ?? null,
    pid: Number(fields.get("pid")) || null,
    env: jsonIn(fields.get("env_json")) ?? {},
    hardware: jsonIn(fields.get("hardware_json")) ?? {},
    tags: Array.isArray(tags) ? tags.filter((tag) => typeof tag === "string") : [],
    lastSeen: fields.get("last_seen") ?? null,
    isStale,
    began: fields.get("extra_task_id") ?? null,
    ended: fields.get("extra_last_task") ?? null,
  };
}

function jsonIn(text: string | undefined): unknown {
  try {
    return text === undefined ? null : JSON.parse(text);
  } catch {
    return null;
  }
}
