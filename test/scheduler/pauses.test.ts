/** The daemon stands still, the host sleeps, the disk is full: nobody could renew then, so what fell due gets a grace. */
import { expect, onTestFinished, test, vi } from "vitest";
import type { Allocation } from "../../src/core/model/allocation.ts";
import type { AllocationId } from "../../src/core/model/ids.ts";
import { type Clock, ManualClock, steadyClock } from "../../src/platform/clock.ts";
import type { Scheduler } from "../../src/scheduler/scheduler.ts";
import { FakeHost } from "../fixtures/fake-host.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { DEFAULT_POLICY } from "../simulation/simulated-host.ts";
import { ask, reading, SlowStore, settled, startScheduler } from "./harness.ts";

const BOB = { principal: "bob", admin: false };
const HOUR_MS = 3_600_000;
const GRACE_MS = 10_000;

/** Time passes, and the daemon does not run: no timer fires. */
class FrozenClock extends ManualClock {
  #frozenMs = 0;
  override now(): number {
    return super.now() + this.#frozenMs;
  }
  freeze(ms: number): void {
    this.#frozenMs += ms;
  }
}

async function startFrozen({ store = new MemoryStore(), gpus = 2 } = {}) {
  const clock = new FrozenClock();
  const running = await startScheduler(store, { gpus, clock });
  const pass = async (ms: number) => {
    clock.advance(ms);
    await settled();
  };
  return { ...running, store, pass };
}

async function lease(scheduler: Scheduler, ttlMs: number): Promise<AllocationId> {
  const { allocation } = await scheduler.allocate(ask({ ttlMs }), BOB);
  expect(allocation.status).toBe("leased");
  return allocation.request.id;
}

function standing(scheduler: Scheduler, id: AllocationId): Allocation["status"] {
  return scheduler.peek(id).allocation.status;
}

function endReason(scheduler: Scheduler, id: AllocationId): string | null {
  const { allocation } = scheduler.peek(id);
  return allocation.status === "ended" ? allocation.outcome.reason : null;
}

type Frozen = Awaited<ReturnType<typeof startFrozen>>;

/** What may come first after a pause. The lease is due 100 ms of running time later, the next beat after 500 ms. */
const FIRST: readonly (readonly [string, (daemon: Frozen, other: AllocationId) => Promise<unknown>])[] = [
  ["the timer of its own deadline", ({ pass }) => pass(100)],
  ["a renewal of another lease", ({ scheduler }, other) => scheduler.renew(other, null, BOB)],
  ["a new request", ({ scheduler }) => scheduler.allocate(ask(), BOB).catch(() => undefined)],
  ["a look at another record", ({ scheduler }, other) => scheduler.read(other, BOB)],
  ["a reading of the GPUs", ({ look }) => look()],
  ["a hang-up", ({ scheduler }, other) => scheduler.hangUp(other)],
  ["the beat", ({ pass }) => pass(500)],
];

test.each(FIRST)("after a pause in which a lease fell due %s comes first, and it has its grace", async (_, first) => {
  const daemon = await startFrozen();
  const { scheduler, clock, pass } = daemon;
  const silent = await lease(scheduler, 60_100);
  const other = await lease(scheduler, 24 * HOUR_MS);
  await pass(60_000);
  clock.freeze(8 * HOUR_MS);
  const woken = clock.now();
  await first(daemon, other);
  await settled();
  // A read of a leased record is no command: nothing has looked at the clock yet.
  if (standing(scheduler, silent) === "leased") await pass(woken + 500 - clock.now());
  const { allocation } = scheduler.peek(silent);
  expect(allocation.status === "leased" && allocation.lease.expiresAt).toBeGreaterThanOrEqual(woken + GRACE_MS);
  await pass(woken + GRACE_MS - 1 - clock.now());
  expect(standing(scheduler, silent)).toBe("leased");
  await pass(501);
  expect(endReason(scheduler, silent)).toBe("expired");
  expect(standing(scheduler, other)).not.toBe("ended");
});

