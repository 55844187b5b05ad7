/** `GET /gpu/readings`: the figures of the GPUs as they are read, as server-sent events. */
import type { Pieces, StreamAnswer } from "../exchange/answers.ts";
import type { Operation } from "../exchange/endpoint.ts";
import { KEEP_ALIVE, KEEP_ALIVE_MS, STREAM_HEADERS } from "../exchange/server-sent.ts";
import type { ReadingFeed } from "./feed.ts";

export function readings(feed: ReadingFeed): Operation {
  return {
    role: "read",
    body: "ignored",
    answer: (): StreamAnswer => ({
      status: 200,
      type: "text/event-stream",
      headers: STREAM_HEADERS,
      pieces: (signal) => figures(feed, signal),
    }),
  };
}

/** Without an id: it is the latest that counts, and nothing is to be resumed. */
export function readingMessage(feed: ReadingFeed): string {
  return `event: reading\ndata: ${feed.latest()}\n\n`;
}

async function* figures(feed: ReadingFeed, signal: AbortSignal): ReturnType<Pieces> {
  feed.open();
  try {
    for (let told = -1; ; ) {
      const how = await feed.news.next(told, KEEP_ALIVE_MS, signal);
      if (signal.aborted) return;
      told = feed.news.version;
      yield how === "news" ? readingMessage(feed) : KEEP_ALIVE;
    }
  } finally {
    feed.close();
  }
}
