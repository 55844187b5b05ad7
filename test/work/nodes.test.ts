/** What is proposed to nodes with a daemon of their own, and what becomes of it when they say no or nothing at all. */
import { expect, test } from "vitest";
import type { WorkCommand } from "../../src/work/commands.ts";
import { decide } from "../../src/work/decide.ts";
import { readTask } from "../../src/work/documents/task.ts";
import type { Run, RunSeen, WorkerFacts } from "../../src/work/model.ts";
import {
  assignedTask,
  betterElsewhere,
  fenceMsOf,
  isSuperseded,
  reportTo,
  wantedOfNode,
} from "../../src/work/nodes.ts";
import { emptyWork, type WorkState } from "../../src/work/state.ts";
import { countedOn, mayAsk } from "../../src/work/wanted.ts";
import { document, TASK_SETTINGS, taskOf } from "./fixtures.ts";

const LINK = { kind: "member", gpus: [], url: null, isIdle: true } as const;

const FACTS: Omit<WorkerFacts, "node"> = {
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

class Books {
  state: WorkState = emptyWork();
  now = 1_000_000;
  #seq = 0;

  do(command: WorkCommand): void {
    this.state = decide(this.state, command, this.now).state;
  }

  times = { ttlMs: 120_000, intervalMs: 30_000 };

  node(node: string, freeGpus: number, runs: readonly RunSeen[] | null = [], seq = ++this.#seq): void {
    const facts: WorkerFacts = { ...FACTS, node, freeGpus, link: { ...LINK, ...this.times, seq } };
    this.do({ type: "worker-reports", worker: facts, runs });
  }

  submit(id: string, spec: object = {}, gpus = 1): void {
    const resources = { hardware: { gpu: { count: gpus } } };
    const draft = readTask(document({ resources, ...spec }) as never, TASK_SETTINGS);
    this.do({ type: "submit-task", task: taskOf(id, draft, "alice", this.now), maxTasks: 100 });
  }

  run(id: string): Run & { readonly node: string } {
    return [...this.state.runs.values()].filter(({ job }) => job.uid === id).at(-1) as never;
  }

  /** The node that it was proposed to has it, and runs it. */
  begin(id: string, node: string): RunSeen {
    this.do({ type: "hand-out", node, instance: 1 });
    const lease = { allocationId: "a", gpuUuids: ["GPU-1"], gpuIndices: [], env: {}, fencingToken: 1 };
    const seen = { run: this.run(id).id, phase: "running", startedAt: this.now, port: null } as const;
    return { ...seen, ended: null, published: false, lease: { ...lease, elsewhere: true }, waiting: null };
  }
}

test("a run is proposed to who can start it now, then to who has the fewest GPUs left, and no lease is asked for here", () => {
  const books = new Books();
  books.node("full", 0);
  books.node("wide", 8);
  books.node("near", 2);
  books.submit("t", {}, 2);
  expect(books.run("t")).toMatchObject({ phase: "assigned", node: "near", lease: null });
  // What it has been given since its last word is not free there any more.
  books.submit("u", {}, 1);
  expect(books.run("u")).toMatchObject({ node: "wide" });
  expect(mayAsk(books.state, 10, books.now)).toEqual([]);
});

test("a lease of another node is shown, and never looked after here", () => {
  const books = new Books();
  books.node("a", 1);
  books.submit("t");
  books.node("a", 0, [books.begin("t", "a")]);
  expect(books.run("t")).toMatchObject({ phase: "running", lease: { gpuUuids: ["GPU-1"] } });
  expect(countedOn(books.state)).toEqual([]);
});

test("a node that declines is not asked again for a while; when nobody is left for good the task has failed", () => {
  const books = new Books();
  books.node("a", 4);
  books.node("b", 8);
  books.submit("t");
  const decline = (forGood: boolean) =>
    books.do({ type: "run-declined", run: books.run("t").id, why: "never-fits: too small", forGood });
  expect(books.run("t").node).toBe("a");
  decline(true);
  books.now += 2_000;
  books.do({ type: "tick" });
  expect(books.run("t")).toMatchObject({ phase: "assigned", node: "b" });
  decline(false);
  books.now += 2_000;
  books.do({ type: "tick" });
  expect(books.run("t")).toMatchObject({ phase: "waiting", waiting: { reason: "nodes-declined" } });
  books.now += 30_000;
  books.node("b", 8);
  expect(books.run("t")).toMatchObject({ phase: "assigned", node: "b" });
  decline(true);
  expect(books.state.tasks.get("t")).toMatchObject({ status: "FAILED", error: "never-fits: too small" });
});

test("a node that was asked to give a run back has not declined it: when the other is full by then, it is asked again at once", () => {
  const books = new Books();
  books.node("a", 0);
  books.submit("t");
  books.do({ type: "hand-out", node: "a", instance: 1 });
  const waiting = { reason: "0 GPUs free", position: 1, etaLatest: null };
  const nothing = { run: books.run("t").id, startedAt: null, port: null, published: false, lease: null };
  const queued: RunSeen = { ...nothing, phase: "starting", ended: null, waiting };
  books.node("a", 0, [queued]);
  books.node("b", 1);
  const could = betterElsewhere(books.state, books.now);
  expect(could.map(({ id }) => id)).toEqual([queued.run]);
  books.do({ type: "recall-run", run: queued.run });
  const cancelled = { at: books.now, reason: "cancelled", detail: "the task was cancelled", exitCode: null } as const;
  const ended = { ...cancelled, signal: null, resultOk: null, tail: [] };
  books.node("b", 0);
  books.node("a", 1, [{ ...nothing, phase: "ended", ended, waiting: null }]);
  books.now += 1_000;
  books.do({ type: "tick" });
  expect(books.run("t")).toMatchObject({ phase: "assigned", node: "a" });
  // What it was not asked for, its own people have cancelled there.
  books.do({ type: "hand-out", node: "a", instance: 1 });
  const again = { ...nothing, run: books.run("t").id };
  books.node("a", 1, [{ ...again, phase: "ended", ended, waiting: null }]);
  books.now += 1_000;
  books.do({ type: "tick" });
  expect(books.run("t")).toMatchObject({ phase: "assigned", node: "b" });
});

test("a run of a silent node counts as a start, though nobody has said that it began", () => {
  const books = new Books();
  books.node("a", 8);
  books.submit("t", { retry: { lost: 1, backoff: "1s" } });
  for (const node of ["a", "b"]) {
    books.begin("t", node);
    books.now += 125_000;
    if (node === "a") books.node("b", 8);
    books.do({ type: "nodes-silent", nodes: [node] });
    books.now += 5_000;
    books.do({ type: "tick" });
  }
  expect(books.state.tasks.get("t")).toMatchObject({ status: "FAILED", slots: [{ tries: 2, losses: 2, deaths: 0 }] });
});

test("no more is asked back than others have room for, and what is on its way has its place", () => {
  const books = new Books();
  books.node("a", 0);
  for (const id of ["t", "u", "v"]) books.submit(id);
  books.do({ type: "hand-out", node: "a", instance: 1 });
  const waiting = { reason: "0 GPUs free", position: 1, etaLatest: null };
  const queued = ["t", "u", "v"].map((id) => {
    const nothing = { startedAt: null, port: null, published: false, lease: null, ended: null };
    return { ...nothing, run: books.run(id).id, phase: "starting" as const, waiting };
  });
  books.node("a", 0, queued);
  books.node("b", 2);
  const ids = () => betterElsewhere(books.state, books.now).map(({ job }) => job.uid);
  expect(ids()).toEqual(["t", "u"]);
  books.do({ type: "recall-run", run: books.run("v").id });
  expect(ids()).toEqual(["v", "t"]);
  books.node("b", 0);
  expect(ids()).toEqual([]);
});

test("the room that a run was asked back for is its own: who comes later does not take it, unless the run never comes", () => {
  const books = new Books();
  books.node("a", 0);
  books.submit("t");
  books.do({ type: "hand-out", node: "a", instance: 1 });
  const waiting = { reason: "0 GPUs free", position: 1, etaLatest: null };
  const nothing = { startedAt: null, port: null, published: false, lease: null, ended: null };
  books.node("a", 0, [{ ...nothing, run: books.run("t").id, phase: "starting", waiting }]);
  books.node("b", 2);
  books.do({ type: "recall-run", run: books.run("t").id });
  books.submit("u");
  books.submit("v");
  // One of the two GPUs is taken by the first of them, the other one is kept.
  expect(books.run("u")).toMatchObject({ phase: "assigned", node: "b" });
  expect(books.run("v")).toMatchObject({ phase: "assigned", node: "a" });
  const cancelled = { at: books.now, reason: "cancelled", detail: "the task was cancelled", exitCode: null } as const;
  const ended = { ...cancelled, signal: null, resultOk: null, tail: [] };
  books.node("a", 0, [{ ...nothing, run: books.run("t").id, phase: "ended", ended, waiting: null }]);
  books.do({ type: "tick" });
  expect(books.run("t")).toMatchObject({ phase: "assigned", node: "b" });
});

test("what is on its way to a node is bounded, and more is handed out as it says what it has", () => {
  const books = new Books();
  books.node("a", 1);
  for (let i = 0; i < 60; i++) books.submit(`t${i}`);
  books.do({ type: "hand-out", node: "a", instance: 1 });
  const underway = () => wantedOfNode(books.state, "a", []).assign.map(({ assignment }) => assignment.run);
  expect(underway()).toHaveLength(50);
  books.do({ type: "hand-out", node: "a", instance: 1 });
  expect(underway()).toHaveLength(50);
  const nothing = { startedAt: null, port: null, published: false, lease: null, ended: null, waiting: null };
  const has = underway().slice(0, 20);
  books.node(
    "a",
    0,
    has.map((run) => ({ ...nothing, run, phase: "starting" })),
  );
  books.do({ type: "hand-out", node: "a", instance: 1 });
  expect(underway()).toHaveLength(40);
});

test("a node that was not heard of has declined nothing, and is asked as soon as it is back", () => {
  const books = new Books();
  books.node("a", 1);
  books.submit("t");
  books.now += 125_000;
  books.do({ type: "nodes-silent", nodes: ["a"] });
  books.now += 1_000;
  books.do({ type: "tick" });
  expect(books.run("t")).toMatchObject({ phase: "waiting", waiting: { reason: "worker-stale" } });
  books.node("a", 1);
  expect(books.run("t")).toMatchObject({ phase: "assigned", node: "a" });
});

test("a run may start elsewhere only where its holder ends it in time", () => {
  const read = (spec: object) => taskOf("t", readTask(document(spec) as never, TASK_SETTINGS));
  const fence = (spec: object, ttlMs = 120_000) => fenceMsOf(read(spec), { ttlMs, intervalMs: 30_000 });
  expect(fence({ retry: { lost: 1 }, stop: { grace: "20s" } })).toBe(120_000 - 20_000 - 15_000);
  expect(fence({})).toBeNull();
  expect(fence({ retry: { lost: 1 }, stop: { grace: "45s" } })).not.toBeNull();
  expect(fence({ retry: { lost: 1 }, stop: { grace: "46s" } })).toBeNull();
});

test("of a silent node, what has a deadline there starts elsewhere under a later epoch, and the rest is waited for", () => {
  const books = new Books();
  books.node("a", 8);
  books.submit("moves", { retry: { lost: 1, backoff: "1s" } });
  books.submit("waits");
  const [moves, waits] = [books.begin("moves", "a"), books.begin("waits", "a")];
  books.node("a", 6, [moves, waits]);
  const { epoch } = books.run("moves");
  books.now += 125_000;
  books.node("b", 8);
  books.do({ type: "nodes-silent", nodes: ["a"] });
  expect(books.run("moves")).toMatchObject({ phase: "ended", reason: "lost" });
  books.now += 5_000;
  books.do({ type: "tick" });
  expect(books.run("moves")).toMatchObject({ phase: "assigned", node: "b" });
  expect(books.run("moves").epoch).toBeGreaterThan(epoch);
  expect(books.run("waits")).toMatchObject({ phase: "running", node: "a" });
  // It is back, with both: one goes on, the other is to stop.
  books.node("a", 6, [moves, waits]);
  const wanted = wantedOfNode(books.state, "a", [moves, waits]);
  expect(wanted.stop.map(({ run }) => run)).toEqual([moves.run]);
  expect(books.run("waits").phase).toBe("running");
});

test("a run on a silent node has the deadline that its node was told, whatever the settings say since", () => {
  const books = new Books();
  const retry = { lost: 1, backoff: "1s" };
  books.times = { ttlMs: 60_000, intervalMs: 10_000 };
  books.node("a", 8);
  books.submit("without", { retry, stop: { grace: "40s" } });
  books.submit("with", { retry, stop: { grace: "20s" } });
  const both = [books.begin("without", "a"), books.begin("with", "a")];
  const silentFor = (ms: number, ttlMs: number) => {
    books.times = { ttlMs, intervalMs: 1_000 };
    books.node("a", 6, both);
    books.now += ms;
    books.do({ type: "nodes-silent", nodes: ["a"] });
  };
  silentFor(64_000, 45_000);
  expect(books.run("with").phase).toBe("running");
  silentFor(65_000, 120_000);
  expect(books.run("with")).toMatchObject({ phase: "ended", reason: "lost" });
  expect(books.run("without").phase).toBe("running");
});

test("a node that cannot say yet what it runs has lost nothing of it", () => {
  const books = new Books();
  books.node("a", 8);
  books.submit("t");
  books.node("a", 7, [books.begin("t", "a")]);
  books.node("a", 7, null);
  expect(books.run("t").phase).toBe("running");
});

test("a report that comes again, or late, says nothing: what it does not have yet is not lost", () => {
  const books = new Books();
  books.node("a", 8, [], 10);
  books.submit("t");
  const seen = books.begin("t", "a");
  books.node("a", 7, [seen], 12);
  books.node("a", 8, [], 11);
  expect(books.run("t").phase).toBe("running");
  books.node("a", 8, [], 13);
  expect(books.run("t")).toMatchObject({ phase: "ended", reason: "lost" });
});

test("what a node has not said to have is wanted of it until it says so; its result, until that is here", () => {
  const books = new Books();
  books.node("a", 8);
  books.submit("t");
  books.do({ type: "hand-out", node: "a", instance: 1 });
  const assigned = () => wantedOfNode(books.state, "a", []).assign.map(({ assignment }) => assignment.run);
  const { id } = books.run("t");
  expect(assigned()).toEqual([id]);
  books.node("a", 8, []);
  expect(assigned()).toEqual([id]);
  const seen = books.begin("t", "a");
  books.node("a", 7, [seen]);
  expect(assigned()).toEqual([]);
  const end = { at: books.now, reason: null, detail: "", exitCode: 0, signal: null, resultOk: null, tail: [] };
  const over: RunSeen = { ...seen, phase: "ended", ended: end };
  books.node("a", 8, [over]);
  expect(wantedOfNode(books.state, "a", [over])).toMatchObject({ deliver: [id], settled: [] });
  expect(books.state.tasks.get("t")?.status).toBe("DISPATCHED");
  books.do({ type: "run-delivered", run: id });
  expect(books.state.tasks.get("t")?.status).toBe("DONE");
  expect(wantedOfNode(books.state, "a", [over])).toMatchObject({ deliver: [], settled: [id] });
});

test("a node tries what it was given once, under the controller's name and epoch, and tells until it is settled", () => {
  const head = new Books();
  head.node("a", 8);
  head.submit("t", { retry: { max: 5, lost: 5 } });
  head.do({ type: "hand-out", node: "a", instance: 1 });
  const [given] = wantedOfNode(head.state, "a", []).assign;
  if (given === undefined) throw new Error("nothing was given");
  const books = new Books();
  const task = assignedTask("books-1", given.name, given.assignment, books.now);
  books.do({ type: "submit-task", task, maxTasks: 10 });
  const [run] = [...books.state.runs.values()];
  expect(run).toMatchObject({ id: given.assignment.run, epoch: given.assignment.epoch, owner: "alice" });
  expect(isSuperseded(books.state, { ...given.assignment, run: "older", epoch: given.assignment.epoch - 1 })).toBe(
    true,
  );
  expect(reportTo(books.state, "books-1")).toMatchObject([
    { run: given.assignment.run, phase: "starting", ended: null },
  ]);
  expect(reportTo(books.state, "books-2")).toEqual([]);
  books.do({ type: "lease-seen", run: given.assignment.run, attempt: 1, seen: { status: "never", reason: "9 of 8" } });
  expect(books.state.tasks.get(given.assignment.run)?.status).toBe("FAILED");
  expect(books.state.runs.size).toBe(1);
  expect(reportTo(books.state, "books-1")).toMatchObject([{ phase: "ended", startedAt: null }]);
  books.do({ type: "settle-origin", id: given.assignment.run });
  expect(reportTo(books.state, "books-1")).toEqual([]);
});

test("what a controller has given and never began is the controller's to try again, not the node's", () => {
  const head = new Books();
  head.node("a", 8);
  head.submit("t", {}, 0);
  head.do({ type: "hand-out", node: "a", instance: 1 });
  const [given] = wantedOfNode(head.state, "a", []).assign;
  if (given === undefined) throw new Error("nothing was given");
  const books = new Books();
  const { run } = given.assignment;
  const end = { at: 1, reason: null, detail: "it was never started", exitCode: null, signal: null, resultOk: null };
  const worker: WorkerFacts = { ...FACTS, node: "a" };
  const says = (runs: readonly RunSeen[]) => books.do({ type: "worker-reports", worker, runs });
  says([]);
  books.do({
    type: "submit-task",
    task: assignedTask("books-1", given.name, given.assignment, books.now),
    maxTasks: 10,
  });
  books.do({ type: "hand-out", node: "a", instance: 1 });
  const ended = { ...end, tail: [] };
  says([{ run, phase: "ended", startedAt: null, port: null, ended, published: false }]);
  books.now += 60_000;
  books.do({ type: "tick" });
  expect(books.state.tasks.get(run)).toMatchObject({ status: "FAILED" });
  expect([...books.state.runs.values()]).toMatchObject([{ id: run, phase: "ended", startedAt: null }]);
});

test("of a node that stops in order, what it has not taken goes elsewhere, and what it has is waited for", () => {
  const books = new Books();
  books.node("a", 2, [], 1);
  books.submit("has", {}, 1);
  books.submit("never-came", {}, 1);
  const seen = books.begin("has", "a");
  books.node("a", 1, [seen], 2);
  books.do({ type: "node-leaves", node: "a", instance: 1, seq: 1, runs: [] });
  expect(books.state.workers.get("a")?.link?.hasLeft, "an old farewell").toBeUndefined();
  books.do({ type: "node-leaves", node: "a", instance: 1, seq: 2, runs: [seen] });
  expect(books.run("has")).toMatchObject({ phase: "running", node: "a" });
  books.node("b", 2, [], 3);
  books.now += 5_000;
  books.node("b", 2, [], 4);
  expect(books.run("never-came")).toMatchObject({ node: "b" });
  books.submit("next", {}, 1);
  expect(books.run("next")).toMatchObject({ node: "b" });
  books.node("a", 1, [seen], 5);
  expect(books.state.workers.get("a")?.link?.hasLeft).toBeUndefined();
});
