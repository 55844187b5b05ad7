/** Books that are lost, and what their runs are in others that an admin has them adopted by. */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { isAlive, processOf } from "../../src/worker/processes.ts";
import { Site, until } from "./site.ts";

let site: Site;
afterEach(async () => site.close());

async function losesItsBooks(): Promise<void> {
  await site.killDaemon();
  for (const file of ["work.db", "work.db-wal", "work.db-shm"]) rmSync(join(site.dir, file), { force: true });
  await site.startDaemon();
}

async function strangers(...runs: readonly string[]): Promise<void> {
  const shown = () => site.strangers.all.filter(({ ofJob }) => ofJob !== undefined).map(({ run }) => run);
  await until("they are shown", () => runs.every((run) => shown().includes(run)));
}

test("a task goes on as a task: with its lease, to its result, through the death of every part, and never twice", async () => {
  site = await new Site().start();
  const script =
    'while [ ! -e $OUT_DIR/go ]; do sleep 0.1; done; echo \'{"ok": true, "n": 7}\' > $OUT_DIR/responses.json';
  const id = site.submit(["/bin/sh", "-c", script], { retry: { max: 3, lost: 3 }, timeout: "10m" });
  const run = await site.phase(id, "running");
  const child = processOf(site.pidOf(run.id, "child"));
  await losesItsBooks();
  await strangers(run.id);
  expect(site.strangers.adopt("run-of-nobody")).toBe(false);
  expect(site.strangers.adopt(run.id)).toBe(true);
  await until("it is in the books", () => site.books.state.runs.get(run.id)?.phase === "running");
  expect(site.strangers.all).toEqual([]);
  expect(site.task(id)).toMatchObject({
    status: "DISPATCHED",
    owner: "alice",
    name: "job",
    retry: { max: 0, lost: 0 },
  });
  expect(site.books.state.runs.get(run.id)).toMatchObject({ lease: { allocationId: expect.any(String) } });
  // Three looks: its lease, which bears the mark of the lost books, is wanted.
  await site.killWorker();
  site.startWorker();
  await site.killDaemon();
  await site.startDaemon();
  await new Promise((resolve) => setTimeout(resolve, 3_200));
  expect(site.leases.freeGpus()).toBe(1);
  expect(child !== null && isAlive(child)).toBe(true);
  writeFileSync(join(site.dir, "runs", run.id, "out", "go"), "");
  expect(await site.isOver(id)).toMatchObject({ status: "DONE" });
  const { readFileSync } = await import("node:fs");
  expect(JSON.parse(readFileSync(join(site.dir, "results", id, "responses.json"), "utf8"))).toEqual({ ok: true, n: 7 });
  await until("the GPU comes back", () => site.leases.freeGpus() === 2);
  expect(site.leases.takenFromTheLiving).toEqual([]);
  await until("what it was is gone", () => site.read(run.id, "order.json")?.includes('"assignment"') === false);
});

test("a service goes on with all of its replicas, is restarted, and ends when it is deleted", async () => {
  site = await new Site().start();
  const server = `require("node:http").createServer((q, r) => r.end("ok")).listen(process.env.PORT, "127.0.0.1")`;
  const uid = site.serve({
    command: [process.execPath, "-e", server],
    readiness: { http: "/", interval: "100ms" },
    restart: { backoff: "100ms" },
    resources: { replicas: 1, hardware: { gpu: { count: 1 } } },
  });
  await until("one is ready", () => [...site.books.state.runs.values()].some(({ phase }) => phase === "ready"));
  // What the worker keeps of the first run knows nothing of it.
  site.books.command({ type: "change-workload", id: uid, replicas: 2, labels: null });
  const ready = () => [...site.books.state.runs.values()].filter(({ phase }) => phase === "ready");
  await until("both are ready", () => ready().length === 2);
  const runs = ready().map(({ id }) => id);
  await losesItsBooks();
  await strangers(...runs);
  expect(site.strangers.adopt(runs[0] as string)).toBe(true);
  await until("both are ready again", () => ready().length === 2);
  expect(ready().map(({ id }) => id)).toEqual(runs);
  const [workload] = [...site.books.state.workloads.values()];
  expect(workload).toMatchObject({ id: uid, name: "service", replicas: 2, owner: "alice" });
  expect(site.leases.freeGpus()).toBe(0);
  process.kill(site.pidOf(runs[1] as string, "child"), "SIGKILL");
  await until("another takes its place", () => ready().length === 2 && !ready().some(({ id }) => id === runs[1]));
  site.books.command({ type: "delete-workload", id: uid });
  await until("it is gone", () => site.books.state.workloads.size === 0 && site.leases.freeGpus() === 2);
  expect(site.marked()).toEqual([]);
});
