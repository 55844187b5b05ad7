import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { steadyClock } from "../../src/platform/clock.ts";
import { Books } from "../../src/work-service/books.ts";
import { Gate } from "../../src/work-service/gate.ts";
import { WorkStore } from "../../src/work-service/store.ts";
import { aTask } from "../work/fixtures.ts";
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

interface Answered {
  readonly status: number | undefined;
  readonly wanted: { readonly start: readonly { readonly run: string }[] };
}

const starts = ({ wanted }: Answered) => wanted.start.map(({ run }) => run);

/** What a worker is answered that has nothing: well before an answer is held. */
function ask(dir: string, instance: number, isUnanswered = false): Promise<Answered> {
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
    asked.end(JSON.stringify({ worker, runs: [], orphansStopped: 0, unkillable: 0, isUnanswered }));
  });
}
