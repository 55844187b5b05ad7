import { readFileSync, writeFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { join } from "node:path";

/**
 * Writes crash-points.ts into `folder` as plain JavaScript, to be preloaded: each thread of each daemon would spend
 * 50 ms on its types otherwise.
 */
export function writePreload(folder: string): string {
  const file = join(folder, "crash-points.mjs");
  writeFileSync(file, stripTypeScriptTypes(readFileSync(new URL("./crash-points.ts", import.meta.url), "utf8")));
  return file;
}