test("a pause in the middle of a commit counts for the commands that wait for the next turn", async () => {
  const store = new SlowStore();
  const { scheduler, clock } = await startFrozen({ store, gpus: 3 });
  const silent = await lease(scheduler, 60_000);
  const other = await lease(scheduler, 24 * HOUR_MS);
  const letThrough = store.hold();
  const first = scheduler.allocate(ask(), BOB);
  await settled();
  const second = scheduler.renew(other, null, BOB);
  clock.freeze(8 * HOUR_MS);
  letThrough();
  await Promise.all([first, second]);
  expect(standing(scheduler, silent)).toBe("leased");
});

test("a pause that is longer than the shortest TTL there is gets its grace, which is no longer than that TTL", async () => {
  const { scheduler, clock, pass } = await startFrozen();
  const renewed = await lease(scheduler, 1_000);
  const silent = await lease(scheduler, 1_000);
  clock.freeze(1_001);
  await scheduler.renew(renewed, null, BOB);
  await pass(999);
  expect([standing(scheduler, renewed), standing(scheduler, silent)]).toEqual(["leased", "leased"]);
  await scheduler.renew(renewed, null, BOB);
  await pass(1);
  expect([standing(scheduler, renewed), endReason(scheduler, silent)]).toEqual(["leased", "expired"]);
});

test("a busy moment is no pause: a lease that fell due in it has ended", async () => {
  const { scheduler, clock } = await startFrozen();
  const late = await lease(scheduler, 1_200);
  clock.advance(1_000);
  clock.freeze(400);
  await expect(scheduler.renew(late, null, BOB)).rejects.toMatchObject({ code: "allocation-ended" });
  expect(endReason(scheduler, late)).toBe("expired");
});

test.each(["renew", "release", "read", "wait"] as const)(
  "a %s in the moment between a lease's end and its timer finds it ended, not unknown",
  async (call) => {
    const { scheduler, clock } = await startFrozen({ gpus: 1 });
    const due = await lease(scheduler, 1_000);
    const { allocation: waiting } = await scheduler.allocate(ask({ webhookUrl: null, queueTimeoutMs: 1_000 }), BOB);
    clock.advance(900);
    clock.freeze(200);
    if (call === "renew") {
      await expect(scheduler.renew(due, null, BOB)).rejects.toMatchObject({ code: "allocation-ended" });
    } else if (call === "release") {
      const target = { id: due, serviceName: null, fencingToken: null };
      expect((await scheduler.release(target, BOB))[0]?.outcome.reason).toBe("expired");
    } else {
      const { id } = waiting.request;
      const reply =
        call === "read"
          ? await scheduler.read(id, BOB)
          : await scheduler.wait(id, BOB, 10_000, new AbortController().signal);
      expect(reply.allocation).toMatchObject({ status: "ended", outcome: { reason: "timed_out" } });
    }
  },
);

test("a client that waits on its connection is not taken for silent because of a pause", async () => {
  const { scheduler, clock, pass } = await startFrozen({ gpus: 1 });
  await scheduler.allocate(ask(), BOB);
  const { allocation } = await scheduler.allocate(ask({ webhookUrl: null }), BOB);
  const { id } = allocation.request;
  const told = scheduler.wait(id, BOB, 60_000, new AbortController().signal);
  await pass(1_000);
  clock.freeze(6_000);
  await pass(500);
  await pass(DEFAULT_POLICY.abandonAfterMs + 9_500);
  expect(standing(scheduler, id)).toBe("queued");
  await pass(20_000);
  expect((await told).allocation.status).toBe("queued");
});

