/**
 * MLOC's workers over a real Redis. The worker here is a stand-in that speaks the protocol as its transcripts have it: hashes,
 * a heartbeat with a lifetime, events, and tasks by PUBLISH.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { connectRedis, type Redis } from "../../src/broker/connection.ts";
import { steadyClock } from "../../src/platform/clock.ts";
import { readTask } from "../../src/work/documents/task.ts";
import { Books } from "../../src/work-service/books.ts";
import { MlocNodes } from "../../src/work-service/elsewhere/mloc.ts";
import { Look } from "../../src/work-service/look.ts";
import { WorkStore } from "../../src/work-service/store.ts";
import { PROFILE, taskOf } from "../work/fixtures.ts";
import { MemoryLeases, until } from "../worker/site.ts";
import { hasRedis, NEEDS_REDIS, TestRedis } from "./redis.ts";

const QUIET = {
  info: () => undefined,
  warn: () => undefined,
  error: (_: object, message: string) => console.error(message),
};
const HARDWARE = {
  cpu: { logical_cores: 8 },
  memory: { total_bytes: 2 ** 40 },
  gpu: { gpus: [{ name: "NVIDIA H100" }] },
};

let redis: TestRedis;
const root = mkdtempSync(join(tmpdir(), "gpuo-mloc-"));
const cleanups: (() => void | Promise<void>)[] = [];

beforeAll(async () => {
  if (hasRedis) redis = await TestRedis.start();
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  await redis.call("FLUSHALL");
});
afterAll(async () => {
  if (hasRedis) await redis.stop();
  rmSync(root, { recursive: true, force: true });
});

/** A worker of MLOC's, as far as Redis sees it. */
class StandIn {
  readonly id: string;
  readonly tasks: { task_id: string; task: { kind: string }; assigned_worker: string }[] = [];
  #own!: Redis;
  #listening!: Redis;

  constructor(id: string) {
    this.id = id;
  }

  async start(isListening = true): Promise<this> {
    this.#own = await connectRedis(redis.url);
    this.#listening = await connectRedis(redis.url);
    cleanups.push(() => this.leave());
    if (isListening) {
      await this.#listening.subscribe("tasks.inference", (text) => {
        const task = JSON.parse(text);
        if (task.assigned_worker === this.id) this.tasks.push(task);
      });
    }
    const started = new Date().toISOString();
    const facts = ["status", "STARTING", "started_at", started, "pid", "4711", "last_seen", started];
    const told = ["env_json", "{}", "hardware_json", JSON.stringify(HARDWARE), "tags_json", '["a"]'];
    await this.#own.call(["SADD", "workers:ids", this.id]);
    await this.#own.call(["HSET", `worker:${this.id}`, "worker_id", this.id, ...facts, ...told]);
    await this.#own.call(["SETEX", `worker:${this.id}:hb`, "120", started]);
    await this.say("IDLE");
    return this;
  }

  async say(status: string, ...more: readonly string[]): Promise<void> {
    await this.#own.call(["HSET", `worker:${this.id}`, "status", status, ...more]);
    await this.#own.call(["PUBLISH", "workers.events", JSON.stringify({ type: "STATUS", worker_id: this.id, status })]);
  }

  begin(task: string): Promise<void> {
    return this.say("RUNNING", "extra_task_id", task);
  }

  end(task: string): Promise<void> {
    return this.say("IDLE", "extra_last_task", task);
  }

  async loseHeartbeat(): Promise<void> {
    await this.#own.call(["DEL", `worker:${this.id}:hb`]);
  }

  leave(): void {
    this.#own.close();
    this.#listening.close();
  }
}

class Orchestrator {
  readonly dir = mkdtempSync(join(root, "books-"));
  readonly results = join(this.dir, "results");
  #made = 0;
  books!: Books;
  nodes!: MlocNodes;
  #stop!: () => Promise<void>;

  start(): this {
    const store = new WorkStore(join(this.dir, "work.db"));
    this.books = new Books(store, steadyClock());
    const look = new Look(this.books, new MemoryLeases(0), steadyClock(), QUIET);
    this.nodes = new MlocNodes(this.books, { url: redis.url, executors: ["mloc"], resultsDir: this.results }, QUIET);
    this.nodes.start();
    this.#stop = async () => {
      look.stop();
      await this.nodes.stop();
      store.close();
    };
    cleanups.push(() => this.#stop());
    return this;
  }

  async restart(): Promise<void> {
    await this.#stop();
    cleanups.splice(cleanups.length - 1, 1);
    this.start();
  }

  submit(more: object = {}, hardware: object = { gpu: { type: "any", count: 1 } }): string {
    const spec = { resources: { replicas: 1, hardware: { cpu: "2", memory: "4Gi", ...hardware } }, ...more };
    const document = {
      apiVersion: "mloc/v1",
      kind: "InferenceTask",
      metadata: { name: "infer" },
      spec: { taskType: "inference", inference: { prompts: ["one"] }, ...spec },
    };
    const id = `task-${++this.#made}-${Date.now()}`;
    const read = readTask(document as never, { taskTypes: { inference: "mloc" }, byDefault: PROFILE });
    this.books.command({ type: "submit-task", task: taskOf(id, read, "alice", Date.now()), maxTasks: 100 });
    return id;
  }

  leave(id: string, text: string): void {
    mkdirSync(join(this.results, id), { recursive: true });
    writeFileSync(join(this.results, id, "responses.json"), text);
  }

  run(id: string) {
    return [...this.books.state.runs.values()].filter(({ job }) => job.uid === id).at(-1);
  }

  task(id: string) {
    return this.books.state.tasks.get(id);
  }

