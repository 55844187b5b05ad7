import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { isMap, isScalar, parseDocument } from "yaml";
import { loadConfig } from "../../src/config/load.ts";
import { settingPaths } from "../../src/config/schema.ts";

const PATH = new URL("../../config.yaml.example", import.meta.url).pathname;
const TEXT = readFileSync(PATH, "utf8");

test("the example loads without a warning and is exactly the defaults", () => {
  const example = loadConfig({ path: PATH, explicit: true, env: {}, flags: {} });
  const { config } = loadConfig({ path: null, explicit: false, env: {}, flags: {} });
  // It states the advisors' addresses, so they are asked; a service of the defaults is not.
  const services = { ...config.services, isDeepagentsStated: true, isGraphServiceStated: true };
  expect(example.config).toEqual({ ...config, services });
  expect(example.warnings).toEqual([]);
});

test("the example shows every setting and no other, in the schema's order", () => {
  const shown: string[] = [];
  const walk = (node: unknown, path: readonly string[]) => {
    if (!isMap(node) || node.items.length === 0) return void shown.push(path.join("."));
    for (const { key, value } of node.items) walk(value, [...path, isScalar(key) ? String(key.value) : "?"]);
  };
  walk(parseDocument(TEXT).contents, []);

  expect(shown.toSorted()).toEqual(
    settingPaths()
      .map((path) => path.join("."))
      .toSorted(),
  );
  expect(shown.length).toBeGreaterThan(80);
});

test("every setting of the example says in its line what it is for", () => {
  const unexplained = TEXT.split("\n").filter((line) => /^\s+[a-z_]+: \S/.test(line) && !/ # \S/.test(line));
  expect(unexplained).toEqual([]);
});
