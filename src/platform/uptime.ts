import { readFileSync } from "node:fs";

const MS_PER_SECOND = 1_000;

/** How long the host has been up, in ms, sleep included: a clock that nobody sets. */
export function uptimeMs(): number {
  return Math.round(Number(readFileSync("/proc/uptime", "utf8").split(" ", 1)[0]) * MS_PER_SECOND);
}
