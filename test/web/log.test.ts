/** What a run has written: followed over breaks, and shown as text and nothing else. */
import { expect, test } from "vitest";
import { ApiError } from "../../src/web/api/http.ts";
import { followLog } from "../../src/web/api/log.ts";
import { type LogLine, MAX_LINES, shownText, withLines } from "../../src/web/model/log.ts";

const ESC = "\u001b";

test("escapes of terminals are left out, and of a line that was written over the last is shown", () => {
  expect(shownText(`${ESC}[1;31mred${ESC}[0m text`)).toBe("red text");
  expect(shownText(`${ESC}]0;a title\u0007text`)).toBe("text");
  expect(shownText("10 %\r20 %\r30 %\r")).toBe("30 %");
  expect(shownText("a\tb")).toBe("a\tb");
});

test("what is no letter, or turns the direction of what follows, is shown as such", () => {
  expect(shownText("a\u0000b\u202ec\u2066d\u009be")).toBe("a\ufffdb\ufffdc\ufffdd\ufffde");
  expect(shownText("é 日本 🙂")).toBe("é 日本 🙂");
});

test("a line without an end is cut", () => {
  expect(shownText("x".repeat(100_000)).length).toBeLessThan(5_000);
});

test("the latest lines are kept, each with its number", () => {
  const more = (count: number) =>
    Array.from({ length: count }, () => ({ at: null, stream: "stdout", text: "" }) as const);
  const first = withLines([], more(MAX_LINES));
  const lines = withLines(first, more(3));
  expect([lines.length, lines[0]?.n, lines.at(-1)?.n]).toEqual([MAX_LINES, 3, MAX_LINES + 2]);
});

type Answer = { readonly text: readonly string[]; readonly type?: string; readonly breaks?: true } | Error;

/** A daemon that answers as the test says, one after the other; the run is over when it has nothing more to say. */
async function followed(answers: readonly Answer[]) {
  const left = [...answers];
  const begun: LogLine[][] = [];
  const asked: string[] = [];
  const api = {
    open: async (path: string) => {
      asked.push(path);
      const answer = left.shift() as Answer;
      if (answer instanceof Error) throw answer;
      const pieces = [...answer.text];
      const body = new ReadableStream<Uint8Array>({
        pull(controller) {
          const piece = pieces.shift();
          if (piece !== undefined) controller.enqueue(new TextEncoder().encode(piece));
          else if (answer.breaks === true) controller.error(new TypeError("network error"));
          else controller.close();
        },
      });
      return new Response(body, { headers: { "content-type": answer.type ?? "text/event-stream" } });
    },
    get: async <T>() => ({ state: left.length === 0 ? "ended" : "running" }) as T,
  };
  await followLog(
    {
      api,
      pause: async () => undefined,
      onBegin: () => void begun.push([]),
      onLines: (lines) => void begun.push([...withLines(begun.pop() ?? [], lines)]),
    },
    "run/1",
    new AbortController().signal,
  );
  return { begun: begun.map((lines) => lines.map(({ stream, text }) => `${stream} ${text}`)), asked };
}

const event = (stream: string, text: string) =>
  `event: ${stream}\ndata: ${JSON.stringify({ time: "2026-11-30T12:00:00.000Z", text })}\n\n`;

test("lines come as they are written, of both streams, however they are cut", async () => {
  const whole = event("stdout", "one") + event("stderr", "two");
  const { begun, asked } = await followed([{ text: [whole.slice(0, 40), whole.slice(40)] }]);
  expect(begun).toEqual([["stdout one", "stderr two"]]);
  expect(asked[0]).toMatch(/^\/runs\/run%2F1\/logs\?follow=true&tail=\d+$/);
});

test("the log of a run on another host comes as text", async () => {
  const { begun } = await followed([{ text: ["a\nb", "c\n"], type: "text/plain; charset=utf-8" }]);
  expect(begun).toEqual([["stdout a", "stdout bc"]]);
});

test("a log that breaks off is read anew, so that no line is missing or told twice", async () => {
  const { begun } = await followed([
    { text: [event("stdout", "one")], breaks: true },
    new ApiError(0, "unreachable", "the daemon does not answer"),
    { text: [event("stdout", "one"), event("stdout", "two")] },
  ]);
  expect(begun).toEqual([["stdout one"], ["stdout one", "stdout two"]]);
});

test("a stream that ends while the run goes on, as when the daemon stops, is opened again", async () => {
  const { begun } = await followed([{ text: [] }, { text: [event("stdout", "later")] }]);
  expect(begun).toEqual([[], ["stdout later"]]);
});

test("who may not see it is told so, and does not ask again", async () => {
  const refusal = new ApiError(403, "not-owner", "run 1 belongs to another principal");
  await expect(followed([refusal, { text: [] }])).rejects.toBe(refusal);
});
