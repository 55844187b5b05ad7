import { expect, test } from "vitest";
import type { WorkCommand } from "../../../src/work/commands.ts";
import { isOver } from "../../../src/work/state.ts";
import fc from "../../fc.ts";
import { aTask, aWorkload } from "../../work/fixtures.ts";
import { CRASH_POINTS } from "../../work/world.ts";
import { Cluster, type SimNode } from "./cluster.ts";

/** CLUSTER_HISTORIES=1000 looks for longer. */
const HISTORIES = Number(process.env.CLUSTER_HISTORIES ?? 25);
const HEAD_POINTS = [
  "submit-task",
  "worker-reports",
  "hand-out",
  "run-declined",
  "run-delivered",
  "nodes-silent",
  "node-leaves",
  "cancel-task",
] as const;
const NODE_POINTS = [
  "submit-task",
  "worker-reports",
  "hand-out",
  "cancel-task",
  "settle-origin",
  "lease-seen",
] as const;

interface Op {
  readonly name: string;
  readonly act: (cluster: Cluster) => void | Promise<void>;
}

const pick = fc.nat(7);
const node = fc.nat(2);
const op = (name: string, act: Op["act"]): Op => ({ name, act, toString: () => name }) as Op;
const onNode = (name: string, act: (node: SimNode, cluster: Cluster, pick: number) => void | Promise<void>) =>
  fc.tuple(node, pick).map(([n, p]) =>
    op(`${name}(node-${n}, ${p})`, (cluster) => {
      const found = cluster.nodes[n % cluster.nodes.length] as SimNode;
      found.now = cluster.time.now;
      return act(found, cluster, p);
    }),
  );

const submitTask = fc
  .record({ n: fc.nat(7), gpus: fc.nat(2), replicas: fc.integer({ min: 1, max: 2 }), max: fc.nat(1), lost: fc.nat(2) })
  .map(({ n, gpus, replicas, max, lost }) =>
    op(`submit(task-${n}, ${gpus} GPUs, ${replicas} replicas, retry ${max}/${lost})`, (cluster) => {
      const id = `task-${n}`;
      if (cluster.state.tasks.get(id) !== undefined) return;
      const retry = { max, lost, backoffMs: 1_000 };
      const task = aTask(id, { gpus, replicas, retry, spec: { stop: { grace: "10s" } } });
      cluster.ask({ type: "submit-task", task, maxTasks: 100 });
    }),
  );
const submitWorkload = fc.tuple(fc.nat(1), fc.integer({ min: 1, max: 2 })).map(([n, replicas]) =>
  op(`submit(w${n}, ${replicas})`, (cluster) => {
    if ([...cluster.state.workloads.values()].some(({ uid }) => uid === `w${n}`)) return;
    cluster.ask({ type: "submit-workload", workload: aWorkload(`w${n}`, replicas), maxWorkloads: 10 });
  }),
);
const cancel = fc.nat(7).map((n) =>
  op(`cancel(task-${n})`, (cluster) => {
    const task = cluster.state.tasks.get(`task-${n}`);
    if (task !== undefined && !isOver(task) && !task.cancelling) cluster.ask({ type: "cancel-task", id: task.id });
  }),
);
const onWorkload = fc.tuple(fc.nat(1), fc.constantFrom("delete-workload", "restart-workload")).map(([n, type]) =>
  op(`${type}(w${n})`, (cluster) => {
    const found = [...cluster.state.workloads.values()].find(({ uid, deleted }) => uid === `w${n}` && !deleted);
    if (found !== undefined) cluster.ask({ type: type as "delete-workload", id: found.id });
  }),
);
const pass = fc
  .constantFrom(50, 1_000, 4_000, 15_000, 40_000, 90_000)
  .map((ms) => op(`pass(${ms} ms)`, (cluster) => cluster.pass(ms)));
const user = fc.constantFrom("head", "node-0", "node-1", "node-2");
const way = fc
  .tuple(user, fc.constantFrom("refused", "mute", "slow", "slow", "open", "open"))
  .map(([who, how]) => op(`network(${who}, ${how})`, (cluster) => cluster.redis.set(who, how as "open")));
const breaks = fc
  .tuple(user, fc.constantFrom("XADD", "XACK", "XDEL", "XREADGROUP", "XGROUP", "SET"), fc.boolean())
  .map(([who, command, isDone]) =>
    op(`${command} of ${who} ${isDone ? "loses its answer" : "does not arrive"}`, (cluster) => {
      cluster.redis.breaks.set(who, { command, isDone });
    }),
  );
