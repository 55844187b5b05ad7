import type { EpochMs } from "../core/base/time.ts";
import type { AllocationId } from "../core/model/ids.ts";

/** Why a request was granted when it was, found out from what was kept of that decision. */
export interface PastDecision {
  /** The number of the event. */
  readonly event: number;
  readonly at: EpochMs;
  /** What was asked or happened just then, in a sentence. It may name a principal. */
  readonly trigger: string;
  /** Why these GPUs. */
  readonly reason: string;
  /** Who stood before it in the line, and waited on. */
  readonly passed: readonly AllocationId[];
}

/** What is asked about: an allocation, and when its lease began. */
export interface Grant {
  readonly id: AllocationId;
  readonly grantedAt: EpochMs;
}

export interface PastDecisions {
  /**
   * `null`: it is not kept (any more), or would be decided otherwise now.
   *
   * @param principal who asks: one question at a time.
   * @throws OverloadedError when too many ask, or this principal does already; ProgramReplacedError.
   */
  grantOf(grant: Grant, principal: string): Promise<PastDecision | null>;
}

/** What looks is not of the program that runs: another version has been put in its place, or it was removed. */
export class ProgramReplacedError extends Error {}

/** Of a store that keeps nothing that could be looked at beside it. */
export const NO_PAST: PastDecisions = { grantOf: async () => null };
