import type { GpuUuid } from "./ids.ts";

/** What a MIG instance is, as a device of its own. */
export interface MigIdentity {
  readonly parentUuid: GpuUuid;
  /** What it was cut as, such as `1g.10gb`; `1c.3g.71gb` is one compute instance of several in such a GPU instance. */
  readonly profile: string;
  readonly gpuInstanceId: number;
  readonly computeInstanceId: number;
}

/**
 * How two GPUs reach each other, in the words of `nvidia-smi topo -m`, from near to far: `NV<n>` by n NVLinks; `PIX` by
 * one PCIe switch, `PXB` by several; `PHB` through a PCIe host bridge; `NODE` between host bridges of a NUMA node; `SYS`
 * between NUMA nodes.
 */
export type GpuLink = `NV${number}` | "PIX" | "PXB" | "PHB" | "NODE" | "SYS";

/** Where a GPU sits in its host. */
export interface GpuLocality {
  readonly uuid: GpuUuid;
  /** Ascending; mostly one. Empty: not known. */
  readonly numaNodes: readonly number[];
  /** The CPUs next to it, as Linux writes them, such as `0-31,64-95`; `null`: not known. */
  readonly cpuAffinity: string | null;
}

/** How the GPUs of a host are connected. */
export interface Topology {
  readonly gpus: readonly GpuLocality[];
  /** By place in `gpus`: symmetric; `null` between a GPU and itself, and where it is not known. */
  readonly links: readonly (readonly (GpuLink | null)[])[];
}
