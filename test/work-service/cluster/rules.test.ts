/** One rule of several hosts at a time, in the order of docs/several-hosts.md: what the generated histories seldom come to. */
import { afterEach, expect, test } from "vitest";
import { opened } from "../../../src/broker/messages.ts";
import { isOver } from "../../../src/work/state.ts";
import { commandsTo, EVENTS_STREAM } from "../../../src/work-service/elsewhere/words.ts";
import { aTask, aWorkload } from "../../work/fixtures.ts";
import { SECRET } from "../hosts.ts";
import { Cluster, type SimNode } from "./cluster.ts";
import type { Sent } from "./sim-redis.ts";

const begun: Cluster[] = [];
afterEach(() => {
  for (const cluster of begun.splice(0)) cluster.end();
});

async function clusterOf(...gpus: readonly number[]): Promise<Cluster> {
  const cluster = new Cluster(gpus);
  begun.push(cluster);
  await cluster.pass(2_000);
  return cluster;
}

function submit(cluster: Cluster, id: string, gpus = 0, lost = 0): void {
  const retry = { max: 0, lost, backoffMs: 1_000 };
  const task = aTask(id, { gpus, retry, spec: { stop: { grace: "10s" } } });
  cluster.ask({ type: "submit-task", task, maxTasks: 1_000 });
}

/** The newest run of a job in the controller's books. */
function runOf(cluster: Cluster, job: string) {
  return [...cluster.state.runs.values()].filter((run) => run.job.uid === job).at(-1);
}

const livesOn = ({ folders }: SimNode, job: string) =>
  [...folders.values()].filter(({ slot, alive }) => slot.startsWith(`${job}/`) && alive > 0).length;
const lives = (cluster: Cluster, job: string) => cluster.nodes.map((node) => livesOn(node, job));

/** What was sent of a type, oldest first. */
function sent(cluster: Cluster, type: string, stream: string): Sent[] {
  return cluster.redis.sent.filter((one) => one.stream === stream && opened(one.fields, stream, SECRET)?.type === type);
}

async function until(cluster: Cluster, what: string, holds: () => boolean, mostMs = 20_000): Promise<number> {
  const from = cluster.time.now;
  while (!holds()) {
    if (cluster.time.now - from > mostMs) throw new Error(`it did not come to this within ${mostMs} ms: ${what}`);
    await cluster.pass(100);
    expect(cluster.violations).toEqual([]);
  }
  return cluster.time.now - from;
}

async function ends(cluster: Cluster): Promise<void> {
  await cluster.settle();
  expect(cluster.violations).toEqual([]);
  expect(cluster.open()).toEqual([]);
}

/** Just after it, so that the next is far. */
async function heartbeatOf(cluster: Cluster, node: SimNode): Promise<void> {
  const before = cluster.redis.written(EVENTS_STREAM, "offer", node.name);
  await until(cluster, "a heartbeat", () => cluster.redis.written(EVENTS_STREAM, "offer", node.name) > before);
  await cluster.pass(200);
}

test("an assignment that an emptied Redis has lost is said again at once, and so is one that a replica has not heard of", async () => {
  const cluster = await clusterOf(1);
  const [node] = cluster.nodes as [SimNode];
  for (const [id, lose] of [
    ["task-0", () => cluster.redis.flush()],
    ["task-1", () => cluster.redis.failOver(30)],
    ["task-2", () => cluster.redis.lose(commandsTo(node.name))],
  ] as const) {
    await heartbeatOf(cluster, node);
    cluster.redis.hold(commandsTo(node.name));
    submit(cluster, id);
    await cluster.pass(100);
    expect(cluster.redis.held).toHaveLength(1);
    cluster.redis.held.length = 0;
    lose();
    // Without a word after the break it would be the next heartbeat that it comes with.
    expect(await until(cluster, "it has begun", () => cluster.begun(`${id}/0`) === 1)).toBeLessThan(3_500);
  }
  await ends(cluster);
  expect([0, 1, 2].map((n) => cluster.begun(`task-${n}/0`))).toEqual([1, 1, 1]);
});

