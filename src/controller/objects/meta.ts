/** What every object has, as Kubernetes writes it. On one host the same object stands in the database. */
import { z } from "zod";

export const GROUP = "llm.orchestrator.io";
export const VERSION = "v1";
export const API_VERSION = `${GROUP}/${VERSION}`;

/** Kept from the first seed: what it made bears it. */
export const FINALIZER = "llm-orchestrator.io/finalizer";
export const LABEL = {
  workload: "llm-orchestrator.io/workload",
  track: "llm-orchestrator.io/track",
  revision: "llm-orchestrator.io/revision",
  tenant: "llm-orchestrator.io/tenant",
  model: "llm-orchestrator.io/model-id",
  /** Of a pod of a group: how many pods that has. */
  groupSize: "llm-orchestrator.io/group-size",
  /** On one host: which controller decides. */
  decides: "llm-orchestrator.io/decides",
} as const;
export const ANNOTATION = {
  /** Another value is another revision: a restart. */
  restartedAt: "llm-orchestrator.io/restarted-at",
  /** In a cluster: a digest of the caller and the `Idempotency-Key` that it was made by, and one of the request. */
  request: "llm-orchestrator.io/request",
  /** The model's id where it cannot be a label. */
  modelId: "llm-orchestrator.io/model-id",
  /** In a cluster: its pods are given the Secret {@link hubSecretOf} of it. */
  hubToken: "llm-orchestrator.io/hub-token",
  /** Of a node: until when it is being emptied, and how. */
  drain: "llm-orchestrator.io/drain",
} as const;

/** RFC 1123: what Kubernetes takes as the name of a Service, which is made of it. */
export const OBJECT_NAME = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;
export const NAME_RULE = "expected a-z, 0-9 and -, at most 63 characters, beginning with a letter";
/** What Kubernetes takes as the value of a label. */
export const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
const NAMESPACE = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

const words = z.record(z.string().max(317), z.string().max(65_536));

/** What a caller may send of an object's metadata; the rest is ours and is passed over. */
export const metadataSchema = z.looseObject({
  name: z.string().regex(OBJECT_NAME, NAME_RULE),
  namespace: z.string().regex(NAMESPACE, "expected a-z, 0-9 and -, at most 63 characters").optional(),
  labels: words.optional(),
  annotations: words.optional(),
});

export interface Metadata {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  /** Raised by each change of the spec. */
  readonly generation: number;
  /** Another one after each change of anything. */
  readonly resourceVersion: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly creationTimestamp: string;
  /** Set: it is to go, and what it made goes first. */
  readonly deletionTimestamp: string | null;
}

export function keyOf({ namespace = "", name }: Pick<Metadata, "name"> & Partial<Pick<Metadata, "namespace">>): string {
  return `${namespace}/${name}`;
}

/** What the hub's own programs look for. */
export const HUB_VARIABLES = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] as const;

/** Under the second seed's name, which is that of one workload: no annotation can make a pod read another's. */
export function hubSecretOf({ name }: Pick<Metadata, "name">): string {
  return `hf-token-${name}`;
}

export function tenantOf({ labels, namespace }: Pick<Metadata, "labels" | "namespace">): string {
  return labels[LABEL.tenant] ?? namespace;
}
