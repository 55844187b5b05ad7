import { globSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import fc from "./fc.ts";
import { SEED } from "./seed.ts";

test("properties draw from the seed of the run", () => {
  const failing = () => fc.check(fc.property(fc.integer(), () => false));
  const { counterexample, seed } = failing();
  expect(seed).toBe(SEED);
  expect(failing().counterexample).toEqual(counterexample);
});

test("no test takes fast-check by itself, with a seed of its own", () => {
  const cwd = dirname(fileURLToPath(import.meta.url));
  const own = globSync("**/*.ts", { cwd }).filter((name) =>
    /^import .* from "fast-check"/m.test(readFileSync(`${cwd}/${name}`, "utf8")),
  );
  expect(own).toEqual(["fc.ts"]);
});
