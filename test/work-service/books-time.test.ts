/** The wall clock is set between two processes of a daemon: what is due is due when it was, and nothing is long overdue. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import type { RunOnNode, Slot, WorkerFacts } from "../../src/work/model.ts";
import { Books } from "../../src/work-service/books.ts";
import { WorkStore } from "../../src/work-service/store.ts";
import { aTask } from "../work/fixtures.ts";

const dir = mkdtempSync(join(tmpdir(), "gpuo-time-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const DAY = 86_400_000;
const NOON = 1_800_000_000_000;
const WORKER: WorkerFacts = {
  node: "node-1",
  instance: 1,
  pid: 1,
  startedAt: 1,
  bootId: "boot-1",
  executors: ["process"],
  topics: [],
  tags: [],
  labels: {},
  cage: "cgroup",
  endsSurely: true,
  hardware: {},
};

class Daemons {
  readonly #path: string;
  #store: WorkStore | null = null;
  books!: Books;

  constructor(name: string) {
    this.#path = join(dir, name);
  }

  /** The next process, by the wall clock and the uptime of the host. @returns by how much the books have moved. */
  start(at: number, uptimeMs: number, bootId = "boot-1"): number {
    this.#store?.close();
    this.#store = new WorkStore(this.#path);
    const moved = this.#store.moveTo({ at, bootId, uptimeMs });
    this.books = new Books(this.#store, new ManualClock(at));
    return moved;
  }

  report(phase: "running" | "ended", startedAt: number): void {
    const end = { at: 1, reason: null, detail: "", exitCode: 1, signal: null, resultOk: null, tail: [] };
    const ended = phase === "ended" ? end : null;
    const runs = [{ run: "run-task-0-1", phase, startedAt, port: null, ended, published: false }];
    this.books.command({ type: "worker-reports", worker: WORKER, runs });
  }

  /** A task that runs, by the clock of its worker. */
  run(startedAt: number, spec: object): void {
    this.books.command({ type: "worker-reports", worker: WORKER, runs: [] });
    const task = { ...aTask("task", { gpus: 0, spec }), submittedAt: this.books.now() };
    this.books.command({ type: "submit-task", task, maxTasks: 9 });
    this.books.command({ type: "hand-out", node: "node-1", instance: 1 });
    this.report("running", startedAt);
  }

  get runs(): RunOnNode {
    return [...this.books.state.runs.values()].at(-1) as RunOnNode;
  }

  get slot(): Slot {
    return this.books.state.tasks.get("task")?.slots[0] as Slot;
  }

  close(): void {
    this.#store?.close();
  }
}

const HOURS_AHEAD = [
  ["set back by a day", -DAY],
  ["set ahead by a day", DAY],
] as const;

describe.each(HOURS_AHEAD)("a clock that was %s", (_, set) => {
  test("leaves what runs the time that it had, and no more", () => {
    const daemons = new Daemons(`runs${set}`);
    daemons.start(NOON, 1_000_000);
    daemons.run(NOON, { timeout: "1h" });
    // Ten minutes later by the host's own uptime.
    expect(daemons.start(NOON + 600_000 + set, 1_600_000)).toBe(set);
    expect(daemons.books.state.workers.get("node-1")?.lastSeen).toBe(NOON + set);
    daemons.report("running", NOON);
    expect(daemons.runs).toMatchObject({ phase: "running", startedAt: NOON + set });
    expect(daemons.books.state.workers.get("node-1")?.lastSeen).toBe(NOON + 600_000 + set);
    expect(daemons.start(NOON + 3_599_000 + set, 4_599_000)).toBe(0);
    daemons.books.command({ type: "tick" });
    expect(daemons.runs.phase).toBe("running");
    daemons.start(NOON + 3_600_000 + set, 4_600_000);
    daemons.books.command({ type: "tick" });
    expect(daemons.runs).toMatchObject({ phase: "stopping", why: "timeout" });
    daemons.close();
  });

  test("leaves back-off as long as it was", () => {
    const daemons = new Daemons(`backs-off${set}`);
    daemons.start(NOON, 1_000_000);
    daemons.run(NOON, { retry: { max: 3, backoff: "10m", max_backoff: "10m" } });
    daemons.report("ended", NOON);
    const leftMs = (daemons.slot.nextAt as number) - NOON;
    expect(leftMs).toBeGreaterThan(400_000);
    daemons.start(NOON + 60_000 + set, 1_060_000);
    expect(daemons.slot.nextAt).toBe(NOON + leftMs + set);
    daemons.close();
  });
});

test("a clock that was ahead and was set right moves the books once, however often the daemon starts after that", () => {
  const daemons = new Daemons("set-right");
  const HOUR = 3_600_000;
  daemons.start(NOON + HOUR, 1_000);
  daemons.run(NOON + HOUR, { timeout: "1h" });
  daemons.books.command({ type: "submit-task", task: { ...aTask("waits"), submittedAt: NOON + HOUR }, maxTasks: 9 });
  const moved = [1, 5, 10].map((minutes) => daemons.start(NOON + minutes * 60_000, 1_000 + minutes * 60_000));
  expect(moved).toEqual([-HOUR, 0, 0]);
  daemons.books.command({ type: "tick" });
  expect(daemons.books.state.runs.get("run-task-0-1")).toMatchObject({ phase: "running", startedAt: NOON });
  daemons.close();
});

test("what has ended and stays where it was, its results not in their place yet, moves nothing again", () => {
  const daemons = new Daemons("ended");
  const HOUR = 3_600_000;
  daemons.start(NOON + HOUR, 1_000);
  daemons.run(NOON + HOUR, {});
  daemons.report("ended", NOON + HOUR);
  expect(daemons.books.state.runs.get("run-task-0-1")).toMatchObject({ phase: "ended", publish: "wanted" });
  const moved = [1, 5].map((minutes) => daemons.start(NOON + minutes * 60_000, 1_000 + minutes * 60_000));
  expect(moved).toEqual([-HOUR, 0]);
  daemons.close();
});

test("over a boot of the host a clock that is behind has let no time pass; one that is ahead is believed", () => {
  const daemons = new Daemons("boots");
  daemons.start(NOON, 1_000_000);
  daemons.run(NOON, { timeout: "1h" });
  expect(daemons.start(NOON - DAY, 5_000, "boot-2")).toBe(-DAY);
  expect(daemons.runs.startedAt).toBe(NOON - DAY);
  expect(daemons.start(NOON + DAY, 5_000, "boot-3")).toBe(0);
  daemons.close();
});

test("the uptime of a container that was started anew is none of the host's", () => {
  const daemons = new Daemons("container");
  daemons.start(NOON, 1_000_000);
  daemons.run(NOON, { timeout: "1h" });
  expect(daemons.start(NOON + 60_000, 2_000)).toBe(0);
  daemons.close();
});

test("when a run began is by the books' clock, whatever the worker's shows", () => {
  const daemons = new Daemons("other-clock");
  daemons.start(NOON, 1_000_000);
  daemons.run(NOON - DAY, { timeout: "1h" });
  expect(daemons.runs).toMatchObject({ phase: "running", startedAt: NOON });
  daemons.close();
  const ahead = new Daemons("clock-ahead");
  ahead.start(NOON, 1_000_000);
  ahead.run(NOON + DAY, { timeout: "1h" });
  expect(ahead.runs.startedAt).toBe(NOON);
  ahead.close();
});
