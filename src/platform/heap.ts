/**
 * How much memory is kept for what is young, and for garbage.
 *
 *  1. V8 doubles the young generation whenever enough of it outlives a collection, up to 128 MiB, and a busy daemon gets
 *     there within a second. Nearly all that a request makes is garbage when it has been answered, so that a collection of
 *     a smaller one costs no more.
 *  2. What outlives two collections is collected only when the heap has grown by a factor, up to four, since the last time.
 *     What a daemon keeps is some 20 MiB, which are looked through in a moment: it can be done more often.
 *
 * By how much less memory, and at which cost: docs/performance.md. Node's command line has flags for both, but it is not ours
 * everywhere.
 */
import { PerformanceObserver } from "node:perf_hooks";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";

/** Both halves together, in bytes. It is looked at after a collection, so that it may become twice that. */
const LARGE_ENOUGH = 16 * 1024 * 1024;

/** By so much the heap may grow beyond what was kept, in percent. Who keeps hundreds of MiB has less to spare. */
const GARBAGE_PERCENT = 100;

/** V8's own, by which the young generation grows. */
const GROWTH_FACTOR = 2;

/**
 * Bounds the heap of this process once it is busy: when its young generation is large enough, and not before. V8 makes it
 * small again while the process has little to do, and then it may grow anew.
 *
 * @param garbagePercent by how much the heap may grow beyond what was kept.
 */
export function boundHeap(garbagePercent = GARBAGE_PERCENT): void {
  let isBounded = false;
  const observer = new PerformanceObserver(() => {
    const young = getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space");
    const isLarge = young !== undefined && young.space_size >= LARGE_ENOUGH;
    if (isLarge === isBounded) return;
    isBounded = isLarge;
    setFlagsFromString(`--semi-space-growth-factor=${isLarge ? 1 : GROWTH_FACTOR}`);
    if (isLarge) setFlagsFromString(`--heap-growing-percent=${garbagePercent}`);
  });
  observer.observe({ entryTypes: ["gc"] });
}
