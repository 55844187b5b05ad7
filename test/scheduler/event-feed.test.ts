/** Who follows the events gets each once, in order, from wherever it is kept. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test, vi } from "vitest";
import { emptyHost } from "../../src/core/host/changes.ts";
import type { Event } from "../../src/core/host/events.ts";
import { type Clock, ManualClock } from "../../src/platform/clock.ts";
import type { JournalEntry } from "../../src/ports/store.ts";
import { EventFeed, type EventReader, PAGE_EVENTS, type Page } from "../../src/scheduler/event-feed.ts";
import { type PublicEvent, publicEvent } from "../../src/wire/events/bodies.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { DEFAULT_POLICY } from "../simulation/simulated-host.ts";
import { databasePath, open, openForTest } from "../store/files.ts";
import { START, turn } from "../store/turns.ts";
import { ask, startScheduler } from "./harness.ts";

const BOB = { principal: "bob", admin: false };
const NEVER = new AbortController().signal;
/** Of events that are about GPUs alone. */
const nobodys = () => null;
const before = emptyHost(DEFAULT_POLICY);

const freed = (n: number): Event => ({ type: "gpu-freed", uuid: `GPU-${n}`, at: START + n });

/** A feed over a journal, without a scheduler. */
async function feedOf(store: MemoryStore, clock: Clock = new ManualClock()) {
  const feed = new EventFeed(store, clock, store.load().lastSeq, nobodys);
  const commit = async (events: readonly Event[]) => {
    await store.commit(turn({ events }));
    feed.committed({ at: START, events, lastSeq: store.load().lastSeq, before });
  };
  return { feed, commit };
}

/** A journal of so many events. */
async function journalOf(count: number): Promise<MemoryStore> {
  const store = new MemoryStore();
  await store.commit(turn({ events: Array.from({ length: count }, (_, i) => freed(i + 1)) }));
  return store;
}

function seqsOf(page: Page): number[] {
  if ("reset" in page) throw new Error(`a reset: ${JSON.stringify(page.reset)}`);
  return page.events.map(({ seq }) => seq);
}

async function readUpTo(reader: EventReader, last: number): Promise<number[]> {
  const seqs: number[] = [];
  while (reader.position < last) seqs.push(...seqsOf(await reader.next(60_000, NEVER)));
  return seqs;
}

const upTo = (last: number, from = 1) => Array.from({ length: last - from + 1 }, (_, i) => from + i);

test("from 0 a reader gets all that is kept, page by page, and then what comes", async () => {
  const { feed, commit } = await feedOf(await journalOf(600));
  const reader = feed.open(0);
  const pages: number[] = [];
  for (let at = 0; at < 600; at = reader.position) {
    const seqs = seqsOf(await reader.next(60_000, NEVER));
    expect(seqs[0]).toBe(at + 1);
    pages.push(seqs.length);
  }
  expect(pages).toEqual([PAGE_EVENTS, PAGE_EVENTS, 88]);
  const next = reader.next(60_000, NEVER);
  await commit([freed(601), freed(602)]);
  expect(seqsOf(await next)).toEqual([601, 602]);
});

test("from N a reader gets what follows N, in the middle of a turn too; without a number, only what comes", async () => {
  const { feed, commit } = await feedOf(await journalOf(10));
  expect(seqsOf(await feed.open(7).next(0, NEVER))).toEqual([8, 9, 10]);
  const fresh = feed.open(null);
  expect(fresh.position).toBe(10);
  const next = fresh.next(60_000, NEVER);
  await commit([freed(11)]);
  expect(seqsOf(await next)).toEqual([11]);
});

test("a reader who went away while events were committed is given them from the journal", async () => {
  const { feed, commit } = await feedOf(await journalOf(3));
  const first = feed.open(null);
  await commit([freed(4)]);
  expect(seqsOf(await first.next(0, NEVER))).toEqual([4]);
  first.close();
  expect(feed.readers).toBe(0);
  await commit([freed(5)]);
  const second = feed.open(first.position);
  await commit([freed(6)]);
  expect(await readUpTo(second, 6)).toEqual([5, 6]);
});

