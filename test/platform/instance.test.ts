import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { nextInstance } from "../../src/platform/instance.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "gpuo-instance-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("it is the time, and a higher one than the last when the clock has stood still or was set back", () => {
  expect(nextInstance(folder, "worker", 5_000.4)).toBe(5_000);
  expect(nextInstance(folder, "worker", 5_000)).toBe(5_001);
  expect(nextInstance(folder, "worker", 1_000)).toBe(5_002);
  expect(nextInstance(folder, "worker", 9_000)).toBe(9_000);
});

test("processes of another name are counted by themselves, and other files are nobody's", () => {
  writeFileSync(join(folder, "worker-77.instance.old"), "");
  writeFileSync(join(folder, "worker-x.instance"), "");
  expect(nextInstance(folder, "worker", 100)).toBe(100);
  expect(nextInstance(folder, "member", 50)).toBe(50);
  expect(nextInstance(folder, "worker", 1)).toBe(101);
});

test("of many it leaves the last", () => {
  for (let i = 0; i < 20; i++) nextInstance(folder, "member", 3);
  expect(readdirSync(folder)).toEqual(["member-22.instance"]);
});

test("processes that begin at the same time have different ones", () => {
  const module = new URL("../../src/platform/instance.ts", import.meta.url).pathname;
  const times = 40;
  const script = `import { nextInstance } from ${JSON.stringify(module)};
    const begin = ${Date.now() + 1_500};
    while (Date.now() < begin);
    for (let i = 0; i < ${times}; i++) console.log(nextInstance(${JSON.stringify(folder)}, "worker", 1))`;
  const one = `${process.execPath} --disable-warning=ExperimentalWarning --input-type=module -e '${script}'`;
  const { stdout } = spawnSync("sh", ["-c", `${Array.from({ length: 4 }, () => `${one} &`).join(" ")} wait`], {
    encoding: "utf8",
  });
  const numbers = stdout.trim().split("\n").map(Number);
  expect(numbers).toHaveLength(4 * times);
  expect(new Set(numbers).size).toBe(4 * times);
  // Each is higher than those that were over before it began.
  expect(Math.max(...numbers)).toBeGreaterThanOrEqual(4 * times);
  expect(nextInstance(folder, "worker", 1)).toBe(Math.max(...numbers) + 1);
});
