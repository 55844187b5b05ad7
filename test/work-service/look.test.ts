/** Which leases of runs that the books do not know are given back: those that nothing living bears any more. */
import { expect, onTestFinished, test } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import { recordOf } from "../../src/work/adopt.ts";
import type { Living } from "../../src/work/wanted.ts";
import { Books } from "../../src/work-service/books.ts";
import { Look } from "../../src/work-service/look.ts";
import { WorkStore } from "../../src/work-service/store.ts";
import { aTask } from "../work/fixtures.ts";
import { MemoryLeases } from "../worker/site.ts";

const LOG = { info: () => undefined, warn: () => undefined, error: () => undefined };

function living(runs: readonly string[], leases: readonly string[] = []): Living {
  return { runs: new Set(runs), leases: new Set(leases) };
}

async function lookingAt(strangers: () => Living | null, ofLostBooks = true) {
  const clock = new ManualClock();
  const store = new WorkStore(":memory:");
  const books = new Books(store, clock);
  const leases = new MemoryLeases(2);
  const wish = {
    attempt: 1,
    books: ofLostBooks ? "lost" : books.name,
    owner: "alice",
    serviceName: "s",
    workloadType: "generic",
    model: null,
  } as const;
  const more = { gpus: 1, memoryMib: null, nameParts: [], priority: null, maxDurationMs: null } as const;
  const seen = await leases.ask({ ...wish, ...more, key: "lease-1", run: "run-1" });
  if (seen.status !== "held") throw new Error("there is a free GPU");
  const look = new Look(books, leases, clock, LOG, strangers);
  onTestFinished(() => {
    look.stop();
    store.close();
  });
  const looks = async () => {
    clock.advance(3_000);
    // What is given back is given back in a turn of its own.
    await new Promise((resolve) => setImmediate(resolve));
    return leases.endOf("lease-1");
  };
  return { books, leases, looks, lease: seen.lease };
}

test.each([
  ["a lease of lost books", true],
  ["a lease of these books, which are of a backup and do not know its run,", false],
])("%s stays until a worker has said what lives, and as long as its run does", async (_, ofLostBooks) => {
  let here: Living | null = null;
  const { looks } = await lookingAt(() => here, ofLostBooks);
  expect(await looks()).toBe(null);
  here = living(["run-1"]);
  expect(await looks()).toBe(null);
  // A service's that was restarted: it bears the mark of the run that asked for it.
  here = living(["run-2"], ["lease-1"]);
  expect(await looks()).toBe(null);
  here = living(["run-2"], ["lease-2"]);
  expect(await looks()).toBe("released");
});

test.each([
  ["run-1", "which asked for it"],
  ["run-2", "which has it since a restart"],
])("the lease of an adopted run is its own until it ends, and is given back then: of %s, %s", async (run) => {
  const { books, looks, lease } = await lookingAt(() => living([]));
  const job = aTask("task-1");
  const assignment = { run, kind: "task", job: "task-1", owner: "alice", replica: 0, replicas: 1 } as const;
  const more = { epoch: 5, spec: job.spec, lease, record: recordOf(job) };
  const runs = [{ assignment: { ...assignment, ...more }, startedAt: 1, port: null }];
  books.command({ type: "adopt-runs", node: "node-1", uid: "uid", runs });
  expect(await looks()).toBe(null);
  const end = { at: 1, reason: null, detail: "", exitCode: 1, signal: null, resultOk: null, tail: [] };
  const facts = { node: "node-1", instance: 1, pid: 1, startedAt: 1, bootId: "b", executors: [], topics: [], tags: [] };
  const worker = { ...facts, labels: {}, cage: "cgroup", endsSurely: true, hardware: {} };
  const ended = { run, phase: "ended", startedAt: 1, port: null, ended: end, published: false } as const;
  books.command({ type: "worker-reports", worker, runs: [ended] });
  expect(books.state.runs.get(run)).toMatchObject({ phase: "ended", reason: "failed" });
  expect(await looks()).toBe("released");
});
