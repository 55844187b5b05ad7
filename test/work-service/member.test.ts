/** What a node takes from its controller, message by message: over a real Redis, and without a worker. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { opened, signed } from "../../src/broker/messages.ts";
import type { ExecutorSettings } from "../../src/config/work.ts";
import { steadyClock } from "../../src/platform/clock.ts";
import { uptimeMark, uptimeMs } from "../../src/platform/uptime.ts";
import type { Assignment } from "../../src/work/wanted.ts";
import { Books } from "../../src/work-service/books.ts";
import { Member } from "../../src/work-service/elsewhere/member.ts";
import { commandsTo, EVENTS_STREAM } from "../../src/work-service/elsewhere/words.ts";
import { WorkStore } from "../../src/work-service/store.ts";
import { aTask } from "../work/fixtures.ts";
import { MemoryLeases, pause, until } from "../worker/site.ts";
import { BLANK, QUIET, SECRET } from "./hosts.ts";
import { hasRedis, NEEDS_REDIS, TestRedis } from "./redis.ts";

const FENCE_MS = 60_000;
let redis: TestRedis;
let made = 0;

beforeAll(async () => {
  if (hasRedis) redis = await TestRedis.start();
});
afterAll(async () => {
  if (hasRedis) await redis.stop();
});

const EXECUTOR: ExecutorSettings = { ...BLANK, type: "process", programs: ["/bin/true"] };

/** One host's books and its part in the cluster. Its worker has reported, and does nothing. */
class Node {
  readonly name = `node-${++made}`;
  readonly dir = mkdtempSync(join(tmpdir(), "gpuo-member-"));
  readonly #store = new WorkStore(join(this.dir, "work.db"));
  readonly books = new Books(this.#store, steadyClock());
  #member: Member | null = null;
  #sent = 0;

  constructor() {
    const worker = {
      node: this.name,
      instance: 1,
      pid: 1,
      startedAt: 0,
      bootId: "boot",
      executors: ["process"],
      topics: [],
      tags: [],
      labels: {},
      cage: "cgroup",
      endsSurely: true,
      hardware: {},
    };
    this.books.command({ type: "worker-reports", worker, runs: [] });
    onTestFinished(async () => {
      await this.leave();
      this.#store.close();
      rmSync(this.dir, { recursive: true, force: true });
    });
  }

  join(executors: Readonly<Record<string, ExecutorSettings>> = { process: EXECUTOR }): this {
    const times = { ttlMs: 120_000, intervalMs: 60_000, maxTasks: 10 };
    const where = { dir: this.dir, resultsDir: this.dir, nodeUrl: null };
    const settings = { url: redis.url, secret: SECRET, node: this.name, ...where, ...times, executors };
    this.#member = new Member(this.books, new MemoryLeases(0), settings, QUIET);
    this.#member.start();
    return this;
  }

  get isUp(): boolean {
    return this.#member?.up === true;
  }

  async leave(): Promise<void> {
    await this.#member?.stop();
    this.#member = null;
  }

  heard(at: number): void {
    writeFileSync(join(this.dir, "heard.json"), uptimeMark(at));
  }

  async tell(type: "assign" | "stop", assignment: Assignment, controller = "books-1"): Promise<void> {
    const { run, epoch } = assignment;
    const order = { run, epoch, signal: "TERM", graceMs: 1_000, to: "main" };
    const body = type === "assign" ? { controller, name: "job", assignment } : { controller, order };
    const message = { id: `1-${++this.#sent}`, type, node: this.name, assignment: run, epoch, body };
    await redis.call("XADD", commandsTo(this.name), "*", ...signed(message, commandsTo(this.name), SECRET));
  }

  /** When what comes after it has been taken, so has what was told before. */
  async hasTaken(): Promise<void> {
    const last = anAssignment(`last-${++made}`);
    await this.tell("assign", last);
    await until("all was taken", () => this.books.state.tasks.get(last.run) !== undefined);
  }

  async said(type: string) {
    const entries = (await redis.call("XRANGE", EVENTS_STREAM, "-", "+")) as [string, string[]][];
    const messages = entries.map(([, fields]) => opened(fields, EVENTS_STREAM, SECRET));
    return messages.flatMap((one) => (one?.type === type && one.node === this.name ? [one] : []));
  }
}

function anAssignment(run: string, fenceMs: number | null = null): Assignment {
  const { spec } = aTask("t", { gpus: 0 });
  const place = { job: run, owner: "alice", replica: 0, replicas: 1, epoch: ++made };
  return { run, kind: "task", ...place, spec, lease: null, fenceMs };
}

describe.skipIf(!hasRedis)(`a member (${NEEDS_REDIS})`, () => {
  test("takes nothing with a deadline that has passed, and takes it when it comes again after a heartbeat", async () => {
    const node = new Node();
    node.heard(uptimeMs() - FENCE_MS);
    node.join();
    const old = anAssignment("old", FENCE_MS);
    await node.tell("assign", old);
    await node.hasTaken();
    expect(node.books.state.tasks.get("old")).toBeUndefined();
    node.heard(uptimeMs());
    await node.tell("assign", old);
    await until("it was taken", () => node.books.state.tasks.get("old") !== undefined);
    expect(node.books.state.openRuns.get("old")).toBeDefined();
  });

  test("does not start what it has declined, however often it comes again", async () => {
    const node = new Node().join({});
    const given = anAssignment("declined");
    await node.tell("assign", given);
    await until("it was declined", () => node.books.state.tasks.get("declined") !== undefined);
    await node.leave();
    node.join();
    await node.tell("assign", given);
    await node.hasTaken();
    expect(node.books.state.tasks.get("declined")).toMatchObject({ status: "CANCELLED" });
    expect(node.books.state.runs.get("declined")).toBeUndefined();
  });

  test("says of what it is to stop and never had that it has it not", async () => {
    const node = new Node().join();
    await node.tell("stop", anAssignment("never-came"));
    await node.hasTaken();
    const declined = await node.said("declined");
    expect(declined.map(({ assignment }) => assignment)).toContain("never-came");
  });

  test("obeys the controller whose work it has, though the file is gone; a file that is garbled is no answer", async () => {
    const node = new Node().join();
    await node.hasTaken();
    await node.leave();
    const file = join(node.dir, "controller.json");
    writeFileSync(file, "{");
    expect(() => node.join()).toThrow(file);
    rmSync(file);
    node.join();
    await node.tell("assign", anAssignment("of-another"), "books-2");
    await node.hasTaken();
    expect(node.books.state.tasks.get("of-another")).toBeUndefined();
  });

  test("leaves nothing in Redis of what it has taken", async () => {
    const node = new Node().join();
    await node.tell("assign", anAssignment("taken"));
    await node.hasTaken();
    for (let i = 0; i < 500 && (await redis.call("XLEN", commandsTo(node.name))) !== 0; i++) await pause(20);
    expect(await redis.call("XLEN", commandsTo(node.name))).toBe(0);
  });

  test("is not up while Redis is full", async () => {
    const node = new Node().join();
    await node.hasTaken();
    expect(node.isUp).toBe(true);
    await redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1");
    onTestFinished(async () => void (await redis.call("CONFIG", "SET", "maxmemory", "0")));
    const [id = ""] = node.books.state.openTasks.values();
    node.books.command({ type: "cancel-task", id });
    await until("it is down", () => !node.isUp);
  });

  test("without a controller says what it is, and nothing of runs", async () => {
    const node = new Node().join();
    for (let i = 0; i < 500 && (await node.said("hello")).length === 0; i++) await pause(50);
    const [hello] = await node.said("hello");
    expect(hello).toMatchObject({ body: { controller: null, runs: null } });
  });
});