test("an offer that nobody could claim during a pause waits for its client anew, and a silent request too", async () => {
  const { scheduler, clock, pass } = await startFrozen({ gpus: 1 });
  const held = await lease(scheduler, 24 * HOUR_MS);
  const { allocation: offered } = await scheduler.allocate(ask({ webhookUrl: null }), BOB);
  const { allocation: silent } = await scheduler.allocate(ask({ webhookUrl: null }), BOB);
  await scheduler.release({ id: held, serviceName: null, fencingToken: null }, BOB);
  expect(standing(scheduler, offered.request.id)).toBe("offered");
  clock.freeze(8 * HOUR_MS);
  await pass(500);
  await pass(DEFAULT_POLICY.abandonAfterMs - 1);
  expect(standing(scheduler, offered.request.id)).toBe("offered");
  expect(standing(scheduler, silent.request.id)).toBe("queued");
  await pass(1);
  expect(endReason(scheduler, offered.request.id)).toBe("unclaimed");
  expect(endReason(scheduler, silent.request.id)).toBe("abandoned");
});

test("a GPU whose return nobody could see during a pause is not quarantined for it", async () => {
  const { scheduler, clock, pass } = await startFrozen({ gpus: 1 });
  const held = await lease(scheduler, 24 * HOUR_MS);
  const idle = reading(1);
  const used = { ...idle, gpus: idle.gpus.map((gpu) => ({ ...gpu, memoryUsedMib: 9_000 })) };
  const see = () => scheduler.observe({ ok: true, startedAt: clock.now(), finishedAt: clock.now(), reading: used });
  await see();
  await scheduler.release({ id: held, serviceName: null, fencingToken: null }, BOB);
  clock.freeze(8 * HOUR_MS);
  await pass(500);
  expect(scheduler.state.gpus.get("GPU-0")?.hold.kind).toBe("reclaiming");
  await pass(DEFAULT_POLICY.reclaimTimeoutMs - 1);
  await see();
  expect(scheduler.state.gpus.get("GPU-0")?.hold.kind).toBe("reclaiming");
  await pass(1);
  expect(scheduler.state.gpus.get("GPU-0")?.hold.kind).toBe("quarantined");
});

test("a resumption that could not be stored is made up for: the grace is not lost", async () => {
  const { scheduler, store, clock, pass } = await startFrozen();
  const silent = await lease(scheduler, 60_000);
  store.failing = true;
  clock.freeze(HOUR_MS);
  await pass(20_000);
  expect(standing(scheduler, silent)).toBe("leased");
  store.failing = false;
  expect((await scheduler.renew(silent, null, BOB)).allocation.status).toBe("leased");
});

test("a lease that fell due while the disk was full has its grace when the disk takes changes again", async () => {
  const { scheduler, store, clock, pass } = await startFrozen({ gpus: 3 });
  const renewed = await lease(scheduler, 60_000);
  const silent = await lease(scheduler, 60_000);
  await pass(30_000);
  store.failing = true;
  await expect(scheduler.renew(renewed, null, BOB)).rejects.toMatchObject({ code: "storage-unavailable" });
  await pass(40_000);
  store.failing = false;
  const back = clock.now();
  await scheduler.renew(renewed, null, BOB);
  const { allocation } = scheduler.peek(silent);
  expect(allocation.status === "leased" && allocation.lease.expiresAt).toBe(back + GRACE_MS);
  await pass(GRACE_MS);
  expect([standing(scheduler, renewed), endReason(scheduler, silent)]).toEqual(["leased", "expired"]);
});

test("a full disk is tried again without anybody's asking, and settings can be changed meanwhile", async () => {
  const { scheduler, store, pass } = await startFrozen();
  store.failing = true;
  await expect(scheduler.allocate(ask(), BOB)).rejects.toMatchObject({ code: "storage-unavailable" });
  await scheduler.reconfigure({ ...DEFAULT_POLICY, maxQueueSize: 3 }, 5_000);
  expect(scheduler.state.policy.maxQueueSize).toBe(3);
  await pass(20_000);
  expect(scheduler.storageHealthy).toBe(false);
  store.failing = false;
  await pass(5_000);
  expect(scheduler.storageHealthy).toBe(true);
});

