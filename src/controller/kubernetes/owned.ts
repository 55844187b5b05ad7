/** What all objects have in common that a workload is made of. Pure. */
import { API_VERSION, LABEL, tenantOf } from "../objects/meta.ts";
import type { Workload } from "../objects/workload.ts";
import { FIELD_MANAGER } from "./connection.ts";
import type { KubeObject } from "./watch.ts";

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

interface Owner {
  readonly kind: string;
  readonly name: string;
  readonly controller?: boolean;
}

export function ownersOf(metadata: KubeObject["metadata"]): readonly Owner[] {
  return (metadata as { readonly ownerReferences?: readonly Owner[] }).ownerReferences ?? [];
}

/** It is controlled by something else, though it may bear our labels: a copy, say. */
export function isOthers({ metadata }: KubeObject, workload: string): boolean {
  return ownersOf(metadata).some((owner) => owner.controller === true && !isWorkload(owner, workload));
}

/**
 * It was made for a workload of this name: this one, or one that is gone, whose things Kubernetes has yet to collect. Where
 * somebody has taken the reference away, the server still knows who applied it.
 */
export function isMadeFor(object: KubeObject, workload: string): boolean {
  if (isOthers(object, workload)) return false;
  if (ownersOf(object.metadata).some((owner) => isWorkload(owner, workload))) return true;
  const { managedFields = [] } = object.metadata as {
    readonly managedFields?: readonly { readonly manager?: string }[];
  };
  return managedFields.some(({ manager }) => manager === FIELD_MANAGER);
}

function isWorkload({ kind, name }: Owner, workload: string): boolean {
  return kind === "LLMWorkload" && name === workload;
}

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
