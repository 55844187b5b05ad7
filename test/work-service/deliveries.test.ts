/** What is told when a task has ended: written down with its end, and sent until somebody has taken it. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import { readTask } from "../../src/work/documents/task.ts";
import type { Run, Task } from "../../src/work/model.ts";
import { emptyWork, withRun, withTask } from "../../src/work/state.ts";
import { Books } from "../../src/work-service/books.ts";
import {
  deliveriesFor,
  deliveriesView,
  RESULT_INCOMPLETE,
  UnfitResultError,
  uploadOf,
} from "../../src/work-service/deliveries.ts";
import type { RouteParts } from "../../src/work-service/routes/parts.ts";
import { resultToSend } from "../../src/work-service/routes/tasks.ts";
import { WorkStore } from "../../src/work-service/store.ts";
import { document, TASK_SETTINGS, taskOf } from "../work/fixtures.ts";

const HOOK = "https://a.example/hook";
const UPLOAD = { destination: { type: "http", url: "https://b.example/up", headers: { "X-Token": "t" } } };
const made = (id: string, spec: object, owner = "alice") =>
  taskOf(id, readTask(document(spec) as never, TASK_SETTINGS), owner);

function toldOf(task: Task, uploadsItself: readonly string[] = []) {
  const state = withTask(emptyWork(), task);
  const event = { type: "task-ended", id: task.id, status: "DONE", error: null, at: 5 } as const;
  return deliveriesFor([event], state, 5, new Set(uploadsItself));
}

describe("what is told of a task", () => {
  const both = made("t1", { webhook_url: HOOK, output: UPLOAD });

  test("is a webhook whatever it ended with, and an upload of what came of it", () => {
    expect(toldOf({ ...both, status: "DONE" })).toMatchObject([
      { id: "t1-ended", kind: "ended", url: HOOK, headers: {} },
      { id: "t1-result", kind: "result", url: "https://b.example/up", headers: { "X-Token": "t" }, body: null },
    ]);
    expect(toldOf({ ...both, status: "FAILED", error: "failed" }).map(({ kind }) => kind)).toEqual(["ended"]);
    expect(toldOf({ ...made("t2", {}), status: "DONE" })).toEqual([]);
  });

  test("has nothing of the document, which may hold secrets", () => {
    const [webhook] = toldOf({ ...both, status: "DONE", finishedAt: 5 });
    const body = JSON.parse(webhook?.body ?? "");
    expect(body).toMatchObject({ status: "DONE", task_id: "t1", task: { name: "job", status: "DONE" } });
    expect(webhook?.body).not.toContain("X-Token");
    expect(Object.keys(body.task)).not.toContain("raw_yaml");
  });

  test("is the controller's to tell where a controller has given it", () => {
    expect(toldOf({ ...both, status: "DONE", origin: {} as NonNullable<Task["origin"]> })).toEqual([]);
  });
});

describe("the upload of a result", () => {
  const sent = (result: string) => uploadOf("t1", Buffer.from(result)).toString();

  test("is written anew: what a run wrote says nothing outside of its place", () => {
    expect(sent('{ "ok": true }\n')).toBe('{"task_id":"t1","result":{"ok":true}}');
    const forged = '{},"task_id":"t2","status":"DONE"';
    for (const bytes of [forged, `{}}\n${forged}`, "", "{", "NaN"]) {
      expect(() => sent(bytes), bytes).toThrow(UnfitResultError);
    }
    expect(() => sent(forged)).toThrow(/^the result is no JSON: /);
  });

  test("is no larger than 16 MiB, and no deeper than can be written", () => {
    expect(() => sent(`"${"x".repeat(2 ** 24)}"`)).toThrow("the result has more than 16 MiB");
    const deep = 2 ** 17;
    expect(() => sent(`${"[".repeat(deep)}${"]".repeat(deep)}`)).toThrow(UnfitResultError);
  });
});

test("MLOC's workers send a result themselves: it does not come twice", () => {
  const done = { ...made("t1", { webhook_url: HOOK, output: UPLOAD }), status: "DONE" } as const;
  expect(toldOf(done, [done.spec.executor]).map(({ kind }) => kind)).toEqual(["ended"]);
});

test("only an admin hears why a receiver did not answer; what it answered, and what is wrong with the result, all do", () => {
  const record = { kind: "result", state: "gave-up", attempts: 1, nextAttemptAt: null } as const;
  const errors = (httpStatus: number | null, error: string | null) =>
    [false, true].map((toAdmin) => deliveriesView([{ ...record, httpStatus, error }], toAdmin)[0]?.error);
  expect(errors(null, "the connection was refused")).toEqual([
    "no answer; an admin is told why",
    "the connection was refused",
  ]);
  for (const [status, error] of [
    [500, "the receiver answered 500"],
    [200, null],
    [null, null],
    [null, "the result has more than 16 MiB"],
  ] as const)
    expect(errors(status, error)).toEqual([error, error]);
});

describe("the result that is sent", () => {
  const folder = mkdtempSync(join(tmpdir(), "gpuo-sent-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const write = (task: string, path: string, value: unknown) => {
    mkdirSync(dirname(join(folder, task, path)), { recursive: true });
    writeFileSync(join(folder, task, path), JSON.stringify(value));
  };
  const sent = async (task: Task, ofRun: (run: { id: string }) => Promise<Response | null> = async () => null) => {
    let state = withTask(emptyWork(), task);
    for (const { replica } of task.slots) {
      const run = {
        id: `run-${replica}`,
        job: { kind: "task", uid: task.id },
        replica,
        phase: "ended",
        publish: "done",
      };
      state = withRun(state, run as unknown as Run);
    }
    const elsewhere = { secret: Buffer.from("s"), ofRun };
    const parts = { books: { state }, settings: { resultsDir: folder }, elsewhere };
    return JSON.parse(String(await resultToSend(parts as unknown as RouteParts, task.id)));
  };
  const two = (id: string) => made(id, { resources: { replicas: 2 } });
  const items = (output: string) => ({ ok: true, items: [{ index: 0, output }] });

  test("of several replicas has them all: what a node still has is fetched", async () => {
    write("t1", "replicas/0/responses.json", items("a"));
    // As it is put together of what has come.
    write("t1", "responses.json", { ok: false, replicas: [{}, null] });
    const { task_id, result } = await sent(two("t1"), async ({ id }) =>
      id === "run-1" ? Response.json(items("b")) : null,
    );
    expect([task_id, result.ok, result.items.map(({ output }: { output: string }) => output)]).toEqual([
      "t1",
      true,
      ["a", "b"],
    ]);
  });

  test("is not there yet while one of them cannot be had, and never sent when it is too large", async () => {
    write("t2", "replicas/0/responses.json", items("a"));
    write("t2", "responses.json", { ok: false, replicas: [{}, null] });
    await expect(sent(two("t2"))).rejects.toThrow(RESULT_INCOMPLETE);
    write("t3", "responses.json", { ok: true, text: "x".repeat(16 * 2 ** 20) });
    await expect(sent(made("t3", {}))).rejects.toThrow(UnfitResultError);
  });
});

describe("the rows", () => {
  const submit = (books: Books, task: Task) => books.command({ type: "submit-task", task, maxTasks: 100 });

  test("are there with the end, leave when they are settled for good, and go with their task", () => {
    const clock = new ManualClock();
    const store = new WorkStore(":memory:");
    const books = new Books(store, clock);
    submit(books, made("t1", { webhook_url: HOOK }));
    expect(store.deliveries.nextDueAt()).toBe(null);
    books.command({ type: "cancel-task", id: "t1" });
    const now = clock.now();
    expect(store.deliveries.nextDueAt()).toBe(now);
    expect(store.deliveries.due(now - 1, 9)).toEqual([]);
    expect(store.deliveries.due(now, 9)).toMatchObject([{ id: "t1-ended", attempts: 0, principal: "alice" }]);
    const failed = { id: "t1-ended", at: now, httpStatus: 500, error: "the receiver answered 500" };
    store.settle({ ...failed, outcome: "retry", nextAttemptAt: now + 1_000 });
    expect(store.deliveries.due(now, 9)).toEqual([]);
    expect(store.deliveries.due(now + 1_000, 9)).toMatchObject([{ attempts: 1 }]);
    expect(store.deliveries.pendingOf("alice", 9)).toBe(1);
    store.settle({ ...failed, outcome: "delivered", nextAttemptAt: null, httpStatus: 200, error: null });
    expect(store.deliveries.nextDueAt()).toBe(null);
    expect(store.deliveries.ofTask("t1")).toMatchObject([{ state: "delivered", attempts: 2, httpStatus: 200 }]);
    clock.advance(1_000);
    books.command({ type: "remove-ended-tasks", before: clock.now(), keep: 0 });
    expect(store.deliveries.ofTask("t1")).toEqual([]);
    store.close();
  });

  test("of every principal the oldest comes before the second of any", () => {
    const store = new WorkStore(":memory:");
    const books = new Books(store, new ManualClock());
    const tasks = [
      ...["a1", "a2", "a3"].map((id) => made(id, { webhook_url: HOOK })),
      made("b1", { webhook_url: HOOK }, "bob"),
    ];
    for (const task of tasks) {
      submit(books, task);
      books.command({ type: "cancel-task", id: task.id });
    }
    expect(store.deliveries.due(books.now(), 3).map(({ task }) => task)).toEqual(["a1", "b1", "a2"]);
    store.close();
  });
});

test("a destination cannot frame the message, and needs an address", () => {
  const paths = (output: object) => {
    try {
      readTask(document({ output }) as never, TASK_SETTINGS);
      return [];
    } catch (error) {
      return (error as { errors: readonly { path: string }[] }).errors.map(({ path }) => path);
    }
  };
  const to = (more: object) => ({ destination: { ...UPLOAD.destination, ...more } });
  expect(paths(UPLOAD)).toEqual([]);
  expect(paths({ destination: { type: "http" } })).toEqual(["spec.output.destination.url"]);
  expect(paths(to({ url: "file:///etc/passwd" }))).toEqual(["spec.output.destination.url"]);
  for (const name of ["Host", "content-length", "Transfer-Encoding", "webhook-id", "Proxy-Authorization", "a b"])
    expect(paths(to({ headers: { [name]: "x" } })), name).toHaveLength(1);
  expect(paths(to({ headers: { "X-A": "a\r\nHost: b" } }))).toHaveLength(1);
});
