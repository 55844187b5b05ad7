/** A grant: GPUs chosen for one request, and the lease of them. */

import { type Allowance, isLimited, withinAllowance } from "../allocator/allowance.ts";
import { passedOver } from "../allocator/fit.ts";
import { place, placeByBucket } from "../allocator/place.ts";
import type { EpochMs } from "../base/time.ts";
import { askOf, type FamilyShape, shapeOf } from "../host/demand.ts";
import type { Event } from "../host/events.ts";
import type { Candidate, FreeGpus } from "../host/free-gpus.ts";
import type { HostState } from "../host/state.ts";
import type { Lease, Request } from "../model/allocation.ts";
import { claimPatience, endOf } from "../model/leases.ts";
import { boardOf } from "../model/mig.ts";
import { localityOf } from "../readings/closeness.ts";

/** Chooses GPUs for a request, of those held for others only where the rest do not do. `null`: too few fit. */
export function choose(
  request: Request,
  free: FreeGpus,
  allowance: Allowance,
  state: HostState,
): readonly Candidate[] | null {
  const shape = shapeOf(request, state.gpus.models());
  const isAny = request.preferredGpus.length === 0 && request.exactGpus === undefined;
  const isPlain = isAny && request.migProfile === null && !isLimited(allowance);
  if (isPlain && free.areCountable) return placeByBucket(request, shape, free, state.sight.closeness);
  return chooseOneByOne(request, shape, free.all(), allowance, state);
}

function chooseOneByOne(
  request: Request,
  shape: FamilyShape,
  free: readonly Candidate[],
  allowance: Allowance,
  state: HostState,
): readonly Candidate[] | null {
  const { durationMs } = askOf(request);
  const levels = new Set(free.map(({ longestMs }) => longestMs).filter((level) => level >= durationMs));
  for (const level of [...levels].sort((a, b) => b - a)) {
    const lasting = free.filter(({ longestMs }) => longestMs >= level);
    const fitting = lasting.filter((candidate) => passedOver(request, shape, candidate) === null);
    const had = new Set(withinAllowance(fitting, allowance, shape.gpus, ({ availableMib }) => availableMib));
    const kept = new Set(fitting.filter((candidate) => !had.has(candidate)));
    const open = kept.size === 0 ? lasting : lasting.filter((candidate) => !kept.has(candidate));
    const chosen = place(request, open, state.gpus.models(), state.sight.closeness);
    if (chosen !== null) return chosen;
  }
  return null;
}

/** A lease of these devices from `now` on. Each must return to its level of memory before anybody else gets it. */
export function leaseOf(
  request: Request,
  chosen: readonly Pick<Candidate, "gpu" | "baselineMib">[],
  state: HostState,
  now: EpochMs,
): Lease {
  return {
    gpus: chosen.map(({ gpu, baselineMib }) => {
      const { numaNodes, cpuAffinity } = localityOf(state.sight.closeness, boardOf(gpu));
      return {
        uuid: gpu.uuid,
        index: gpu.index,
        name: gpu.name,
        pciBusId: gpu.pciBusId,
        memoryTotalMib: gpu.memoryTotalMib,
        mig: gpu.mig,
        baselineMib,
        numaNodes,
        cpuAffinity,
      };
    }),
    fencingToken: state.nextFencingToken,
    grantedAt: now,
    expiresAt: endOf(request, now, now),
    sharedMib: request.sharing === "shared" ? request.requirement.memoryMib : null,
  };
}

export function grant(
  request: Request,
  chosen: readonly Candidate[],
  state: HostState,
  now: EpochMs,
  atOnce: boolean,
): Event {
  const lease = leaseOf(request, chosen, state, now);
  return {
    type: "granted",
    id: request.id,
    lease,
    claimBy: atOnce ? null : now + claimPatience(request, state.policy),
  };
}
