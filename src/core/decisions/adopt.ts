/**
 * An admin makes a lease of somebody's use of a GPU: what runs there counts as the lease's own, and the GPU must be seen
 * empty after it, as after any lease.
 *
 * It is no grant: the GPU is in use already, and the books learn of it. So a cordon, an ailment or the use itself, which
 * keep a GPU from being granted, do not keep it from being adopted. Another lease does.
 */

import { analyze } from "../analyzer/analyze.ts";
import type { EpochMs } from "../base/time.ts";
import { staleness } from "../host/condition.ts";
import type { Event } from "../host/events.ts";
import { entanglementOf } from "../host/mig.ts";
import type { GpuSight } from "../host/sight.ts";
import type { HostState } from "../host/state.ts";
import type { Request } from "../model/allocation.ts";
import { AdoptionDisabledError, GpuInUseError, GpusUnavailableError, NothingToAdoptError } from "../model/errors.ts";
import type { Gpu } from "../model/gpu.ts";
import type { AllocationId } from "../model/ids.ts";
import { leaseOf } from "../queue/grant.ts";
import { isGhost, memoryInUseMib, occupying } from "../readings/use.ts";
import type { Command } from "./commands.ts";
import { ownershipOf } from "./observe/ownership.ts";

type Adopt = Extract<Command, { type: "adopt" }>;

/** @throws AdoptionDisabledError, GpuInUseError, GpusUnavailableError, NothingToAdoptError */
export function adopt(state: HostState, gpu: Gpu, command: Adopt, now: EpochMs): readonly Event[] {
  if (state.policy.foreignUse !== "adopt") throw new AdoptionDisabledError();
  if (gpu.hold.kind !== "free") throw new GpuInUseError(`${gpu.uuid} is ${gpu.hold.kind}`);
  const other = entanglementOf(gpu, state);
  if (other !== null) throw new GpuInUseError(`${other.uuid}, on the same silicon, is ${other.hold.kind}`);
  const stale = staleness(gpu.uuid, state, now);
  if (stale !== null) throw new GpusUnavailableError(`${gpu.uuid}: ${stale.detail}`);
  const sight = state.sight.gpus.get(gpu.uuid) as GpuSight;
  const pid = adoptedPid(gpu, sight, ownersNow(state), command.adoption.pid);
  const request = requestOf(command, gpu, sight, pid, state, now);
  const { id } = request;
  // All that is in use now is the lease's, and must be given back.
  const lease = leaseOf(request, [{ gpu, baselineMib: 0 }], state, now);
  const over = { type: "gpu-foreign-use-over", uuid: gpu.uuid, at: now, reason: `adopted as ${id}` } as const;
  return [
    { type: "submitted", request },
    { type: "granted", id, lease, claimBy: null },
    // The reading that shows it is from before the lease, and is known to be true of it.
    { type: "use-seen", uuid: gpu.uuid, allocationId: id, at: now },
    ...(gpu.foreignSince === null ? [] : [over]),
  ];
}

/** Found anew, since what is kept of a turn, to make its decisions again, does not tell it. */
function ownersNow(state: HostState): ReadonlyMap<number, AllocationId> {
  const { gpus, groups } = state.sight;
  return ownershipOf([...gpus.values().map(({ reading }) => reading)], state, groups).owners;
}

/**
 * @returns the process that the lease is known by; `null`: there are several, or none is seen.
 * @throws NothingToAdoptError
 */
function adoptedPid(
  gpu: Gpu,
  { ailments, reading }: GpuSight,
  owners: ReadonlyMap<number, AllocationId>,
  asked: number | null,
): number | null {
  if (ailments.some(({ block }) => block === "mig")) {
    throw new NothingToAdoptError(`${gpu.uuid} is not used whole: adopt the use of an instance`);
  }
  if (isGhost(reading) || !ailments.some(({ block }) => block === "occupied")) {
    throw new NothingToAdoptError(`nobody without a lease is seen to use ${gpu.uuid}`);
  }
  const there = occupying(reading);
  const foreign = there.filter(({ pid }) => !owners.has(pid));
  if (asked !== null && !foreign.some(({ pid }) => pid === asked)) {
    throw new NothingToAdoptError(`${gpu.uuid} is not used by a process ${asked} of no lease`);
  }
  if (there.length > 0 && foreign.length === 0) {
    throw new NothingToAdoptError(`the processes on ${gpu.uuid} belong to leases of other GPUs`);
  }
  return asked ?? (foreign.length === 1 ? (foreign[0]?.pid ?? null) : null);
}

function requestOf(
  { id, adoption, actor }: Adopt,
  { mig }: Gpu,
  { reading }: GpuSight,
  pid: number | null,
  { policy }: HostState,
  now: EpochMs,
): Request {
  const ask = {
    workloadType: "generic",
    workloadData: pid === null ? {} : { pid },
    requiredGpus: 1,
    // What it takes is what it needs.
    minMemoryMib: Math.max(1, memoryInUseMib(reading) ?? 0),
    maxUtilizationPercent: null,
    priority: null,
  } as const;
  return {
    id,
    serviceName: adoption.serviceName,
    principal: adoption.principal ?? actor.principal,
    workloadType: ask.workloadType,
    workloadData: ask.workloadData,
    webhookUrl: null,
    requirement: analyze(ask, { defaults: policy.workloadDefaults, models: {}, cards: () => [] }).requirement,
    preferredGpus: [],
    gpuModel: null,
    ttlMs: adoption.ttlMs,
    maxDurationMs: adoption.maxDurationMs,
    preemptible: false,
    queueTimeoutMs: null,
    migProfile: mig?.profile ?? null,
    sharing: "exclusive",
    fairShareDelayMs: 0,
    adoption: { by: actor.principal, reason: adoption.reason },
    submittedAt: now,
  };
}
