/**
 * Which lease a process belongs to.
 *
 *  1. By descent: it is the process that the client named in `workload_data.pid`, or comes from it. A pid counts only
 *     for a process that was there when the request was made, since pids are given again.
 *  2. By group: it shares its control group with a process that belongs to a lease by descent, and to one lease only.
 *     So a worker that was detached from its parent is still known. Groups are learned as they are seen, and forgotten
 *     when their lease ends.
 *
 * What a process is found to belong to explains, and tells the processes of an ended lease from others'. On a shared GPU
 * it also says how much memory each lease has in use (sharing.ts); a pid that several leases there have named says
 * nothing.
 */
import type { EpochMs } from "../../base/time.ts";
import type { Groups } from "../../host/sight.ts";
import type { HostState } from "../../host/state.ts";
import { holdersOf, namedPid } from "../../model/holds.ts";
import type { AllocationId } from "../../model/ids.ts";
import type { GpuProcess, GpuReading } from "../../model/reading.ts";

/** A client asks, and its pid was there: but its clock and ours, and the kernel's ticks, are not one, in ms. */
const START_SLACK_MS = 2_000;

interface Lessee {
  readonly id: AllocationId;
  readonly submittedAt: EpochMs;
}

export interface Ownership {
  /** By pid, as they stand in the reading. A process of no lease is left out. */
  readonly owners: ReadonlyMap<number, AllocationId>;
  readonly groups: Groups;
}

/** Linear in the host's GPUs and processes, however many requests wait. */
export function ownershipOf(readings: readonly GpuReading[], state: HostState, known: Groups): Ownership {
  const { byPid, holding } = lessees(state);
  const owners = new Map<number, AllocationId>();
  const groups = new Map<string, AllocationId | null>();
  for (const [group, id] of known) if (id !== null && holding.has(id)) groups.set(group, id);
  const strangers: GpuProcess[] = [];
  for (const process of readings.flatMap(({ processes }) => processes)) {
    const id = byDescent(process, byPid);
    if (id === null) {
      strangers.push(process);
      continue;
    }
    owners.set(process.pid, id);
    const group = process.origin?.cgroup ?? null;
    if (group !== null) groups.set(group, (groups.get(group) ?? id) === id ? id : null);
  }
  for (const { pid, origin } of strangers) {
    const id = origin?.cgroup === null || origin === null ? null : (groups.get(origin.cgroup) ?? null);
    if (id !== null) owners.set(pid, id);
  }
  return { owners, groups };
}

function lessees(state: HostState) {
  const byPid = new Map<number, Lessee | null>();
  const holding = new Set<AllocationId>();
  for (const { hold } of state.gpus.values()) {
    // What several leases on one GPU name as theirs is nobody's.
    const here = new Map<number, Lessee | null>();
    const name = (pid: number | null, lessee: Lessee) => {
      holding.add(lessee.id);
      if (pid !== null) here.set(pid, here.has(pid) ? null : lessee);
    };
    for (const { allocationId } of holdersOf(hold)) {
      const request = state.allocations.get(allocationId)?.request;
      if (request !== undefined) name(namedPid(request), { id: request.id, submittedAt: request.submittedAt });
    }
    for (const { allocationId: id, pid, submittedAt } of hold.kind === "shared" ? hold.remains : []) {
      name(pid, { id, submittedAt });
    }
    for (const [pid, lessee] of here) byPid.set(pid, byPid.get(pid) === null ? null : lessee);
  }
  return { byPid, holding };
}

function byDescent({ pid, origin }: GpuProcess, byPid: ReadonlyMap<number, Lessee | null>): AllocationId | null {
  if (origin === null || byPid.size === 0) return null;
  for (const forebear of [{ pid, startedAt: origin.startedAt }, ...origin.ancestors]) {
    const lessee = byPid.get(forebear.pid);
    if (lessee === null) return null;
    if (lessee !== undefined && forebear.startedAt <= lessee.submittedAt + START_SLACK_MS) return lessee.id;
  }
  return null;
}
