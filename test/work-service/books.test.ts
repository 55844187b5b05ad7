/** What of the books waits for the disk, and what need not. */
import { expect, test } from "vitest";
import { steadyClock } from "../../src/platform/clock.ts";
import type { RunSeen } from "../../src/work/model.ts";
import { emptyWork } from "../../src/work/state.ts";
import { Books } from "../../src/work-service/books.ts";
import type { WorkStore } from "../../src/work-service/store.ts";
import { aTask } from "../work/fixtures.ts";
import { World } from "../work/world.ts";

/** Books whose disk only notes whether a commit waited for it. */
function noting() {
  const waited: boolean[] = [];
  const none = { tasks: [], workloads: [], runs: [], workers: [], lastEpoch: emptyWork().lastEpoch };
  const store = {
    books: "b",
    load: () => none,
    commit: (...[, , , , , outlastsPower]: Parameters<WorkStore["commit"]>) => void waited.push(outlastsPower ?? true),
  } as unknown as WorkStore;
  return { books: new Books(store, steadyClock()), waited };
}

const lease = { allocationId: "a", gpuUuids: ["GPU-0"], gpuIndices: [0], env: {}, fencingToken: 1 };

test("what was answered, what is about to be told, and how it ended wait for the disk; what is told again does not", () => {
  const { books, waited } = noting();
  const worker = new World(1).facts();
  const last = (act: () => void) => {
    waited.length = 0;
    act();
    return waited;
  };
  const seen = (more: Partial<RunSeen>): RunSeen => ({
    ...{ run: "run-t-0-1", phase: "running", startedAt: 5, port: null, ended: null, published: false },
    ...more,
  });
  const says = (runs: readonly RunSeen[]) => books.command({ type: "worker-reports", worker, runs });
  expect(last(() => says([]))).toEqual([false]);
  expect(last(() => books.command({ type: "submit-task", task: aTask("t"), maxTasks: 9 }))).toEqual([true]);
  const held = { type: "lease-seen", run: "run-t-0-1", attempt: 1, seen: { status: "held", lease } } as const;
  expect(last(() => books.command(held))).toEqual([false]);
  expect(last(() => books.command({ type: "hand-out", node: worker.node, instance: worker.instance }))).toEqual([true]);
  expect(last(() => says([seen({})]))).toEqual([false]);
  const ended = { at: 9, reason: null, detail: "", exitCode: 0, signal: null, resultOk: null, tail: [] };
  expect(last(() => says([seen({ phase: "ended", ended })]))).toEqual([true]);
  expect(last(() => says([seen({ phase: "ended", ended, published: true })]))).toEqual([true]);
  expect(books.state.tasks.get("t")?.status).toBe("DONE");
});

test("with other hosts everything waits for it: they do not tell again what they know to be written down", () => {
  const { books, waited } = noting();
  const link = { kind: "member", seq: 1, gpus: [], url: null, ttlMs: 1, intervalMs: 1, isIdle: true } as const;
  books.command({ type: "worker-reports", worker: { ...new World(1, "node-2").facts(), link }, runs: [] });
  expect(waited).toEqual([true]);
});
