/**
 * What goes wrong around a controller: its watches, the apiserver, pods, nodes, rights, CRDs, clocks, and other controllers.
 * Against a real control plane, through a proxy that misbehaves. Each test has a workload of its own, and what a test has
 * broken is whole again for the next.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { crds } from "../../src/controller/kubernetes/crds.ts";
import { isBuilt } from "../e2e/daemon.ts";
import { canSetWallClock, WallClock } from "../e2e/wall-clock.ts";
import { isPlaneThere, until } from "./control-plane.ts";
import { type Any, applied, idleWrites, pathOf, strayWrites, type TestController } from "./controller.ts";
import { conflict, tooMany } from "./faulty-proxy.ts";
import { NAMESPACE, Story } from "./story.ts";

const LONG_MS = 420_000;
vi.setConfig({ testTimeout: LONG_MS, hookTimeout: LONG_MS });
const HOUR_MS = 3_600_000;
/** A watch that is silent for so long is opened anew, and the loop and the pods take their time. */
const SILENCE_MS = 90_000;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

let story: Story;
/** How two that had no election name themselves. */
const unelected: string[] = [];

describe.skipIf(!isPlaneThere || !isBuilt)("on a real control plane (npm run test:cluster builds it)", () => {
  beforeAll(async () => {
    story = await Story.begin({ n1: 4, n2: 4 });
  });
  // One that lost its Lease has ended, and is started again, as by its Deployment.
  beforeEach(() => story.isUp());
  afterEach(async ({ task }) => {
    const log = story.controller.log.slice(-15).map((one) => JSON.stringify(one));
    if (task.result?.state === "fail") console.error(log.join("\n"));
    await story.mend();
  });
  afterAll(() => story?.end());

  test("a quiet minute has no write but the Lease's", async () => {
    await story.serves("quiet", 2);
    // The first figures of its replicas are a change, too. Alone they are written once a minute.
    await until(
      "its figures are told",
      async () => (await story.workload("quiet")).status.currentMetrics?.queue_length === 0,
    );
    await pause(5_000);
    const since = Date.now();
    await pause(60_000);
    expect(idleWrites(story.plane, since)).toEqual([]);
  });

  test("watches that say nothing more, and are not closed, are opened anew, and nothing is missed", async () => {
    await story.serves("frozen", 2);
    expect(story.proxy.freezeWatches()).toBeGreaterThan(8);
    await story.change("frozen", { replicas: 3 });
    await story.ready("frozen", 3, SILENCE_MS + 60_000);
  });

  test("a past that etcd no longer has is listed anew, once, and not in a loop", async () => {
    await story.serves("old", 3);
    const lists = async () =>
      (await (await fetch(`${story.controller.url}/metrics`)).text())
        .split("\n")
        .filter((line) => line.startsWith("llm_orchestrator_watch_lists_total{"))
        .map((line) => Number(line.split(" ").at(-1)));
    const before = await lists();
    const isWatch = (url: string | undefined) => url?.includes("watch=true") === true;
    story.proxy.refuses = (req) => (isWatch(req.url) ? { status: 503, body: { message: "away" } } : null);
    story.proxy.cutWatches();
    await story.change("old", { replicas: 2 });
    await story.plane.compact();
    // A new apiserver has no memory of its own of what was before it.
    await story.plane.killApiserver();
    await story.apiserverReturns();
    await story.change("old", { replicas: 4 });
    story.proxy.refuses = () => null;
    await story.isUp();
    await story.ready("old", 4);
    const after = await lists();
    if (after.length === before.length) {
      for (const [index, count] of after.entries()) expect(count - (before[index] ?? 0)).toBeLessThanOrEqual(2);
    }
  });

  test("a storm of conflicts is outlived, with pauses", async () => {
    await story.serves("storm", 4);
    let count = 0;
    const isWrite = (method: string | undefined) => method !== "GET";
    story.proxy.refuses = (req) =>
      isWrite(req.method) && !req.url?.includes("/leases") && count++ % 10 !== 9 ? conflict() : null;
    await story.change("storm", { replicas: 2 });
    await pause(15_000);
    // One workload: without pauses it would be hundreds.
    expect(count).toBeLessThan(100);
    story.proxy.refuses = () => null;
    await story.ready("storm", 2, 60_000);
  });

  test("a server that has too much to do (429) is asked less, and obeyed", async () => {
    await story.serves("busy", 2);
    const before = story.proxy.refused;
    story.proxy.refuses = (req) => (req.url?.includes("/leases") ? null : tooMany());
    story.proxy.cutWatches();
    await story.change("busy", { replicas: 3 });
    await pause(10_000);
    // A dozen watches that each wait for a second.
    expect(story.proxy.refused - before).toBeLessThan(200);
    story.proxy.refuses = () => null;
    await story.ready("busy", 3, 90_000);
  });

  test("an apiserver that was away for a minute finds what was wanted meanwhile done within half a minute", async () => {
    await story.serves("away", 3);
    await story.plane.killApiserver();
    await pause(60_000);
    expect(story.kubelet.pods.filter(({ metadata }) => metadata.deletionTimestamp === undefined)).toHaveLength(3);
    await story.apiserverReturns();
    await story.change("away", { replicas: 2 });
    const back = Date.now();
    await story.isUp();
    await until("the Deployment follows", async () => (await story.deployment("away")).spec.replicas === 2, 60_000);
    const tookMs = Date.now() - back;
    console.log(`after a minute without an apiserver: ${tookMs} ms from its return to the change`);
    expect(tookMs).toBeLessThan(30_000);
    await story.ready("away", 2);
  });

  test.for([
    ["ImagePullBackOff", undefined, "ImagePull"],
    ["CrashLoopBackOff", undefined, "CrashLoop"],
    ["CrashLoopBackOff", "OOMKilled", "OutOfMemory"],
  ] as const)("a pod in %s (%s) is Stuck by the name of it, and heals when it can", async ([reason, last, stuck]) => {
    await story.serves("stuck", 2);
    story.kubelet.fate = () => ({ reason, message: "its last words", ...(last === undefined ? {} : { last }) });
    await story.change("stuck", { replicas: 3 });
    await until("it is Stuck", async () => (await story.condition("stuck", "Stuck"))?.status === "True");
    expect(await story.condition("stuck", "Stuck")).toMatchObject({ reason: stuck });
    expect((await story.workload("stuck")).status.readyReplicas).toBe(2);
    story.kubelet.fate = () => null;
    await story.ready("stuck", 3);
  });

  test("a pod that takes its time to load is waited for, and is not Stuck", async () => {
    await story.serves("slow", 2);
    story.kubelet.fate = () => "loads";
    await story.change("slow", { replicas: 3 });
    await until("it loads", async () => (await story.workload("slow")).status.currentReplicas === 3);
    await pause(5_000);
    expect((await story.condition("slow", "Stuck")).status).toBe("False");
    expect((await story.condition("slow", "Ready")).status).toBe("False");
    story.kubelet.fate = () => null;
    await story.ready("slow", 3);
  });

  test("rights that are taken away are named, and what they were for is done when they are back", async () => {
    await story.serves("rights", 2);
    const path = `/apis/rbac.authorization.k8s.io/v1/namespaces/${NAMESPACE}/rolebindings/llm-orchestrator-workloads`;
    const binding = await story.get(path);
    await story.plane.connection.call(path, { method: "DELETE" });
    await story.change("rights", { replicas: 3 });
    await until(
      "the missing right is named",
      async () => (await story.condition("rights", "Progressing"))?.reason === "BackendRefused",
    );
    expect((await story.condition("rights", "Progressing")).message).toContain('cannot patch resource "deployments"');
    expect((await story.workload("rights")).status.readyReplicas).toBe(2);
    const { name, namespace } = binding.metadata;
    await applied(story.plane, { ...binding, metadata: { name, namespace } });
    await story.ready("rights", 3);
  });

  test("a lone replica of a node that is drained has a successor that serves before it goes", async () => {
    await story.serves("lone", 1);
    const pods = () => story.kubelet.pods.filter(({ metadata }) => metadata.namespace === NAMESPACE);
    const node = pods()[0]?.spec?.nodeName as string;
    let least = Number.POSITIVE_INFINITY;
    const looking = setInterval(() => {
      const serving = pods().filter(({ metadata, status }) => {
        const conditions = (status as Any)?.conditions ?? [];
        const isReady = conditions.some((one: Any) => one.type === "Ready" && one.status === "True");
        return isReady && metadata.deletionTimestamp === undefined;
      });
      least = Math.min(least, serving.length);
    }, 20);
    const nodes = "/admin/v1/infrastructure/nodes";
    await story.controller.call("POST", `${nodes}/${node}/drain`, { deadline: 300 });
    await until("it has moved", () => pods().length === 1 && pods()[0]?.spec?.nodeName !== node).finally(() =>
      clearInterval(looking),
    );
    expect(least).toBe(1);
    expect((await story.deployment("lone")).spec.replicas).toBe(1);
    await story.controller.call("POST", `${nodes}/${node}/uncordon`);
    expect((await story.get(`/api/v1/nodes/${node}`)).spec.unschedulable ?? false).toBe(false);
  });

  test("two controllers without an election do everything twice, and nothing wrongly", async () => {
    await story.serves("both", 1);
    await story.controller.stop();
    story.controller = await story.start("one", ["--no-leader-elect"]);
    const other: TestController = await story.start("other", ["--no-leader-elect"]);
    unelected.push(...[story.controller, other].map(({ child }) => `_${child.pid})`));
    try {
      await story.isUp();
      for (const replicas of [4, 1, 3, 2]) {
        await story.change("both", { replicas });
        await story.ready("both", replicas);
      }
      await pause(5_000);
      const since = Date.now();
      await pause(20_000);
      expect(idleWrites(story.plane, since)).toEqual([]);
    } finally {
      await other.stop();
      await story.controller.stop();
      story.controller = await story.start("again");
      await story.isUp();
    }
  });

  test.skipIf(!canSetWallClock)(
    "a leader whose clock is set, forward and back, leads on, and does what is wanted (needs libfaketime)",
    async () => {
      await story.serves("clock", 2);
      await story.controller.stop();
      const wall = new WallClock(story.plane.folder);
      story.controller = await story.start("clocked", [], wall.env);
      await story.isUp();
      await story.ready("clock", 2);
      const clocked = story.controller;
      const isSet = ({ msg }: Any) => String(msg).startsWith("the clock was set");
      for (const [times, aheadMs] of [HOUR_MS, -HOUR_MS, 0].entries()) {
        wall.set(aheadMs);
        // More than once where the machine itself was stopped for a while.
        await until("it knows", () => clocked.log.filter(isSet).length > times);
        await story.change("clock", { replicas: 1 + (times % 2) });
        await story.ready("clock", 1 + (times % 2), 60_000);
        const pods = story.kubelet.pods.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
        expect(pods).toHaveLength(1 + (times % 2));
      }
      expect(clocked.hasEnded).toBe(false);
      expect(clocked.log.filter(({ msg }) => msg === "this controller leads")).toHaveLength(1);
      await story.controller.stop();
      story.controller = await story.start("unclocked");
    },
  );

  test.skipIf(!canSetWallClock)(
    "one whose clock is an hour ahead takes no Lease that is renewed, and takes over when it is no more (needs libfaketime)",
    async () => {
      await story.serves("ahead", 1);
      const wall = new WallClock(story.plane.folder);
      wall.set(HOUR_MS);
      const ahead = await story.start("ahead", [], wall.env);
      await until("it is ready", async () => (await ahead.get("/readyz")).status === 200);
      const leads = () => ahead.log.some(({ msg }) => msg === "this controller leads");
      await pause(20_000);
      expect(leads()).toBe(false);
      await story.controller.stop("SIGKILL");
      story.controller = ahead;
      await until("it leads", leads, 60_000);
      await story.change("ahead", { replicas: 2 });
      await story.ready("ahead", 2);
      await story.controller.stop();
      story.controller = await story.start("on-time");
    },
  );

  test("pods that hang on a dead node are given up, and neither Ready nor a deletion waits for the node", async () => {
    await story.serves("dead", 3);
    const on = (name: string) => story.kubelet.pods.filter(({ spec }) => spec?.nodeName === name);
    const dead = on("n1").length > 0 ? "n1" : "n2";
    story.kubelet.kill(dead);
    await until("its pods are to end", () =>
      on(dead).every(({ metadata }) => metadata.deletionTimestamp !== undefined),
    );
    await story.ready("dead", 3);
    await until("what hung is gone", () => on(dead).length === 0, 240_000);
    story.kubelet.revive(dead);
    await until(`${dead} is back`, async () => {
      const { status } = await story.get(`/api/v1/nodes/${dead}`);
      return status.conditions.some((one: Any) => one.type === "Ready" && one.status === "True");
    });
  });

  test("without its CRDs it says what to do, removes what it made, and goes on when they are back", async () => {
    await story.serves("crd", 2);
    const [crd] = crds(true) as readonly Any[];
    await story.plane.connection.call(pathOf(crd), { method: "DELETE" });
    await until("it is not ready", async () => (await story.controller.get("/readyz")).status === 503);
    expect((await story.controller.get("/readyz")).body.reason).toContain("gpuo cluster crds");
    await until("the CRD is gone", () => story.isGone(pathOf(crd)));
    await until("so is what was made of its objects", () =>
      story.isGone(`/apis/apps/v1/namespaces/${NAMESPACE}/deployments/crd`),
    );
    await applied(story.plane, crd);
    await until("objects are taken", () => story.apply("crd", 2).then(() => true), 60_000);
    await story.isUp();
    await story.ready("crd", 2);
  });

  test("nobody but the one that led wrote what only that one writes, by the apiserver's own log", () => {
    const stray = strayWrites(story.plane).filter(({ agent }) => !unelected.some((pid) => agent.includes(pid)));
    expect(stray).toEqual([]);
  });
});
