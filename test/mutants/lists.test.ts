import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { MUTANTS, outOfDate } from "./lists.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

// Whoever changes a line that a bug is planted in learns it here, and not at the next long run.
test("every planted bug is one of the program as it is", () => {
  expect(outOfDate(ROOT, MUTANTS)).toEqual([]);
});

test("a bug whose line has changed, that changes nothing or is there twice is found out", () => {
  const bug = { name: "No tests", file: "package.json", find: '"test:mutants"', replace: "", tests: [] };
  expect(outOfDate(ROOT, [bug])).toEqual([]);
  expect(outOfDate(ROOT, [{ ...bug, find: "no such text" }])).toEqual([
    'out of date: "No tests": its text stands 0 times in package.json, not once',
  ]);
  expect(outOfDate(ROOT, [{ ...bug, replace: bug.find }])).toEqual(['"No tests" changes nothing']);
  expect(outOfDate(ROOT, [bug, bug])).toEqual(['"No tests" is there twice']);
});
