/** What a node takes from its controller, message by message: over a real Redis, and without a worker. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { opened, signed } from "../../src/broker/messages.ts";
import type { ExecutorSettings } from "../../src/config/work.ts";
import { steadyClock } from "../../src/platform/clock.ts";
import { uptimeMark, uptimeMs } from "../../src/platform/uptime.ts";
import type { Assignment } from "../../src/work/model.ts";
import { Books } from "../../src/work-service/books.ts";
import { Member } from "../../src/work-service/elsewhere/member.ts";
import { NodeFiles } from "../../src/work-service/elsewhere/node-files.ts";
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
  #joinedAt = 0;
  lastSent: readonly string[] = [];

  constructor(hasWorker = true) {
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
    if (hasWorker) this.books.command({ type: "worker-reports", worker, runs: [] });
    onTestFinished(async () => {
      await this.leave();
      this.#store.close();
      rmSync(this.dir, { recursive: true, force: true });
    });
  }

  join(executors: Readonly<Record<string, ExecutorSettings>> = { process: EXECUTOR }): this {
    this.#joinedAt = Date.now();
    const times = { ttlMs: 120_000, intervalMs: 60_000, maxTasks: 10 };
    const settings = { url: redis.url, secret: SECRET, node: this.name, nodeUrl: null, ...times, executors };
    const files = new NodeFiles(this.dir, this.dir);
    const parts = { books: this.books, leases: new MemoryLeases(0), files, clock: steadyClock(), log: QUIET };
    this.#member = new Member(parts, settings);
    this.#member.start();
    return this;
  }

  get isUp(): boolean {
    return this.#member?.up === true;
  }

  async leave(inOrder = false): Promise<void> {
    await (inOrder ? this.#member?.leave() : this.#member?.stop());
    this.#member = null;
  }

  heard(at: number): void {
    writeFileSync(join(this.dir, "heard.json"), uptimeMark(at));
  }

  async tell(type: "assign" | "stop", assignment: Assignment, controller = "books-1"): Promise<void> {
    const { run, epoch } = assignment;
    const order = { run, epoch, signal: "TERM", graceMs: 1_000, to: "main" };
    const knows = type === "assign" ? await this.lastReport() : null;
    const body = type === "assign" ? { controller, name: "job", assignment, knows } : { controller, order };
    const message = { id: `1-${++this.#sent}`, type, node: this.name, assignment: run, epoch, body };
    await this.send(signed(message, commandsTo(this.name), SECRET));
  }

  async send(fields: readonly string[]): Promise<void> {
    this.lastSent = fields;
    await redis.call("XADD", commandsTo(this.name), "*", ...fields);
  }

  /** Of the process that lives. */
  async lastReport(): Promise<{ readonly instance: number; readonly seq: number }> {
    for (;;) {
      const reports = (await this.messages()).map(({ body }) => body as { instance: number; seq: number });
      const last = reports.findLast(({ instance }) => instance >= this.#joinedAt);
      if (last !== undefined) return { instance: last.instance, seq: last.seq };
      await pause(20);
    }
  }

  /** When what comes after it has been taken, so has what was told before. */
  async hasTaken(): Promise<void> {
    const last = anAssignment(`last-${++made}`);
    await this.tell("assign", last);
    await until("all was taken", () => this.books.state.tasks.get(last.run) !== undefined);
  }

  async messages() {
    const entries = (await redis.call("XRANGE", EVENTS_STREAM, "-", "+")) as [string, string[]][];
    return entries
      .flatMap(([, fields]) => opened(fields, EVENTS_STREAM, SECRET) ?? [])
      .filter(({ node }) => node === this.name);
  }

  async said(type: string) {
    return (await this.messages()).filter((one) => one.type === type);
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

  test("drops a copy of an assignment that a process before it was sent, though nothing is left of it here", async () => {
    const node = new Node().join();
    const given = anAssignment("copied");
    await node.tell("assign", given);
    const copy = node.lastSent;
    await until("it was taken", () => node.books.state.tasks.get("copied") !== undefined);
    node.books.command({ type: "cancel-task", id: "copied" });
    node.books.command({ type: "settle-origin", id: "copied" });
    await pause(5);
    node.books.command({ type: "remove-ended-tasks", before: node.books.now() + 1, keep: 0 });
    expect(node.books.state.tasks.get("copied")).toBeUndefined();
    await node.leave();
    await pause(5);
    node.join();
    await node.send(copy);
    await node.hasTaken();
    expect(node.books.state.tasks.get("copied")).toBeUndefined();
  });

  test("that has no worker yet is there all the same, and can run nothing", async () => {
    const node = new Node(false).join();
    await node.lastReport();
    const [hello] = await node.said("hello");
    expect(hello).toMatchObject({ body: { hasWorker: false, facts: { node: node.name, executors: [] } } });
  });

  test("that stops in order says so last, with what it has; one that is killed says nothing", async () => {
    const node = new Node().join();
    await node.tell("assign", anAssignment("kept"));
    await node.hasTaken();
    await node.leave();
    expect(await node.said("bye")).toEqual([]);
    await pause(5);
    node.join();
    await node.hasTaken();
    await node.leave(true);
    const last = (await node.messages()).at(-1);
    expect(last).toMatchObject({
      type: "bye",
      body: { runs: expect.arrayContaining([expect.objectContaining({ run: "kept" })]) },
    });
    expect(await redis.call("EXISTS", `gpuo:hb:${node.name}`)).toBe(0);
  });

  test("without a controller says what it is, and nothing of runs", async () => {
    const node = new Node().join();
    for (let i = 0; i < 500 && (await node.said("hello")).length === 0; i++) await pause(50);
    const [hello] = await node.said("hello");
    expect(hello).toMatchObject({ body: { controller: null, runs: null } });
  });
});