  async worker(id: string): Promise<void> {
    await until(`worker ${id} is seen`, () => this.books.state.workers.get(id)?.link?.isIdle === true);
  }

  isOver(id: string): Promise<void> {
    return until(`${id} is over`, () => ["DONE", "FAILED", "CANCELLED"].includes(this.task(id)?.status ?? ""));
  }
}

describe.skipIf(!hasRedis)(`MLOC's workers (${NEEDS_REDIS})`, () => {
  test("a task is published to an idle worker with the hardware, and done when its file is there", async () => {
    const own = new Orchestrator().start();
    const worker = await new StandIn("worker-1").start();
    await own.worker("worker-1");
    expect(own.books.state.workers.get("worker-1")).toMatchObject({ executors: ["mloc"], tags: ["a"], pid: 4711 });
    const [id, large] = [own.submit({ tags: ["a"] }), own.submit({}, { cpu: "16" })];
    await until("it is told to it", () => worker.tasks.length === 1);
    expect(worker.tasks[0]).toMatchObject({
      task_id: id,
      task: { kind: "InferenceTask" },
      assigned_worker: "worker-1",
    });
    expect(own.task(id)?.status).toBe("DISPATCHED");
    await worker.begin(id);
    await until("it runs", () => own.run(id)?.phase === "running");
    own.leave(id, JSON.stringify({ ok: true, items: [] }));
    await worker.end(id);
    await own.isOver(id);
    expect(own.task(id)).toMatchObject({ status: "DONE", error: null });
    expect(worker.tasks).toHaveLength(1);
    expect(own.run(large)).toMatchObject({ phase: "waiting", waiting: { reason: "no-suitable-worker" } });
  });

  test("what a worker garbles is empty, and stands in nobody's way", async () => {
    const own = new Orchestrator().start();
    const odd = { toString: 1, valueOf: 1 };
    const garbled = [
      { gpu: { gpus: {} } },
      { gpu: { gpus: [null, 5, { name: odd }] } },
      { gpu: null, cpu: null, memory: null },
      { cpu: { logical_cores: odd } },
      "x",
      null,
    ];
    for (const [i, hardware] of garbled.entries()) {
      const bad = await new StandIn(`bad-${i}`).start();
      await bad.say("IDLE", "hardware_json", JSON.stringify(hardware));
      await own.worker(bad.id);
    }
    await until("all of it was taken", () => own.books.state.workers.get("bad-0")?.hardware.cpu === undefined);
    const worker = await new StandIn("worker-1").start();
    await own.worker("worker-1");
    own.submit({}, { gpu: { type: "NVIDIA H100", count: 1 } });
    await until("it is told to the one that fits", () => worker.tasks.length === 1);
  });

  test("without a readable result it has failed as outcome-unknown, and is not tried again", async () => {
    const own = new Orchestrator().start();
    const worker = await new StandIn("worker-1").start();
    await own.worker("worker-1");
    const id = own.submit();
    expect(own.task(id)?.retry.lost).toBe(2);
    await until("it is told to it", () => worker.tasks.length === 1);
    await worker.begin(id);
    own.leave(id, "{");
    await worker.end(id);
    await own.isOver(id);
    expect(own.task(id)).toMatchObject({ status: "FAILED", error: expect.stringMatching(/^outcome-unknown/) });
    expect(worker.tasks).toHaveLength(1);
  });

  test("what nobody listened to has not begun, and goes to another worker", async () => {
    const own = new Orchestrator().start();
    await new StandIn("deaf").start(false);
    await own.worker("deaf");
    const id = own.submit();
    await until("it is back", () => (own.task(id)?.slots[0]?.avoid ?? []).length === 1);
    expect(await redis.call("HGET", "worker:deaf", "status")).toBe("IDLE");
    const worker = await new StandIn("hears").start();
    await until("it is told to the other", () => worker.tasks.length === 1);
    own.leave(id, '{"ok": true}');
    await worker.end(id);
    await own.isOver(id);
    expect(own.task(id)?.status).toBe("DONE");
  });

  test("a worker has one task at a time, over a restart of the daemon too, and none is published twice", async () => {
    const own = new Orchestrator().start();
    const worker = await new StandIn("worker-1").start();
    await own.worker("worker-1");
    const [first, second] = [own.submit(), own.submit()];
    await until("the first is told to it", () => worker.tasks.length === 1);
    await worker.begin(first);
    await until("it runs", () => own.run(first)?.phase === "running");
    expect(own.run(second)).toMatchObject({ phase: "waiting", waiting: { reason: "workers-busy" } });
    await own.restart();
    own.leave(first, '{"ok": false}');
    await worker.end(first);
    await own.isOver(first);
    expect(own.task(first)).toMatchObject({
      status: "FAILED",
      error: "its responses.json says ok: false, or is no JSON",
    });
    await until("the second is told to it", () => worker.tasks.length === 2);
    expect(worker.tasks.map(({ task_id }) => task_id)).toEqual([first, second]);
    own.leave(second, '{"ok": true}');
    await worker.end(second);
    await own.isOver(second);
  });

  test("what a worker had whose heartbeat ran out is unknown, and clean-up forgets the worker", async () => {
    const own = new Orchestrator().start();
    const worker = await new StandIn("worker-1").start();
    await own.worker("worker-1");
    const id = own.submit();
    await until("it is told to it", () => worker.tasks.length === 1);
    await worker.begin(id);
    await worker.loseHeartbeat();
    await own.isOver(id);
    expect(own.task(id)?.error).toMatch(/^outcome-unknown: its worker is not heard of/);
    expect(await own.nodes.removeStale()).toBe(1);
    expect(await redis.call("SMEMBERS", "workers:ids")).toEqual([]);
    await until("it is forgotten", () => own.books.state.workers.size === 0);
  });
});
