/** Who imports whom in `src`, read from the text of the files. Types count like values. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { ROOMS } from "./walls.ts";

const SRC = fileURLToPath(new URL("../../src", import.meta.url));

export interface Import {
  readonly from: string;
  readonly to: string;
  readonly typesOnly: boolean;
}

const IMPORT =
  /^(?:import|export)\s+(type\s+)?[^;]*?from\s+"(\.[^"]+)";|\bimport\("(\.[^"]+)"\)|^import\s+"(\.[^"]+)";/gm;

export function importsOf(file: string, text: string): Import[] {
  return [...text.matchAll(IMPORT)].map(([, type, from, lazy, bare]) => ({
    from: file,
    to: relative(SRC, resolve(SRC, dirname(file), (from ?? lazy ?? bare) as string)),
    typesOnly: type !== undefined,
  }));
}

/** The most particular room of the table that a file lies in: `core/host`, `http/exchange`, `http`. */
export function roomOf(file: string): string {
  const folders = dirname(file).split("/");
  for (let depth = folders.length; depth > 0; depth--) {
    const room = folders.slice(0, depth).join("/");
    if (room in ROOMS) return room;
  }
  return folders.slice(0, folders[0] === "core" ? 2 : 1).join("/");
}

/** Relative to `src`. */
export const FILES = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter((file) => /\.tsx?$/.test(file));
export const IMPORTS = FILES.flatMap((file) => importsOf(file, readFileSync(join(SRC, file), "utf8")));
