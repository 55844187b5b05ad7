/** Follows what a run writes. A log that breaks off is read anew, so that no line is missing or told twice. */
import { type LogLine, MAX_LINES, shownText } from "../model/log.ts";
import { type Api, ApiError } from "./http.ts";
import { MessageReader } from "./messages.ts";

type Written = Omit<LogLine, "n">;

export interface LogParts {
  readonly api: Pick<Api, "open" | "get">;
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>;
  /** All that comes belongs to a log that begins here. */
  readonly onBegin: () => void;
  readonly onLines: (lines: readonly Written[]) => void;
}

/** A log that broke off is asked for again after this, in ms. */
const AGAIN_MS = 1_000;

/**
 * Until the run is over and all is read, or until `signal`.
 *
 * @throws ApiError when the daemon refuses it.
 */
export async function followLog(parts: LogParts, run: string, signal: AbortSignal): Promise<void> {
  const path = `/runs/${encodeURIComponent(run)}`;
  while (!signal.aborted) {
    try {
      await readOnce(parts, `${path}/logs?follow=true&tail=${MAX_LINES}`, signal);
      if (signal.aborted) return;
      const { state } = await parts.api.get<{ readonly state: string }>(path);
      if (state === "ended") return;
    } catch (error) {
      if (signal.aborted) return;
      // Refused is refused; a daemon that is not there, or a node that cannot be asked, may be soon.
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) throw error;
    }
    await parts.pause(AGAIN_MS, signal);
  }
}

async function readOnce({ api, onBegin, onLines }: LogParts, path: string, signal: AbortSignal): Promise<void> {
  const answer = await api.open(path, { accept: "text/event-stream" }, signal);
  onBegin();
  // The log of a run on another host comes as it is there: as text.
  const isEvents = answer.headers.get("content-type")?.startsWith("text/event-stream") === true;
  const read = isEvents ? eventReader() : textReader();
  const pieces = (answer.body as ReadableStream).pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await pieces.read();
    if (done) return;
    const lines = read(value);
    if (lines.length > 0) onLines(lines);
  }
}

function eventReader(): (text: string) => Written[] {
  const reader = new MessageReader();
  return (text) =>
    reader.read(text).map(({ event, data }) => {
      const { time, text: line } = JSON.parse(data) as { readonly time: string; readonly text: string };
      return { at: Date.parse(time), stream: event === "stderr" ? "stderr" : "stdout", text: shownText(line) };
    });
}

function textReader(): (text: string) => Written[] {
  let rest = "";
  return (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() as string;
    return lines.map((line) => ({ at: null, stream: "stdout", text: shownText(line) }));
  };
}