test("one that is too slow for what is in memory loses nothing: it goes on from the journal", async () => {
  const { feed, commit } = await feedOf(await journalOf(1));
  const slow = feed.open(null);
  const quick = feed.open(null);
  const seen: number[] = [];
  for (let i = 0; i < 30; i++) {
    await commit(Array.from({ length: 100 }, (_, n) => freed(n)));
    seen.push(...(await readUpTo(quick, 1 + 100 * (i + 1))));
  }
  expect(seen).toEqual(upTo(3_001, 2));
  await commit(Array.from({ length: 5_000 }, (_, n) => freed(n)));
  expect(await readUpTo(quick, 8_001)).toEqual(upTo(8_001, 3_002));
  expect(await readUpTo(slow, 8_001)).toEqual(upTo(8_001, 2));
});

test("an event is handed out only when its turn is known to be committed, even if the file has it already", async () => {
  const store = await journalOf(5);
  const feed = new EventFeed(store, new ManualClock(), 5, nobodys);
  const reader = feed.open(0);
  await store.commit(turn({ events: [freed(6)] }));
  expect(await readUpTo(reader, 5)).toEqual([1, 2, 3, 4, 5]);
  const stopped = new AbortController();
  const next = reader.next(60_000, stopped.signal);
  await sleep(5);
  feed.committed({ at: START, events: [freed(6)], lastSeq: 6, before });
  expect(seqsOf(await next)).toEqual([6]);
});

test("with nothing to tell, a reader hears so after its patience, or at once when it is stopped", async () => {
  const clock = new ManualClock();
  const { feed, commit } = await feedOf(await journalOf(2), clock);
  const reader = feed.open(null);
  let isOver = false;
  const silent = reader.next(15_000, NEVER).finally(() => {
    isOver = true;
  });
  clock.advance(14_999);
  await sleep(1);
  expect(isOver).toBe(false);
  clock.advance(1);
  expect(await silent).toEqual({ events: [] });
  const stop = new AbortController();
  const stopped = reader.next(15_000, stop.signal);
  stop.abort();
  expect(await stopped).toEqual({ events: [] });
  expect(await reader.next(15_000, stop.signal)).toEqual({ events: [] });
  await commit([freed(3)]);
  expect(seqsOf(await reader.next(15_000, NEVER))).toEqual([3]);
});

test("when what follows has been pruned, a reader is told so and goes on with the oldest that is kept", async () => {
  const store = await journalOf(500);
  store.trim(100);
  const { feed, commit } = await feedOf(store);
  const late = feed.open(99);
  expect(await late.next(0, NEVER)).toEqual({
    reset: { reason: "trimmed", oldestSeq: 101, lastSeq: 500, position: 100 },
  });
  expect(await readUpTo(late, 500)).toEqual(upTo(500, 101));
  // These miss nothing: the one has all before the oldest, the other asked for the oldest.
  for (const after of [100, 0]) expect(seqsOf(await feed.open(after).next(0, NEVER))[0]).toBe(101);

  const overtaken = feed.open(0);
  expect(seqsOf(await overtaken.next(0, NEVER)).at(-1)).toBe(356);
  store.trim(400);
  expect(await overtaken.next(0, NEVER)).toMatchObject({ reset: { reason: "trimmed", oldestSeq: 401 } });
  expect(await readUpTo(overtaken, 500)).toEqual(upTo(500, 401));

  store.trim(500);
  expect(await feed.open(450).next(0, NEVER)).toEqual({
    reset: { reason: "trimmed", oldestSeq: null, lastSeq: 500, position: 500 },
  });
  const fromOldest = feed.open(0);
  const next = fromOldest.next(60_000, NEVER);
  await sleep(5);
  await commit([freed(501)]);
  expect(seqsOf(await next)).toEqual([501]);
});

