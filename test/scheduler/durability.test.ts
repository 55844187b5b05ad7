/** What is answered, shown and acted upon is what is on disk. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { MIN_RETENTION_MS, openStore } from "../../src/store/store.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { NO_QUOTA, NO_QUOTAS } from "../simulation/simulated-host.ts";
import { ask, reading, SlowStore, settled, startScheduler } from "./harness.ts";

const BOB = { principal: "bob", admin: false };

async function watched<S extends MemoryStore>(store: S) {
  const running = await startScheduler(store);
  const heard: string[] = [];
  running.scheduler.observeWith({ committed: ({ events }) => heard.push(...events.map(({ type }) => type)) });
  return { ...running, store, heard };
}

test("while a turn is being committed nobody is answered, sees it or hears of it", async () => {
  const { scheduler, store, heard } = await watched(new SlowStore());
  const letThrough = store.hold();
  let isAnswered = false;
  const granted = scheduler.allocate(ask(), BOB).finally(() => {
    isAnswered = true;
  });
  await settled();
  expect(isAnswered).toBe(false);
  expect(scheduler.state.allocations.size).toBe(0);
  expect(scheduler.state.gpus.get("GPU-0")?.hold.kind).toBe("free");
  expect(heard).toEqual([]);

  letThrough();
  const { allocation } = await granted;
  expect(allocation.status).toBe("leased");
  expect(store.turns.at(-1)?.allocations).toEqual([allocation]);
  expect(heard).toEqual(["submitted", "granted"]);
});

test("where another thread commits, it has the next turn before anybody hears of the last; elsewhere they hear first", async () => {
  for (const commitsAside of [true, false]) {
    const { scheduler, store, heard } = await watched(new SlowStore());
    store.commitsAside = commitsAside;
    const letThrough = store.hold();
    const first = scheduler.allocate(ask(), BOB);
    await settled();
    const second = scheduler.allocate(ask(), BOB);
    await settled();
    const committing = vi.spyOn(store, "commit").mockImplementation(() => {
      heard.push("the second is committed");
      return Promise.resolve();
    });
    letThrough();
    await Promise.all([first, second]);
    committing.mockRestore();
    const ofFirst = ["submitted", "granted"];
    const inTurn = commitsAside ? ["the second is committed", ...ofFirst] : [...ofFirst, "the second is committed"];
    expect(heard).toEqual([...inTurn, "submitted"]);
  }
});

test("of a turn that the store refuses nobody hears, and nobody who waits is woken by it", async () => {
  const { scheduler, store, heard } = await watched(new MemoryStore());
  const holder = await scheduler.allocate(ask(), BOB);
  const waiting = await scheduler.allocate(ask(), BOB);
  let isWoken = false;
  const leaving = new AbortController();
  const told = scheduler.wait(waiting.allocation.request.id, BOB, 60_000, leaving.signal).finally(() => {
    isWoken = true;
  });
  await settled();
  const before = [...heard];

  store.failing = true;
  const target = { id: holder.allocation.request.id, serviceName: null, fencingToken: null };
  await expect(scheduler.release(target, BOB)).rejects.toMatchObject({ code: "storage-unavailable" });
  await settled();
  expect(heard).toEqual(before);
  expect(isWoken).toBe(false);
  expect(scheduler.state.allocations.get(waiting.allocation.request.id)?.status).toBe("queued");

  store.failing = false;
  await scheduler.release(target, BOB);
  await settled();
  expect(isWoken).toBe(true);
  expect((await told).allocation.status).toBe("leased");
});

test("a command that is refused takes nothing of its turn along, and leaves nothing behind", async () => {
  const { scheduler, store } = await watched(new MemoryStore());
  const turns = store.turns.length;
  const [granted, ...refused] = await Promise.allSettled([
    scheduler.allocate(ask(), BOB),
    scheduler.renew("svc-nothing", null, BOB),
    scheduler.allocate(ask({ queue: false }), BOB),
    scheduler.allocate(ask({ requiredGpus: 2 }), BOB),
  ]);
  expect(refused.map((one) => one.status === "rejected" && one.reason.code)).toEqual([
    "allocation-not-found",
    "no-gpu-free",
    "request-never-fits",
  ]);
  expect(store.turns.length - turns).toBe(1);
  if (granted?.status !== "fulfilled") throw new Error("the first in the turn was refused");
  const { allocation } = granted.value;
  expect([...scheduler.state.allocations.values()]).toEqual([allocation]);
  expect(scheduler.state.gpus.get("GPU-0")?.hold).toMatchObject({ allocationId: allocation.request.id });
  expect(store.turns.at(-1)?.allocations).toEqual([allocation]);
});

test("a restart remembers that a leased GPU was used, so that it must be seen empty after the lease", async () => {
  const folder = mkdtempSync(join(tmpdir(), "gpu-orchestrator-test-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const settings = { path: join(folder, "state.db"), retentionMs: MIN_RETENTION_MS };
  const first = openStore(settings);
  const { scheduler, clock } = await startScheduler(first);
  const { allocation } = await scheduler.allocate(ask(), BOB);
  const idle = reading(1);
  const used = { ...idle, gpus: idle.gpus.map((gpu) => ({ ...gpu, memoryUsedMib: 9_000 })) };
  await scheduler.observe({ ok: true, startedAt: clock.now(), finishedAt: clock.now(), reading: used });
  await scheduler.stop();
  await first.close();

  const second = openStore(settings);
  onTestFinished(() => second.close());
  // Its first reading shows the GPU idle: the work has paused, or ended.
  const again = await startScheduler(second, { clock });
  await again.scheduler.release({ id: allocation.request.id, serviceName: null, fencingToken: null }, BOB);
  expect(again.scheduler.state.gpus.get("GPU-0")?.hold.kind).toBe("reclaiming");
});

test("a key is kept in the turn of its change, with what the client's own command changed", async () => {
  const { scheduler, store, clock } = await watched(new MemoryStore());
  const key = (name: string) => ({ principal: "bob", key: name, fingerprint: "f" });
  const { allocation } = await scheduler.allocate(ask({ ttlMs: 5_000 }), BOB, key("a"));
  const { id } = allocation.request;
  expect(store.turns.at(-1)?.keys).toEqual([{ ...key("a"), at: clock.now(), ids: [id] }]);

  await scheduler.renew(id, null, BOB, key("r"));
  expect(scheduler.recall("bob", "r")?.ids).toEqual([id]);

  const waiting = await scheduler.allocate(ask({ serviceName: "svc" }), BOB, key("w"));
  await scheduler.renew(waiting.allocation.request.id, null, BOB, key("nothing"));
  expect(scheduler.recall("bob", "nothing")).toBeUndefined();
});

test("a release answers for what it let go, not for what had just expired", async () => {
  const { scheduler, clock } = await watched(new MemoryStore());
  const expiring = await scheduler.allocate(ask({ ttlMs: 5_000, serviceName: "other" }), BOB);
  const waiting = await scheduler.allocate(ask(), BOB);
  const release = scheduler.release({ id: null, serviceName: "svc", fencingToken: null }, BOB, {
    principal: "bob",
    key: "k",
    fingerprint: "f",
  });
  // Before its turn comes, the other lease is over.
  clock.advance(5_000);
  const letGo = [waiting.allocation.request.id];
  expect((await release).map(({ request }) => request.id)).toEqual(letGo);
  expect(scheduler.recall("bob", "k")?.ids).toEqual(letGo);
  expect(scheduler.state.allocations.get(expiring.allocation.request.id)).toBeUndefined();
});

test("new settings hold while nothing can be stored, and still when storing works again", async () => {
  const { scheduler, store } = await watched(new MemoryStore());
  const policy = { ...scheduler.state.policy, maxQueueSize: 0 };
  store.failing = true;
  await expect(scheduler.allocate(ask(), BOB)).rejects.toMatchObject({ code: "storage-unavailable" });
  await scheduler.reconfigure(policy, 5_000);
  expect(scheduler.state.policy.maxQueueSize).toBe(0);

  store.failing = false;
  await scheduler.allocate(ask(), BOB);
  await expect(scheduler.allocate(ask(), BOB)).rejects.toMatchObject({ code: "queue-full" });
});

test("with a full disk a quota that is lifted is lifted, though whom it kept waiting cannot be served yet", async () => {
  const quotas = { ...NO_QUOTAS, principals: { bob: { ...NO_QUOTA, maxGpus: 1 } } };
  const store = new MemoryStore();
  const { scheduler } = await startScheduler(store, { gpus: 2, policy: { quotas } });
  await scheduler.allocate(ask(), BOB);
  const waiting = (await scheduler.allocate(ask(), BOB)).allocation.request.id;
  const standing = () => scheduler.state.allocations.get(waiting)?.status;
  expect(standing()).toBe("queued");
  store.failing = true;
  await scheduler.reconfigure({ ...scheduler.state.policy, quotas: NO_QUOTAS }, 5_000);
  expect([scheduler.state.policy.quotas, standing()]).toEqual([NO_QUOTAS, "queued"]);
  await expect(scheduler.allocate(ask(), BOB)).rejects.toMatchObject({ code: "storage-unavailable" });
  await scheduler.reconfigure({ ...scheduler.state.policy, quotas }, 5_000);
  expect([scheduler.state.policy.quotas, standing()]).toEqual([quotas, "queued"]);
  await scheduler.reconfigure({ ...scheduler.state.policy, quotas: NO_QUOTAS }, 5_000);
  store.failing = false;
  await scheduler.allocate(ask(), BOB);
  expect(standing()).toBe("offered");
});
