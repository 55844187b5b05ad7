/** What a tenant may have. Pure. */
import { legibleSpec } from "./legible.ts";
import { tenantOf } from "./meta.ts";
import type { Workload, WorkloadSpec } from "./workload.ts";

/** GPUs at most, by tenant; `*` is of those that are not named. */
export type GpuMaxima = ReadonlyMap<string, number>;

/** `null`: as many as there are. */
export function gpuMaximumOf(maxima: GpuMaxima, tenant: string): number | null {
  return maxima.get(tenant) ?? maxima.get("*") ?? null;
}

/** GPUs of all workloads of a tenant but `except`: as many as their replicas are to have. */
export function gpusOfTenant(workloads: readonly Workload[], tenant: string, except: string): number {
  return workloads
    .filter(({ metadata }) => tenantOf(metadata) === tenant && metadata.uid !== except)
    .reduce((sum, { spec: given, status }) => {
      const spec = legibleSpec(given);
      return sum + (status.plan?.gpus ?? statedGpus(spec)) * replicasOf(spec, status);
    }, 0);
}

function statedGpus({ resources, engine }: WorkloadSpec): number {
  return resources.gpu === undefined ? (engine === undefined ? 0 : 1) : Number(resources.gpu);
}

function replicasOf({ replicas, scaling }: WorkloadSpec, { desiredReplicas }: Workload["status"]): number {
  // What was asked for last counts at once, and what is scaled by itself as it stands.
  return replicas ?? desiredReplicas ?? scaling.minReplicas;
}
