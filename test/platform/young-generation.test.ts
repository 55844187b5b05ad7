import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const MODULE = fileURLToPath(new URL("../../src/platform/young-generation.ts", import.meta.url));
/** Keeps what it makes for a while, so that much outlives a collection, as of a busy daemon. Prints MiB. */
const BUSY = `
const { boundYoungGeneration } = await import(${JSON.stringify(MODULE)});
const { getHeapSpaceStatistics } = await import("node:v8");
if (process.argv[1] === "bounded") boundYoungGeneration();
let kept = [];
for (let round = 0; round < 300; round++) {
  for (let i = 0; i < 5_000; i++) kept.push({ i, also: [i] });
  if (kept.length > 100_000) kept = kept.slice(50_000);
  await new Promise((resolve) => setImmediate(resolve));
}
console.log(getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space").space_size / 2 ** 20);
`;

function youngMib(how: "bounded" | "as it is"): number {
  const args = ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", BUSY, how];
  return Number(execFileSync(process.execPath, args, { encoding: "utf8" }));
}

test("the young generation of a busy process stays small", () => {
  expect(youngMib("bounded")).toBeLessThanOrEqual(32);
  expect(youngMib("as it is")).toBeGreaterThan(32);
});
