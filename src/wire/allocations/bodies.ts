/**
 * An allocation in the API's words: the JSON that answers, records and webhooks share.
 * Times are RFC 3339 in UTC; memory is in MiB, which the API calls MB; durations are in seconds.
 */
import { unionOfCpuLists } from "../../core/base/cpu-list.ts";
import type { EpochMs } from "../../core/base/time.ts";
import type { IndexOf } from "../../core/host/indices.ts";
import type {
  Adoption,
  Allocation,
  HoldingAllocation,
  Lease,
  LeasedGpu,
  Notice,
  Nudge,
  Request,
  Sharing,
} from "../../core/model/allocation.ts";
import type { GpuLocality, MigIdentity } from "../../core/model/device.ts";
import { heldUntil } from "../../core/model/leases.ts";
import { printable } from "../../platform/printable.ts";
import { timestamp } from "../values.ts";
import { endDetail } from "./ends.ts";

export interface DeviceBody {
  /** `null`: the driver does not count it now. */
  readonly index: number | null;
  readonly uuid: string;
  readonly name: string;
  readonly pci_bus_id: string | null;
  readonly memory_total: number | null;
  /** `null`: a whole GPU. */
  readonly mig: {
    readonly profile: string;
    readonly parent_uuid: string;
    readonly gpu_instance_id: number;
    readonly compute_instance_id: number;
  } | null;
  /** As it was at the grant; `null`: not known, here and in the lease. */
  readonly numa_nodes: readonly number[] | null;
  readonly cpu_affinity: string | null;
}

export interface EnvironmentBody {
  /** By UUID: indices may change at a reboot. Of several MIG instances, CUDA shows a process the first alone. */
  readonly CUDA_VISIBLE_DEVICES: string;
  readonly CUDA_DEVICE_ORDER: "PCI_BUS_ID";
  /** The nvidia-smi indices, for programs that cannot take UUIDs. A MIG instance has none that CUDA would know. */
  readonly GPU_ORCHESTRATOR_GPU_INDICES?: string;
  /** Of a shared lease: MiB of each GPU to keep within. CUDA does not know it; the program must read it. */
  readonly GPU_ORCHESTRATOR_MEMORY_MB?: string;
}

export interface RequestBody {
  readonly id: string;
  /** The same: one id for a request, its allocation and its webhooks. */
  readonly request_id: string;
  readonly service_name: string;
  readonly workload_type: string;
  readonly priority: number;
  readonly required_gpus: number;
  readonly min_memory_mb: number;
  readonly max_utilization: number;
  readonly sharing: Sharing;
  readonly preemptible: boolean;
  readonly ttl_seconds: number | null;
  readonly max_duration_seconds: number | null;
  /** Left out of requests that somebody made. */
  readonly adopted?: true;
  readonly adopted_by?: string;
  readonly adoption_reason?: string;
  readonly submitted_at: string;
}

export interface LeaseBody {
  readonly allocation_id: string;
  /** Of those that the driver counts now; the others are among the UUIDs and the lost. */
  readonly gpu_ids: readonly number[];
  /** UUIDs; left out when there are none. */
  readonly lost_gpus?: readonly string[];
  readonly gpu_uuids: readonly string[];
  readonly devices: readonly DeviceBody[];
  readonly env: EnvironmentBody;
  readonly allocated_at: string;
  /** Left out when there is no end. */
  readonly expires_at?: string;
  readonly fencing_token: number;
  /** MiB that each GPU was checked to have, or that are reserved on each for a shared lease. */
  readonly memory_mb: number;
  /** Of all its GPUs together; `null` unless it is known of each. */
  readonly numa_nodes: readonly number[] | null;
  /** The CPUs to pin to, as `taskset -c` takes them. */
  readonly cpu_affinity: string | null;
}

export interface OutcomeBody {
  readonly ended_at: string;
  readonly end_reason: string;
  readonly end_detail: string;
}

/** That a lease is taken back; nothing of whom it is for. */
export interface NoticeBody {
  readonly leave_by: string;
  readonly reason: "preempted" | "drained";
  readonly detail: string;
}

