import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

test("the changelog begins with what is not released, and then has the version of the program and its SDKs", () => {
  const headings = [...read("CHANGELOG.md").matchAll(/^## \[(?<name>[^\]]+)\]/gm)].map(({ groups }) => groups?.name);
  const { version } = JSON.parse(read("package.json"));
  expect(headings.slice(0, 2)).toEqual(["Unreleased", version]);
  expect(JSON.parse(read("sdk/typescript/package.json")).version).toBe(version);
  expect(read("sdk/python/pyproject.toml")).toContain(`\nversion = "${version}"\n`);
});
