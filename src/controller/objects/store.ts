/** Where objects are kept: a database on one host, a kube-apiserver in a cluster. */
import type { Metadata } from "./meta.ts";
import type { Model, ModelSpec, ModelStatus } from "./model.ts";
import type { Revision } from "./revision.ts";
import type { Workload, WorkloadSpec, WorkloadStatus } from "./workload.ts";

/** What a caller may say of a workload. */
export interface WorkloadDraft {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly spec: WorkloadSpec;
}

/** What a caller names a request by, so that it is done once. */
export interface RequestKey {
  readonly principal: string;
  readonly key: string;
  readonly fingerprint: string;
}

export interface Created {
  readonly workload: Workload;
  /** Not so: the same request has made it before. */
  readonly isNew: boolean;
}

/** @throws ControllerError `storage-unavailable` or `backend-unavailable`; nothing has changed then. */
export interface Objects {
  /** As they are known now. */
  workloads(): readonly Workload[];
  models(): readonly Model[];
  /** Makes it, or gives the one of this name another spec, labels and annotations. */
  put(draft: WorkloadDraft): Promise<Workload>;
  /** @param key is kept with it; `null`: the request names none. */
  create(draft: WorkloadDraft, key: RequestKey | null): Promise<Created>;
  /** What was made under a key within the last day; `undefined`: nothing. */
  recall(principal: string, key: string): { readonly fingerprint: string; readonly ids: readonly string[] } | undefined;
  putModel(name: string, labels: Metadata["labels"], spec: ModelSpec): Promise<Model>;
  putStatus(workload: Workload, status: WorkloadStatus): Promise<void>;
  putModelStatus(model: Model, status: ModelStatus): Promise<void>;
  /** Marks it as to go. */
  remove(workload: Workload): Promise<void>;
  removeModel(model: Model): Promise<void>;
  /** Nothing of it is left: it goes. */
  forget(workload: Workload): Promise<void>;
  /** What its replicas were and are started from, as far as it is kept. */
  revisions(workload: Workload): readonly Revision[];
  /** Which right is missing to see them; absent or `null`: none. */
  readonly unseenRevisions?: string | null;
  /** Makes it, or gives it another number. */
  keepRevision(workload: Workload, revision: Revision): Promise<void>;
  dropRevision(workload: Workload, revision: Revision): Promise<void>;
  /** Runs `changed` after each change, until the answer is called. */
  subscribe(changed: () => void): () => void;
}

export interface ScalingEvent {
  readonly eventId: string;
  readonly deploymentId: string;
  readonly tenantId: string;
  readonly scalingType: "manual" | "auto";
  readonly fromReplicas: number;
  readonly toReplicas: number;
  readonly triggerReason: string;
  readonly triggerMetrics: Readonly<Record<string, number>>;
  readonly status: "in_progress" | "success" | "failed" | "cancelled";
  readonly errorMessage: string | null;
  readonly initiatedAt: string;
  readonly completedAt: string | null;
}

/** One that has just begun. */
export type ScalingBegun = Omit<ScalingEvent, "status" | "errorMessage" | "completedAt">;

export interface DeploymentEvent {
  readonly deploymentId: string;
  readonly at: string;
  readonly type: string;
  readonly reason: string;
  readonly message: string;
}

export interface ScalingQuery {
  readonly deploymentId?: string;
  /** Of these only; absent: of all. */
  readonly tenants?: readonly string[];
  readonly limit: number;
}

export interface History {
  /** One of this deployment that is in progress is cancelled by it. */
  beginScaling(event: ScalingBegun): void;
  /** Of the last of a deployment that is in progress. */
  endScaling(
    deploymentId: string,
    status: "success" | "failed" | "cancelled",
    at: string,
    /** It failed; in words. */
    why?: string | null,
  ): void;
  /** The newest first. */
  scalings(query: ScalingQuery): Promise<readonly ScalingEvent[]>;
  addEvent(event: DeploymentEvent): void;
  /** The newest first. */
  events(deploymentId: string, limit: number): Promise<readonly DeploymentEvent[]>;
  /** Of one that is about to go: whose it was is told from then on. */
  noteDeployment(deploymentId: string, tenantId: string, at: string): void;
  /** Whose a deployment is or was; `null`: no row tells, or the database is away. */
  tenantOf(deploymentId: string): Promise<string | null>;
}