test("an assignment that was lost by itself comes with a later heartbeat; one that lies there is not sent beside itself", async () => {
  const cluster = await clusterOf(1);
  const [node] = cluster.nodes as [SimNode];
  const stream = commandsTo(node.name);
  const assigned = () => cluster.redis.written(stream, "assign", node.name);
  cluster.redis.hold(stream);
  submit(cluster, "task-0");
  await cluster.pass(100);
  cluster.redis.held.length = 0;
  await until(cluster, "it has begun", () => cluster.begun("task-0/0") === 1);
  const before = assigned();
  // It says that it lives, and reads nothing.
  cluster.redis.blind.add(node.name);
  submit(cluster, "task-1");
  await cluster.pass(40_000);
  expect(assigned() - before).toBe(1);
  cluster.redis.blind.clear();
  await until(cluster, "it has begun", () => cluster.begun("task-1/0") === 1, 60_000);
  await ends(cluster);
});

test("copies of every message, old and new, start nothing and end nothing", async () => {
  const cluster = await clusterOf(1, 1);
  submit(cluster, "task-0", 1, 1);
  submit(cluster, "task-1", 1);
  await until(cluster, "both run", () => lives(cluster, "task-0").includes(1) && lives(cluster, "task-1").includes(1));
  await cluster.pass(3_000);
  for (let i = 0; i < 3; i++) {
    for (const message of [...cluster.redis.sent]) cluster.redis.write(message);
    await cluster.pass(4_000);
  }
  expect([cluster.begun("task-0/0"), cluster.begun("task-1/0")]).toEqual([1, 1]);
  expect(["task-0", "task-1"].map((id) => runOf(cluster, id)?.phase)).toEqual(["running", "running"]);
  await ends(cluster);
});

test("what a member was told to stop before it came does not begin when it comes after all", async () => {
  const cluster = await clusterOf(1);
  const [node] = cluster.nodes as [SimNode];
  await heartbeatOf(cluster, node);
  cluster.redis.hold(commandsTo(node.name));
  submit(cluster, "task-0");
  await cluster.pass(100);
  cluster.ask({ type: "cancel-task", id: "task-0" });
  await until(cluster, "it is over", () => isOver(cluster.state.tasks.get("task-0") as never));
  cluster.redis.release();
  await cluster.pass(4_000);
  expect(cluster.begun("task-0/0")).toBe(0);
  await ends(cluster);
});

test("a replica's earlier run that comes after its later one does not begin beside it", async () => {
  const cluster = await clusterOf(1);
  const [node] = cluster.nodes as [SimNode];
  await heartbeatOf(cluster, node);
  cluster.redis.hold(commandsTo(node.name));
  cluster.ask({ type: "submit-workload", workload: aWorkload("w0", 1), maxWorkloads: 10 });
  await cluster.pass(100);
  const first = runOf(cluster, "w0")?.id;
  const { id = "" } = [...cluster.state.workloads.values()][0] ?? {};
  cluster.ask({ type: "restart-workload", id });
  await until(cluster, "the second has begun", () => livesOn(node, "w0") === 1);
  expect(runOf(cluster, "w0")?.id).not.toBe(first);
  cluster.redis.release();
  await cluster.pass(4_000);
  expect(cluster.begun("w0/0")).toBe(1);
  await ends(cluster);
});

test("a report that comes late says nothing of what its node has taken since", async () => {
  const cluster = await clusterOf(1);
  const [node] = cluster.nodes as [SimNode];
  const empty = sent(cluster, "offer", EVENTS_STREAM)
    .concat(sent(cluster, "hello", EVENTS_STREAM))
    .at(-1);
  submit(cluster, "task-0", 0, 1);
  await until(cluster, "it runs", () => runOf(cluster, "task-0")?.phase === "running");
  cluster.redis.write(empty);
  await cluster.pass(2_000);
  expect(runOf(cluster, "task-0")?.phase).toBe("running");
  // Nor does what an earlier process of it has said.
  node.daemon?.process.kill();
  cluster.begin(node);
  await cluster.pass(6_000);
  cluster.redis.write(empty);
  await cluster.pass(2_000);
  expect(runOf(cluster, "task-0")?.phase).toBe("running");
  await ends(cluster);
  expect(cluster.begun("task-0/0")).toBe(1);
});

