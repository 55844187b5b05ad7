import { expect, test } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import { type Waiter, Waiters } from "../../src/scheduler/waiters.ts";
import fc from "../fc.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { ask, settled, startScheduler } from "./harness.ts";

const BOB = { principal: "bob", admin: false };

type Step =
  | { readonly wait: number; readonly isOwner: boolean }
  | { readonly leave: number }
  | { readonly pass: number };

test("a client is as patient as the longest of its waits that still goes on", () => {
  const steps: fc.Arbitrary<Step[]> = fc.array(
    fc.oneof(
      fc.record({ wait: fc.integer({ min: 1, max: 60_000 }), isOwner: fc.boolean() }),
      fc.record({ leave: fc.nat(50) }),
      fc.record({ pass: fc.integer({ min: 1, max: 20_000 }) }),
    ),
    { maxLength: 50 },
  );
  fc.assert(
    fc.property(steps, (taken) => {
      const clock = new ManualClock();
      const waiters = new Waiters(clock);
      let waits: { waiter: Waiter; until: number; isOwner: boolean }[] = [];
      for (const step of taken) {
        if ("wait" in step) {
          const waiter = waiters.add("svc-1", step.wait, step.isOwner, new AbortController().signal);
          waits.push({ waiter, until: clock.now() + step.wait, isOwner: step.isOwner });
        } else if ("leave" in step) waits.splice(step.leave % Math.max(1, waits.length), 1)[0]?.waiter.leave();
        else clock.advance(step.pass);
        waits = waits.filter(({ until }) => until > clock.now());
        const longest = waits.filter(({ isOwner }) => isOwner).map(({ until }) => until - clock.now());
        expect(waiters.patienceMs("svc-1")).toBe(Math.max(0, ...longest));
      }
      waiters.wake("svc-1");
      expect(waiters.patienceMs("svc-1")).toBe(0);
    }),
  );
});

test("all who wait for one record are told of its change by one look at it", async () => {
  const store = new MemoryStore();
  const { scheduler } = await startScheduler(store);
  const holder = await scheduler.allocate(ask(), BOB);
  const { allocation } = await scheduler.allocate(ask({ webhookUrl: null }), BOB);
  const { id } = allocation.request;
  const told = Array.from({ length: 1_000 }, () => scheduler.wait(id, BOB, 60_000, new AbortController().signal));
  await settled();
  await scheduler.release({ id: holder.allocation.request.id, serviceName: null, fencingToken: null }, BOB);
  const replies = await Promise.all(told);
  expect(new Set(replies).size).toBe(1);
  expect(replies[0]?.allocation.status).toBe("leased");
  expect(store.turns.flatMap(({ events }) => events).filter(({ type }) => type === "claimed")).toHaveLength(1);
});

test("a client that will wait for longer is not taken for one that has just looked", async () => {
  const { scheduler, clock } = await startScheduler(new MemoryStore());
  await scheduler.allocate(ask(), BOB);
  const { allocation } = await scheduler.allocate(ask({ webhookUrl: null }), BOB);
  const { id } = allocation.request;
  const glance = scheduler.read(id, BOB);
  const patient = scheduler.wait(id, BOB, 60_000, new AbortController().signal);
  await glance;
  for (const ms of [31_000, 28_000]) {
    clock.advance(ms);
    await settled();
    expect(scheduler.peek(id).allocation.status).toBe("queued");
  }
  clock.advance(1_000);
  expect((await patient).allocation.status).toBe("queued");
});
