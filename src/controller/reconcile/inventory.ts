/** Nodes and replicas with all that is known of them, for those who keep books. `null`: nobody says. */
import type { ReplicaSeen } from "./seen.ts";

export interface NodeFacts {
  /** It stays with the machine; a name may be given again. */
  readonly id: string;
  readonly name: string;
  readonly ip: string | null;
  readonly product: string | null;
  readonly gpus: number;
  readonly gpuMemoryMib: number | null;
  readonly cpuCores: number | null;
  readonly memoryBytes: number | null;
  readonly storageBytes: number | null;
  readonly usedGpus: number;
  readonly usedCpuCores: number | null;
  readonly usedMemoryBytes: number | null;
  readonly ready: boolean;
  readonly schedulable: boolean;
  readonly createdAt?: string | null;
  /** When it was last heard of. */
  readonly heartbeatAt?: string | null;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface PodFacts {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  /** The key of its workload. */
  readonly workload: string;
  readonly ip: string | null;
  /** The id of its node; `null`: it has none yet. */
  readonly node: string | null;
  readonly gpus: number;
  readonly cpuRequestCores: number | null;
  readonly cpuLimitCores: number | null;
  readonly memoryRequestBytes: number | null;
  readonly memoryLimitBytes: number | null;
  readonly service: string | null;
  readonly port: number | null;
  readonly phase: ReplicaSeen["phase"];
  readonly restarts: number;
  readonly image: string | null;
  readonly env: Readonly<Record<string, string>>;
  readonly createdAt: string | null;
  readonly startedAt: string | null;
}

export interface Inventory {
  readonly nodes: readonly NodeFacts[];
  readonly pods: readonly PodFacts[];
}