test("one that has events which this journal never had is told so, and goes on with what comes", async () => {
  const store = await journalOf(50);
  store.trim(10);
  const { feed, commit } = await feedOf(store);
  const ahead = feed.open(70);
  // Meanwhile other events are given the numbers that it has seen.
  await commit(Array.from({ length: 25 }, (_, i) => freed(51 + i)));
  expect(await ahead.next(0, NEVER)).toEqual({
    reset: { reason: "ahead", oldestSeq: 11, lastSeq: 75, position: 75 },
  });
  const next = ahead.next(60_000, NEVER);
  await commit([freed(76)]);
  expect(seqsOf(await next)).toEqual([76]);
  expect(seqsOf(await feed.open(75).next(0, NEVER))).toEqual([76]);
});

test("however many replay, one page of the journal is read per turn of the event loop", async () => {
  let loops = 0;
  const readsPerLoop = new Map<number, number>();
  const store = await journalOf(2_000);
  const counted = {
    readEvents(afterSeq: number, limit: number): readonly JournalEntry[] {
      readsPerLoop.set(loops, (readsPerLoop.get(loops) ?? 0) + 1);
      return store.readEvents(afterSeq, limit);
    },
  };
  const feed = new EventFeed(counted, new ManualClock(), 2_000, nobodys);
  let isOver = false;
  const turns = (async () => {
    for (; !isOver; loops++) await new Promise((resolve) => setImmediate(resolve));
  })();
  const readers = Array.from({ length: 50 }, () => readUpTo(feed.open(0), 2_000));
  for (const seqs of await Promise.all(readers)) expect(seqs).toHaveLength(2_000);
  isOver = true;
  await turns;
  expect([...readsPerLoop.values()].reduce((sum, reads) => sum + reads, 0)).toBe(50 * Math.ceil(2_000 / PAGE_EVENTS));
  expect(Math.max(...readsPerLoop.values())).toBe(1);
});

