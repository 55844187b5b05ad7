/** Workloads whose pass has failed: each rests, with growing pauses, unless something else is asked for, which may be the cure. */
import type { Metadata } from "../objects/meta.ts";

const FIRST_MS = 5;
const LONGEST_MS = 300_000;

interface Rest {
  readonly until: number;
  readonly pauseMs: number;
  /** What was asked for. */
  readonly wish: string;
}

export class Resting {
  /** By uid. */
  readonly #rests = new Map<string, Rest>();

  get size(): number {
    return this.#rests.size;
  }

  isDue(metadata: Metadata, now: number): boolean {
    const rest = this.#rests.get(metadata.uid);
    return rest === undefined || rest.wish !== wishOf(metadata) || now >= rest.until;
  }

  /** @returns for how long it rests, in ms. */
  failed(metadata: Metadata, now: number): number {
    const pauseMs = Math.min(LONGEST_MS, (this.#rests.get(metadata.uid)?.pauseMs ?? FIRST_MS / 2) * 2);
    this.#rests.set(metadata.uid, { until: now + pauseMs, pauseMs, wish: wishOf(metadata) });
    return pauseMs;
  }

  passed({ uid }: Pick<Metadata, "uid">): void {
    this.#rests.delete(uid);
  }

  /** Those that are not among `there` have gone. */
  keep(there: ReadonlySet<string>): void {
    for (const uid of this.#rests.keys()) if (!there.has(uid)) this.#rests.delete(uid);
  }

  clear(): void {
    this.#rests.clear();
  }
}

function wishOf({ generation, deletionTimestamp }: Metadata): string {
  return `${generation} ${deletionTimestamp}`;
}
