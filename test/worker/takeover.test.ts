/**
 * A daemon that was killed leaves its worker, and the next one starts another: for a moment there are two. What the old
 * one begins after the new one has looked into the folders is the new one's all the same.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type ServerResponse } from "node:http";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { readBootId } from "../../src/platform/boot-id.ts";
import type { Assignment, RunSeen, Task } from "../../src/work/model.ts";
import { assignmentOf, type WantedOfWorker } from "../../src/work/wanted.ts";
import { makeCage } from "../../src/worker/cages.ts";
import { claimIn, type Order, readIn, writeIn } from "../../src/worker/folder.ts";
import { ProcessTable } from "../../src/worker/processes.ts";
import { prepare } from "../../src/worker/start.ts";
import { RunWatch } from "../../src/worker/watch.ts";
import { Site, until } from "./site.ts";

interface Said {
  readonly instance: number;
  readonly runs: readonly RunSeen[];
  readonly isUnanswered: boolean;
  answer(wanted?: Partial<WantedOfWorker>): void;
}

/** Takes the daemon's place: nothing is answered but by the test. */
class Stand {
  readonly said: Said[] = [];
  readonly books: string;
  readonly #server: Server;

  constructor(books: string) {
    this.books = books;
    this.#server = createServer((req, res) => {
      const chunks: Buffer[] = [];
      req.on("data", (chunk: Buffer) => chunks.push(chunk));
      req.on("end", () => this.#take(JSON.parse(Buffer.concat(chunks).toString()), res));
    });
  }

  #take(
    report: {
      readonly worker: { readonly instance: number };
      readonly runs: RunSeen[];
      readonly isUnanswered: boolean;
    },
    res: ServerResponse,
  ): void {
    const nothing = { start: [], stop: [], publish: [], settled: [], orphans: [] };
    const answer = (wanted: Partial<WantedOfWorker> = {}) =>
      void res.end(JSON.stringify({ ...nothing, ...wanted, books: this.books }));
    const { worker, runs, isUnanswered } = report;
    this.said.push({ instance: worker.instance, runs, isUnanswered, answer });
  }

  async open(dir: string): Promise<void> {
    rmSync(join(dir, "worker.sock"), { force: true });
    await new Promise<void>((resolve) => this.#server.listen(join(dir, "worker.sock"), resolve));
  }

  async next(): Promise<Said> {
    await until("a report comes", () => this.said.length > 0);
    return this.said.shift() as Said;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

let site: Site;
let stand: Stand;
afterEach(async () => {
  stand.close();
  await site.close();
});

/** A run that goes on while neither worker nor daemon lives; its folder is out of sight. */
async function hidden() {
  site = await new Site({ cage: "session" }).start();
  const id = site.submit(["/bin/sh", "-c", "trap 'exit 7' TERM; for i in $(seq 300); do sleep 0.1; done"], {
    stop: { grace: "1s" },
  });
  const run = await site.phase(id, "running");
  const task = site.task(id) as Task;
  const assignment = assignmentOf(run, task, task.spec);
  stand = new Stand(site.books.name);
  await site.killWorker();
  await site.killDaemon();
  const [folder, away] = [join(site.dir, "runs", run.id), join(site.dir, "away")];
  renameSync(folder, away);
  await stand.open(site.dir);
  site.startWorker();
  const first = await stand.next();
  expect(first.runs).toEqual([]);
  return { run: run.id, assignment, first, comesBack: () => renameSync(away, folder) };
}

const alive = (run: string) => new ProcessTable().family(null, run).length > 0;

test("what was begun before it was first answered is in its second report", async () => {
  const { run, first, comesBack } = await hidden();
  comesBack();
  expect(first.isUnanswered).toBe(true);
  first.answer();
  const second = await stand.next();
  expect(second.isUnanswered).toBe(false);
  expect(second.runs).toMatchObject([{ run, ended: null }]);
});

test("what is to start, and was begun by the other, is taken up", async () => {
  const { run, assignment, first, comesBack } = await hidden();
  first.answer();
  const second = await stand.next();
  comesBack();
  second.answer({ start: [assignment] });
  const third = await stand.next();
  expect(third.runs).toMatchObject([{ run, ended: null }]);
});

test("what is to stop, and was begun by the other, is over when its processes have ended", async () => {
  const { run, first, comesBack } = await hidden();
  first.answer();
  const second = await stand.next();
  comesBack();
  second.answer({ stop: [{ run, epoch: 1, signal: "TERM", graceMs: 1_000, to: "main" }] });
  for (;;) {
    const { runs, answer } = await stand.next();
    expect(runs).toMatchObject([{ run }]);
    const ended = runs[0]?.ended ?? null;
    if (ended === null) answer();
    else {
      expect(ended.exitCode).toBe(7);
      break;
    }
  }
  expect(alive(run)).toBe(false);
});

/** The same start by this process, in a folder of its own: as another worker would. */
async function otherStart(assignment: Assignment) {
  const folder = join(site.dir, "both");
  mkdirSync(folder);
  const { settings } = JSON.parse(readFileSync(join(site.dir, "settings.json"), "utf8"));
  const { process } = settings.work.executors;
  Object.assign(settings.work.executors, { container: { ...process, type: "container", images: ["an/image"] } });
  const starter = {
    settings,
    books: stand.books,
    bootId: readBootId(),
    cage: "session",
    taken: new Set<number>(),
    spare: null,
  } as const;
  const spec = { ...assignment.spec, executor: "container", image: "an/image" };
  return { folder, start: () => prepare(folder, { ...assignment, kind: "service", spec }, starter) };
}

test("what another has begun in the meantime is not started a second time, and reads what that one has written", async () => {
  const { assignment, first, comesBack } = await hidden();
  const { folder, start } = await otherStart(assignment);
  writeIn(folder, "order", { run: "of another" });
  // A service has a port of its own in each worker's environment: that of the order counts.
  for (const file of ["env", "task.json"]) writeFileSync(join(folder, file), "of another");
  expect(await start()).toBe(false);
  expect(readIn(folder, "order")).toEqual({ run: "of another" });
  for (const file of ["env", "task.json"]) expect(readFileSync(join(folder, file), "utf8")).toBe("of another");
  comesBack();
  first.answer();
});

test("a start whose files cannot be written has failed with that, and no holder takes it up", async () => {
  const { assignment, first, comesBack } = await hidden();
  const { folder, start } = await otherStart(assignment);
  mkdirSync(join(folder, "task.json"));
  expect(await start()).toBe(true);
  const watch = new RunWatch(folder, readIn(folder, "order") as Order);
  expect(watch.end).toMatchObject({ reason: "executor-failed", detail: expect.stringContaining("EISDIR") });
  await watch.tidied;
  expect(readIn(folder, "order")).toMatchObject({ env: {} });
  expect(claimIn(folder, "holder", {})).toBe(false);
  comesBack();
  first.answer();
});

test("of a start that a worker which died had not finished nothing is left when it is not wanted any more", async () => {
  const { first, comesBack } = await hidden();
  const [run, folder] = ["run-half-1", join(site.dir, "runs", "run-half-1")];
  mkdirSync(folder);
  for (const file of ["order.json.17", "env"]) writeFileSync(join(folder, file), "TOKEN=secret");
  const { record } = await makeCage("session", run, { memoryBytes: 2 ** 30, cpuMillis: 1_000, pids: 9 }, []);
  first.answer();
  const second = await stand.next();
  comesBack();
  second.answer({ stop: [{ run, epoch: 1, signal: "TERM", graceMs: 1_000, to: "main" }] });
  await until("it is over", () => readIn(folder, "end") !== null);
  await until("its groups are gone", () => record.groups.every((group) => !existsSync(group)));
  expect(readdirSync(folder).sort()).toEqual(["end.json", "order.json"]);
});
