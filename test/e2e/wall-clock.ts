import { existsSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Debian's package `faketime` puts it into the folder of the machine's architecture. */
const LIBRARIES = "/usr/lib";

function findLibrary(): string | null {
  if (!existsSync(LIBRARIES)) return null;
  for (const folder of readdirSync(LIBRARIES)) {
    const library = join(LIBRARIES, folder, "faketime", "libfaketimeMT.so.1");
    if (existsSync(library)) return library;
  }
  return null;
}

const LIBRARY = findLibrary();
export const canSetWallClock = LIBRARY !== null;

/**
 * The wall clock of programs under test, which can be set at any time while they run; their monotonic clock and their
 * timers stay as they are. See faketime(1).
 */
export class WallClock {
  readonly #file: string;
  /** For the environment of those that shall have it. */
  readonly env: Record<string, string>;
  aheadMs = 0;

  constructor(folder: string) {
    this.#file = join(folder, "wall-clock");
    this.set(0);
    this.env = {
      LD_PRELOAD: LIBRARY ?? "",
      FAKETIME_TIMESTAMP_FILE: this.#file,
      // Looked at whenever a program asks for the time.
      FAKETIME_NO_CACHE: "1",
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
    };
  }

  /** @param aheadMs of the real time; negative when it is behind. */
  set(aheadMs: number): void {
    this.aheadMs = aheadMs;
    const seconds = (Math.abs(aheadMs) / 1_000).toFixed(3);
    // Renamed into place: no program reads half of it.
    writeFileSync(`${this.#file}.new`, `${aheadMs < 0 ? "-" : "+"}${seconds}\n`);
    renameSync(`${this.#file}.new`, this.#file);
  }

  setTo(instant: string): void {
    this.set(Date.parse(instant) - Date.now());
  }

  now(): number {
    return Date.now() + this.aheadMs;
  }
}
