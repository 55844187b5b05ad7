/** Which of the processes that use a folder one after the other is the latest: by numbers that never go back. */
import { closeSync, fsyncSync, openSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

const READABLE = 0o644;
/** What a file without a byte in it may fail with all the same: the number is then as good as the clock. */
const NO_ROOM: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EROFS"]);

/**
 * A number that is higher than that of every process before it with the same folder and name, and no other's. Of those of
 * other folders it is the clock that tells: it is `now`, unless that was set back.
 *
 * It stands in the folder as the name of an empty file, which outlives the process and a power cut.
 */
export function nextInstance(folder: string, of: string, now: number): number {
  for (;;) {
    const earlier = numbersIn(folder, of);
    const number = Math.max(Math.round(now), ...earlier.map((one) => one + 1));
    const isClaimed = claim(folder, of, number);
    if (isClaimed === null) return number;
    // Who looked at the same time may have a higher one by now, and have removed what this one was counted from.
    if (isClaimed && numbersIn(folder, of).every((one) => one <= number)) {
      flush(folder);
      for (const old of earlier) rmSync(fileOf(folder, of, old), { force: true });
      return number;
    }
    if (isClaimed) rmSync(fileOf(folder, of, number), { force: true });
  }
}

function fileOf(folder: string, of: string, number: number): string {
  return join(folder, `${of}-${number}.instance`);
}

function numbersIn(folder: string, of: string): number[] {
  return readdirSync(folder).flatMap((name) => {
    if (!name.startsWith(`${of}-`)) return [];
    const [, number] = /^(\d{1,16})\.instance$/.exec(name.slice(of.length + 1)) ?? [];
    return number === undefined ? [] : [Number(number)];
  });
}

/** @returns false: another has it. `null`: nobody can have any. */
function claim(folder: string, of: string, number: number): boolean | null {
  try {
    closeSync(openSync(fileOf(folder, of, number), "wx", READABLE));
    return true;
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return false;
    if (NO_ROOM.has(code)) return null;
    throw error;
  }
}

function flush(folder: string): void {
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
