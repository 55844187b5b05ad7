/**
 * Runs of books that are lost: of another generation of `work.db`. They are in no books of ours, so nothing is decided of
 * them. What a worker reports of them is shown, an admin may stop them, and the lease of one is given back when no living
 * run bears it any more.
 */
import type { RunSeen } from "../work/model.ts";
import type { LostLease } from "./leases.ts";
import { instant } from "./views.ts";

export class Strangers {
  /** Of the latest report, by run; `null`: no worker has said yet what there is. */
  #seen: ReadonlyMap<string, RunSeen> | null = null;
  readonly #toStop = new Set<string>();
  readonly #listeners = new Set<() => void>();

  /** @returns what is ours of a report, once the rest has been taken. */
  take(runs: readonly RunSeen[], ours: string): readonly RunSeen[] {
    const isOurs = ({ books = ours }: RunSeen) => books === ours;
    this.#seen = new Map(runs.filter((run) => !isOurs(run)).map((seen) => [seen.run, seen]));
    for (const run of [...this.#toStop]) if (!this.#seen.has(run)) this.#toStop.delete(run);
    return runs.filter(isOurs);
  }

  get all(): readonly RunSeen[] {
    return [...(this.#seen?.values() ?? [])];
  }

  find(run: string): RunSeen | undefined {
    return this.#seen?.get(run);
  }

  /** Those that may have processes; `null`: nobody can say. */
  get living(): ReadonlySet<string> | null {
    if (this.#seen === null) return null;
    return new Set(this.all.filter(({ ended }) => ended === null).map(({ run }) => run));
  }

  stop(run: string): void {
    this.#toStop.add(run);
    for (const listener of this.#listeners) listener();
  }

  /** What the worker is to do with them, of those that it has reported. */
  get wanted(): { readonly stop: readonly string[]; readonly settle: readonly string[] } {
    const stop = this.all.filter(
      ({ run, phase, ended }) => ended === null && phase !== "stopping" && this.#toStop.has(run),
    );
    const settle = this.all.filter(({ ended }) => ended !== null);
    return { stop: stop.map(({ run }) => run), settle: settle.map(({ run }) => run) };
  }

  /** @returns what ends it. */
  onStop(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** As any run is shown; what only the lost books knew is left out. */
export function strangerView(
  { run, phase, startedAt, port, ended, books = "" }: RunSeen,
  node: string,
  lease: LostLease | undefined,
) {
  return {
    run_id: run,
    owner: lease?.owner ?? "",
    state: phase,
    replica: 0,
    epoch: 0,
    node,
    allocation_id: lease?.allocationId ?? null,
    gpu_uuids: lease?.gpuUuids ?? [],
    port,
    created_at: null,
    started_at: instant(startedAt),
    ended_at: instant(ended?.at ?? null),
    end_reason: null,
    detail: "it is of books that are lost",
    exit_code: ended?.exitCode ?? null,
    signal: ended?.signal ?? null,
    reason: null,
    position: null,
    eta: null,
    tail: null,
    lost_books: books,
  };
}
