/**
 * What each GPU has become, and whose, since that was last written down.
 *
 *  1. What a turn makes of its GPUs is written with the turn, but for a GPU that changed less than `SHORTEST_MS` before:
 *     many short leases would slow the turns, and fill the table within minutes. The next look finds it, as it finds a
 *     state that no turn brings about, such as a reading that has grown stale.
 *  2. A change bears the time since when it is so, as far as the state says it, and never one before the change ahead.
 *  3. Only what is on disk counts as written: what a full disk did not take is found to be different at the next look.
 *  4. A GPU that has left the inventory is forgotten. If it comes back, what it is then is its first change.
 */
import type { EpochMs } from "../core/base/time.ts";
import { blockOf } from "../core/host/condition.ts";
import { parentOf } from "../core/host/mig.ts";
import type { HostState } from "../core/host/state.ts";
import type { Gpu } from "../core/model/gpu.ts";
import { holdersOf } from "../core/model/holds.ts";
import type { GpuUuid } from "../core/model/ids.ts";
import type { GpuChange } from "../ports/history.ts";
import type { Turn } from "../ports/store.ts";

/** A state that was shorter, in ms, may be missing: the next look finds what came after it. */
export const SHORTEST_MS = 2_000;

export class GpuChanges {
  readonly #last = new Map<GpuUuid, GpuChange>();

  /** What a look at the whole host finds, in whole GPUs. */
  ofLook(state: HostState, now: EpochMs): GpuChange[] {
    for (const uuid of this.#last.keys()) if (!state.gpus.has(uuid)) this.#last.delete(uuid);
    const whole = [...state.gpus.values()].filter(({ mig }) => mig === null);
    return whole.flatMap((gpu) => this.#changed(gpu, state, now) ?? []);
  }

  /** What a turn has made of the GPUs that it touched. Before the first look nothing is known to have changed. */
  ofTurn(turn: Omit<Turn, "gpuChanges">, before: HostState, after: HostState): GpuChange[] {
    const changes: GpuChange[] = [];
    for (const gpu of touched(turn, before, after)) {
      const last = this.#last.get(gpu.uuid);
      if (last === undefined || turn.at - last.at < SHORTEST_MS) continue;
      const change = this.#changed(gpu, after, turn.at);
      if (change !== null) changes.push(change);
    }
    return changes;
  }

  /** They are on disk. */
  written(changes: readonly GpuChange[]): void {
    for (const change of changes) this.#last.set(change.uuid, change);
  }

  #changed(gpu: Gpu, state: HostState, now: EpochMs): GpuChange | null {
    const last = this.#last.get(gpu.uuid);
    const is = changeOf(gpu, state, now);
    if (last === undefined) return is;
    return isSame(last, is) ? null : { ...is, at: Math.max(is.at, last.at + 1) };
  }
}

/** The whole GPUs that the turn may have made something else of. */
function touched({ gpus, allocations, cordon }: Omit<Turn, "gpuChanges">, before: HostState, after: HostState) {
  if (cordon !== before.cordon) return [...after.gpus.values()].filter(({ mig }) => mig === null);
  const found = new Set<Gpu>();
  const add = (gpu: Gpu | undefined) => {
    if (gpu !== undefined) found.add(parentOf(gpu, after) ?? gpu);
  };
  for (const { uuid } of gpus) add(after.gpus.get(uuid));
  for (const allocation of allocations) {
    if (allocation.status !== "leased") continue;
    const was = before.allocations.get(allocation.request.id);
    // Sitting idle is a matter of the lease, not of its GPUs.
    const wasIdle = was?.status === "leased" && was.idleSince !== null;
    if (wasIdle === (allocation.idleSince !== null)) continue;
    for (const { uuid } of allocation.lease.gpus) add(after.gpus.get(uuid));
  }
  return found;
}

function changeOf(gpu: Gpu, state: HostState, now: EpochMs): GpuChange {
  const blocked = blockOf(gpu, state, now);
  const devices = [gpu, ...state.gpus.instancesOf(gpu.uuid)];
  const allocations = devices
    .flatMap(({ hold }) => holdersOf(hold))
    .flatMap(({ allocationId }) => state.allocations.get(allocationId) ?? []);
  const services = [...new Set(allocations.map(({ request }) => request.serviceName))].sort();
  const isIdle =
    allocations.length > 0 && allocations.every((one) => one.status === "leased" && one.idleSince !== null);
  const name = blocked === null ? "free" : blocked.block === "held" ? "leased" : blocked.block;
  return { uuid: gpu.uuid, at: Math.min(now, blocked?.since ?? now), state: name, services, isIdle };
}

function isSame(a: GpuChange, b: GpuChange): boolean {
  return a.state === b.state && a.isIdle === b.isIdle && a.services.join() === b.services.join();
}
