/**
 * Runs of books that are lost: of another generation of `work.db`. They are in no books of ours, so nothing is decided of
 * them. What a worker reports of them is shown, an admin may stop them or take them into these books, and the lease of one
 * is given back when no living run bears it any more.
 */
import type { Assignment, RunSeen } from "../work/model.ts";
import type { Living } from "../work/wanted.ts";
import type { LostLease } from "./leases.ts";
import { cageView, instant } from "./views.ts";

export class Strangers {
  /** Of the latest report, by run; `null`: no worker has said yet what there is. */
  #seen: ReadonlyMap<string, RunSeen> | null = null;
  /** Of our books by their mark, as those made since the backup that these are of: they live, and are stopped. */
  #orphans: readonly RunSeen[] = [];
  #isWhole = true;
  readonly #toStop = new Set<string>();
  /** Jobs: all runs of one are taken together. */
  readonly #toAdopt = new Set<string>();
  readonly #listeners = new Set<() => void>();

  /**
   * @param isKnown whether it is in our books. What was adopted may not be yet: until then nothing is decided of it.
   * @param isWhole its worker has looked since it was first obeyed: what the one before it began meanwhile is among it.
   * @param isOver whether it has ended by our books.
   * @returns what is ours of a report, once the rest has been taken.
   */
  take(
    reports: readonly RunSeen[],
    ours: string,
    isKnown: (run: string) => boolean,
    isWhole = true,
    isOver: (run: string) => boolean = () => false,
  ): readonly RunSeen[] {
    this.#isWhole = isWhole;
    const runs = reports.map((seen) => asToldTo(ours, seen));
    const isOurs = ({ run, books = ours, adopted }: RunSeen) =>
      books === ours && (adopted === undefined || isKnown(run));
    this.#seen = new Map(runs.filter((run) => !isOurs(run)).map((seen) => [seen.run, seen]));
    for (const run of [...this.#toStop]) if (!this.#seen.has(run)) this.#toStop.delete(run);
    const taken = runs.filter(isOurs);
    this.#orphans = taken.filter(({ run, ended }) => ended === null && (!isKnown(run) || isOver(run)));
    return taken;
  }

  get all(): readonly RunSeen[] {
    return [...(this.#seen?.values() ?? [])];
  }

  find(run: string): RunSeen | undefined {
    return this.#seen?.get(run);
  }

  /** Of the latest report, all that have not ended and are not wanted by our books. */
  get alive(): readonly RunSeen[] {
    return [...this.all.filter(({ ended }) => ended === null), ...this.#orphans];
  }

  /**
   * All that may have processes and are not wanted by our books, though they may bear their name. Their leases are by what
   * their worker was told: one that was kept over a restart bears the mark of the run before.
   */
  get living(): Living {
    if (this.#seen === null || !this.#isWhole) return null;
    const all = this.alive;
    return {
      runs: new Set(all.map(({ run }) => run)),
      leases: new Set(all.flatMap(({ allocationId }) => allocationId ?? [])),
    };
  }

  stop(run: string): void {
    this.#toStop.add(run);
    for (const listener of this.#listeners) listener();
  }

  /** @returns false when it cannot be: its worker does not know what it is, or it has ended, or is about to. */
  adopt(run: string): boolean {
    const seen = this.find(run);
    const ofJob = seen === undefined ? undefined : adoptable(seen);
    if (ofJob === undefined) return false;
    this.#toAdopt.add(ofJob);
    for (const listener of this.#listeners) listener();
    return true;
  }

  /** It has been: the runs of it that are left out of these books are strangers again, unless an admin asks once more. */
  hasAdopted(job: string): void {
    if (!this.all.some((seen) => adoptable(seen) === job)) this.#toAdopt.delete(job);
  }

  /** What their worker says to be of our books, and these do not know yet: or never, if they have no place for it. */
  get adopted(): readonly (RunSeen & { readonly adopted: Assignment })[] {
    return this.all.flatMap((seen) => (seen.adopted === undefined ? [] : [{ ...seen, adopted: seen.adopted }]));
  }

  /** What the worker is to do with them, of those that it has reported. */
  get wanted(): {
    readonly stop: readonly string[];
    readonly settle: readonly string[];
    readonly adopt: readonly string[];
    readonly disown: readonly string[];
  } {
    const stop = this.all.filter(
      ({ run, phase, ended }) => ended === null && phase !== "stopping" && this.#toStop.has(run),
    );
    const settle = this.all.filter(({ ended, adopted }) => ended !== null && adopted === undefined);
    const adopt = this.all.filter((seen) => this.#toAdopt.has(adoptable(seen) ?? ""));
    const named = (runs: readonly RunSeen[]) => runs.map(({ run }) => run);
    return { stop: named(stop), settle: named(settle), adopt: named(adopt), disown: named(this.adopted) };
  }

  /** @returns what ends it. */
  onStop(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/**
 * A worker that has not heard of these books yet says that others have adopted a run. They are lost too, so that it is a
 * stranger of these, which only an admin takes into them.
 */
function asToldTo(ours: string, { adopted, ...seen }: RunSeen): RunSeen {
  if (adopted === undefined) return seen;
  return (seen.books ?? ours) === ours ? { ...seen, adopted } : { ...seen, ofJob: adopted.job };
}

/** Of which job one is that can be adopted. What is about to end was to end: nothing is to begin again by it. */
function adoptable({ ofJob, phase }: RunSeen): string | undefined {
  return phase === "stopping" || phase === "ended" ? undefined : ofJob;
}

/** As any run is shown; what only the lost books knew is left out. */
export function strangerView(
  { run, phase, startedAt, port, ended, books = "", cage }: RunSeen,
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
    ...cageView(cage),
    lost_books: books,
  };
}