export interface NudgeBody {
  readonly at: string;
  readonly by: string;
  readonly message: string;
}

export type AllocationBody = RequestBody &
  Partial<LeaseBody> &
  Partial<OutcomeBody> & {
    readonly status: Allocation["status"];
    readonly claim_by?: string;
    /** Left out unless it is flagged as idle. */
    readonly idle_since?: string;
    /** Left out unless it is to be taken back. */
    readonly notice?: NoticeBody;
    /** Left out unless somebody asked something of its holder. */
    readonly nudge?: NudgeBody;
    /** Left out unless leases are preempted for it. */
    readonly preempting_since?: string;
    readonly head_since?: string;
  };

export function requestBody(request: Request): RequestBody {
  return {
    id: request.id,
    request_id: request.id,
    service_name: request.serviceName,
    workload_type: request.workloadType,
    priority: request.requirement.priority,
    required_gpus: request.requirement.gpus,
    min_memory_mb: request.requirement.memoryMib,
    max_utilization: request.requirement.maxUtilizationPercent,
    sharing: request.sharing,
    preemptible: request.preemptible,
    ttl_seconds: request.ttlMs === null ? null : request.ttlMs / 1_000,
    max_duration_seconds: request.maxDurationMs === null ? null : request.maxDurationMs / 1_000,
    ...(request.exactGpus === undefined ? {} : { exact_gpus: request.exactGpus }),
    ...(request.boundTo === undefined ? {} : { bind_pid: true as const }),
    ...(request.adoption === undefined ? {} : adoptionBody(request.adoption)),
    submitted_at: timestamp(request.submittedAt),
  };
}

/** @param expiresAt may be earlier than the lease's own end: see `heldUntil`. */
function adoptionBody({ by, reason }: Adoption) {
  return { adopted: true, adopted_by: by, adoption_reason: printable(reason) } as const;
}

function leaseBody(request: Request, lease: Lease, expiresAt: EpochMs | null, indexOf: IndexOf): LeaseBody {
  const uuids = lease.gpus.map(({ uuid }) => uuid);
  return {
    allocation_id: request.id,
    gpu_uuids: uuids,
    ...indicesBody(uuids, lease.gpus.map(deviceBody), environmentOf(lease), indexOf),
    allocated_at: timestamp(lease.grantedAt),
    ...(expiresAt === null ? {} : { expires_at: timestamp(expiresAt) }),
    fencing_token: lease.fencingToken,
    memory_mb: request.requirement.memoryMib,
    numa_nodes: numaNodesOf(lease.gpus),
    cpu_affinity: cpuAffinityOf(lease.gpus),
  };
}

/** What of a lease's body tells the indices of its GPUs, which may change while it lasts. */
export function indicesBody(
  uuids: readonly string[],
  devices: readonly Omit<DeviceBody, "index">[],
  env: EnvironmentBody,
  indexOf: IndexOf,
): Pick<LeaseBody, "gpu_ids" | "lost_gpus" | "devices" | "env"> {
  const present = uuids.map(indexOf).filter((index) => index !== null);
  const lost = uuids.filter((uuid) => indexOf(uuid) === null);
  const isCut = devices.some(({ mig }) => mig !== null);
  return {
    gpu_ids: present,
    ...(lost.length === 0 ? {} : { lost_gpus: lost }),
    devices: devices.map((device) => ({ ...device, index: indexOf(device.uuid) })),
    env: isCut ? env : { ...env, GPU_ORCHESTRATOR_GPU_INDICES: present.join(",") },
  };
}

export function environmentOf({ gpus, sharedMib }: Pick<Lease, "gpus" | "sharedMib">): EnvironmentBody {
  return {
    CUDA_VISIBLE_DEVICES: gpus.map(({ uuid }) => uuid).join(","),
    CUDA_DEVICE_ORDER: "PCI_BUS_ID",
    ...(sharedMib === null ? {} : { GPU_ORCHESTRATOR_MEMORY_MB: String(sharedMib) }),
  };
}