test("behind a cut, what may start elsewhere is dead 15 s before its assignment, begins elsewhere 5 s after that, and the rest is waited for", async () => {
  const cluster = await clusterOf(1, 1);
  submit(cluster, "task-0", 1, 1);
  submit(cluster, "task-1", 1);
  await until(cluster, "both run", () => lives(cluster, "task-0").includes(1) && lives(cluster, "task-1").includes(1));
  await heartbeatOf(cluster, cluster.nodes[0] as SimNode);
  const nodeOf = (job: string) => cluster.nodes[lives(cluster, job).indexOf(1)] as SimNode;
  const [moves, waits] = [nodeOf("task-0"), nodeOf("task-1")];
  for (const { name } of [moves, waits]) cluster.redis.set(name, "mute");
  await until(cluster, "its holder has ended it", () => livesOn(moves, "task-0") === 0, 50_000);
  expect(runOf(cluster, "task-0")?.phase).toBe("running");
  await until(cluster, "it is given up", () => runOf(cluster, "task-0")?.phase !== "running", 40_000);
  expect(runOf(cluster, "task-1")?.phase).toBe("running");
  await cluster.pass(200_000);
  expect(livesOn(waits, "task-1")).toBe(1);
  expect(runOf(cluster, "task-1")?.phase).toBe("running");
  for (const { name } of [moves, waits]) cluster.redis.set(name, "open");
  await until(cluster, "it runs anew", () => cluster.begun("task-0/0") === 2, 60_000);
  await ends(cluster);
  expect([cluster.begun("task-0/0"), cluster.begun("task-1/0")]).toEqual([2, 1]);
});

test("an answer that takes seconds counts from when the heartbeat was sent", async () => {
  const cluster = await clusterOf(1);
  const [node] = cluster.nodes as [SimNode];
  submit(cluster, "task-0", 0, 1);
  await until(cluster, "it runs", () => runOf(cluster, "task-0")?.phase === "running");
  cluster.redis.set(node.name, "slow");
  cluster.redis.set("head", "slow");
  await cluster.pass(60_000);
  expect(cluster.violations).toEqual([]);
  for (const name of [node.name, "head"]) cluster.redis.set(name, "open");
  await ends(cluster);
});

test("a replica is replaced when its node is silent, and the surplus stops when that is back", async () => {
  const cluster = await clusterOf(1, 1);
  cluster.ask({ type: "submit-workload", workload: aWorkload("w0", 1), maxWorkloads: 10 });
  await until(cluster, "it runs", () => lives(cluster, "w0").includes(1));
  const first = cluster.nodes[lives(cluster, "w0").indexOf(1)] as SimNode;
  cluster.redis.set(first.name, "refused");
  await until(cluster, "another runs", () => lives(cluster, "w0").every((one) => one === 1), 90_000);
  cluster.redis.set(first.name, "open");
  await until(cluster, "the first has stopped", () => livesOn(first, "w0") === 0, 15_000);
  expect(lives(cluster, "w0").reduce((sum, one) => sum + one, 0)).toBe(1);
  await ends(cluster);
});

test("what a process has read and not stored is read by the next, and nothing lies there in the end", async () => {
  const cluster = await clusterOf(1);
  const [node] = cluster.nodes as [SimNode];
  // The member dies with the assignment stored and not acknowledged.
  node.diesAfter = "submit-task";
  submit(cluster, "task-0");
  await until(cluster, "it has died", () => node.daemon?.process.alive === false);
  expect(cluster.redis.waiting()).toBeGreaterThan(0);
  cluster.begin(node);
  await until(cluster, "it runs", () => cluster.begun("task-0/0") === 1);
  // The controller dies with the end stored and not acknowledged.
  cluster.diesAfter = "worker-reports";
  node.exitOne(0, 0, 0);
  await until(cluster, "it has died", () => cluster.head?.process.alive === false);
  await cluster.pass(1_000);
  cluster.beginHead();
  await until(cluster, "it is done", () => cluster.state.tasks.get("task-0")?.status === "DONE");
  await ends(cluster);
  expect(cluster.begun("task-0/0")).toBe(1);
});

test("what cannot be stored is not acknowledged, and is taken when there is room", async () => {
  const cluster = await clusterOf(1);
  const [node] = cluster.nodes as [SimNode];
  await heartbeatOf(cluster, node);
  node.refuses = "submit-task";
  submit(cluster, "task-0");
  await cluster.pass(2_000);
  expect(node.state.tasks.size).toBe(0);
  expect(cluster.redis.waiting()).toBeGreaterThan(0);
  node.refuses = null;
  expect(await until(cluster, "it has begun", () => cluster.begun("task-0/0") === 1)).toBeLessThan(3_000);
  await ends(cluster);
});

