/** What a drain evicts and when, against an apiserver in memory; and of which workloads the loop says that it has not decided. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { KubeBackend } from "../../src/controller/kubernetes/backend.ts";
import { KubeConnection } from "../../src/controller/kubernetes/connection.ts";
import { KubeObjects } from "../../src/controller/kubernetes/objects.ts";
import { ControllerError } from "../../src/controller/objects/errors.ts";
import { ReconcileLoop } from "../../src/controller/reconcile/loop.ts";
import { FakeApiserver } from "./fake-apiserver.ts";
import { PODS, SETTINGS, workload } from "./objects.ts";

const NOBODY: ReadonlySet<string> = new Set();
const POD = "/api/v1/namespaces/ns/pods/one";
const SOON = { reason: "", deadlineMs: 600_000, force: false };

describe("a node that is to be emptied", () => {
  let server: FakeApiserver;
  let backend: KubeBackend;
  let end: () => Promise<void>;

  beforeEach(async () => {
    server = new FakeApiserver();
    const folder = mkdtempSync(join(tmpdir(), "drains-"));
    const kubeconfig = join(folder, "config");
    const config = {
      clusters: [{ name: "c", cluster: { server: await server.start() } }],
      contexts: [{ name: "c", context: { cluster: "c" } }],
      "current-context": "c",
    };
    writeFileSync(kubeconfig, JSON.stringify(config));
    const status = { allocatable: { "nvidia.com/gpu": "8" }, conditions: [{ type: "Ready", status: "True" }] };
    server.set("/api/v1/nodes/n1", { metadata: { name: "n1" }, spec: {}, status });
    server.set(POD, {
      metadata: {
        name: "one",
        namespace: "ns",
        labels: { "llm-orchestrator.io/workload": "chat", "llm-orchestrator.io/revision": "r" },
      },
      spec: { nodeName: "n1", containers: [] },
      status: { phase: "Running" },
    });
    const connection = new KubeConnection({ kubeconfig, context: null });
    const objects = new KubeObjects(connection, null);
    const settings = {
      reconcile: SETTINGS,
      namespace: "llm-orchestrator",
      gateway: null,
      prometheus: null,
      pods: PODS,
    };
    backend = new KubeBackend(connection, objects, settings, () => undefined);
    objects.start();
    backend.start();
    end = async () => {
      await Promise.all([objects.stop(), backend.stop()]);
      await connection.close();
      await server.stop();
      rmSync(folder, { recursive: true });
    };
    await expect.poll(() => backend.look().then(() => "seen", String), { timeout: 20_000 }).toBe("seen");
  });
  afterEach(() => end());

  const evictions = () => server.writes.filter((write) => write.endsWith("/eviction")).length;

  test("loses nothing to a drain that was asked for after the look on which was decided", async () => {
    await backend.look();
    await backend.drain("n1", SOON);
    await backend.tend(Date.now(), NOBODY);
    expect(server.get(POD)).toBeDefined();
    await backend.look();
    await backend.tend(Date.now(), NOBODY);
    expect(server.get(POD)).toBeUndefined();
  });

  test("keeps the pods of a workload on which nothing was decided, but not beyond a deadline that is forced", async () => {
    await backend.drain("n1", { reason: "", deadlineMs: 60_000, force: true });
    await backend.look();
    await backend.tend(Date.now(), new Set(["ns/chat"]));
    expect(evictions()).toBe(0);
    const { blockedBy } = await backend.drain("n1", { reason: "", deadlineMs: 60_000, force: true });
    expect(blockedBy).toEqual(["ns/one: nothing could be decided of its workload"]);
    await backend.tend(Date.now() + 61_000, new Set(["ns/chat"]));
    expect(server.get(POD)).toBeUndefined();
    expect(evictions()).toBe(0);
  });

  test("has a refused eviction asked for again after 5 s, and a deletion at the deadline at once", async () => {
    server.refusals.set(`${POD}/eviction`, { status: 429, message: "the budget does not allow it" });
    await backend.drain("n1", { reason: "", deadlineMs: 60_000, force: true });
    await backend.look();
    const start = Date.now();
    for (const after of [0, 1_000, 2_000, 4_900]) await backend.tend(start + after, NOBODY);
    expect(evictions()).toBe(1);
    await backend.tend(start + 5_000, NOBODY);
    expect(evictions()).toBe(2);
    const { blockedBy } = await backend.drain("n1", { reason: "", deadlineMs: 1_000, force: true });
    expect(blockedBy).toEqual(["ns/one: the budget does not allow it"]);
    await backend.tend(start + 6_900, NOBODY);
    expect(server.get(POD)).toBeUndefined();
    expect(evictions()).toBe(2);
  });
});

test("a workload whose pass was cut short, and one that rests, is told to whoever empties nodes; one that is paused is not", async () => {
  const told: string[][] = [];
  const applied: string[] = [];
  let now = 1_800_000_000_000;
  let fails = false;
  const named = (name: string, change = {}) => {
    const made = workload(change);
    return { ...made, metadata: { ...made.metadata, name, uid: name } };
  };
  const workloads = [named("fine"), named("paused", { paused: true }), named("failing")];
  const loop = new ReconcileLoop({
    objects: {
      workloads: () => workloads,
      models: () => [],
      revisions: () => [],
      putStatus: async () => undefined,
      keepRevision: async ({ metadata: { name } }: { metadata: { name: string } }) => {
        if (name === "failing" && fails) throw new ControllerError("backend-unavailable", "not now");
      },
    },
    history: { addEvent: () => undefined, endScaling: () => undefined },
    backend: {
      look: async () => ({
        nodes: [],
        tracksOf: () => [],
        loadOf: () => [],
        serviceOf: () => null,
        isolates: true,
      }),
      templateOf: () => ({}),
      apply: async ({ metadata: { name } }: { metadata: { name: string } }) => {
        applied.push(name);
        return [];
      },
      tend: async (_: number, undecided: ReadonlySet<string>) => {
        told.push([...undecided]);
      },
    },
    settings: SETTINGS,
    leads: () => true,
    newId: () => "id",
    now: () => now,
    log: { info: () => undefined, warn: () => undefined, error: () => undefined },
  } as never);
  onTestFinished(() => loop.stop());
  await loop.pass();
  fails = true;
  await loop.pass();
  fails = false;
  // It rests: its pause is not over yet.
  await loop.pass();
  now += 1_000;
  await loop.pass();
  expect(told).toEqual([[], ["default/failing"], ["default/failing"], []]);
  expect(applied.filter((name) => name === "failing")).toHaveLength(2);
});
