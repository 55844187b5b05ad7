/** What happened, in a database: the same on both. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { ScalingBegun } from "../../../src/controller/objects/store.ts";
import { type Database, DatabaseError, type Statement } from "../../../src/controller/store/database.ts";
import { GuardedDatabase } from "../../../src/controller/store/guard.ts";
import { HISTORY_MS, MAX_BUFFERED, Recorder } from "../../../src/controller/store/history.ts";
import { deploymentNoted } from "../../../src/controller/store/tracker.ts";
import { workload } from "../objects.ts";
import { BACKENDS } from "./backends.ts";

const NOW = Date.parse("2026-11-30T12:00:00.000Z");
const at = (seconds: number) => new Date(NOW + seconds * 1_000).toISOString();
const scaling = (eventId: string, change: Partial<ScalingBegun> = {}): ScalingBegun => ({
  eventId,
  deploymentId: "chat",
  tenantId: "acme",
  scalingType: "auto",
  fromReplicas: 1,
  toReplicas: 2,
  triggerReason: "the queue is long",
  triggerMetrics: { queue_length: 12.5 },
  initiatedAt: at(0),
  ...change,
});
const event = (reason: string, deploymentId = "chat", seconds = 0) => ({
  ...{ deploymentId, at: at(seconds), type: "Ready=True", reason, message: "" },
});

/** A database that can be taken away, or lose its answers. */
class Unreliable implements Database {
  readonly dialect: Database["dialect"];
  readonly #real: Database;
  trouble: "none" | "away" | "mute" = "none";
  calls = 0;

  constructor(real: Database) {
    this.dialect = real.dialect;
    this.#real = real;
  }

  async run(statements: readonly Statement[]) {
    this.calls++;
    if (this.trouble === "away") throw new DatabaseError("away", "it is away");
    const rows = await this.#real.run(statements);
    if (this.trouble === "mute") throw new DatabaseError("away", "the answer is lost");
    return rows;
  }

  close(): Promise<void> {
    return this.#real.close();
  }
}

