/** The past decision of a grant, found in a thread beside the store that goes on writing. */
import { expect, test } from "vitest";
import { OverloadedError } from "../../src/ports/refusals.ts";
import { LookBack } from "../../src/store/look-back.ts";
import { ask, settled, startScheduler } from "../scheduler/harness.ts";
import { ADMIN, minutes } from "../simulation/simulated-host.ts";
import { databasePath, openForTest } from "./files.ts";

test("a grant from the queue is explained by what it found, whoever was passed named", async () => {
  const file = databasePath();
  const { scheduler, clock } = await startScheduler(openForTest(file), { gpus: 2 });
  const first = await scheduler.allocate(ask({ requiredGpus: 1, maxDurationMs: minutes(60) }), ADMIN);
  const wide = await scheduler.allocate(ask({ requiredGpus: 2, priority: 9 }), ADMIN);
  const small = await scheduler.allocate(ask({ requiredGpus: 1, maxDurationMs: minutes(1) }), ADMIN);
  await settled();
  const past = new LookBack(file);
  const grant = await past.grantOf(small.allocation.request.id);
  expect(grant).toMatchObject({ at: clock.now(), passed: [wide.allocation.request.id] });
  expect(grant?.reason).toContain("no others were free and suited");
  expect((await past.grantOf(first.allocation.request.id))?.reason).toContain("they are all alike, so by UUID");
  expect(await past.grantOf(wide.allocation.request.id)).toBe(null);
  expect(await past.grantOf("never-1")).toBe(null);
}, 30_000);

test("more questions at once than are kept waiting are refused", async () => {
  const file = databasePath();
  await startScheduler(openForTest(file), { gpus: 1 });
  const past = new LookBack(file);
  const asked = await Promise.allSettled(Array.from({ length: 18 }, (_, n) => past.grantOf(`never-${n}`)));
  const refused = asked.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
  expect(refused).toHaveLength(2);
  expect(refused[0]?.reason).toBeInstanceOf(OverloadedError);
}, 60_000);

test("a file that cannot be read tells of nothing", async () => {
  expect(await new LookBack(`${databasePath()}-none`).grantOf("never-1")).toBe(null);
}, 30_000);
