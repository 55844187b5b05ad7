import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const MODULE = fileURLToPath(new URL("../../src/platform/heap.ts", import.meta.url));
/**
 * Holds some 20 MiB, and keeps what it makes for a while, so that much outlives a collection, as of a busy daemon. Prints
 * how large its young generation was after that, in MiB, and how often all of the heap was collected; how large after
 * V8 had made it small, as it does where little is to do, and how large after the same work again.
 */
const BUSY = `
const { boundHeap } = await import(${JSON.stringify(MODULE)});
const { constants, PerformanceObserver } = await import("node:perf_hooks");
const { getHeapSpaceStatistics } = await import("node:v8");
if (process.argv[1] === "bounded") boundHeap();
let full = 0;
const observer = new PerformanceObserver((list) => {
  for (const { detail } of list.getEntries()) if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) full++;
});
observer.observe({ entryTypes: ["gc"] });
globalThis.held = Array.from({ length: 200_000 }, (_, i) => ({ i, also: [i] }));
async function work() {
  let kept = [];
  for (let round = 0; round < 800; round++) {
    for (let i = 0; i < 5_000; i++) kept.push({ i, also: [i] });
    if (kept.length > 100_000) kept = kept.slice(50_000);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
const young = () => getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space").space_size / 2 ** 20;
await work();
const first = { young: young(), full };
gc({ type: "major", execution: "sync", flavor: "last-resort" });
await new Promise((resolve) => setTimeout(resolve, 100));
const shrunk = young();
await work();
console.log(JSON.stringify({ ...first, shrunk, again: young() }));
`;

interface Sizes {
  readonly young: number;
  readonly full: number;
  readonly shrunk: number;
  readonly again: number;
}

function sizes(how: "bounded" | "as it is"): Sizes {
  const args = ["--expose-gc", "--disable-warning=ExperimentalWarning", "--input-type=module", "-e", BUSY, how];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" }));
}

test("of a busy process the young generation stays small, and what is old and dead is collected soon", () => {
  const [bounded, asItIs] = [sizes("bounded"), sizes("as it is")];
  expect(bounded.young).toBeLessThanOrEqual(32);
  expect(asItIs.young).toBeGreaterThan(32);
  expect(bounded.full).toBeGreaterThan(asItIs.full);

  // One that stays small keeps all that is under way from one collection to the next, and all of it gets old.
  expect(bounded.shrunk).toBeLessThan(8);
  expect(bounded.again).toBeGreaterThanOrEqual(16);
  expect(bounded.again).toBeLessThanOrEqual(32);
});
