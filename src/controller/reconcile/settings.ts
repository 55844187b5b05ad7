import type { TrustedKeys } from "../objects/model-rules.ts";
import type { GpuMaxima } from "../objects/tenants.ts";

/** What the settings say that the reconcilers need. Defaults are those of the first seed's `config.yaml`. */
export const QOS_CLASSES = ["premium", "standard", "basic"] as const;
export type QosClass = (typeof QOS_CLASSES)[number];

export interface QosSettings {
  readonly priority: number;
  /** Part of the asked CPU that is guaranteed. */
  readonly resourceGuarantee: number;
  readonly cpuMultiplier: number;
  /** More urgent ones may take its place. */
  readonly isPreemptible: boolean;
  /** Who promises a 95th percentile up to this is of the class, if the availability is, too. In ms. */
  readonly maxLatencyMs: number;
}

export interface Profile {
  readonly gpu: number;
  readonly maxReplicas: number | null;
}

export interface ReconcileSettings {
  readonly qos: Readonly<Record<QosClass, QosSettings>>;
  readonly profiles: Readonly<Record<string, Profile>>;
  readonly maxCpuMillis: number;
  readonly maxMemoryBytes: number;
  readonly maxGpus: number;
  readonly image: string;
  readonly scaleUpCooldownMs: number;
  readonly scaleDownCooldownMs: number;
  /** Of one GPU, where nothing else tells. */
  readonly gpuMemoryMib: number | null;
  /** Of each workload, so many revisions are kept. */
  readonly maxVersions: number;
  /** A workload that is as it is to be is decided on again after so long, though nothing is new. */
  readonly anewMs: number;
  /** Without progress for so long it is stuck. */
  readonly progressDeadlineMs: number;
  /** A replica is given at least so long to start. */
  readonly leastStartMs: number;
  /** Where vLLM serves in its container. */
  readonly vllmPort: number;
  readonly tenantGpus: GpuMaxima;
  /** Whose signatures of models count. */
  readonly trustedKeys: TrustedKeys;
  /** Of a workload that names no metric: percent of the asked CPU above which there are more, and below which fewer. */
  readonly cpuBand: { readonly above: number; readonly below: number };
}
