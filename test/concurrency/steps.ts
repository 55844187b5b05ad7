/** What clients ask of a host and are answered, as the checks of their histories take it. */
import type { Operation } from "./linearizability.ts";

export interface Lease {
  /** Sorted. */
  readonly gpus: readonly string[];
  readonly token: number;
}

export interface Shown {
  readonly id: string;
  readonly status: string;
  readonly lease: Lease | null;
  /** In the queue, from 1; `null` when it is not there, or when the answer does not tell. */
  readonly position: number | null;
  readonly endReason: string | null;
}

export interface Wanted {
  readonly service: string;
  readonly gpus: number;
  readonly priority: number;
}

export type Step =
  | { readonly call: "allocate"; readonly wanted: Wanted; readonly shown: Shown }
  /** With `queue: false`, when it would have had to wait. */
  | { readonly call: "refused"; readonly wanted: Wanted }
  | { readonly call: "release"; readonly id: string }
  /** `released`: those that were ended by it, in any order. */
  | { readonly call: "release-service"; readonly service: string; readonly released: readonly string[] }
  | { readonly call: "renew" | "read"; readonly shown: Shown }
  | { readonly call: "renew-ended"; readonly id: string }
  | { readonly call: "list"; readonly held: readonly Shown[]; readonly queue: readonly string[] }
  /** Every GPU, with the allocation that holds it. */
  | { readonly call: "status"; readonly holders: ReadonlyMap<string, string | null> };

/** The parts of a request's life, in their order; the last two are both called ended. */
export const UNKNOWN = 0;
export const QUEUED = 1;
export const OFFERED = 2;
export const LEASED = 3;
export const RELEASED = 4;
export const CANCELLED = 5;

/** A request, as the whole history knows it. */
export interface Fact {
  readonly id: string;
  readonly wanted: Wanted;
  readonly lease: Lease | null;
}

/** Each request with the first lease that it was shown with; if it is ever shown with another, no order explains that. */
export function factsOf(history: readonly Operation<Step>[]): Fact[] {
  const wanted = new Map<string, Wanted>();
  const leases = new Map<string, Lease>();
  const learn = ({ id, lease }: Shown): void => {
    if (lease !== null && !leases.has(id)) leases.set(id, lease);
  };
  for (const { step } of history) {
    if (step.call === "allocate") wanted.set(step.shown.id, step.wanted);
    if ("shown" in step) learn(step.shown);
    if (step.call === "list") step.held.forEach(learn);
  }
  return [...wanted].map(([id, its]) => ({ id, wanted: its, lease: leases.get(id) ?? null }));
}
