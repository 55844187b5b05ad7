/**
 * The answer to a grant as text, put together from pieces: what {@link grantedBody} says, byte for byte (a test holds them
 * equal). Most of it is what the GPU is, and that is written once per GPU and looked at again only for a change.
 */
import type { IndexOf } from "../../core/host/indices.ts";
import type { HoldingAllocation, LeasedGpu, Request } from "../../core/model/allocation.ts";
import type { GpuUuid } from "../../core/model/ids.ts";
import { timestamp } from "../values.ts";
import { cpuAffinityOf, deviceBody, environmentOf, grantedBody, indicesBody, numaNodesOf } from "./bodies.ts";

/** What of the text a GPU makes, as long as it and its index are the same. */
interface GpuText {
  readonly gpu: LeasedGpu;
  readonly index: number;
  /** From `gpu_uuids` to `env`. */
  readonly devices: string;
  /** `numa_nodes` and `cpu_affinity`. */
  readonly place: string;
}

export class GrantedTexts {
  readonly #byGpu = new Map<GpuUuid, GpuText>();

  /** The text of {@link grantedBody}. Only grants of one whole GPU are frequent enough to have pieces. */
  of(allocation: HoldingAllocation, indexOf: IndexOf): string {
    const { request, lease, notice } = allocation;
    const [gpu] = lease.gpus;
    const index = gpu === undefined ? null : indexOf(gpu.uuid);
    const isPlain = lease.gpus.length === 1 && lease.sharedMib === null && notice === null && isOrdinary(request);
    if (gpu === undefined || gpu.mig !== null || index === null || !isPlain) {
      return JSON.stringify(grantedBody(allocation, indexOf));
    }
    const { devices, place } = this.#textOf(gpu, index, indexOf);
    const { id, requirement, ttlMs, maxDurationMs, submittedAt } = request;
    const { grantedAt, expiresAt, fencingToken } = lease;
    const submitted = timestamp(submittedAt);
    const granted = grantedAt === submittedAt ? submitted : timestamp(grantedAt);
    const idText = JSON.stringify(id);
    return (
      `{"id":${idText},"request_id":${idText},"service_name":${JSON.stringify(request.serviceName)},` +
      `"workload_type":"${request.workloadType}","priority":${requirement.priority},` +
      `"required_gpus":${requirement.gpus},"min_memory_mb":${requirement.memoryMib},` +
      `"max_utilization":${requirement.maxUtilizationPercent},"sharing":"${request.sharing}",` +
      `"preemptible":${request.preemptible},"ttl_seconds":${secondsOf(ttlMs)},` +
      `"max_duration_seconds":${secondsOf(maxDurationMs)},"submitted_at":"${submitted}",` +
      `"allocation_id":${idText},${devices},"allocated_at":"${granted}",` +
      `${expiresAt === null ? "" : `"expires_at":"${timestamp(expiresAt)}",`}"fencing_token":${fencingToken},` +
      `"memory_mb":${requirement.memoryMib},${place},"status":"allocated"}`
    );
  }

  #textOf(gpu: LeasedGpu, index: number, indexOf: IndexOf): GpuText {
    const known = this.#byGpu.get(gpu.uuid);
    if (known !== undefined && known.index === index && isSame(known.gpu, gpu)) return known;
    const device = deviceBody(gpu);
    const env = environmentOf({ gpus: [gpu], sharedMib: null });
    const text = {
      gpu,
      index,
      devices: inner({ gpu_uuids: [gpu.uuid], ...indicesBody([gpu.uuid], [device], env, indexOf) }),
      place: inner({ numa_nodes: numaNodesOf([gpu]), cpu_affinity: cpuAffinityOf([gpu]) }),
    };
    this.#byGpu.set(gpu.uuid, text);
    return text;
  }
}

/** Whether nothing is told of it that most requests have not. */
function isOrdinary({ exactGpus, boundTo, adoption }: Request): boolean {
  return exactGpus === undefined && boundTo === undefined && adoption === undefined;
}

function secondsOf(ms: number | null): string {
  return ms === null ? "null" : String(ms / 1_000);
}

/** The members of an object, without its braces. */
function inner(body: object): string {
  return JSON.stringify(body).slice(1, -1);
}

function isSame(a: LeasedGpu, b: LeasedGpu): boolean {
  const isSameDevice = a.name === b.name && a.pciBusId === b.pciBusId && a.memoryTotalMib === b.memoryTotalMib;
  if (!isSameDevice || a.cpuAffinity !== b.cpuAffinity || a.numaNodes.length !== b.numaNodes.length) return false;
  return a.numaNodes.every((node, i) => node === b.numaNodes[i]);
}