/** The NUMA nodes of some GPUs, ascending; `null` unless those of each are known. */
export function numaNodesOf(gpus: readonly GpuLocality[]): number[] | null {
  if (gpus.some(({ numaNodes }) => numaNodes.length === 0)) return null;
  return [...new Set(gpus.flatMap(({ numaNodes }) => numaNodes))].sort((a, b) => a - b);
}

export function cpuAffinityOf(gpus: readonly GpuLocality[]): string | null {
  const lists = gpus.map(({ cpuAffinity }) => cpuAffinity).filter((list) => list !== null);
  return lists.length < gpus.length ? null : unionOfCpuLists(lists);
}

export function deviceBody(gpu: LeasedGpu): Omit<DeviceBody, "index"> {
  return {
    uuid: gpu.uuid,
    name: printable(gpu.name),
    pci_bus_id: gpu.pciBusId,
    memory_total: gpu.memoryTotalMib,
    mig: migBody(gpu.mig),
    numa_nodes: numaNodesOf([gpu]),
    cpu_affinity: gpu.cpuAffinity,
  };
}

function heldBody(allocation: HoldingAllocation, indexOf: IndexOf) {
  const { request, lease, notice } = allocation;
  return {
    ...leaseBody(request, lease, heldUntil(allocation), indexOf),
    ...(notice === null ? {} : { notice: noticeBody(notice) }),
    ...(lease.nudge === undefined ? {} : { nudge: nudgeBody(lease.nudge) }),
  };
}

export function nudgeBody({ at, by, message }: Nudge): NudgeBody {
  return { at: timestamp(at), by, message: printable(message) };
}

export function noticeBody(notice: Notice): NoticeBody {
  const leave_by = timestamp(notice.until);
  return notice.kind === "preempt"
    ? { leave_by, reason: "preempted", detail: "its GPUs are wanted for a more urgent request" }
    : { leave_by, reason: "drained", detail: notice.reason };
}

export function migBody(mig: MigIdentity | null): DeviceBody["mig"] {
  if (mig === null) return null;
  const { profile, parentUuid: parent_uuid, gpuInstanceId, computeInstanceId } = mig;
  return { profile, parent_uuid, gpu_instance_id: gpuInstanceId, compute_instance_id: computeInstanceId };
}

/** An ended lease tells the indices that its GPUs had at the grant. */
function indexAtGrant({ gpus }: Lease): IndexOf {
  return (wanted) => gpus.find(({ uuid }) => uuid === wanted)?.index ?? null;
}

/**
 * One record for a request's whole life.
 *
 * @param indexOf as the driver counts now.
 */
export function allocationBody(allocation: Allocation, indexOf: IndexOf): AllocationBody {
  const request = requestBody(allocation.request);
  switch (allocation.status) {
    case "queued":
      return {
        status: "queued",
        ...request,
        ...(allocation.preemptingSince === null ? {} : { preempting_since: timestamp(allocation.preemptingSince) }),
        ...(allocation.headSince === null ? {} : { head_since: timestamp(allocation.headSince) }),
      };
    case "offered":
      return {
        status: "offered",
        ...request,
        ...heldBody(allocation, indexOf),
        claim_by: timestamp(allocation.claimBy),
      };
    case "leased":
      return {
        status: "leased",
        ...request,
        ...heldBody(allocation, indexOf),
        ...(allocation.idleSince === null ? {} : { idle_since: timestamp(allocation.idleSince) }),
      };
    case "ended": {
      const { outcome } = allocation;
      return {
        status: "ended",
        ...request,
        ...(allocation.lease === null
          ? {}
          : leaseBody(
              allocation.request,
              allocation.lease,
              allocation.lease.expiresAt,
              indexAtGrant(allocation.lease),
            )),
        ended_at: timestamp(outcome.at),
        end_reason: outcome.reason,
        end_detail: endDetail(allocation.request, outcome),
      };
    }
    default:
      return allocation satisfies never;
  }
}

/** The answer to a request that was granted at once. */
export function grantedBody(allocation: HoldingAllocation, indexOf: IndexOf) {
  return {
    ...requestBody(allocation.request),
    ...heldBody(allocation, indexOf),
    status: "allocated" as const,
  };
}