describe.each(BACKENDS.map((make) => make()))("history in $name", (backend) => {
  if (!backend.isThere) {
    test.skip("all of it", () => undefined);
    return;
  }
  let database: Unreliable;
  let errors: object[];
  let recorder: Recorder;
  beforeAll(() => backend.start(), 60_000);
  afterAll(() => backend.stop());
  beforeEach(async () => {
    database = new Unreliable((await backend.fresh())());
    errors = [];
    const objects = { workloads: () => [workload()] } as never;
    const deployment = (id: string, tenant: string, when: string) => deploymentNoted(objects, id, tenant, when);
    recorder = new Recorder({ database, deployment, log: { error: (facts) => errors.push(facts) } });
  });
  afterEach(async () => {
    database.trouble = "none";
    await recorder.close();
    await database.close();
  });

  test("has each change of replicas, the newest first, one in progress at a time", async () => {
    recorder.beginScaling(scaling("e1"));
    recorder.beginScaling(scaling("e2", { scalingType: "manual", initiatedAt: at(10) }));
    recorder.endScaling("chat", "success", at(20));
    recorder.beginScaling(scaling("e3", { deploymentId: "other" }));
    recorder.endScaling("other", "failed", at(30), "CrashLoop: boom");
    const failed = { status: "failed", errorMessage: "CrashLoop: boom", completedAt: at(30) } as const;
    expect(await recorder.scalings({ deploymentId: "other", limit: 10 })).toMatchObject([failed]);
    expect(await recorder.scalings({ deploymentId: "chat", limit: 10 })).toEqual([
      {
        ...scaling("e2", { scalingType: "manual", initiatedAt: at(10) }),
        ...{ status: "success", errorMessage: null, completedAt: at(20) },
      },
      { ...scaling("e1"), status: "cancelled", errorMessage: null, completedAt: at(10) },
    ]);
    expect(errors).toEqual([]);
  });

  test("shows the changes of one deployment, or of some tenants, as many as were asked for", async () => {
    recorder.beginScaling(scaling("e1"));
    recorder.beginScaling(scaling("e2", { deploymentId: "gone", tenantId: "other" }));
    recorder.beginScaling(scaling("e3", { deploymentId: "gone", tenantId: "other" }));
    const ids = async (query: object) =>
      (await recorder.scalings({ limit: 10, ...query })).map(({ eventId }) => eventId);
    expect(await ids({ deploymentId: "chat" })).toEqual(["e1"]);
    expect(await ids({ tenants: ["other"] })).toEqual(["e3", "e2"]);
    expect(await ids({ tenants: ["other"], limit: 1 })).toEqual(["e3"]);
    expect(await ids({ tenants: [] })).toEqual([]);
    expect(await ids({ tenants: ["acme", "other"] })).toEqual(["e3", "e2", "e1"]);
  });

  test("has events of a deployment and the audit, each once", async () => {
    recorder.addEvent(event("first"));
    recorder.addEvent(event("of another", "other"));
    recorder.addEvent(event("second", "chat", 5));
    const entry = { principal: "me", address: "::1", object: "chat", reason: null, requestId: "r", count: 1 };
    recorder.addAudit({ at: NOW, action: "POST /x", result: "done", ...entry });
    expect(await recorder.events("chat", 10)).toEqual([event("second", "chat", 5), event("first")]);
    const [rows] = await database.run([{ sql: "SELECT * FROM audit" }]);
    expect(rows).toMatchObject([{ at: at(0), principal: "me", action: "POST /x", result: "done", count: 1 }]);
  });

  test("has the words of a program that has failed, whatever is in them", async () => {
    const words = "it said: '\u0007\ud83d\ude00' -- ; DROP TABLE x";
    recorder.addEvent({ ...event("words"), message: words });
    recorder.addEvent({ ...event("nul"), message: "before\0after" });
    const [nul, plain] = await recorder.events("chat", 10);
    expect(plain?.message).toBe(words);
    expect(nul?.message).toMatch(/^before(\0|\uFFFD)after$/);
    expect(recorder.dropped).toBe(0);
  });

  test("waits while the database is away, is told from memory, and is there in its order afterwards", async () => {
    recorder.beginScaling(scaling("e1"));
    await recorder.flush();
    database.trouble = "away";
    recorder.endScaling("chat", "success", at(1));
    recorder.beginScaling(scaling("e2", { initiatedAt: at(2) }));
    recorder.addEvent(event("while away"));
    expect(recorder.buffered).toBe(3);
    const known = await recorder.scalings({ deploymentId: "chat", limit: 10 });
    expect(known).toMatchObject([
      { eventId: "e2", status: "in_progress" },
      { eventId: "e1", status: "success" },
    ]);
    expect(await recorder.events("chat", 10)).toEqual([event("while away")]);
    database.trouble = "none";
    expect(await recorder.scalings({ deploymentId: "chat", limit: 10 })).toEqual(known);
    expect(await recorder.events("chat", 10)).toEqual([event("while away")]);
    expect(recorder).toMatchObject({ buffered: 0, dropped: 0 });
  });

  test("is not there twice when only the answer was lost", async () => {
    database.trouble = "mute";
    recorder.beginScaling(scaling("e1"));
    recorder.addEvent(event("once"));
    await recorder.flush();
    // The first writes what was there when it began.
    await recorder.flush();
    expect(recorder.buffered).toBe(2);
    database.trouble = "none";
    expect(await recorder.scalings({ limit: 10 })).toMatchObject([
      { eventId: "e1", status: "in_progress", completedAt: null },
    ]);
    expect(await recorder.events("chat", 10)).toHaveLength(1);
    expect(recorder.dropped).toBe(0);
  });

  test.each([
    ["a second later", 3],
    ["in the same millisecond", 2],
  ])("ends nothing that begins %s when the answer was lost", async (_, seconds) => {
    recorder.beginScaling(scaling("e1"));
    await recorder.flush();
    database.trouble = "away";
    recorder.endScaling("chat", "success", at(2));
    recorder.beginScaling(scaling("e2", { initiatedAt: at(seconds) }));
    await recorder.flush();
    // Both in one transaction.
    database.trouble = "mute";
    await recorder.flush();
    database.trouble = "none";
    expect(await recorder.scalings({ limit: 10 })).toMatchObject([
      { eventId: "e2", status: "in_progress", completedAt: null },
      { eventId: "e1", status: "success", completedAt: at(2) },
    ]);
  });

  test("ends what was begun before this controller, and what a clock that was put back says is of tomorrow", async () => {
    recorder.beginScaling(scaling("e1", { deploymentId: "other" }));
    recorder.beginScaling(scaling("e2", { initiatedAt: at(86_400) }));
    await recorder.flush();
    const next = new Recorder({ database, deployment: () => ({ sql: "SELECT 1" }), log: { error: () => undefined } });
    next.endScaling("other", "failed", at(1));
    await next.close();
    recorder.endScaling("chat", "success", at(1));
    expect(await recorder.scalings({ limit: 10 })).toMatchObject([
      { eventId: "e2", status: "success" },
      { eventId: "e1", status: "failed" },
    ]);
  });

  test(`is dropped and counted beyond ${MAX_BUFFERED} rows, and those before are all written`, async () => {
    database.trouble = "away";
    for (let count = 0; count < MAX_BUFFERED + 7; count++) recorder.addEvent(event(`n${count}`));
    await recorder.flush();
    expect(recorder).toMatchObject({ buffered: MAX_BUFFERED, dropped: 7, written: 0 });
    database.trouble = "none";
    await recorder.flush();
    expect(recorder).toMatchObject({ buffered: 0, dropped: 7, written: MAX_BUFFERED });
    expect((await recorder.events("chat", 1))[0]?.reason).toBe(`n${MAX_BUFFERED - 1}`);
  }, 60_000);

  test("goes on behind a row that the database will never take", async () => {
    recorder.addEvent(event("before"));
    recorder.addEvent(event(null as never));
    recorder.addEvent(event("after"));
    await recorder.flush();
    expect((await recorder.events("chat", 10)).map(({ reason }) => reason)).toEqual(["after", "before"]);
    expect(recorder).toMatchObject({ buffered: 0, dropped: 1 });
    expect(errors).toHaveLength(1);
  });

  test("goes after 90 days, but not what is in progress", async () => {
    const before = -HISTORY_MS / 1_000 - 1;
    recorder.beginScaling(scaling("old", { deploymentId: "a", initiatedAt: at(before) }));
    recorder.endScaling("a", "success", at(before));
    recorder.beginScaling(scaling("running", { initiatedAt: at(before) }));
    recorder.beginScaling(scaling("new", { deploymentId: "b" }));
    recorder.addEvent(event("old", "chat", before));
    recorder.addEvent(event("new"));
    await recorder.flush();
    await recorder.prune(NOW);
    expect((await recorder.scalings({ limit: 10 })).map(({ eventId }) => eventId)).toEqual(["new", "running"]);
    expect((await recorder.events("chat", 10)).map(({ reason }) => reason)).toEqual(["new"]);
    // Of the one that had ended before nothing is left, of the others there is a row that their history refers to.
    const [rows] = await database.run([{ sql: "SELECT deployment_id FROM deployments ORDER BY deployment_id" }]);
    expect(rows).toEqual([{ deployment_id: "b" }, { deployment_id: "chat" }]);
  });
});

test("a database that is away is asked once a second, and others are told at once", async () => {
  let answer: () => Promise<never> = () => Promise.reject(new DatabaseError("away", "it hangs"));
  const run = vi.fn(() => answer());
  const said: string[] = [];
  const log = {
    info: (_: object, words: string) => said.push(words),
    warn: (_: object, words: string) => said.push(words),
  };
  let now = 0;
  const guarded = new GuardedDatabase({ dialect: "postgres", run, close: async () => undefined }, log, () => now);
  const failing = () => expect(guarded.run([])).rejects.toThrow("it hangs");
  await failing();
  await failing();
  expect(run).toHaveBeenCalledTimes(1);
  now = 1_000;
  let giveUp: (error: Error) => void = () => undefined;
  answer = () => new Promise((_, reject) => (giveUp = reject));
  const first = failing();
  await failing();
  expect(run).toHaveBeenCalledTimes(2);
  giveUp(new DatabaseError("away", "it hangs"));
  await first;
  answer = async () => [] as never;
  now = 2_000;
  await guarded.run([]);
  expect(guarded.trouble).toBeNull();
  expect(said).toEqual(["the database is away: history is kept in memory", "the database answers again"]);
});
