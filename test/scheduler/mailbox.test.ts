import { expect, test } from "vitest";
import { Mailbox } from "../../src/scheduler/mailbox.ts";
import { MemoryStore } from "../fixtures/memory-store.ts";
import { ask, SlowStore, settled, startScheduler } from "./harness.ts";

test("each principal's first comes before anybody's second, the daemon's own before all, and each one's in order", () => {
  const mailbox = new Mailbox<string>();
  for (let i = 0; i < 1_000; i++) mailbox.put("mallory", `m${i}`);
  mailbox.put("alice", "a0");
  mailbox.put(null, "tick");
  mailbox.put("alice", "a1");
  expect(mailbox.take(5)).toEqual(["tick", "m0", "a0", "m1", "a1"]);
  mailbox.put("bob", "b0");
  expect(mailbox.take(3)).toEqual(["m2", "b0", "m3"]);
  const rest = [];
  while (mailbox.size > 0) rest.push(...mailbox.take(256));
  expect(rest).toEqual(Array.from({ length: 996 }, (_, i) => `m${i + 4}`));
});

test("a flood of one principal delays another's request by one turn, and does not lose it its place in the line", async () => {
  const store = new SlowStore();
  const { scheduler, clock } = await startScheduler(store);
  await scheduler.allocate(ask(), { principal: "holder", admin: false });
  const letThrough = store.hold();
  const first = scheduler.allocate(ask(), { principal: "mallory", admin: false });
  await settled();
  const answered: string[] = [];
  const flood = Array.from({ length: 600 }, () =>
    scheduler.allocate(ask(), { principal: "mallory", admin: false }).catch(() => undefined),
  );
  const last = flood.at(-1) as Promise<unknown>;
  void last.then(() => answered.push("the flood"));
  clock.advance(5);
  const victim = scheduler.allocate(ask(), { principal: "alice", admin: false });
  void victim.then(() => answered.push("alice"));
  clock.advance(5);
  letThrough();
  await Promise.all([first, victim, ...flood]);
  expect(answered).toEqual(["alice", "the flood"]);
  const { submittedAt } = (await victim).allocation.request;
  expect(submittedAt).toBe(clock.now() - 5);
});

test("what is decided later and had arrived earlier stands before in the line", async () => {
  const { scheduler, clock } = await startScheduler(new MemoryStore());
  await scheduler.allocate(ask(), { principal: "holder", admin: false });
  const early = Array.from({ length: 3 }, () => scheduler.allocate(ask(), { principal: "mallory", admin: false }));
  clock.advance(1);
  const late = scheduler.allocate(ask(), { principal: "alice", admin: false });
  const ids = (await Promise.all([...early, late])).map(({ allocation }) => allocation.request.id);
  const line = [...scheduler.state.line.order.values()].map(({ allocation }) => allocation.request.id);
  expect(line).toEqual(ids);
});
