/** The past decision of a grant, found in a thread beside the store that goes on writing. */
import { rmSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { type Grant, ProgramReplacedError } from "../../src/ports/past-decisions.ts";
import { OverloadedError } from "../../src/ports/refusals.ts";
import type { Reply } from "../../src/scheduler/scheduler.ts";
import { LookBack } from "../../src/store/look-back.ts";
import { grantIn } from "../../src/store/replay.ts";
import { ask, settled, startScheduler } from "../scheduler/harness.ts";
import { ADMIN, minutes } from "../simulation/simulated-host.ts";
import { databasePath, openForTest } from "./files.ts";

const NEVER: Grant = { id: "never-1", grantedAt: 0 };

test("a grant from the queue is explained by what it found, whoever was passed named", async () => {
  const file = databasePath();
  const { scheduler, clock } = await startScheduler(openForTest(file), { gpus: 2 });
  const first = await scheduler.allocate(ask({ requiredGpus: 1, maxDurationMs: minutes(60) }), ADMIN);
  const wide = await scheduler.allocate(ask({ requiredGpus: 2, priority: 9 }), ADMIN);
  const small = await scheduler.allocate(ask({ requiredGpus: 1, maxDurationMs: minutes(1) }), ADMIN);
  await settled();
  const past = new LookBack(file);
  const grantOf = ({ allocation: { request } }: Reply) =>
    past.grantOf({ id: request.id, grantedAt: clock.now() }, "ann");
  const grant = await grantOf(small);
  expect(grant).toMatchObject({ at: clock.now(), passed: [wide.allocation.request.id] });
  expect(grant?.reason).toContain("no others were free and suited");
  expect((await grantOf(first))?.reason).toContain("they are all alike, so by UUID");
  expect(await grantOf(wide)).toBe(null);
  expect(await past.grantOf({ id: "never-1", grantedAt: clock.now() }, "ann")).toBe(null);
}, 30_000);

test("more questions at once than are kept waiting are refused", async () => {
  const file = databasePath();
  await startScheduler(openForTest(file), { gpus: 1 });
  const past = new LookBack(file);
  const asked = await Promise.allSettled(Array.from({ length: 18 }, (_, n) => past.grantOf(NEVER, `user-${n}`)));
  const refused = asked.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
  expect(refused).toHaveLength(2);
  expect(refused[0]?.reason).toBeInstanceOf(OverloadedError);
}, 60_000);

test("one principal asks one question at a time", async () => {
  const file = databasePath();
  await startScheduler(openForTest(file), { gpus: 1 });
  const past = new LookBack(file);
  const asked = await Promise.allSettled(["ann", "ann", "bob"].map((name) => past.grantOf(NEVER, name)));
  expect(asked.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(await past.grantOf(NEVER, "ann")).toBe(null);
}, 60_000);

test("a grant is found among the turns of its instant, whatever came before and after", async () => {
  const file = databasePath();
  const { scheduler, clock } = await startScheduler(openForTest(file), { gpus: 12 });
  const granted: Grant[] = [];
  for (let round = 0; round < 6; round++) {
    for (let each = 0; each < 2; each++) {
      const { allocation } = await scheduler.allocate(ask(), ADMIN);
      granted.push({ id: allocation.request.id, grantedAt: clock.now() });
    }
    await clock.advance(100);
  }
  const events = granted.map((grant) => grantIn(file, grant)?.event);
  expect(events.every((event) => event !== undefined)).toBe(true);
  expect(events).toEqual([...new Set(events)].sort((a, b) => Number(a) - Number(b)));
  expect(grantIn(file, { ...(granted[3] as Grant), grantedAt: clock.now() + 1 })).toBe(null);
});

test("a grant that would be decided otherwise now is not explained", async () => {
  const file = databasePath();
  const store = openForTest(file);
  const { scheduler, clock } = await startScheduler(store, { gpus: 2 });
  const { allocation } = await scheduler.allocate(ask(), ADMIN);
  const grant = { id: allocation.request.id, grantedAt: clock.now() };
  expect(grantIn(file, grant)).toMatchObject({ event: expect.any(Number) });
  const database = new DatabaseSync(file);
  database.exec(
    "UPDATE journal SET events = replace(events, 'GPU-0', 'GPU-9') WHERE seq = (SELECT max(seq) FROM journal)",
  );
  database.close();
  expect(grantIn(file, grant)).toBe(null);
});

test("a file that cannot be read tells of nothing", async () => {
  expect(await new LookBack(`${databasePath()}-none`).grantOf(NEVER, "ann")).toBe(null);
}, 30_000);

test("a thread that cannot start tells of a program that was replaced only where it was", async () => {
  const file = databasePath();
  await startScheduler(openForTest(file), { gpus: 1 });
  const entry = `${file}.entry.mjs`;
  writeFileSync(entry, "throw new Error('of its own')");
  const past = new LookBack(file, pathToFileURL(entry));
  await expect(past.grantOf(NEVER, "ann")).rejects.toThrow("of its own");
  rmSync(entry);
  await expect(past.grantOf(NEVER, "ann")).rejects.toBeInstanceOf(ProgramReplacedError);
  writeFileSync(entry, "throw new Error('of another version')");
  await expect(past.grantOf(NEVER, "ann")).rejects.toBeInstanceOf(ProgramReplacedError);
}, 30_000);