test("a busy daemon wakes a reader for many events together, not for each turn", async () => {
  const { feed, commit } = await feedOf(new MemoryStore());
  const reader = feed.open(null);
  let pages = 0;
  const reading = (async () => {
    for (; reader.position < 1_000; pages++) await reader.next(60_000, NEVER);
  })();
  const startedAt = performance.now();
  for (let i = 0; i < 1_000; i++) {
    await commit([freed(i)]);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await reading;
  // A page per 50 ms, and as many as it takes to catch up.
  expect(pages).toBeLessThanOrEqual((performance.now() - startedAt) / 50 + 2 + 1_000 / PAGE_EVENTS);
});

test("a journal that cannot be read is an error of the reader's, who may try again", async () => {
  const store = await journalOf(3);
  let isBroken = true;
  const feed = new EventFeed(
    {
      readEvents(afterSeq, limit) {
        if (isBroken) throw new Error("disk I/O error");
        return store.readEvents(afterSeq, limit);
      },
    },
    new ManualClock(),
    3,
    nobodys,
  );
  const reader = feed.open(0);
  await expect(reader.next(0, NEVER)).rejects.toThrow("disk I/O error");
  isBroken = false;
  expect(seqsOf(await reader.next(0, NEVER))).toEqual([1, 2, 3]);
});

/** Everything that `reader` is given until `stop`, with random pauses. */
async function follow(reader: EventReader, stop: AbortSignal, random: () => number): Promise<readonly PublicEvent[]> {
  const given: PublicEvent[] = [];
  while (!stop.aborted) {
    const page = await reader.next(60_000, stop);
    if ("reset" in page) throw new Error(`a reset: ${JSON.stringify(page.reset)}`);
    given.push(...page.events);
    if (random() < 0.3) await sleep(random() * 20);
  }
  return given;
}

test("while 32 clients commit, whoever joins at whatever number has every event after it once, in order", async () => {
  let seed = 20_261_121;
  const random = () => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed / 2_147_483_647;
  };
  const store = openForTest();
  const { scheduler } = await startScheduler(store, { gpus: 4, policy: { maxQueueSize: 10_000 } });
  let isOver = false;
  const clients = Array.from({ length: 32 }, async () => {
    while (!isOver) {
      const { allocation } = await scheduler.allocate(ask(), BOB);
      const { id } = allocation.request;
      await scheduler.release({ id, serviceName: null, fencingToken: null }, BOB);
    }
  });
  const stop = new AbortController();
  const followed: { readonly reader: EventReader; readonly from: number; readonly given: ReturnType<typeof follow> }[] =
    [];
  for (let i = 0; i < 60; i++) {
    await sleep(random() * 25);
    const { lastSeq } = scheduler.events;
    const reader = scheduler.events.open([null, 0, Math.floor(random() * (lastSeq + 1))][i % 3] as number | null);
    followed.push({ reader, from: reader.position, given: follow(reader, stop.signal, random) });
  }
  isOver = true;
  await Promise.all(clients);
  const { lastSeq } = scheduler.events;
  const positions = () => followed.map(({ reader }) => reader.position);
  await vi.waitFor(() => expect(new Set(positions())).toEqual(new Set([lastSeq])), { timeout: 20_000 });
  stop.abort();
  const journal = [...store.readJournal()];
  expect(journal.map(({ seq }) => seq)).toEqual(upTo(lastSeq));
  expect(lastSeq).toBeGreaterThan(2_000);
  const owners = new Map(
    journal.flatMap(({ event }) => (event.type === "submitted" ? [[event.request.id, event.request.principal]] : [])),
  );
  const told = journal.map((entry) => publicEvent(entry, (id) => owners.get(id) ?? null));
  // Whether it came from memory or from the journal.
  for (const { from, given } of followed) expect(await given).toEqual(told.slice(from));
  await scheduler.stop();
});

test("over a restart numbers go on, and a reader who comes back with its last one misses nothing", async () => {
  const path = databasePath();
  const first = open(path);
  const before = await startScheduler(first, { gpus: 2 });
  const reader = before.scheduler.events.open(0);
  await before.scheduler.allocate(ask(), BOB);
  const seen = await readUpTo(reader, before.scheduler.events.lastSeq - 1);
  // It has not seen the last when the daemon ends.
  await before.scheduler.allocate(ask(), BOB);
  await before.scheduler.stop();
  await first.close();

  const second = openForTest(path);
  expect(second.load().lastSeq).toBe(before.scheduler.events.lastSeq);
  const after = await startScheduler(second, { gpus: 2 });
  await after.scheduler.allocate(ask(), BOB);
  const again = after.scheduler.events.open(seen.at(-1) as number);
  const { lastSeq } = after.scheduler.events;
  expect([...seen, ...(await readUpTo(again, lastSeq))]).toEqual(upTo(lastSeq));
  expect([...second.readJournal()].at(-1)?.seq).toBe(lastSeq);
  await after.scheduler.stop();
});

test("a turn that the store refuses takes no number and is told to nobody", async () => {
  const store = new MemoryStore();
  const { scheduler } = await startScheduler(store);
  const reader = scheduler.events.open(null);
  store.failing = true;
  await expect(scheduler.allocate(ask(), BOB)).rejects.toMatchObject({ code: "storage-unavailable" });
  expect(scheduler.events.lastSeq).toBe(reader.position);
  store.failing = false;
  await scheduler.allocate(ask(), BOB);
  const page = await reader.next(0, NEVER);
  expect(seqsOf(page)).toEqual([reader.position - 1, reader.position]);
  expect(store.load().lastSeq).toBe(reader.position);
  await scheduler.stop();
});
