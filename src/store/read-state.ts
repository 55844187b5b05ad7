import type { LiveAllocation } from "../core/model/allocation.ts";
import type { AllocationId, GpuUuid } from "../core/model/ids.ts";
import type { StoredState } from "../ports/store.ts";
import {
  type AllocationRow,
  decodeAllocation,
  decodeBookings,
  decodeCordon,
  decodeGpu,
  type Holder,
} from "./records.ts";
import type { Reads } from "./statements.ts";

interface ProgressRow {
  readonly turns: number;
  readonly last_turn_at: number;
  readonly next_fencing_token: number;
  readonly boot_id: string | null;
}

/** The state after the last turn. Several reads: the caller holds a transaction around them, or is the only writer. */
export function readState(reads: Reads): StoredState {
  const progress = reads.progress.get() as ProgressRow | undefined;
  const allocations = reads.liveAllocations
    .all()
    .map((row) => decodeAllocation(row as unknown as AllocationRow) as LiveAllocation);
  const holders = holdersOf(allocations);
  const host = reads.host.get() as { readonly cordon: string | null; readonly bookings: string } | undefined;
  return {
    allocations,
    gpus: reads.gpus.all().map((row) => decodeGpu(row.body as string, holders)),
    nextFencingToken: progress?.next_fencing_token ?? 1,
    bootId: progress?.boot_id ?? null,
    cordon: decodeCordon(host?.cordon ?? null),
    bookings: decodeBookings(host?.bookings ?? "[]"),
    lastTurnAt: progress?.last_turn_at ?? null,
    lastSeq: (reads.lastSeq.get() as { readonly seq: number }).seq,
  };
}

/** Turns committed so far. */
export function readTurns(reads: Reads): number {
  return (reads.progress.get() as ProgressRow | undefined)?.turns ?? 0;
}

export function holdersOf(allocations: readonly LiveAllocation[]): Map<GpuUuid, Holder> {
  const holders = new Map<GpuUuid, Holder>();
  for (const allocation of allocations) {
    if (allocation.status === "queued") continue;
    const { gpus, grantedAt, sharedMib } = allocation.lease;
    // A shared GPU's own row lists its shares.
    if (sharedMib !== null) continue;
    const allocationId: AllocationId = allocation.request.id;
    for (const { uuid } of gpus) holders.set(uuid, { allocationId, grantedAt });
  }
  return holders;
}
