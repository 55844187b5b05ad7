/** Leases as running work asks for them: as any client would, under its owner's name. */
import { expect, test } from "vitest";
import { DaemonLeases } from "../../src/daemon/work.ts";
import type { LeaseWish } from "../../src/work-service/leases.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { startScheduler } from "../scheduler/harness.ts";

const BOOKS = "01m8r6fb4g0be7c7drnf32he73";

function wish(more: Partial<LeaseWish> = {}): LeaseWish {
  return {
    ...{ key: "run-1/5/1", run: "run-1", attempt: 1, books: BOOKS, owner: "alice", serviceName: "train" },
    ...{ workloadType: "generic", model: null, gpus: 1, memoryMib: null, nameParts: [], priority: null },
    maxDurationMs: null,
    ...more,
  };
}

async function leases(gpus = 2, policy = {}) {
  const { scheduler } = await startScheduler(new MemoryStore(), { gpus, policy });
  const idOf = async (more: Partial<LeaseWish>) => {
    const seen = await of.ask(wish(more));
    return seen.status === "held" ? seen.lease.allocationId : seen.status;
  };
  const of = new DaemonLeases(scheduler, false);
  return { of, scheduler, idOf };
}

test("a run and attempt has one lease however often it is asked for, and by whatever key when the first is forgotten", async () => {
  const { of, idOf } = await leases();
  const first = await idOf({});
  expect(await idOf({})).toBe(first);
  // A key lives for a day, and its run may be asked about later.
  expect(await idOf({ key: "a-key-that-is-not-known" })).toBe(first);
  expect(await idOf({ key: "run-1/5/2", attempt: 2 })).not.toBe(first);
  expect(of.marked(BOOKS).map(({ attempt }) => attempt)).toEqual([1, 2]);
});

test("it is its owner's, has no TTL, and goes when it is given back", async () => {
  const { of, scheduler, idOf } = await leases();
  const id = (await idOf({})) as string;
  const { allocation } = scheduler.peek(id);
  expect(allocation).toMatchObject({
    status: "leased",
    request: { principal: "alice", serviceName: "train", ttlMs: null },
    lease: { expiresAt: null },
  });
  expect(of.endOf(id)).toBe(null);
  await of.release(id);
  expect([of.endOf(id), of.marked(BOOKS)]).toEqual(["released", []]);
  // What has ended under this key has ended: the next attempt has another.
  expect(await idOf({})).toBe("missed");
});

test("half of the daemon's line may be work's, and what no host of these could hold is told so", async () => {
  const { of, idOf } = await leases(2, { maxQueueSize: 9 });
  expect(of.mostQueued()).toBe(4);
  expect(await idOf({ gpus: 3 })).toBe("never");
  expect(await idOf({ gpus: 2 })).toMatch(/./);
  expect(await idOf({ key: "run-2/6/1", run: "run-2" })).toBe("queued");
});