/** A scheduler on the steady clock of a host that can be put to sleep. Its timers run as the host's awake time passes. */
async function startOnHost(gpus: number) {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const host = new FakeHost();
  host.epochMs = 1_800_000_000_000;
  const clock: Clock = steadyClock(undefined, host);
  const running = await startScheduler(new MemoryStore(), { gpus, clock });
  const run = async (ms: number) => {
    const stepMs = 50;
    for (let passed = 0; passed < ms; passed += stepMs) {
      host.awakeMs += stepMs;
      vi.advanceTimersByTime(stepMs);
      await settled();
    }
  };
  onTestFinished(() => running.scheduler.stop());
  return { ...running, host, run };
}

test("a sleep of 8 h: what fell due in it has its grace, what is due later ends at its time", async () => {
  const { scheduler, host, run, clock } = await startOnHost(4);
  const renewed = await lease(scheduler, HOUR_MS);
  const silent = await lease(scheduler, HOUR_MS);
  const short = await lease(scheduler, 4_000);
  const long = await lease(scheduler, 8 * HOUR_MS + 20_000);
  await run(3_900);
  host.sleptMs += 8 * HOUR_MS;
  // The timer of the shortest is the first to run; all have been due for hours by the time that it shows.
  await run(100);
  expect([renewed, silent, short, long].map((id) => standing(scheduler, id))).toEqual(Array(4).fill("leased"));
  const woken = clock.now();
  await run(3_850);
  await scheduler.renew(renewed, null, BOB);
  expect(standing(scheduler, short)).toBe("leased");
  await run(200);
  expect(endReason(scheduler, short)).toBe("expired");
  await run(5_800);
  expect(standing(scheduler, silent)).toBe("leased");
  await run(300);
  expect(endReason(scheduler, silent)).toBe("expired");
  await run(5_500);
  expect(standing(scheduler, long)).toBe("leased");
  const left = (scheduler.peek(long).allocation as { lease: { expiresAt: number } }).lease.expiresAt - clock.now();
  expect(left).toBeLessThan(1_000);
  await run(left + 100);
  expect(endReason(scheduler, long)).toBe("expired");
  expect(standing(scheduler, renewed)).toBe("leased");
  expect(clock.now() - woken).toBeLessThan(20_000);
});

test("after a sleep nothing is granted until a reading that began after it, and then the queue is served", async () => {
  const { scheduler, host, run, clock, look } = await startOnHost(2);
  const held = await lease(scheduler, HOUR_MS);
  const { allocation: waiting } = await scheduler.allocate(ask({ requiredGpus: 2, webhookUrl: null }), BOB);
  const { id } = waiting.request;
  const told = scheduler.wait(id, BOB, 60_000, new AbortController().signal);
  await run(200);
  const startedAt = clock.now();
  host.sleptMs += 8 * HOUR_MS;
  // In the first moment already, before any timer: one GPU is free, and was seen so 8 h ago.
  await expect(scheduler.allocate(ask(), BOB)).rejects.toMatchObject({ code: "gpus-unavailable" });
  // A probe that the host slept through.
  await scheduler.observe({ ok: true, startedAt, finishedAt: clock.now(), reading: reading(2) });
  await expect(scheduler.allocate(ask(), BOB)).rejects.toMatchObject({ code: "gpus-unavailable" });
  await run(100);
  // Its minute has passed: its client is told so, and asks again.
  expect((await told).allocation.status).toBe("queued");
  await run(11_000);
  expect(endReason(scheduler, held)).toBe("expired");
  expect(standing(scheduler, id)).toBe("queued");
  const again = scheduler.wait(id, BOB, 60_000, new AbortController().signal);
  await settled();
  await look();
  expect((await again).allocation.status).toBe("leased");
});
