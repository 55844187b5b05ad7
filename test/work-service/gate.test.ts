import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { steadyClock } from "../../src/platform/clock.ts";
import { recordOf } from "../../src/work/adopt.ts";
import type { Assignment, RunSeen } from "../../src/work/model.ts";
import { Books } from "../../src/work-service/books.ts";
import { Gate } from "../../src/work-service/gate.ts";
import { WorkStore } from "../../src/work-service/store.ts";
import { Strangers } from "../../src/work-service/strangers.ts";
import { aTask, aWorkload } from "../work/fixtures.ts";
import { World } from "../work/world.ts";

const root = mkdtempSync(join(tmpdir(), "gpuo-gate-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const LEASES = { freeGpus: () => null, troubleOf: () => null };
const LOG = { info: () => undefined, warn: () => undefined, error: () => undefined };

async function statusFor(dir: string, authorization: string): Promise<number | undefined> {
  const store = new WorkStore(join(dir, "work.db"));
  const gate = new Gate(new Books(store, steadyClock()), join(dir, "gate"), LOG, LEASES);
  await gate.listen(false);
  try {
    return await new Promise((resolve, reject) => {
      const asked = request(
        { socketPath: join(dir, "gate", "worker.sock"), path: "/other", headers: { authorization }, agent: false },
        (res) => {
          res.resume();
          resolve(res.statusCode);
        },
      );
      asked.on("error", reject);
      asked.end();
    });
  } finally {
    await gate.close();
    store.close();
  }
}

test("a token that was cut short is made anew, and an empty one lets nobody in", async () => {
  for (const [i, left] of ["", "\n", "0123456789abcdef"].entries()) {
    const dir = join(root, String(i));
    mkdirSync(join(dir, "gate"), { recursive: true });
    const path = join(dir, "gate", "worker.token");
    writeFileSync(path, left, { mode: 0o600 });

    expect(await statusFor(dir, `Bearer ${left.trim()}`)).toBe(401);
    expect(await statusFor(dir, "")).toBe(401);

    const token = readFileSync(path, "utf8");
    expect(token).toMatch(/^[0-9a-f]{64}$/);
    expect(statSync(path).mode & 0o777).toBe(0o640);
    expect(readdirSync(join(dir, "gate"))).toEqual(["worker.token"]);
    // It is let in, and there is nothing at that path.
    expect(await statusFor(dir, `Bearer ${token}`)).toBe(404);
    expect(readFileSync(path, "utf8")).toBe(token);
  }
});

test.skipIf(process.getuid?.() !== 0)(
  "a worker of another user comes in by its group; without that group the socket is the daemon's (needs root)",
  async () => {
    const modes: (readonly [string, number, boolean])[] = [];
    for (const [name, shared, group] of [
      ["theirs", true, "nogroup"],
      ["nobody's", true, "no-such-group"],
      ["own", false, "nogroup"],
    ] as const) {
      const dir = join(root, name);
      mkdirSync(dir);
      const store = new WorkStore(join(dir, "work.db"));
      const gate = new Gate(new Books(store, steadyClock()), join(dir, "gate"), LOG, LEASES);
      await gate.listen(shared, group);
      const { mode, gid } = statSync(join(dir, "gate", "worker.sock"));
      const token = statSync(join(dir, "gate", "worker.token"));
      modes.push([name, mode & 0o777, gid === 65_534 && token.gid === gid]);
      await gate.close();
      store.close();
    }
    expect(modes).toEqual([
      ["theirs", 0o660, true],
      ["nobody's", 0o660, false],
      ["own", 0o600, false],
    ]);
  },
);

test("a worker that takes over is told at once that it is known, and what is wanted once it has looked again", async () => {
  const dir = join(root, "takes-over");
  mkdirSync(dir);
  const store = new WorkStore(join(dir, "work.db"));
  const books = new Books(store, steadyClock());
  const gate = new Gate(books, join(dir, "gate"), LOG, LEASES);
  await gate.listen(false);
  try {
    const task = aTask("t", { gpus: 0 });
    books.command({ type: "submit-task", task, maxTasks: 1 });
    const run = [...books.state.runs.values()][0]?.id;
    const says = (instance: number) => ask(join(dir, "gate"), instance);
    expect(starts(await says(1))).toEqual([run]);
    expect(starts(await says(2))).toEqual([]);
    expect((await says(1)).status).toBe(409);
    expect(starts(await says(2))).toEqual([run]);
    // Its answer was lost, or it gave up waiting: as long as none has reached it, it has not looked again.
    const seen = { startedAt: 1, port: null, ended: null, published: false };
    books.command({
      type: "worker-reports",
      worker: { ...new World(0).facts(), instance: 2 },
      runs: [{ ...seen, run: run as string, phase: "running" }],
    });
    for (let i = 0; i < 2; i++) expect(starts(await ask(join(dir, "gate"), 3, true))).toEqual([]);
    expect(books.state.runs.get(run as string)?.phase).toBe("running");
    const asked = says(3).catch(() => null);
    await expect.poll(() => books.state.runs.get(run as string)?.phase).toBe("ended");
    await asked;
  } finally {
    await gate.close();
    store.close();
  }
});

test("a run of lost books is shown, and is of ours when its worker says that it is, ended or not", async () => {
  const dir = join(root, "adopts");
  mkdirSync(dir);
  const store = new WorkStore(join(dir, "work.db"));
  const books = new Books(store, steadyClock());
  const gate = new Gate(books, join(dir, "gate"), LOG, LEASES);
  await gate.listen(false);
  try {
    const spec = aTask("t", { gpus: 0 }).spec;
    const job = { kind: "task", job: "t", owner: "alice", replica: 0, replicas: 1, epoch: 5, lease: null } as const;
    const record = { kind: "task", name: "job", labels: {}, webhookUrl: null } as const;
    const seenOf = (run: string, more: Partial<RunSeen>): RunSeen => {
      const adopted = more.books === books.name ? { adopted: { ...job, run, job: `t-${run}`, spec, record } } : {};
      return { run, phase: "running", startedAt: 1, port: null, ended: null, published: false, ...adopted, ...more };
    };
    const lost = seenOf("run-1", { books: "lost", ofJob: "t-run-1" });
    // Whose books these are is told at once, though nothing is wanted: until then it says of no run what it is.
    expect((await ask(join(dir, "gate"), 7, false, [seenOf("run-1", { books: "lost" })])).wanted).toMatchObject({
      books: books.name,
    });
    expect(gate.strangers.adopt("run-1")).toBe(false);
    const told = ask(join(dir, "gate"), 7, false, [lost]);
    await expect.poll(() => gate.strangers.adopt("run-1")).toBe(true);
    expect((await told).wanted.strangers).toMatchObject({ adopt: ["run-1"], stop: [], settle: [] });
    // One that is refused says what it likes.
    expect((await ask(join(dir, "gate"), 6, false, [seenOf("run-9", { books: books.name })])).status).toBe(409);
    expect(books.state.runs.size).toBe(0);
    const end = { at: 1, reason: null, detail: "", exitCode: 0, signal: null, resultOk: true, tail: [] };
    const both = [
      seenOf("run-1", { books: books.name }),
      seenOf("run-2", { books: books.name, phase: "ended", ended: end }),
    ];
    const { wanted } = await ask(join(dir, "gate"), 7, false, both);
    expect(wanted).toMatchObject({ orphans: [], stop: [], publish: [{ run: "run-2", task: "t-run-2" }] });
    expect(gate.strangers.all).toEqual([]);
    expect(books.state.runs.get("run-1")).toMatchObject({ phase: "running", owner: "alice" });
    expect(books.state.runs.get("run-2")).toMatchObject({ phase: "ended", reason: "exited", publish: "wanted" });
  } finally {
    await gate.close();
    store.close();
  }
});

test("an adopted run that has no place in these books is told to be a stranger again, and makes no second workload", async () => {
  const dir = join(root, "left-out");
  mkdirSync(dir);
  const store = new WorkStore(join(dir, "work.db"));
  const books = new Books(store, steadyClock());
  const gate = new Gate(books, join(dir, "gate"), LOG, LEASES);
  await gate.listen(false);
  try {
    const job = aWorkload("old");
    const { owner, spec } = job;
    const facts = { kind: "service", job: "old", owner, replica: 0, replicas: 1, spec, lease: null } as const;
    const reported = (run: string, epoch: number): RunSeen => ({
      ...{ run, phase: "running", startedAt: 1, port: null, ended: null, published: false, books: books.name },
      adopted: { ...facts, run, epoch, record: recordOf(job) } as Assignment,
    });
    const runs = [reported("older", 1), reported("newer", 2)];
    expect((await ask(join(dir, "gate"), 1, false, runs)).wanted.strangers?.disown).toEqual(["older"]);
    const [one, ...others] = [...books.state.workloads.values()];
    expect([one?.slots.map(({ live }) => live), others]).toEqual([["newer"], []]);
    // Its worker has not got the answer.
    expect((await ask(join(dir, "gate"), 1, false, runs)).wanted.strangers?.disown).toEqual(["older"]);
    expect(books.state.workloads.size).toBe(1);
  } finally {
    await gate.close();
    store.close();
  }
});

test("what its books cannot take yet, on a full disk, stays a stranger's that nobody ends", () => {
  const strangers = new Strangers();
  const { spec } = aTask("t", { gpus: 0 });
  const job = { run: "r", kind: "task", job: "t", owner: "a", replica: 0, replicas: 1, epoch: 5, lease: null } as const;
  const end = { at: 1, reason: null, detail: "", exitCode: 0, signal: null, resultOk: true, tail: [] };
  const seen = {
    run: "r",
    startedAt: 1,
    port: null,
    published: false,
    books: "ours",
    adopted: { ...job, spec },
  } as const;
  for (const [phase, ended] of [["running", null] as const, ["ended", end] as const]) {
    expect(strangers.take([{ ...seen, phase, ended }], "ours", () => false)).toEqual([]);
    expect(strangers.wanted).toMatchObject({ stop: [], settle: [], adopt: [] });
    expect(strangers.adopted).toMatchObject([{ run: "r" }]);
  }
  expect(strangers.take([{ ...seen, phase: "running", ended: null }], "ours", () => true)).toHaveLength(1);
  expect(strangers.living?.runs).toEqual(new Set());
});

test("what bears the mark of these books and is not in them lives until it has ended", () => {
  const strangers = new Strangers();
  const end = { at: 1, reason: null, detail: "", exitCode: 0, signal: null, resultOk: true, tail: [] };
  const seen = { run: "r", startedAt: 1, port: null, published: false, books: "ours" } as const;
  expect(strangers.living).toBe(null);
  strangers.take([{ ...seen, phase: "stopping", ended: null }], "ours", () => false);
  expect(strangers.living?.runs).toEqual(new Set(["r"]));
  strangers.take([{ ...seen, phase: "ended", ended: end }], "ours", () => false);
  expect(strangers.living?.runs).toEqual(new Set());
});

interface Answered {
  readonly status: number | undefined;
  readonly wanted: {
    readonly start: readonly { readonly run: string }[];
    readonly strangers?: { readonly disown: readonly string[] };
  };
}

const starts = ({ wanted }: Answered) => wanted.start.map(({ run }) => run);

/** What a worker is answered, well before an answer is held. */
function ask(dir: string, instance: number, isUnanswered = false, runs: readonly RunSeen[] = []): Promise<Answered> {
  const worker = { ...new World(0).facts(), instance };
  const token = readFileSync(join(dir, "worker.token"), "utf8");
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}` };
    const to = { socketPath: join(dir, "worker.sock"), method: "POST", path: "/sync", headers, agent: false };
    const asked = request({ ...to, signal: AbortSignal.timeout(5_000) }, (res) => {
      let text = "";
      res.on("data", (chunk: Buffer) => {
        text += chunk.toString();
      });
      res.on("end", () => resolve({ status: res.statusCode, wanted: JSON.parse(text) }));
    });
    asked.on("error", reject);
    asked.end(JSON.stringify({ worker, runs, orphansStopped: 0, unkillable: 0, isUnanswered }));
  });
}