const ofRedis = fc.oneof(
  fc.constant(op("redis dies", ({ redis }) => redis.crash())),
  fc.boolean().map((isEmpty) => op(`redis begins${isEmpty ? " empty" : ""}`, ({ redis }) => redis.begin(isEmpty))),
  fc.constant(op("redis is emptied", ({ redis }) => redis.flush())),
  fc.nat(30).map((n) => op(`fails over to one that is ${n} changes behind`, ({ redis }) => redis.failOver(n))),
  fc.nat(399).map((n) => op(`message ${n} is copied`, ({ redis }) => redis.copy(n))),
  fc.nat(11).map((n) => op(`message ${n} of the last is copied`, ({ redis }) => redis.copyLate(n))),
  fc
    .constantFrom("gpuo:evt", "gpuo:cmd:node-0", "gpuo:cmd:node-1", "gpuo:cmd:node-2")
    .map((stream) => op(`the next of ${stream} is held up`, ({ redis }) => redis.hold(stream))),
  fc.constant(op("what was held up arrives", ({ redis }) => redis.release())),
  fc
    .tuple(pick, fc.integer({ min: 1, max: 3 }))
    .map(([p, n]) => op(`stream ${p} loses ${n}`, ({ redis }) => redis.trim(p, n))),
  fc.boolean().map((isFull) =>
    op(`redis is ${isFull ? "full" : "not full"}`, ({ redis }) => {
      redis.isFull = isFull;
    }),
  ),
);
const ofHead = fc.oneof(
  fc.constant(op("the controller is killed", ({ head }) => head?.process.kill())),
  fc.constant(op("the controller begins", (cluster) => cluster.beginHead())),
  fc.constantFrom(...HEAD_POINTS).map((point) =>
    op(`the controller dies after ${point}`, (cluster) => {
      cluster.diesAfter = point;
    }),
  ),
);
const ofNode = fc.oneof(
  onNode("its daemon is killed", ({ daemon }) => daemon?.process.kill()),
  onNode("its daemon begins", (one, cluster) => cluster.begin(one)),
  onNode("its daemon begins", (one, cluster) => cluster.begin(one)),
  onNode("it leaves", (one, { time }) => {
    const { daemon } = one;
    if (daemon?.process.alive !== true) return;
    void daemon.member.leave().then(() => daemon.process.kill());
    // Whatever becomes of its farewell, its process ends.
    time.after(3_000, () => daemon.process.kill());
  }),
  fc.tuple(node, fc.constantFrom<WorkCommand["type"]>(...NODE_POINTS)).map(([n, point]) =>
    op(`node-${n} dies after ${point}`, (cluster) => {
      (cluster.nodes[n] as SimNode).diesAfter = point;
    }),
  ),
  fc.tuple(node, fc.constantFrom(...CRASH_POINTS)).map(([n, point]) =>
    op(`node-${n} dies: ${point}`, (cluster) => {
      (cluster.nodes[n] as SimNode).crashAt = point;
    }),
  ),
  onNode("its worker dies", (one) => {
    one.workerUp = false;
  }),
  onNode("its worker begins", (one) => one.restartWorker()),
  onNode("a holder dies", (one, _cluster, p) => one.killHolder(p)),
  onNode("it boots", (one, cluster) => {
    one.daemon?.process.kill();
    one.reboot();
    one.restartWorker();
    cluster.begin(one);
  }),
  onNode("its worker goes without an answer", (one) => {
    if (one.daemon?.process.alive === true) one.loseAnswer = true;
  }),
);
/** Long enough for what may start elsewhere to start there. */
const cutOff = onNode("it is cut off for 70 s", async ({ name }, cluster, p) => {
  cluster.redis.set(name, p % 2 === 0 ? "refused" : "mute");
  await cluster.pass(70_000);
  if (p < 4) cluster.redis.set(name, "open");
});
const ofRun = fc.oneof(
  onNode("one ends well", (one, _cluster, p) => one.exitOne(p, 0, p % 2)),
  onNode("one fails", (one, _cluster, p) => one.exitOne(p, 1, p % 3)),
  onNode("one is ready", (one, _cluster, p) => one.readyOne(p)),
);
const ops = fc.oneof(
  { weight: 5, arbitrary: submitTask },
  { weight: 1, arbitrary: submitWorkload },
  { weight: 1, arbitrary: cancel },
  { weight: 1, arbitrary: onWorkload },
  { weight: 12, arbitrary: pass },
  { weight: 3, arbitrary: way },
  { weight: 2, arbitrary: breaks },
  { weight: 3, arbitrary: ofRedis },
  { weight: 3, arbitrary: ofHead },
  { weight: 6, arbitrary: ofNode },
  { weight: 3, arbitrary: cutOff },
  { weight: 4, arbitrary: ofRun },
);
const histories = fc.array(ops, { minLength: 15, maxLength: 60 });

async function play(history: readonly Op[]): Promise<Cluster> {
  const cluster = new Cluster([1, 2, 3]);
  await cluster.pass(2_000);
  for (const { act } of history) {
    await act(cluster);
    cluster.judge();
    expect(cluster.violations).toEqual([]);
  }
  return cluster;
}

test(
  "whatever dies, falls silent or is copied: no task lives twice or starts more often than it may, no GPU is used twice, and in the end everything is over",
  async () => {
    await fc.assert(
      fc.asyncProperty(histories, async (history) => {
        const cluster = await play(history);
        await cluster.settle();
        expect(cluster.violations).toEqual([]);
        expect(cluster.open()).toEqual([]);
        cluster.end();
      }),
      { numRuns: HISTORIES, endOnFailure: process.env.CLUSTER_SHRINK === "no" },
    );
  },
  60_000 + HISTORIES * 10_000,
);

test("a history that is played twice writes the same", async () => {
  const [history] = fc.sample(histories, { numRuns: 1, seed: 7 }) as [Op[]];
  const hashes: string[] = [];
  for (let i = 0; i < 2; i++) {
    const cluster = await play(history);
    await cluster.settle();
    hashes.push(cluster.hash());
    cluster.end();
  }
  expect(hashes[0]).toBe(hashes[1]);
}, 60_000);
