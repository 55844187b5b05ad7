/** Which program shows the GPUs: what the lock of the host goes by. */
import { accessSync, constants, realpathSync } from "node:fs";
import { basename, delimiter, dirname, join, resolve } from "node:path";
import type { Config } from "../config/config.ts";

const DEFAULT_PROGRAM = "nvidia-smi";

/** @returns `null` where there is none, or its GPUs are simulated: nobody else could lease them. */
export function programOf(
  { source, nvidiaSmiPath }: Config["monitoring"],
  path = process.env.PATH ?? "",
): string | null {
  if (source === "simulated") return null;
  const named = nvidiaSmiPath ?? DEFAULT_PROGRAM;
  const places = named.includes("/") ? [resolve(named)] : path.split(delimiter).map((folder) => join(folder, named));
  const found = places.find(isProgram);
  // The folder by its own name; the program may be a link to what many have in common.
  return found === undefined ? null : join(realpathSync(dirname(found)), basename(found));
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
