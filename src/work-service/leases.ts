/** What the work service needs of a daemon that leases GPUs: what any client could ask, and no more. */
import type { LeaseSeen } from "../work/commands.ts";
import type { MarkedLease } from "../work/wanted.ts";

export interface LeaseWish {
  /** The same for the same run and attempt, whatever died in between: at most one lease comes of it. */
  readonly key: string;
  readonly run: string;
  readonly attempt: number;
  readonly books: string;
  /** Whose lease it is: quotas, fair share and usage count it there. */
  readonly owner: string;
  readonly serviceName: string;
  readonly workloadType: "inference" | "training" | "generic";
  readonly model: string | null;
  readonly gpus: number;
  readonly memoryMib: number | null;
  /** Parts of the GPU's name, each of which must occur in it. */
  readonly nameParts: readonly string[];
  readonly priority: number | null;
  readonly maxDurationMs: number | null;
}

export interface LeasePlan {
  readonly fits: boolean;
  readonly grantedNow: boolean;
  readonly gpuUuids: readonly string[];
  readonly reason: string | null;
}

export interface GpuTrouble {
  readonly isFatal: boolean;
  /** In words. Contains driver text. */
  readonly detail: string;
}

export interface LostLease extends MarkedLease {
  readonly owner: string;
  readonly gpuUuids: readonly string[];
}

export type Emptiness = { readonly is: "empty" | "awaited" } | { readonly is: "overdue"; readonly detail: string };

export interface Leases {
  /** Never rejects: what keeps it from an answer is a refusal for now. */
  ask(wish: LeaseWish): Promise<LeaseSeen>;
  /** How a request stands once it is other than queued, or after some seconds. Shows that its run still waits for it. */
  watch(allocationId: string, owner: string, signal: AbortSignal): Promise<LeaseSeen>;
  /** Why a lease has ended; `null`: it has not, or nobody can say now. */
  endOf(allocationId: string): string | null;
  /**
   * What is wrong with a lease's GPUs themselves; `null`: nothing that is seen. `isFatal`: nothing can be computed there
   * any more; otherwise it only explains a failure.
   */
  troubleOf(allocationId: string): GpuTrouble | null;
  /** Whether nothing is left on a lease's GPUs of a run that ended at `since`, or for too long something is. */
  emptinessOf(allocationId: string, since: number): Emptiness;
  /** All that live and bear the mark of these books. */
  marked(books: string): readonly MarkedLease[];
  /** Those that bear the mark of others: of books that are lost. */
  markedByOthers(books: string): readonly LostLease[];
  release(allocationId: string, owner: string): Promise<void>;
  plan(wish: Omit<LeaseWish, "key" | "run" | "attempt" | "books">): LeasePlan;
  /** How many of ours may stand in the line. */
  mostQueued(): number;
  /** `null`: no GPU has a current reading. */
  freeGpus(): number | null;
  /** How busy a GPU is now, from 0 to 1; `null`: not known. */
  busyness(uuid: string): number | null;
  /** Those that could ever be leased. */
  gpus(): readonly { readonly index: number; readonly name: string; readonly uuid: string }[];
  /** As it tells of itself; `null`: nothing is known. */
  driver(): { readonly version: string | null; readonly cuda: string | null };
  readonly simulated: boolean;
}
