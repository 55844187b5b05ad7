/** Ends the leases whose processes are gone: looks each second, while there are any that are bound. */
import type { HostState } from "../core/host/state.ts";
import type { BoundProcess } from "../core/model/allocation.ts";
import type { AllocationId } from "../core/model/ids.ts";
import type { BoundProcesses } from "../monitor/bound-processes.ts";
import type { Cancel, Clock } from "../platform/clock.ts";

const LOOK_MS = 1_000;

export interface BoundLeasesParts {
  readonly processes: Pick<BoundProcesses, "look">;
  readonly clock: Clock;
  readonly state: () => HostState;
  /** May fail, while nothing can be stored: it is told again. */
  readonly processGone: (id: AllocationId) => Promise<void>;
}

/** @returns what ends it. */
export function watchBoundLeases({ processes, clock, state, processGone }: BoundLeasesParts): Cancel {
  let cancel: Cancel = () => undefined;
  let stopped = false;
  const look = async () => {
    for (const id of await processes.look(boundIn(state()))) await processGone(id).catch(() => undefined);
    if (!stopped) cancel = clock.after(LOOK_MS, () => void look());
  };
  cancel = clock.after(LOOK_MS, () => void look());
  return () => {
    stopped = true;
    cancel();
  };
}

function boundIn({ allocations }: HostState): ReadonlyMap<AllocationId, BoundProcess> {
  const bound = new Map<AllocationId, BoundProcess>();
  for (const { request } of allocations.values()) {
    if (request.boundTo !== undefined) bound.set(request.id, request.boundTo);
  }
  return bound;
}
