import { expect, test } from "vitest";
import { ManualClock } from "../../src/platform/clock.ts";
import { type FollowParts, follow, SILENCE_MS } from "../../src/web/api/follow.ts";
import { ApiError } from "../../src/web/api/http.ts";
import { type Message, MessageReader } from "../../src/web/api/messages.ts";

test("messages are whole however their text is cut, and comments are none", () => {
  const text =
    'retry: 2000\nid: 4\n\n: keep-alive\n\nid: 5\nevent: granted\ndata: {"a":1}\n\nevent: reading\ndata: {}\n\n';
  const wanted: Message[] = [
    { id: 4, event: "", data: "" },
    { id: 5, event: "granted", data: '{"a":1}' },
    { id: null, event: "reading", data: "{}" },
  ];
  for (let cut = 0; cut <= text.length; cut++) {
    const reader = new MessageReader();
    expect([...reader.read(text.slice(0, cut)), ...reader.read(text.slice(cut))]).toEqual(wanted);
  }
});

/** A daemon whose stream is written, broken and refused by the test. */
function daemon() {
  const clock = new ManualClock();
  const opened: { after: number | null; write: (text: string) => void; end: () => void }[] = [];
  const heard: (Message | string)[] = [];
  const ending = new AbortController();
  const refusals: Error[] = [];
  let wake: () => void = () => undefined;
  const note = (what: Message | string) => {
    if (heard.at(-1) !== what) heard.push(what);
    wake();
  };
  const parts: FollowParts = {
    open: async (after, signal) => {
      const [refusal] = refusals;
      if (refusal !== undefined) throw refusal;
      const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
      const writer = writable.getWriter();
      writer.closed.catch(() => undefined);
      signal.addEventListener("abort", () => void writer.abort().catch(() => undefined));
      const write = (text: string) => void writer.write(new TextEncoder().encode(text)).catch(() => undefined);
      opened.push({ after, write, end: () => void writer.close() });
      wake();
      return readable;
    },
    onMessage: note,
    onLink: note,
    pause: async () => undefined,
    after: (ms, call) => clock.after(ms, call),
  };
  const until = async (done: () => boolean) => {
    while (!done()) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  return { clock, opened, heard, ending, parts, until, refusals };
}

test("after a break the stream goes on behind the last event, and the break is told", async () => {
  const { opened, heard, ending, parts, until } = daemon();
  const done = follow(parts, 3, ending.signal);
  await until(() => heard.includes("live"));
  opened[0]?.write("id: 4\nevent: granted\ndata: {}\n\n");
  await until(() => heard.length === 3);
  opened[0]?.end();
  await until(() => opened.length === 2 && heard.at(-1) === "live");
  expect(opened.map(({ after }) => after)).toEqual([3, 4]);
  expect(heard).toEqual(["connecting", "live", { id: 4, event: "granted", data: "{}" }, "lost", "live"]);
  ending.abort();
  await done;
});

test("a stream on which nothing comes is taken for broken, and one that shows life is not", async () => {
  const { clock, opened, heard, ending, parts, until } = daemon();
  const done = follow(parts, 0, ending.signal);
  await until(() => heard.includes("live"));
  clock.advance(SILENCE_MS - 1);
  opened[0]?.write("id: 1\n\n");
  await until(() => heard.length === 3);
  clock.advance(SILENCE_MS - 1);
  expect(opened).toHaveLength(1);
  clock.advance(1);
  await until(() => opened.length === 2 && heard.at(-1) === "live");
  // This one has never said anything.
  clock.advance(SILENCE_MS);
  await until(() => opened.length === 3);
  ending.abort();
  await done;
});

test("a key that is refused is not tried again and again", async () => {
  const { heard, ending, parts, refusals } = daemon();
  refusals.push(new ApiError(401, "unauthenticated", "nobody has this API key"));
  await follow(parts, 0, ending.signal);
  expect(heard).toEqual(["connecting", "lost"]);
});
