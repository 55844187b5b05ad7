/** Writes an answer that has no end of its own, no faster than its client takes it. */
import type { ServerResponse } from "node:http";
import type { Pieces } from "./answers.ts";

/** How a stream came to its end: it was told to end, or its client took nothing more for too long. */
export type StreamEnd = "ended" | "stalled";

/**
 * Writes the `pieces`, each when the system has taken those before it, until `signal` or until they end.
 *
 * @param mayGoOn is asked before each piece.
 * @param stallMs how long a client may take nothing.
 * @throws what the pieces throw.
 */
export async function writePieces(
  res: ServerResponse,
  pieces: Pieces,
  signal: AbortSignal,
  mayGoOn: () => boolean,
  stallMs: number,
): Promise<StreamEnd> {
  for await (const piece of pieces(signal)) {
    if (signal.aborted || !mayGoOn()) break;
    if (!res.write(piece) && (await drained(res, signal, stallMs)) === "stalled") return "stalled";
  }
  return "ended";
}

function drained(res: ServerResponse, signal: AbortSignal, stallMs: number): Promise<StreamEnd | "drained"> {
  return new Promise((resolve) => {
    const end = (how: StreamEnd | "drained") => {
      clearTimeout(timer);
      res.off("drain", taken);
      signal.removeEventListener("abort", stopped);
      resolve(how);
    };
    const taken = () => end("drained");
    const stopped = () => end("ended");
    const timer = setTimeout(() => end("stalled"), stallMs);
    res.on("drain", taken);
    signal.addEventListener("abort", stopped);
    if (signal.aborted) stopped();
  });
}
