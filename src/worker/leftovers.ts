/** What lies in the runs' folders and is of use to nobody any more. */
import { existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { pathIn } from "./folder.ts";

/** Until then a run's folder, with its logs, is there for whoever looks into what happened. */
const KEEP_SETTLED_MS = 30 * 86_400_000;
/** No start takes so long: its worker died before it had an order, and drafts of that may have secrets. */
const KEEP_UNORDERED_MS = 3_600_000;

/**
 * Runs whose folders may go: settled long ago, or never begun, by a worker that nobody has told of them again.
 *
 * @param isStarting those that are being prepared.
 */
export function leftovers(runsDir: string, now: number, isStarting: (run: string) => boolean): string[] {
  const entries = existsSync(runsDir) ? readdirSync(runsDir, { withFileTypes: true }) : [];
  const runs = entries.flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  return runs.filter((run) => {
    try {
      return isLeftover(run);
    } catch {
      // What cannot be looked at stays.
      return false;
    }
  });

  function isLeftover(run: string): boolean {
    const folder = join(runsDir, run);
    const settledAt = writtenAt(pathIn(folder, "settled"));
    if (settledAt !== null) return now - settledAt >= KEEP_SETTLED_MS;
    if (isStarting(run) || writtenAt(pathIn(folder, "order")) !== null) return false;
    const touchedAt = statSync(folder).isDirectory() ? writtenAt(folder) : null;
    return touchedAt !== null && now - touchedAt >= KEEP_UNORDERED_MS;
  }
}

/** `null`: it is not there. */
function writtenAt(path: string): number | null {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? null;
}

/** @throws Error when something of it cannot be removed. */
export function removeRun(runsDir: string, run: string): void {
  rmSync(join(runsDir, run), { recursive: true, force: true });
}
