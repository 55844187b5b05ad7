import { createHash } from "node:crypto";
import { ANNOTATION, type Metadata } from "../objects/meta.ts";
import type { WorkloadSpec } from "../objects/workload.ts";

/**
 * Names what a replica is started from. Two specs that start the same have one revision, so scaling and labels roll
 * nothing; a version, an image or a restart is another.
 *
 * Made from the spec, never from the plan: a node that comes or goes must not roll a workload.
 */
export function revisionOf({ annotations }: Pick<Metadata, "annotations">, spec: WorkloadSpec): string {
  const { modelName, modelVersion, modelType, modelSize, parameters, resources, engine, resourceProfile, security } =
    spec;
  const restartedAt = annotations[ANNOTATION.restartedAt] ?? null;
  const template = [
    { modelName, modelVersion, modelType, modelSize, parameters, resources, engine, resourceProfile, security },
    restartedAt,
  ];
  const text = JSON.stringify(template, (_name, value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
  return createHash("sha256").update(text).digest("hex").slice(0, 10);
}