test("a node that leaves gives what it has not taken to another at once, and keeps what it has", async () => {
  const cluster = await clusterOf(2, 1);
  const [first, second] = cluster.nodes as [SimNode, SimNode];
  submit(cluster, "task-0", 2);
  await until(
    cluster,
    "it runs",
    () => livesOn(first, "task-0") === 1 && runOf(cluster, "task-0")?.phase === "running",
  );
  second.daemon?.process.kill();
  await cluster.pass(16_000);
  cluster.redis.hold(commandsTo(first.name));
  submit(cluster, "task-1", 0, 1);
  await cluster.pass(100);
  cluster.begin(second);
  await cluster.pass(1_000);
  const { daemon } = first;
  void daemon?.member.leave().then(() => daemon.process.kill());
  await until(cluster, "the other has it", () => livesOn(second, "task-1") === 1, 5_000);
  expect(runOf(cluster, "task-0")?.phase).toBe("running");
  await cluster.pass(200_000);
  expect(livesOn(first, "task-0")).toBe(1);
  await ends(cluster);
  expect([cluster.begun("task-0/0"), cluster.begun("task-1/0")]).toEqual([1, 1]);
});

test("what waits in a node's line is asked back when another has room, and nothing waits while nodes are idle", async () => {
  const cluster = await clusterOf(1, 1);
  const [first, second] = cluster.nodes as [SimNode, SimNode];
  for (const id of ["task-0", "task-1"]) submit(cluster, id, 1);
  await until(cluster, "both run", () => [first, second].every((one) => [...one.gpus.values()][0] !== null));
  for (let i = 2; i < 8; i++) submit(cluster, `task-${i}`, 1);
  await cluster.pass(12_000);
  const places = new Set(["task-2", "task-7"].map((id) => (runOf(cluster, id) as { node: string }).node));
  const busy = cluster.nodes.find(({ name }) => places.has(name)) as SimNode;
  const other = busy === first ? second : first;
  for (let i = 2; i < 8; i++) {
    const before = other.begun.size;
    await cluster.pass(1_000);
    for (let n = 0; n < 8; n++) other.exitOne(0, 0, 0);
    await until(cluster, "the next has begun there", () => other.begun.size > before, 15_000);
  }
  expect([...cluster.state.runs.values()].filter(({ phase }) => phase === "waiting")).toEqual([]);
  // Each was asked back for the room that there was, and no more often.
  expect(cluster.redis.written(commandsTo(busy.name), "recall", busy.name)).toBeLessThanOrEqual(8);
  await ends(cluster);
});

test("what ended while its node was cut off is not forgotten there, and does not begin again when it is back", async () => {
  const cluster = await clusterOf(1);
  const [node] = cluster.nodes as [SimNode];
  cluster.redis.hold(EVENTS_STREAM);
  submit(cluster, "task-0");
  await until(cluster, "it has begun", () => cluster.begun("task-0/0") === 1);
  cluster.redis.set(node.name, "refused");
  node.exitOne(0, 0, 0);
  await cluster.pass(300_000);
  cluster.redis.set(node.name, "open");
  await until(cluster, "it is done", () => cluster.state.tasks.get("task-0")?.status === "DONE");
  await ends(cluster);
  expect(cluster.begun("task-0/0")).toBe(1);
});

test("a hundred tasks for one slow node: what it is sent stays bounded, and everything runs", async () => {
  const cluster = await clusterOf(8);
  const [node] = cluster.nodes as [SimNode];
  cluster.redis.set(node.name, "slow");
  let most = 0;
  for (let i = 0; i < 100; i++) submit(cluster, `task-${i}`, 0, i % 2);
  for (let i = 0; i < 30; i++) {
    await cluster.pass(1_000);
    most = Math.max(most, cluster.redis.lengthOf(commandsTo(node.name)));
  }
  expect(most).toBeLessThan(80);
  cluster.redis.set(node.name, "open");
  await until(cluster, "all have begun", () => node.begun.size === 100, 120_000);
  for (let n = 0; n < 100; n++) node.exitOne(0, 0, 0);
  await ends(cluster);
}, 120_000);
