import { renameSync, writeFileSync } from "node:fs";

/** Whoever reads it finds the old text or the new one, whole: after a power cut too. */
export function writeWhole(path: string, text: string, mode: number): void {
  writeFileSync(`${path}.new`, text, { mode, flush: true });
  renameSync(`${path}.new`, path);
}
