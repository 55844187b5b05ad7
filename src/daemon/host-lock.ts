/** Which program shows the GPUs: what the lock of the host goes by. */
import { realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Config } from "../config/config.ts";
import { fileOf } from "../monitor/nvidia-smi/program.ts";

/** @returns `null` where there is none, or its GPUs are simulated: nobody else could lease them. */
export function lockedProgram({ source, nvidiaSmiPath }: Config["monitoring"], path?: string): string | null {
  const found = source === "simulated" ? null : fileOf(nvidiaSmiPath, path);
  // The folder by its own name; the program may be a link to what many have in common.
  return found === null ? null : join(realpathSync(dirname(found)), basename(found));
}
