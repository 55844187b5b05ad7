/** Tasks whose prompts a workload answers that runs already. */
import { describe, expect, test } from "vitest";
import { decide } from "../../src/work/decide.ts";
import { readTask } from "../../src/work/documents/task.ts";
import type { Run, RunSeen, Workload } from "../../src/work/model.ts";
import { assignedTask, wantedOfNode } from "../../src/work/nodes.ts";
import { emptyWork, type WorkState, withRun, withWorkload } from "../../src/work/state.ts";
import { wantedOf } from "../../src/work/wanted.ts";
import { aWorkload, document, TASK_SETTINGS, taskOf } from "./fixtures.ts";

const BASE = {
  job: { kind: "workload", uid: "w1" },
  owner: "alice",
  replica: 0,
  epoch: 1,
  generation: 0,
  createdAt: 0,
} as const;

function served(phase: "ready" | "running", node = "node-1"): WorkState {
  const on = { lease: null, node, handedOutAt: 0, known: true, startedAt: 0, readyAt: null, port: 20_001 };
  const run: Run = { id: "run-w1-0-1", ...BASE, phase, ...on };
  const workload = aWorkload("w1");
  const slots = workload.slots.map((slot) => ({ ...slot, live: run.id, tries: 1 }));
  return withRun(withWorkload(emptyWork(), { ...workload, slots } as Workload), run);
}

const asking = (id: string, service: string, owner = "alice") =>
  taskOf(
    id,
    readTask(
      document({ taskType: "inference", command: null, model: { service }, inference: { prompts: ["a"] } }) as never,
      TASK_SETTINGS,
    ),
    owner,
  );
const submit = (state: WorkState, task: ReturnType<typeof asking>) =>
  decide(state, { type: "submit-task", task, maxTasks: 9 }, 1).state;
const runsOf = (state: WorkState, id: string) => [...state.runs.values()].filter(({ job }) => job.uid === id);

describe("a task that uses a service", () => {
  test("starts when one of its replicas is ready, not before", () => {
    expect(runsOf(submit(served("running"), asking("t", "name-of-w1")), "t")).toEqual([]);
    expect(runsOf(submit(served("ready"), asking("t", "name-of-w1")), "t")).toHaveLength(1);
  });

  test("takes nobody else's, by id or by name", () => {
    for (const name of ["name-of-w1", "service"]) {
      expect(runsOf(submit(served("ready"), asking("t", name)), "t")).toHaveLength(1);
      expect(() => submit(served("ready"), asking("t", name, "bob"))).toThrow("is no workload of yours");
    }
  });

  test("is told the port of a replica on its own node only", () => {
    const onNode = (node: string) => {
      const state = submit(served("ready", node), asking("t", "service"));
      const [run] = runsOf(state, "t");
      const here = {
        lease: null,
        node: "node-1",
        handedOutAt: 0,
        known: true,
        startedAt: null,
        readyAt: null,
        port: null,
      };
      const handed = withRun(state, { ...(run as Run), phase: "starting", ...here } as Run);
      return wantedOf(handed, "node-1", []).start.find(({ job }) => job === "t")?.service;
    };
    expect(onNode("node-1")).toEqual({ port: 20_001, model: "llama2" });
    expect(onNode("node-2")).toBe(undefined);
  });

  test("fails when its service is gone", () => {
    const waiting = submit(served("running"), asking("t", "service"));
    const { state } = decide(waiting, { type: "delete-workload", id: "name-of-w1" }, 2);
    expect(state.tasks.get("t")).toMatchObject({ status: "FAILED", error: "service-gone" });
  });
});

