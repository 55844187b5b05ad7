/**
 * How much memory is kept for what is young.
 *
 * V8 doubles the young generation whenever enough of it outlives a collection, up to 128 MiB, and a busy daemon gets
 * there within a second. Nearly all that a request makes is garbage when it has been answered, so that a collection of
 * a smaller one costs no more: see docs/performance.md. `--max-semi-space-size` bounds it as well, but must be given on
 * Node's command line, which is not ours everywhere.
 */
import { PerformanceObserver } from "node:perf_hooks";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";

/** Both halves together, in bytes. It is looked at after a collection, so that it may become twice that. */
const LARGE_ENOUGH = 16 * 1024 * 1024;

/** Lets the young generation of this process grow no further, once it is large enough. */
export function boundYoungGeneration(): void {
  const observer = new PerformanceObserver(() => {
    const young = getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space");
    if (young === undefined || young.space_size < LARGE_ENOUGH) return;
    setFlagsFromString("--semi-space-growth-factor=1");
    observer.disconnect();
  });
  observer.observe({ entryTypes: ["gc"] });
}
