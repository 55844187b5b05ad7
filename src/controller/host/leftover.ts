/**
 * The daemon of a controller that was killed: it lives on, and keeps its database from the next. It is known by its number and
 * the instant at which it began, since numbers come again.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const LOOK_MS = 50;

interface Noted {
  readonly pid: number;
  /** In ticks since the host was started. */
  readonly startedAt: string;
  readonly parent: number;
}

/** Writes down whose child it is. Where that cannot be told, the next controller stops nothing. */
export function noteChild(file: string, pid: number): void {
  const startedAt = lookAt(pid)?.startedAt;
  if (startedAt === undefined) return;
  const noted: Noted = { pid, startedAt, parent: process.pid };
  writeFileSync(file, JSON.stringify(noted), { mode: 0o600 });
}

/**
 * Ends the daemon that was noted, if its parent is gone. That of a controller that lives is left alone.
 *
 * @param withinMs is given it to end in order.
 */
export async function endLeftover(file: string, withinMs: number): Promise<void> {
  const noted = notedIn(file);
  if (noted === null) return;
  const { pid, parent } = noted;
  const isThere = () => lookAt(pid)?.startedAt === noted.startedAt;
  if (isThere() && lookAt(pid)?.parent === parent) return;
  const end = performance.now() + withinMs;
  if (isThere()) process.kill(pid, "SIGTERM");
  while (isThere() && performance.now() < end) await sleep(LOOK_MS);
  if (isThere()) process.kill(pid, "SIGKILL");
  rmSync(file, { force: true });
}

function notedIn(file: string): Noted | null {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Noted;
  } catch {
    return null;
  }
}

/** `null`: there is no such process, or it is not shown. One that has ended and is not yet reaped is none. */
function lookAt(pid: number): { readonly startedAt: string; readonly parent: number } | null {
  try {
    // The name stands in brackets, and may have some of its own.
    const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)?.split(" ") ?? [];
    const [state, parent, startedAt = ""] = [fields[0], Number(fields[1]), fields[19]];
    return state === "Z" ? null : { startedAt, parent };
  } catch {
    return null;
  }
}
