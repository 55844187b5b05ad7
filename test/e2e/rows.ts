/** The table of docs/failures.md. Each of its rows has a test that bears its name: {@link row}, or another that is named. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type TestContext, test } from "vitest";
import { isBuilt } from "./daemon.ts";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const PAGE = fileURLToPath(new URL("../../docs/failures.md", import.meta.url));
const HEADING = "# What happens when\n";

/** What the table says may happen: the first cells of its rows. */
export function tableRows(): readonly string[] {
  const text = readFileSync(PAGE, "utf8");
  if (!text.startsWith(HEADING)) throw new Error(`docs/failures.md has no ${JSON.stringify(HEADING)}`);
  const lines = text.split("\n").filter((line) => line.startsWith("|"));
  // Behind the head and the line under it.
  return lines.slice(2).map((line) => (line.split("|")[1] ?? "").trim());
}

/** The names of the rows' own tests, as the files of this folder have them. */
export function rowsWithTests(): readonly string[] {
  return readdirSync(HERE)
    .filter((file) => file.endsWith(".test.ts"))
    .flatMap((file) => [...readFileSync(join(HERE, file), "utf8").matchAll(/^row\(\s*"([^"]+)"/gm)])
    .map((found) => found[1] as string);
}

/** How many tests of `file` in this folder have a name that begins so. */
export function testsNamed(file: string, name: string): number {
  return readFileSync(join(HERE, file), "utf8").split(`"${name}`).length - 1;
}

/** The test of one row; its name is the row's first cell, to the letter. */
export function row(name: string, body: (context: TestContext) => Promise<void>): void {
  test.skipIf(!isBuilt)(`${name} (needs the built program)`, body);
}
