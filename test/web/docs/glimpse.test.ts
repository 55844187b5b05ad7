/** A stream in a form: it ends after a while, and what came by then is shown. */
import { afterEach, expect, test, vi } from "vitest";
import { glimpse } from "../../../src/web/docs/glimpse.ts";

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function answering(type: string, first: string, onCancel: () => void = () => undefined) {
  const body = new ReadableStream({
    start: (controller) => controller.enqueue(new TextEncoder().encode(first)),
    cancel: onCancel,
  });
  const answer = new Response(body, { status: 200, headers: { "content-type": type } });
  vi.stubGlobal("fetch", async () => answer);
  return answer;
}

test("a stream ends after three seconds, with what has come and with its header fields", async () => {
  vi.useFakeTimers();
  let isCancelled = false;
  answering("text/event-stream", "id: 1\n\n", () => {
    isCancelled = true;
  });
  const seen = glimpse("/gpu/events", {});
  await vi.advanceTimersByTimeAsync(2_900);
  expect(isCancelled).toBe(false);
  await vi.advanceTimersByTimeAsync(200);
  const answer = await seen;
  expect(isCancelled).toBe(true);
  expect([answer.status, answer.headers.get("content-type"), await answer.text()]).toEqual([
    200,
    "text/event-stream",
    "id: 1\n\n",
  ]);
});

test("any other answer is left as it is", async () => {
  const answer = answering("application/json", "{}");
  expect(await glimpse("/gpu/list", {})).toBe(answer);
});
