/** What is seen of the GPUs of a lease: what work asks while it uses them, and before it uses them again. */
import type { EpochMs } from "../core/base/time.ts";
import { lossOf } from "../core/host/condition.ts";
import { parentOf } from "../core/host/mig.ts";
import type { HostState } from "../core/host/state.ts";
import type { Allocation } from "../core/model/allocation.ts";
import type { GpuUuid } from "../core/model/ids.ts";
import { wasUsed } from "../core/model/use.ts";
import { memoryInUseMib } from "../core/readings/use.ts";
import type { Emptiness, GpuTrouble } from "../work-service/leases.ts";

/**
 * What is wrong with a lease's GPUs. Fatal: it has left the bus, or the driver has told of an error after which it must be
 * reset. On one that is merely unhealthy what runs may run on.
 */
export function troubleOf(allocation: Allocation, state: HostState): GpuTrouble | null {
  const found = gpusOf(allocation).flatMap((uuid) => troubleWith(uuid, state) ?? []);
  return found.find(({ isFatal }) => isFatal) ?? found[0] ?? null;
}

function troubleWith(uuid: GpuUuid, state: HostState): GpuTrouble | null {
  const gpu = state.gpus.get(uuid);
  if (gpu === undefined) return null;
  const loss = lossOf(gpu, state);
  if (loss !== null) return { isFatal: true, detail: `${uuid} is lost: ${loss}` };
  const { fault } = parentOf(gpu, state) ?? gpu;
  if (fault?.scope === "all") return { isFatal: true, detail: `${uuid}: ${fault.reason}` };
  const sick = state.sight.gpus.get(uuid)?.ailments.find(({ block }) => block === "unhealthy");
  return sick === undefined ? null : { isFatal: false, detail: `${uuid}: ${sick.detail}` };
}

/**
 * Whether a run that ended at `since` has left nothing on its lease's GPUs. It goes by `allocator.verify_release`, as the
 * end of a lease does: by default what was never seen in use need not be seen empty.
 */
export function emptinessOf(allocation: Allocation, since: EpochMs, state: HostState, now: EpochMs): Emptiness {
  const { verifyRelease, reclaimTimeoutMs } = state.policy;
  if (verifyRelease === "never") return { is: "empty" };
  const left = gpusOf(allocation).find((uuid) => !isSeenEmpty(uuid, allocation, since, state));
  if (left === undefined) return { is: "empty" };
  if (now - since < reclaimTimeoutMs) return { is: "awaited" };
  const reading = state.sight.gpus.get(left)?.reading;
  const usedMib = reading === undefined ? null : memoryInUseMib(reading);
  const shown = usedMib === null ? "it is not seen to be empty" : `it shows ${usedMib} MiB in use`;
  return { is: "overdue", detail: `${left}: ${shown} ${Math.round((now - since) / 1_000)} s after the run before it` };
}

function isSeenEmpty(uuid: GpuUuid, allocation: Allocation, since: EpochMs, state: HostState): boolean {
  const { verifyRelease, refreshIntervalMs } = state.policy;
  const hold = state.gpus.get(uuid)?.hold;
  // Only who has it alone leaves it to nobody else.
  if (hold?.kind !== "leased" || hold.allocationId !== allocation.request.id) return true;
  if (hold.use.since !== null) return false;
  const sight = state.sight.gpus.get(uuid);
  if (sight === undefined) return false;
  if (sight.startedAt >= since) return true;
  if (verifyRelease === "always" || wasUsed(hold.use)) return false;
  return sight.startedAt >= hold.since && since - sight.finishedAt <= refreshIntervalMs;
}

function gpusOf(allocation: Allocation): readonly GpuUuid[] {
  if (allocation.status !== "leased" && allocation.status !== "offered") return [];
  return allocation.lease.gpus.map(({ uuid }) => uuid);
}
