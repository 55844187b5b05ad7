/**
 * Follows the daemon's stream over breaks.
 *
 *  1. After a break it goes on behind the last event that was seen, so that none is missed or told twice.
 *  2. A stream on which nothing comes, not even a sign of life, is broken.
 */
import { ApiError } from "./http.ts";
import { type Message, MessageReader } from "./messages.ts";

export type Link = "connecting" | "live" | "lost";

export interface FollowParts {
  /** Opens the stream behind that event; `null`: at what is still to come. */
  readonly open: (after: number | null, signal: AbortSignal) => Promise<ReadableStream>;
  readonly onMessage: (message: Message) => void;
  /** @param error why it was lost. */
  readonly onLink: (link: Link, error: unknown) => void;
  /** Returns after so long, or early when another try is likely to succeed. */
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Calls back after so long unless it is called off. */
  readonly after: (ms: number, call: () => void) => () => void;
}

/** The daemon shows life every 15 s; later than this, in ms, the connection is taken for dead. */
export const SILENCE_MS = 20_000;
/** Pauses between tries, in ms; the last is repeated. */
export const PAUSES_MS = [300, 500, 1_000, 2_000, 4_000] as const;

/** Until `signal`, or until the daemon refuses the key. */
export async function follow(parts: FollowParts, from: number | null, signal: AbortSignal): Promise<void> {
  let position = from;
  for (let tries = 0; !signal.aborted; tries++) {
    parts.onLink(tries === 0 ? "connecting" : "lost", null);
    try {
      await readOn(parts, position, signal, (message) => {
        tries = 0;
        if (message.id !== null) position = message.id;
        parts.onMessage(message);
      });
    } catch (error) {
      if (signal.aborted) return;
      parts.onLink("lost", error);
      if (error instanceof ApiError && (error.status === 401 || error.status === 403)) return;
    }
    if (signal.aborted) return;
    parts.onLink("lost", null);
    await parts.pause(PAUSES_MS[Math.min(tries, PAUSES_MS.length - 1)] as number, signal);
  }
}

async function readOn(
  { open, onLink, after }: FollowParts,
  position: number | null,
  signal: AbortSignal,
  onMessage: (message: Message) => void,
): Promise<void> {
  const ending = new AbortController();
  const end = () => ending.abort();
  signal.addEventListener("abort", end);
  let callOff = after(SILENCE_MS, end);
  try {
    const stream = await open(position, ending.signal);
    onLink("live", null);
    const reader = new MessageReader();
    const pieces = stream.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await pieces.read();
      if (done) return;
      callOff();
      callOff = after(SILENCE_MS, end);
      for (const message of reader.read(value)) onMessage(message);
    }
  } finally {
    callOff();
    signal.removeEventListener("abort", end);
    ending.abort();
  }
}
