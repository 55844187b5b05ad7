/**
 * Where GPUs are and who has them, in the second seed's words. Pure.
 *
 *  1. What is allocated is of the whole cluster; deployments are those that the caller may see.
 *  2. Memory is counted as a GPU's whole memory by the part that its engine was told to take, which is what is reserved and
 *     not what is used. Without both nobody says, and it is null.
 *  3. Which GPU of a node a pod has Kubernetes does not tell: `gpus` is null, where the second seed made something up.
 */
import { keyOf } from "../objects/meta.ts";
import { modelIdOf } from "../objects/model-id.ts";
import type { Workload } from "../objects/workload.ts";
import type { Inventory } from "../reconcile/inventory.ts";
import type { NodeSeen } from "../reconcile/seen.ts";
import { resourcesView } from "./views.ts";

const MIB_PER_GIB = 1_024;
const UTILIZATION_FLAG = "--gpu-memory-utilization=";
const NO_PRODUCT = "unknown";

/** GPUs of one kind, of a node or of all. */
interface Sum {
  readonly gpus: number;
  readonly allocated: number;
  /** GiB; `null`: nobody says. */
  readonly memory: number | null;
  readonly memoryAllocated: number | null;
}

export function clusterStatusView(
  nodes: readonly NodeSeen[],
  inventory: Inventory,
  workloads: readonly Workload[],
  visible: readonly Workload[],
) {
  const shown = new Set(visible.map(({ metadata }) => keyOf(metadata)));
  const each = nodes.map((node) => {
    const all = sharesOf(node, inventory, workloads);
    const memory = node.gpuMemoryMib === null ? null : (node.gpuMemoryMib / MIB_PER_GIB) * node.gpus;
    const sum: Sum = {
      gpus: node.gpus,
      allocated: node.usedGpus,
      memory,
      // Pods of others hold GPUs of which nobody says how much they take.
      memoryAllocated: added(all.map(({ gigabytes }) => gigabytes)),
    };
    return { node, sum, shares: all.filter(({ key }) => key !== null && shown.has(key)) };
  });
  const byProduct = Map.groupBy(each, ({ node }) => node.product ?? NO_PRODUCT);
  const resources = resourcesView(nodes);
  return {
    ...resources,
    summary_by_gpu_type: Object.fromEntries(
      [...byProduct].map(([product, of]) => [
        product,
        { ...sumView(total(of.map(({ sum }) => sum))), vram_per_gpu_gb: gigabytesOf(of[0]?.node.gpuMemoryMib ?? null) },
      ]),
    ),
    cluster_total: sumView(total(each.map(({ sum }) => sum))),
    nodes: each.map(({ node, sum, shares }, index) => ({
      ...(resources.nodes[index] as (typeof resources.nodes)[number]),
      available_capacity_percent: percent(node.gpus - node.usedGpus, node.gpus),
      gpu_memory_gb: gigabytesOf(node.gpuMemoryMib),
      vram_total_gb: rounded(sum.memory),
      vram_allocated_gb: rounded(sum.memoryAllocated),
      vram_available_gb: rounded(difference(sum.memory, sum.memoryAllocated)),
      vram_allocation_percent: percent(sum.memoryAllocated, sum.memory),
      deployments: shares.map(({ workload, gpus, fraction, gigabytes }) => ({
        deployment_name: workload?.metadata.name ?? "",
        model_id: workload === null ? "" : modelIdOf(workload),
        model_name: workload?.spec.modelName ?? "",
        gpu_count: gpus,
        memory_fraction: fraction,
        vram_allocated_gb: rounded(gigabytes),
        status: workload?.status.state ?? "pending",
      })),
      gpus: null,
    })),
  };
}

/** What one workload's pods, or those that are nobody's here (`key: null`), have of a node's GPUs. */
interface Share {
  readonly key: string | null;
  readonly workload: Workload | null;
  readonly gpus: number;
  readonly fraction: number | null;
  readonly gigabytes: number | null;
}

function sharesOf(node: NodeSeen, { nodes, pods }: Inventory, workloads: readonly Workload[]): readonly Share[] {
  const id = nodes.find(({ name }) => name === node.name)?.id;
  const here = pods.filter((pod) => pod.node !== null && pod.node === id && pod.gpus > 0 && pod.phase !== "failed");
  const shares = [...Map.groupBy(here, ({ workload }) => workload)].map(([key, of]): Share => {
    const workload = workloads.find(({ metadata }) => keyOf(metadata) === key) ?? null;
    const gpus = of.reduce((sum, pod) => sum + pod.gpus, 0);
    const fraction = workload === null ? null : fractionOf(workload);
    const known = fraction === null || node.gpuMemoryMib === null ? null : fraction * node.gpuMemoryMib * gpus;
    return { key, workload, gpus, fraction, gigabytes: known === null ? null : known / MIB_PER_GIB };
  });
  const others = node.usedGpus - shares.reduce((sum, { gpus }) => sum + gpus, 0);
  if (others <= 0) return shares;
  return [...shares, { key: null, workload: null, gpus: others, fraction: null, gigabytes: null }];
}

/** The part of a GPU's memory that its engine was told to take; `null`: it was told nothing. */
function fractionOf({ status: { plan } }: Workload): number | null {
  const flag = plan?.flags?.find((one) => one.startsWith(UTILIZATION_FLAG));
  return flag === undefined ? null : Number(flag.slice(UTILIZATION_FLAG.length));
}

function total(sums: readonly Sum[]): Sum {
  return {
    gpus: sums.reduce((sum, { gpus }) => sum + gpus, 0),
    allocated: sums.reduce((sum, { allocated }) => sum + allocated, 0),
    memory: added(sums.map(({ memory }) => memory)),
    memoryAllocated: added(sums.map(({ memoryAllocated }) => memoryAllocated)),
  };
}

function sumView({ gpus, allocated, memory, memoryAllocated }: Sum) {
  return {
    total_gpus: gpus,
    allocated_gpus: allocated,
    available_gpus: gpus - allocated,
    available_capacity_percent: percent(gpus - allocated, gpus),
    total_vram_gb: rounded(memory),
    allocated_vram_gb: rounded(memoryAllocated),
    available_vram_gb: rounded(difference(memory, memoryAllocated)),
    vram_allocation_percent: percent(memoryAllocated, memory),
  };
}

/** What nobody says of one, nobody says of all. */
function added(values: readonly (number | null)[]): number | null {
  return values.reduce((sum, value) => (sum === null || value === null ? null : sum + value), 0);
}

function difference(from: number | null, less: number | null): number | null {
  return from === null || less === null ? null : from - less;
}

function percent(part: number | null, whole: number | null): number | null {
  return part === null || whole === null || whole === 0 ? null : rounded((part / whole) * 100);
}

function gigabytesOf(mib: number | null): number | null {
  return mib === null ? null : Math.round(mib / MIB_PER_GIB);
}

function rounded(value: number | null): number | null {
  return value === null ? null : Math.round(value * 100) / 100;
}
