/** How many GPUs reserved windows leave to a lease: its allowance. window-allowances.ts works it out. */

import type { Span } from "../base/time.ts";
import type { Gpu } from "../model/gpu.ts";
import type { GpuUuid } from "../model/ids.ts";
import type { KeptWindow } from "../model/policy.ts";

/** Why no more GPUs are left for a lease of some length. */
export interface WindowCause {
  readonly windows: readonly KeptWindow[];
  readonly span: Span;
}

/** What windows leave for leases up to a certain length. */
export interface Allowance {
  readonly durationMs: number;
  /** At most so many of the GPUs that are not `apart`. */
  readonly most: number;
  readonly closed: ReadonlySet<GpuUuid>;
  /** The GPUs that a number does not mean: those that windows name, and MIG instances. */
  readonly apart: ReadonlySet<GpuUuid>;
  /** What keeps more from a longer lease than from a shorter one; `null`: nothing. */
  readonly cause: WindowCause | null;
}

/** Whether anything is kept from a lease. */
export function isLimited({ most, closed }: Allowance): boolean {
  return most !== Infinity || closed.size > 0;
}

/** What is left for a lease of `durationMs`. */
export function allowanceFor(allowances: readonly Allowance[], durationMs: number): Allowance {
  // The last is for any length.
  return allowances.find((allowance) => allowance.durationMs >= durationMs) as Allowance;
}

/**
 * Those of `candidates` that windows leave, for a request of `count` GPUs.
 *
 * @param memoryOf in MiB: where only a few may be taken, the largest may.
 */
export function withinAllowance<T extends { readonly gpu: Gpu }>(
  candidates: readonly T[],
  { most, closed, apart }: Allowance,
  count: number,
  memoryOf: (candidate: T) => number,
): readonly T[] {
  const open = closed.size === 0 ? candidates : candidates.filter(({ gpu }) => !closed.has(gpu.uuid));
  if (most >= count) return open;
  const counted = open.filter(({ gpu }) => !apart.has(gpu.uuid));
  counted.sort((a, b) => memoryOf(b) - memoryOf(a) || (a.gpu.uuid < b.gpu.uuid ? -1 : 1));
  return [...open.filter(({ gpu }) => apart.has(gpu.uuid)), ...counted.slice(0, most)];
}
