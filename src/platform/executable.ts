/**
 * The program as one executable (Node's "single executable application"), which carries inside itself what other builds
 * have as files beside them.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { getRawAsset, isSea } from "node:sea";

export function isExecutable(): boolean {
  return isSea();
}

/** A file that the executable carries; `null`: this is another build, or it carries none of that name. */
export function carried(name: string): Buffer | null {
  if (!isSea()) return null;
  try {
    return Buffer.from(getRawAsset(name) as ArrayBuffer);
  } catch {
    return null;
  }
}

/** A path beside the executable, where a package has put what it cannot carry; `null`: another build, or nothing is there. */
export function beside(name: string): string | null {
  const path = join(dirname(process.execPath), name);
  return isSea() && existsSync(path) ? path : null;
}

/** What starts this program once more, with its arguments to follow. */
export function thisProgram(): readonly [string, ...string[]] {
  return isSea() ? [process.execPath] : [process.execPath, process.argv[1] ?? ""];
}
