/**
 * Several hosts over a real Redis: each has its own books, worker and holders, as processes; the way to Redis of each can
 * be cut. Time is real here, since holders go by the host's own clock.
 */
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { connectRedis } from "../../src/broker/connection.ts";
import { signed } from "../../src/broker/messages.ts";
import { steadyClock } from "../../src/platform/clock.ts";
import { Controller } from "../../src/work-service/elsewhere/controller.ts";
import { commandsTo, EVENTS_STREAM, LOCK } from "../../src/work-service/elsewhere/words.ts";
import { pause, Site, until } from "../worker/site.ts";
import { Head, Host, QUIET, SECRET, TIMES } from "./hosts.ts";
import { hasRedis, NEEDS_REDIS, TestRedis } from "./redis.ts";

const LONG = { timeout: 240_000 };
let redis: TestRedis;
let head: Head;
let hosts: Host[] = [];

beforeAll(async () => {
  if (hasRedis) redis = await TestRedis.start();
});
afterAll(async () => {
  if (hasRedis) await redis.stop();
});
afterEach(async () => {
  if (!hasRedis) return;
  for (const host of hosts) host.proxy.heal();
  await head.stop();
  for (const host of hosts) await host.stop();
  hosts = [];
  await redis.call("FLUSHALL");
}, 120_000);

async function cluster(...names: readonly string[]): Promise<Host[]> {
  hosts = [];
  head = await new Head(redis).start();
  for (const name of names) hosts.push(await new Host(name, redis).start());
  await head.sees(...names);
  return hosts;
}

const over = (id: string) =>
  until(`${id} is over`, () => ["DONE", "FAILED", "CANCELLED"].includes(head.site.task(id).status), 90_000);
const runs = (id: string, node?: string) =>
  until(
    `${id} runs`,
    () => head.placed(id)?.phase === "running" && (node === undefined || head.placed(id)?.node === node),
    90_000,
  );
async function eventually(test: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 600; i++, await pause(50)) if (await test()) return;
  throw new Error("it did not happen in 30 s");
}
const lived = (host: Host) => host.site.marked().length;

