/** What lies in the runs' folders and is of use to nobody any more. */
import { existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { readdir, rm, stat } from "node:fs/promises";
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

/** Longer than any result is copied for: who began it has died, and nobody was told to put it in place again. */
const KEEP_DRAFT_MS = 86_400_000;
/** Others may keep things of theirs beside the results. */
const TASK_FOLDER = /^(?:task|run)-[\w-]+$/;
const DRAFT = /^(?:task|run)-[\w-]+\.new$|^\d+\.new$|^responses\.json\.new$/;

/** Removes what was left of results that were being put in place: beside a task's folder, and in it those of its replicas. */
export async function removeOldDrafts(resultsDir: string, now: number): Promise<void> {
  const names = await namesIn(resultsDir);
  await removeOld(resultsDir, names, now);
  for (const task of names.filter((name) => TASK_FOLDER.test(name))) {
    const folder = join(resultsDir, task);
    await removeOld(folder, await namesIn(folder), now);
    await removeOld(join(folder, "replicas"), await namesIn(join(folder, "replicas")), now);
  }
}

async function removeOld(folder: string, names: readonly string[], now: number): Promise<void> {
  for (const name of names.filter((one) => DRAFT.test(one))) {
    const path = join(folder, name);
    const writtenAtMs = await stat(path).then(
      ({ mtimeMs }) => mtimeMs,
      () => null,
    );
    if (writtenAtMs !== null && now - writtenAtMs >= KEEP_DRAFT_MS) await rm(path, { recursive: true, force: true });
  }
}

/** Empty where there is no such folder. */
function namesIn(folder: string): Promise<readonly string[]> {
  return readdir(folder).catch(() => []);
}

/** `null`: it is not there. */
function writtenAt(path: string): number | null {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? null;
}

/** @throws Error when something of it cannot be removed. */
export function removeRun(runsDir: string, run: string): void {
  rmSync(join(runsDir, run), { recursive: true, force: true });
}
