import { expect, test } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import type { Gpu, List, Me } from "../../src/web/api/answers.ts";
import type { Link } from "../../src/web/api/follow.ts";
import { Api, type Fetch } from "../../src/web/api/http.ts";
import type { Message } from "../../src/web/api/messages.ts";
import { Board } from "../../src/web/board.ts";
import { gpu, list } from "./gpus.ts";

const ME: Me = {
  principal: "ann",
  role: "admin",
  keyed: true,
  version: "1",
  work: false,
  quota: null,
  allocations: [],
};
/** Answers have been read by then: they come at once here, over a few turns of the event loop. */
const settled = async () => {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
};
const granted = (id: number): Message => ({
  id,
  event: "granted",
  data: JSON.stringify({ at: "2026-11-30T10:00:00Z", service_name: "ocr", gpu_ids: [0] }),
});

const reading = (now: Partial<Gpu>): Message => {
  const { uuid, ...figures } = { ...gpu(0), ...now };
  const gpus = [{ ...figures, uuid, pids: [], mig_devices: [] }];
  return { id: null, event: "reading", data: JSON.stringify({ gpus }) };
};

/** A board before a daemon of the test's, whose list, stream and refusals are the test's to say. */
async function opened({ status = 200, work = false } = {}) {
  const clock = new ManualClock();
  const daemon = {
    list: list({ last_event_id: 10, gpus: [gpu(0)] }) as List,
    fetches: 0,
    looksAtWork: 0,
    me: { ...ME, work },
    status,
    from: -1,
    /** What its answers wait for. */
    held: Promise.resolve(),
  };
  const ears: { hear: (message: Message) => void; say: (link: Link) => void }[] = [];
  const fetch: Fetch = async (path) => {
    if (daemon.status === 0) throw new TypeError("fetch failed");
    if (daemon.status !== 200) {
      return Response.json({ code: "unauthenticated", detail: "no API key was given" }, { status: daemon.status });
    }
    if (path === "/gpu/list") daemon.fetches++;
    if (path === "/work") daemon.looksAtWork++;
    await daemon.held;
    if (path === "/work") return Response.json({ workloads: [], tasks: [], look: daemon.looksAtWork });
    return Response.json(path === "/gpu/me" ? daemon.me : daemon.list);
  };
  const board = new Board({
    api: new Api(fetch, () => null),
    now: () => clock.now(),
    after: (ms, call) => clock.after(ms, call),
    receive: (after, hear, say, signal) => {
      daemon.from = after;
      ears.unshift({ hear, say });
      say("live");
      return new Promise((resolve) => signal.addEventListener("abort", () => resolve()));
    },
  });
  void board.start();
  await settled();
  const later = async () => {
    clock.advance(1_000);
    await settled();
  };
  const hear = (message: Message) => ears[0]?.hear(message);
  return { board, daemon, later, hear, say: (link: Link) => ears[0]?.say(link), clock };
}

test("the list is fetched again after an event that it does not have in it, once for many at a time", async () => {
  const { board, daemon, hear, later } = await opened();
  expect([board.view.phase, daemon.fetches, daemon.from]).toEqual(["open", 1, 0]);
  hear(granted(9));
  hear(granted(10));
  await later();
  expect(daemon.fetches).toBe(1);
  for (const id of [11, 12, 13]) hear(granted(id));
  daemon.list = list({ last_event_id: 13, gpus: [gpu(0, { state: "leased" })] });
  await later();
  expect(daemon.fetches).toBe(2);
  expect(board.view.list?.gpus[0]?.state).toBe("leased");
  expect(board.view.events.map(({ id }) => id)).toEqual([13, 12, 11, 10, 9]);
  board.stop();
});

test("what happens while the list is under way leads to another look, after that and not beside it", async () => {
  const { board, daemon, hear, later } = await opened();
  const { promise, resolve: answer } = Promise.withResolvers<void>();
  daemon.held = promise;
  hear(granted(11));
  await later();
  hear(granted(12));
  await later();
  expect(daemon.fetches).toBe(2);
  answer();
  await settled();
  await later();
  expect(daemon.fetches).toBe(3);
  board.stop();
});

test("a reading with another state in it leads to a look at the list, and one with other figures does not", async () => {
  const { board, daemon, hear, later } = await opened();
  hear(reading({ utilization: 40 }));
  await later();
  expect([daemon.fetches, board.view.list?.gpus[0]?.utilization]).toEqual([1, 40]);
  hear(reading({ utilization: 40, state: "occupied" }));
  await later();
  expect(daemon.fetches).toBe(2);
  board.stop();
});

test("after a lost connection the list is fetched again, whether the stream has all events or not", async () => {
  const { board, daemon, say, later } = await opened();
  say("lost");
  expect(board.view.link).toBe("lost");
  say("live");
  await later();
  expect([board.view.link, daemon.fetches]).toEqual(["live", 2]);
  board.stop();
});

test("a refused key is asked for, and nothing is shown of what was there", async () => {
  const { board, daemon, hear, later } = await opened();
  daemon.status = 401;
  hear(granted(11));
  await later();
  expect(board.view).toMatchObject({ phase: "key", list: null, events: [], problem: "no API key was given" });
});

test("a daemon that is not there is asked again until it is", async () => {
  const { board, daemon, later } = await opened({ status: 0 });
  expect(board.view).toMatchObject({ phase: "starting", link: "lost", problem: "the daemon does not answer" });
  daemon.status = 200;
  await later();
  expect(board.view).toMatchObject({ phase: "open", problem: null });
  board.stop();
});

test("work is looked at when there is any, again when the stream says so, and after a break", async () => {
  const { board, daemon, hear, say, later } = await opened({ work: true });
  await later();
  expect([daemon.looksAtWork, board.view.workRevision]).toEqual([1, 1]);
  const news: Message = { id: null, event: "work", data: "{}" };
  hear(news);
  hear(news);
  await later();
  expect([daemon.looksAtWork, daemon.fetches]).toEqual([2, 1]);
  expect(board.view.work).toMatchObject({ look: 2 });
  say("lost");
  say("live");
  await later();
  expect([daemon.looksAtWork, daemon.fetches]).toEqual([3, 2]);
  board.stop();
});

test("a daemon that runs no work is not asked for any, and one that no longer does shows none", async () => {
  const off = await opened();
  off.hear({ id: null, event: "work", data: "{}" });
  await off.later();
  expect([off.daemon.looksAtWork, off.board.view.work]).toEqual([0, null]);
  off.board.stop();
  const { board, daemon, hear, later } = await opened({ work: true });
  await later();
  daemon.me = { ...daemon.me, work: false };
  hear(granted(11));
  await later();
  expect([board.view.work, daemon.looksAtWork]).toEqual([null, 1]);
  board.stop();
});
