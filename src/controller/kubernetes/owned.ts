/** What all objects have in common that a workload is made of. Pure. */
import { API_VERSION, LABEL, tenantOf } from "../objects/meta.ts";
import type { Workload } from "../objects/workload.ts";

/** One object to be applied; the path is the API's. */
export interface Child {
  readonly path: string;
  readonly object: Readonly<Record<string, unknown>>;
}

/** A selector of all of them. */
export const OURS = "app.kubernetes.io/managed-by=gpu-orchestrator";

/** Only where a cluster has their CRD. */
export const OPTIONAL = {
  servicemonitors: "/apis/monitoring.coreos.com/v1",
  httproutes: "/apis/gateway.networking.k8s.io/v1",
  leaderworkersets: "/apis/leaderworkerset.x-k8s.io/v1",
} as const;
export type OptionalKind = keyof typeof OPTIONAL;
/** The node's label that names its GPUs. */
export const PRODUCT = "nvidia.com/gpu.product";
/** Of the Service of a vLLM, and of its container where nothing else is said. */
export const VLLM_PORT = 8_000;
/** Of engines of one's own, beside where they serve HTTP. */
export const GRPC_PORT = 9_090;
export function metaOf({ metadata }: Workload, name = metadata.name) {
  return {
    name,
    namespace: metadata.namespace,
    labels: labelsOf(metadata),
    ownerReferences: [
      {
        apiVersion: API_VERSION,
        kind: "LLMWorkload",
        name: metadata.name,
        uid: metadata.uid,
        controller: true,
        blockOwnerDeletion: true,
      },
    ],
  };
}

export function labelsOf(metadata: Workload["metadata"]) {
  return {
    "app.kubernetes.io/managed-by": "gpu-orchestrator",
    [LABEL.workload]: metadata.name,
    [LABEL.tenant]: tenantOf(metadata),
    [LABEL.track]: "stable",
  };
}

/** The second seed's name for it. */
export function claimNameOf(workload: string): string {
  return `${workload}-models-pvc`;
}

/** Never a version: the selector of a Deployment cannot change. */
export function selectorOf({ metadata }: Workload) {
  return { [LABEL.workload]: metadata.name, [LABEL.track]: "stable" };
}