describe("a task that uses a service, among several nodes", () => {
  const seen = (state: WorkState, node: string, freeGpus: number, runs: readonly RunSeen[] = [], at = 1) => {
    const facts = { instance: 1, pid: 1, startedAt: 0, bootId: "boot", executors: ["vllm"], topics: [], tags: [] };
    const link = {
      kind: "member",
      gpus: [],
      url: null,
      isIdle: true,
      ttlMs: 120_000,
      intervalMs: 30_000,
      seq: at,
    } as const;
    const worker = { ...facts, node, labels: {}, cage: "cgroup", endsSurely: true, hardware: {}, freeGpus, link };
    return decide(state, { type: "worker-reports", worker, runs }, at).state;
  };
  const SERVING: RunSeen = {
    run: "run-w1-0-1",
    phase: "ready",
    startedAt: 0,
    port: 20_001,
    ended: null,
    published: false,
  };
  // Everything but the service speaks for the other node.
  const nodes = (phase: "ready" | "running") =>
    seen(seen(served(phase, "node-b"), "node-a", 0), "node-b", 8, [{ ...SERVING, phase }]);
  const placed = (state: WorkState) => runsOf(state, "t").at(-1);

  test("goes where a replica of it is ready, with its port there", () => {
    const state = submit(nodes("ready"), asking("t", "service"));
    expect(placed(state)).toMatchObject({ phase: "assigned", node: "node-b" });
    const handed = decide(state, { type: "hand-out", node: "node-b", instance: 1 }, 2).state;
    const [assigned] = wantedOfNode(handed, "node-b", []).assign;
    expect(assigned?.assignment.service).toEqual({ port: 20_001, model: "llama2" });
  });

  test("waits where no node of its may have it, and goes on elsewhere after its service was away at its start", () => {
    let state = submit(nodes("ready"), asking("t", "service"));
    const first = placed(state) as Run;
    state = decide(state, { type: "hand-out", node: "node-b", instance: 1 }, 2).state;
    const end = { at: 3, reason: null, detail: "its service is away", exitCode: null, signal: null, resultOk: null };
    const ended = { ...SERVING, run: first.id, phase: "ended", startedAt: null, ended: { ...end, tail: [] } } as const;
    state = seen(state, "node-b", 8, [{ ...SERVING, phase: "unready" }, ended], 3);
    expect(state.tasks.get("t")).toMatchObject({ status: "PENDING", error: null, slots: [{ failures: 0 }] });
    state = seen(state, "node-b", 8, [SERVING], 40_000);
    expect(placed(state)).toMatchObject({ phase: "assigned", node: "node-b" });
    expect(placed(state)?.id).not.toBe(first.id);
  });

  test("waits with a reason where its service is ready on no node that may have it", () => {
    const draft = asking("t", "service");
    const state = submit(nodes("ready"), { ...draft, spec: { ...draft.spec, tags: ["none"] } });
    expect(placed(state)).toMatchObject({ phase: "waiting", waiting: { reason: "no-suitable-worker" } });
    const ready = submit(nodes("ready"), asking("t", "service"));
    const left = decide(
      ready,
      { type: "run-declined", run: placed(ready)?.id ?? "", why: "no", forGood: false },
      2,
    ).state;
    const again = decide(left, { type: "tick" }, 2_000).state;
    expect(placed(again)).toMatchObject({ phase: "waiting", waiting: { reason: "service-not-ready" } });
  });

  test("on a member has what the controller named, as long as that serves there", () => {
    const task = asking("t", "service");
    const service = { port: 20_001, model: "m" };
    const given = (state: WorkState) => {
      const assignment = {
        run: "r",
        kind: "task",
        job: "t",
        owner: "alice",
        replica: 0,
        replicas: 1,
        epoch: 1,
      } as const;
      const own = assignedTask("books", "job", { ...assignment, spec: task.spec, lease: null, service }, 1);
      const here = { instance: 1, pid: 1, startedAt: 0, bootId: "boot", executors: ["vllm"], topics: [], tags: [] };
      const worker = { ...here, node: "node-1", labels: {}, cage: "cgroup", endsSurely: true, hardware: {} };
      let next = decide(state, { type: "worker-reports", worker, runs: null }, 1).state;
      next = decide(next, { type: "submit-task", task: own, maxTasks: 9 }, 1).state;
      next = decide(next, { type: "hand-out", node: "node-1", instance: 1 }, 1).state;
      return wantedOf(next, "node-1", []).start.find(({ run }) => run === "r");
    };
    expect(given(served("ready"))).toMatchObject({ service });
    expect(given(served("running"))).toMatchObject({ run: "r" });
    expect(given(served("running"))?.service).toBe(undefined);
  });
});
