/** What is told when a task has ended: written down with its end, and sent until somebody has taken it. */
import { describe, expect, test } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import { readTask } from "../../src/work/documents/task.ts";
import type { Task } from "../../src/work/model.ts";
import { emptyWork, withTask } from "../../src/work/state.ts";
import { Books } from "../../src/work-service/books.ts";
import { deliveriesFor, UnfitResultError, uploadOf } from "../../src/work-service/deliveries.ts";
import { WorkStore } from "../../src/work-service/store.ts";
import { document, TASK_SETTINGS, taskOf } from "../work/fixtures.ts";

const HOOK = "https://a.example/hook";
const UPLOAD = { destination: { type: "http", url: "https://b.example/up", headers: { "X-Token": "t" } } };
const made = (id: string, spec: object, owner = "alice") =>
  taskOf(id, readTask(document(spec) as never, TASK_SETTINGS), owner);

function toldOf(task: Task) {
  const state = withTask(emptyWork(), task);
  return deliveriesFor([{ type: "task-ended", id: task.id, status: "DONE", error: null, at: 5 }], state, 5);
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
