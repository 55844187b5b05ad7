import { readFileSync } from "node:fs";
import { readBootId } from "./boot-id.ts";

const MS_PER_SECOND = 1_000;

/** How long the host has been up, in ms, sleep included: a clock that nobody sets. */
export function uptimeMs(): number {
  return Math.round(Number(readFileSync("/proc/uptime", "utf8").split(" ", 1)[0]) * MS_PER_SECOND);
}

/** A moment of this boot, for a file that other processes read. */
export function uptimeMark(at: number): string {
  return JSON.stringify({ bootId: readBootId(), uptimeMs: at });
}

/** @returns `null`: there is none, or it is of another boot, after which uptime began anew. */
export function readUptimeMark(path: string): number | null {
  try {
    const { bootId, uptimeMs: at } = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
    // In a container uptime may begin anew without another boot.
    return bootId === readBootId() && typeof at === "number" && at <= uptimeMs() ? at : null;
  } catch {
    return null;
  }
}