describe.skipIf(!hasRedis)(`several hosts (${NEEDS_REDIS})`, () => {
  test(
    "work goes where it can start, its result comes back, and what is stopped there gives its GPU back",
    LONG,
    async () => {
      const [a, b] = await cluster("node-a", "node-b");
      const script = `echo "{\\"ok\\": true, \\"gpu\\": \\"$CUDA_VISIBLE_DEVICES\\", \\"task\\": \\"$GPU_ORCHESTRATOR_TASK\\"}" > $OUT_DIR/responses.json; sleep 3`;
      const ids = [head.submit(script, {}, 2), head.submit(script, {}, 2)];
      for (const id of ids) await runs(id);
      expect(ids.map((id) => head.placed(id)?.node).sort()).toEqual(["node-a", "node-b"]);
      expect(head.placed(ids[0] as string)).toMatchObject({ lease: { elsewhere: true, gpuUuids: ["GPU-0", "GPU-1"] } });
      // Both are full: it waits in the line of one of them.
      const third = head.submit(script, {}, 1);
      await until("it waits there", () => head.placed(third)?.phase === "starting" && head.placed(third) !== null);
      for (const id of [...ids, third]) await over(id);
      for (const id of ids) {
        expect(head.site.task(id)).toMatchObject({ status: "DONE", error: null });
        expect(head.result(id)).toEqual({ ok: true, gpu: "GPU-0,GPU-1", task: id });
      }
      const stopped = head.submit("sleep 600", { stop: { grace: "1s" } });
      await runs(stopped);
      head.site.books.command({ type: "cancel-task", id: stopped });
      await over(stopped);
      expect(head.site.task(stopped).status).toBe("CANCELLED");
      await until("all GPUs are free", () => [a, b].every((host) => host?.site.leases.freeGpus() === 2));
      await until("nothing is left", () => [a, b].every((host) => host !== undefined && lived(host) === 0));
    },
  );

  test("a task that uses a service is answered by it on the node that has it", LONG, async () => {
    await cluster("node-a", "node-b");
    const model = { source: { identifier: "org/model", revision: "main" } };
    const uid = head.site.serve({ executor: "vllm", model, readiness: { http: "/health", interval: "100ms" } });
    await until("it serves", () => head.placed(uid)?.phase === "ready", 90_000);
    const node = head.placed(uid)?.node;
    const spec = { taskType: "inference", executor: "vllm", command: null, model: { service: uid } };
    const id = head.site.submit([], { ...spec, inference: { prompts: ["one two"], max_tokens: 1 } }, 0);
    await over(id);
    expect(head.site.task(id)).toMatchObject({ status: "DONE", error: null });
    expect(head.placed(id)?.node).toBe(node);
    await until("its result is there", () => head.result(id) !== null);
    expect(head.result(id)).toMatchObject({ ok: true, model: "org/model", items: [{ output: "FAKE: one two" }] });
  });

  test("a node says why it will not, and another is asked; what none can ever hold has failed", LONG, async () => {
    hosts = [];
    head = await new Head(redis).start();
    hosts.push(await new Host("small", redis, { gpus: 1 }).start(), await new Host("wide", redis, { gpus: 4 }).start());
    await head.sees("small", "wide");
    // Nobody has so many free by its word; each is asked, and says that it never will.
    const never = head.submit("true", {}, 8);
    await over(never);
    expect(head.site.task(never)).toMatchObject({ status: "FAILED", error: expect.stringMatching(/^never-fits/) });
    const wide = head.submit("true", {}, 3);
    await over(wide);
    expect(head.placed(wide)).toMatchObject({ node: "wide", reason: "exited" });
    const refused = head.site.submit(["/bin/ls"], {}, 0);
    await over(refused);
    expect(head.site.task(refused).error).toContain("programs");
  });

  test(
    "an emptied Redis, and one that dies and comes back empty, lose nothing and start nothing twice",
    LONG,
    async () => {
      await cluster("node-a");
      const counted = (name: string, seconds: number) =>
        head.submit(`echo x >> ${hosts[0]?.site.dir}/${name}; sleep ${seconds}`, {}, 0);
      const before = counted("before", 6);
      await runs(before);
      await redis.call("FLUSHALL");
      const after = counted("after", 0);
      await over(after);
      await redis.kill();
      const meanwhile = counted("meanwhile", 0);
      await redis.begin();
      for (const id of [before, meanwhile]) await over(id);
      for (const id of [before, after, meanwhile]) expect(head.site.task(id).status).toBe("DONE");
      const { readFileSync } = await import("node:fs");
      for (const name of ["before", "after", "meanwhile"]) {
        expect(readFileSync(`${hosts[0]?.site.dir}/${name}`, "utf8"), name).toBe("x\n");
      }
    },
  );

  test("daemons that die on either side find everything as it went on", LONG, async () => {
    const [a] = await cluster("node-a");
    const [first, second] = [head.submit("sleep 8", {}, 0), head.submit("sleep 8; exit 3", {}, 0)];
    for (const id of [first, second]) await runs(id);
    await a?.killDaemon();
    await head.kill();
    await head.start();
    await a?.startDaemon();
    for (const id of [first, second]) await over(id);
    expect(head.site.task(first).status).toBe("DONE");
    expect(head.site.task(second)).toMatchObject({ status: "FAILED", error: "failed" });
    for (const id of [first, second]) expect(head.site.task(id).slots[0]?.tries).toBe(1);
  });

  test(
    "behind a partition a run that may start elsewhere is dead before it does; others are waited for; a replica is replaced",
    LONG,
    async () => {
      hosts = [];
      head = await new Head(redis).start();
      for (const name of ["node-a", "node-b"]) hosts.push(await new Host(name, redis, { gpus: 3 }).start());
      await head.sees("node-a", "node-b");
      const stop = { grace: "1s" };
      // Only one has room then, so that all that follow run on it.
      const filler = head.submit("sleep 600", { stop }, 3);
      await runs(filler);
      const [full, cutOff] = head.placed(filler)?.node === "node-a" ? hosts : hosts.toReversed();
      if (full === undefined || cutOff === undefined) throw new Error("there are two hosts");
      const once = head.submit("sleep 60", { stop }, 1);
      const moved = head.submit("sleep 600", { stop, retry: { lost: 1, backoff: "100ms" } }, 1);
      const service = head.site.serve({
        executor: "simulated",
        readiness: { http: "/health", interval: "200ms" },
        stop,
        resources: { hardware: { gpu: { count: 1 } } },
      });
      for (const id of [once, moved]) await runs(id, cutOff.name);
      await until("it serves", () => head.placed(service)?.phase === "ready", 90_000);
      expect(head.placed(service)?.node).toBe(cutOff.name);
      const onceRun = head.placed(once)?.id;
      head.site.books.command({ type: "cancel-task", id: filler });
      await over(filler);
      cutOff.proxy.cut();

      // Its holder ends it by itself, long before the controller gives it up.
      const there = () =>
        [...cutOff.site.books.state.tasks.values()].find(
          ({ origin }) => origin?.job === moved && origin.run === movedRun,
        );
      const movedRun = head.placed(moved)?.id;
      await until("its holder has ended it", () => there()?.status === "FAILED", 90_000);
      expect(there()?.error).toBe("lost: the controller was not heard of in time");
      expect(head.placed(moved)).toMatchObject({ phase: "running", node: cutOff.name });
      await runs(moved, full.name);
      expect(head.site.task(moved).slots[0]).toMatchObject({ losses: 1 });
      const isReplaced = () => head.placed(service)?.phase === "ready" && head.placed(service)?.node === full.name;
      await until("it is replaced", isReplaced, 90_000);
      expect(head.placed(once)).toMatchObject({ id: onceRun, phase: "running", node: cutOff.name });

      cutOff.proxy.heal();
      await over(once);
      expect(head.site.task(once).status).toBe("DONE");
      expect(head.placed(once)?.id).toBe(onceRun);
      await until("the surplus has stopped", () => lived(cutOff) === 0, 90_000);
      expect(cutOff.site.leases.freeGpus()).toBe(3);
    },
  );

  test(
    "a node that stops in order is given nothing more; what it runs goes on, and is told when it is back",
    LONG,
    async () => {
      const [a] = (await cluster("node-a", "node-b")) as [Host, Host];
      // The other is full, and is free again before anything else is wanted.
      const filler = head.submit("sleep 600", { stop: { grace: "1s" } }, 2);
      await runs(filler);
      const full = head.placed(filler)?.node;
      const once = head.submit("sleep 10", {}, 2);
      await runs(once);
      const [leaving, staying] = full === "node-a" ? hosts.toReversed() : hosts;
      head.site.books.command({ type: "cancel-task", id: filler });
      await over(filler);
      await leaving?.leave();
      await until("it is heard", () => head.site.books.state.workers.get(leaving?.name ?? "")?.link?.hasLeft === true);
      const next = head.submit("true", {}, 1);
      await over(next);
      expect(head.placed(next)?.node).toBe(staying?.name);
      expect(head.placed(once)).toMatchObject({ phase: "running" });
      await leaving?.startDaemon();
      await over(once);
      expect(head.site.task(once)).toMatchObject({ status: "DONE", slots: [{ tries: 1 }] });
      // Without anything of ours it is not even listed.
      await leaving?.leave();
      await until("it has gone", () => head.site.books.state.workers.get(leaving?.name ?? "") === undefined);
      await leaving?.startDaemon();
      await head.sees(leaving?.name ?? "");
      expect(a.site.leases.takenFromTheLiving).toEqual([]);
    },
  );

  test(
    "a controller that begins while Redis is full reads what lies there, and has the lock when there is room",
    LONG,
    async () => {
      await cluster("node-a");
      await head.kill();
      await eventually(async () => Number(await redis.call("XLEN", EVENTS_STREAM)) > 0);
      await redis.call("DEL", LOCK);
      await redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1");
      onTestFinished(async () => void (await redis.call("CONFIG", "SET", "maxmemory", "0")));
      await head.start();
      await eventually(async () => (await redis.call("XLEN", EVENTS_STREAM)) === 0);
      expect(await redis.call("GET", LOCK)).toBeNull();
      await redis.call("CONFIG", "SET", "maxmemory", "0");
      await eventually(async () => (await redis.call("GET", LOCK)) === head.site.books.name);
    },
  );

  test("a controller that has lost the lock reads no more, and takes it from nobody", LONG, async () => {
    await cluster("node-a");
    await until("it reads", () => head.isUp);
    await redis.call("SET", LOCK, "another", "PX", "4000");
    await until("it reads no more", () => !head.isUp);
    expect(await redis.call("GET", LOCK)).toBe("another");
    await until("it reads again", () => head.isUp, 60_000);
    expect(await redis.call("GET", LOCK)).toBe(head.site.books.name);
  });

  test("a second controller on the same Redis is not obeyed, and neither is who has no secret", LONG, async () => {
    const [a] = await cluster("node-a");
    await over(head.submit("true", {}, 0));
    const other = new Site({ gpus: 0 });
    await other.startDaemon();
    const settings = { url: redis.url, secret: SECRET, resultsDir: other.dir, ...TIMES };
    const second = new Controller({ books: other.books, clock: steadyClock(), log: QUIET }, settings);
    second.start();
    const task = { controller: other.books.name, name: "job" };
    const own = await connectRedis(redis.url);
    const [obeyed] = [...(a as Host).site.books.state.tasks.values()];
    const { origin: _, ...spec } = obeyed as NonNullable<typeof obeyed>;
    const assignment = { run: "run-x", kind: "task", job: "x", owner: "eve", replica: 0, replicas: 1, epoch: 1 };
    const { instance = 0, link } = head.site.books.state.workers.get("node-a") ?? {};
    const knows = { instance, seq: link?.seq };
    const body = { ...task, knows, assignment: { ...assignment, spec: spec.spec, lease: null } };
    const stream = commandsTo("node-a");
    const forged = { id: "1-1", type: "assign", node: "node-a", assignment: "run-x", epoch: 1, body } as const;
    await own.call(["XADD", stream, "*", ...signed(forged, stream, Buffer.from("not the secret"))]);
    await own.call(["XADD", stream, "*", ...signed(forged, stream, SECRET)]);
    own.close();
    const last = head.submit("true", {}, 0);
    await over(last);
    expect(head.site.task(last).status).toBe("DONE");
    expect((a as Host).site.books.state.tasks.get("run-x")).toBeUndefined();
    await second.stop();
    await other.killDaemon();
  });
});
