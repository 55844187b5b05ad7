/**
 * Logs and files of a run on another node: its API gives them to whoever has the cluster's secret, for a path that was
 * signed a moment ago.
 */
import { createHmac, timingSafeEqual } from "node:crypto";

/** Hosts' clocks may differ by as much. */
const VALID_MS = 300_000;

/** @param path with its query, as the node will see it. */
export function signedPath(path: string, secret: Buffer, now: number): string {
  const whole = `${path}${path.includes("?") ? "&" : "?"}until=${now + VALID_MS}`;
  return `${whole}&mac=${codeOf(whole, secret)}`;
}

/** The path and query that was signed; `null`: nobody who may has signed it, or not lately. */
export function openedPath(url: string, secret: Buffer, now: number): string | null {
  const [, path = "", until = "", mac = ""] = /^(.*)[?&]until=(\d{1,16})&mac=([0-9a-f]{64})$/s.exec(url) ?? [];
  if (mac === "") return null;
  const whole = url.slice(0, -`&mac=${mac}`.length);
  const isOurs = timingSafeEqual(Buffer.from(codeOf(whole, secret)), Buffer.from(mac));
  return isOurs && Math.abs(Number(until) - VALID_MS - now) <= VALID_MS ? path : null;
}

function codeOf(path: string, secret: Buffer): string {
  return createHmac("sha256", secret).update("node-api\n").update(path).digest("hex");
}

const ANSWER_MS = 30_000;

/** What a node answers. @throws Error when it does not. */
export async function askNode(nodeUrl: string, path: string, secret: Buffer, signal: AbortSignal): Promise<Response> {
  const answer = await fetch(new URL(signedPath(path, secret, Date.now()), nodeUrl), { signal, redirect: "error" });
  if (answer.status === 200) return answer;
  await answer.body?.cancel();
  throw new Error(`the node answers ${answer.status}`);
}

/** For what a node is asked once: a stream of it may go on for longer. */
export function soon(): AbortSignal {
  return AbortSignal.timeout(ANSWER_MS);
}
