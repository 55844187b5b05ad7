import { expect, test } from "vitest";
import type { Link } from "../../src/web/api/follow.ts";
import { type Channel, type LeadParts, type Locks, receive } from "../../src/web/api/lead.ts";
import type { Message } from "../../src/web/api/messages.ts";

const event = (id: number): Message => ({ id, event: "granted", data: "{}" });

/** A browser: one lock, and channels by name. */
function browser() {
  const peers = new Set<Channel>();
  const openChannel = (): Channel => {
    const channel: Channel = {
      onmessage: null,
      postMessage: (data) => {
        for (const peer of peers) if (peer !== channel) peer.onmessage?.({ data });
      },
      close: () => peers.delete(channel),
    };
    peers.add(channel);
    return channel;
  };
  let last: Promise<void> = Promise.resolve();
  const locks: Locks = {
    async request(_name, { signal }, held) {
      const before = last;
      const { promise, resolve } = Promise.withResolvers<void>();
      last = promise;
      const called = Promise.withResolvers<void>();
      called.promise.catch(() => undefined);
      signal.addEventListener("abort", () => called.reject(new Error("called off")));
      try {
        await Promise.race([before, called.promise]);
        await held();
      } finally {
        void before.then(resolve);
      }
    },
  };
  return { locks, openChannel };
}

/** A tab that follows a stream of the test's once it leads. */
function tab({ locks, openChannel }: ReturnType<typeof browser>, after: number, hasLocks = true) {
  const heard: number[] = [];
  const links: Link[] = [];
  const ending = new AbortController();
  const led: { from: number; tell: (message: Message) => void }[] = [];
  const parts: LeadParts = {
    name: "stream",
    locks: hasLocks ? locks : null,
    openChannel,
    follow: (from, tell, onLink, signal) => {
      led.push({ from, tell });
      onLink("live");
      return new Promise((resolve) => signal.addEventListener("abort", () => resolve()));
    },
    onMessage: ({ id }) => heard.push(id ?? 0),
    onLink: (link) => links.push(link),
  };
  const done = receive(parts, after, ending.signal);
  const close = () => {
    ending.abort();
    return done;
  };
  return { heard, links, led, close, tell: (message: Message) => led[0]?.tell(message) };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("one tab follows the stream, and hands it to the others, even to one that joined after", async () => {
  const all = browser();
  const first = tab(all, 0);
  await settled();
  first.tell(event(1));
  const second = tab(all, 0);
  await settled();
  first.tell(event(2));
  expect(second.led).toEqual([]);
  expect([first.heard, second.heard]).toEqual([
    [1, 2],
    [1, 2],
  ]);
  expect(second.links).toEqual(["live"]);
  await second.close();
  await first.close();
});

test("when the leading tab closes another goes on where it stands, and nobody hears twice", async () => {
  const all = browser();
  const tabs = [tab(all, 0), tab(all, 0), tab(all, 0)] as const;
  await settled();
  tabs[0].tell(event(1));
  await tabs[0].close();
  await settled();
  expect(tabs.map(({ led }) => led.map(({ from }) => from))).toEqual([[0], [1], []]);
  for (const id of [1, 2]) tabs[1].tell(event(id));
  expect(tabs[2].heard).toEqual([1, 2]);
  await tabs[2].close();
  await tabs[1].close();
});

test("readings, which have no number, reach everybody each time", async () => {
  const all = browser();
  const [first, second] = [tab(all, 5), tab(all, 5)];
  await settled();
  const reading: Message = { id: null, event: "reading", data: "{}" };
  first.tell(reading);
  first.tell(reading);
  expect([first.heard, second.heard]).toEqual([
    [0, 0],
    [0, 0],
  ]);
  await second.close();
  await first.close();
});

test("where there are no locks each tab follows for itself", async () => {
  const all = browser();
  const tabs = [tab(all, 0, false), tab(all, 3, false)] as const;
  tabs[0].tell(event(4));
  expect(tabs.map(({ led, heard }) => [led.length, heard])).toEqual([
    [1, [4]],
    [1, []],
  ]);
  for (const one of tabs) await one.close();
});
