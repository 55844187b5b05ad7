import { expect, test } from "vitest";
import type { PendingDelivery } from "../../src/ports/webhooks.ts";
import { Slots } from "../../src/webhooks/slots.ts";

const LIMITS = { overall: 64, perReceiver: 4 };
const free = () => false;

function delivery(principal: string, n: number, url: string): PendingDelivery {
  return {
    deliveryId: `${principal}-${String(n).padStart(5, "0")}`,
    allocationId: `${principal}-${n}`,
    principal,
    status: "allocated",
    url,
    body: "{}",
    createdAt: n,
    attempts: 0,
    nextAttemptAt: n,
  };
}

/** To a thousand addresses of which none answers. */
const flood = (principal: string, rows = 1_000) =>
  Array.from({ length: rows }, (_, n) => delivery(principal, n, `http://10.${n >> 8}.${n & 255}.1:9/`));

test("a principal with 1,000 webhooks to silent addresses leaves slots for another's first one, to an unknown receiver", () => {
  const slots = new Slots();
  const hostile = slots.take(flood("mallory"), LIMITS, free);
  expect(hostile.length).toBeLessThanOrEqual(28);

  const victim = delivery("alice", 5_000, "http://10.99.0.1/");
  expect(slots.take([...flood("mallory"), victim], LIMITS, free)).toEqual([victim]);
});

test("twenty such principals leave slots for another's first one too, and half of all to receivers that answer", () => {
  const slots = new Slots();
  const known = delivery("bob", 1, "http://10.98.0.1/");
  slots.take([known], LIMITS, free);
  slots.release(known, true);
  const hostile = Array.from({ length: 20 }, (_, i) => flood(`mallory-${i}`, 100)).flat();
  slots.take(hostile, LIMITS, free);
  expect(slots.taken).toBeLessThanOrEqual(32);

  const first = delivery("alice", 1, "http://10.99.0.1/");
  const more = Array.from({ length: 4 }, (_, i) => delivery("bob", 2 + i, known.url));
  expect(slots.take([...hostile, first, ...more], LIMITS, free)).toEqual([first, ...more]);
});

test("every principal gets as many slots as the others", () => {
  const slots = new Slots();
  const due = [...flood("mallory", 100), ...flood("alice", 100), ...flood("bob", 3)];
  const counts = Object.groupBy(slots.take(due, LIMITS, free), ({ principal }) => principal ?? "");
  expect(counts.bob).toHaveLength(3);
  expect(Math.abs((counts.alice?.length ?? 0) - (counts.mallory?.length ?? 0))).toBeLessThanOrEqual(1);
});

test("one who meets many receivers does not make another's good one forgotten", () => {
  const slots = new Slots();
  const known = delivery("alice", 1, "http://10.98.0.1/");
  slots.take([known], LIMITS, free);
  slots.release(known, true);
  for (const met of flood("mallory", 2_000)) {
    slots.take([met], LIMITS, free);
    slots.release(met, true);
  }
  slots.take(Array.from({ length: 40 }, (_, i) => flood(`mallory-${i}`, 1)).flat(), LIMITS, free);
  const again = [2, 3].map((n) => delivery("alice", n, known.url));
  expect(slots.take(again, LIMITS, free)).toEqual(again);
});
