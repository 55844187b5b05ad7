/**
 * When a status is written in which nothing but figures is new. They move with each look, and alone they are written once
 * a minute; those of many workloads spread over that minute, also when a controller has only begun: of 500 at once the last
 * is written after 20 s, and so long would everything else have to wait.
 */
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { Workload, WorkloadStatus } from "../objects/workload.ts";

const EVERY_MS = 60_000;

export class MeasuredWrites {
  /** By uid, in ms. */
  readonly #writtenAt = new Map<string, number>();

  /** Nothing is new in `next`, or nothing but figures, and those were written less than a minute ago. @param now in ms */
  isWritten({ metadata, status }: Workload, next: WorkloadStatus, now: number): boolean {
    if (isDeepStrictEqual(status, next)) return true;
    if (!isDeepStrictEqual(unmeasured(status), unmeasured(next))) return false;
    const { uid } = metadata;
    if (!this.#writtenAt.has(uid)) {
      // It bears none yet: the first are waited for.
      if (status.currentMetrics === undefined) return false;
      this.#writtenAt.set(uid, now - EVERY_MS * fractionOf(uid));
    }
    return now - (this.#writtenAt.get(uid) ?? 0) < EVERY_MS;
  }

  written(uid: string, now: number): void {
    this.#writtenAt.set(uid, now);
  }

  forget(uid: string): void {
    this.#writtenAt.delete(uid);
  }

  clear(): void {
    this.#writtenAt.clear();
  }
}

/** Between 0 and 1, evenly, and the same each time. */
function fractionOf(uid: string): number {
  return createHash("sha256").update(uid).digest().readUInt32BE() / 2 ** 32;
}

function unmeasured(status: WorkloadStatus): WorkloadStatus {
  const { currentMetrics: _, resourceUsage: __, performanceMetrics: ___, ...rest } = status;
  return rest;
}
