import { expect, test } from "vitest";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { ADMIN } from "../simulation/simulated-host.ts";
import { ask, startScheduler } from "./harness.ts";

const MAILBOX = 16_384;

test("more commands at once than the mailbox holds are refused, and those it holds are all answered", async () => {
  const { scheduler } = await startScheduler(new MemoryStore({ keepTurns: false }), { policy: { maxQueueSize: 10 } });
  const asked = Array.from({ length: MAILBOX + 10 }, () => scheduler.allocate(ask({ queue: false }), ADMIN));
  const ends = await Promise.allSettled(asked);
  const refused = ends.map((end) => (end.status === "rejected" ? end.reason.code : "granted"));
  expect(refused.slice(-10)).toEqual(Array(10).fill("overloaded"));
  expect(refused.filter((code) => code === "overloaded")).toHaveLength(10);
  expect(refused.filter((code) => code === "granted")).toHaveLength(1);
  expect((await scheduler.allocate(ask(), ADMIN)).allocation.status).toBe("queued");
});
