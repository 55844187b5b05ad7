import { ANNOTATION, LABEL } from "./meta.ts";
import type { Workload } from "./workload.ts";

/** What the second seed's clients know its model by. */
export function modelIdOf({ metadata, spec }: Workload): string {
  return metadata.annotations[ANNOTATION.modelId] ?? metadata.labels[LABEL.model] ?? spec.modelName;
}
