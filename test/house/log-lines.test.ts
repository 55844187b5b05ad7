/** The facts of every log line, read from the text of the files: what is found in the log can be asked of the API. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { FILES } from "./imports.ts";

const SRC = fileURLToPath(new URL("../../src", import.meta.url));
const LINE = /\b#?log\??\.(?:debug|info|warn|error|fatal)\(\s*\{([^}]*)\}/gi;
/** A key, or a variable that gives its name to one. */
const KEY = /(?:^|,)\s*([A-Za-z_]\w*)\s*(?=[:,]|$)/g;

function keysLogged(text: string): string[] {
  return [...text.matchAll(LINE)].flatMap(([, facts = ""]) => [...facts.matchAll(KEY)].map(([, key = ""]) => key));
}

test("no fact of a log line has another spelling than the API's", () => {
  expect(
    keysLogged(`this.#log?.warn({ err, gpuUuid, at: now, ...more }, "x"); log.info({\n  exit_code: 1 }, "y")`),
  ).toEqual(["err", "gpuUuid", "at", "exit_code"]);
  const logged = FILES.map((file) => ({ file, keys: keysLogged(readFileSync(join(SRC, file), "utf8")) }));
  expect(logged.flatMap(({ keys }) => keys).length).toBeGreaterThan(40);
  expect(
    logged.flatMap(({ file, keys }) => keys.filter((key) => /[A-Z]/.test(key)).map((key) => `${file}: ${key}`)),
  ).toEqual([]);
});
