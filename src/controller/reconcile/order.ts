/**
 * Which workloads are decided on first, and whether a pass makes way for what is asked anew.
 *
 *  1. First come those whose last wish has not been answered: a person waits for them. The others follow, longest
 *     undecided first, so that a pass that is cut again and again comes to each of them.
 *  2. News is a wish that the last pass did not have before it.
 */
import { keyOf } from "../objects/meta.ts";
import type { Workload } from "../objects/workload.ts";

export class Order {
  /** By key: which of the passes decided on it last. */
  readonly #decidedIn = new Map<string, number>();
  /** Wishes that the last pass had before it: the generation, by key. */
  #before = new Map<string, number>();
  #passes = 0;

  /** For a pass that begins: `open` in the order in which it decides on them. */
  of(open: readonly Workload[]): Workload[] {
    this.#passes++;
    this.#before = new Map(open.filter(isUnanswered).map(({ metadata }) => [keyOf(metadata), metadata.generation]));
    const rank = (workload: Workload) =>
      isUnanswered(workload) ? -1 : (this.#decidedIn.get(keyOf(workload.metadata)) ?? 0);
    return open
      .map((workload) => ({ workload, rank: rank(workload) }))
      .sort((a, b) => a.rank - b.rank)
      .map(({ workload }) => workload);
  }

  decided({ metadata }: Workload): void {
    this.#decidedIn.set(keyOf(metadata), this.#passes);
  }

  /** The pass was cut before it came to these: what they ask for is news again. */
  putOff(left: readonly Workload[]): void {
    for (const { metadata } of left) this.#before.delete(keyOf(metadata));
  }

  /** @param isDue is false for one that rests after a failure. */
  hasNews(workloads: readonly Workload[], isDue: (workload: Workload) => boolean): boolean {
    return workloads.some((workload) => {
      if (!isUnanswered(workload)) return false;
      const key = keyOf(workload.metadata);
      return this.#before.get(key) !== workload.metadata.generation && isDue(workload);
    });
  }

  forget({ metadata }: Workload): void {
    this.#decidedIn.delete(keyOf(metadata));
    this.#before.delete(keyOf(metadata));
  }
}

function isUnanswered({ metadata, status }: Workload): boolean {
  return status.observedGeneration !== metadata.generation;
}
