/**
 * What others have written, as far as it can be read: an older CRD, or a hand in the database, lets anything through. One such
 * object is told of by its own words (rules.ts), and must not take the list, the figures or the books of all others with it.
 */
import { type ModelStatus, modelStatusSchema } from "./model.ts";
import { readSpec } from "./rules.ts";
import { type WorkloadSpec, type WorkloadStatus, workloadStatusSchema } from "./workload.ts";

type Part = Readonly<Record<string, unknown>>;
type Fields = Readonly<Record<string, { readonly safeParse: (given: unknown) => { readonly success: boolean } }>>;

/** It asks for nothing. */
const NOTHING_ASKED: WorkloadSpec = {
  modelName: "",
  modelVersion: "",
  modelType: "text-generation",
  resources: { cpu: "0", memory: "0" },
  scaling: { minReplicas: 0, maxReplicas: 0, strategy: "horizontal" },
  performance: {},
};

const known = new WeakMap<object, WorkloadSpec>();

/** To be shown and counted, never to be acted on: where a part is missing or none, it is as if that asked for nothing. */
export function legibleSpec(spec: WorkloadSpec): WorkloadSpec {
  if ("spec" in readSpec(spec)) return spec;
  if (!isPart(spec)) return NOTHING_ASKED;
  const before = known.get(spec);
  if (before !== undefined) return before;
  const { resources, scaling, performance } = spec;
  const read = {
    ...NOTHING_ASKED,
    ...(spec as WorkloadSpec),
    resources: isPart(resources) ? resources : NOTHING_ASKED.resources,
    scaling: isPart(scaling) ? scalingOf(scaling) : NOTHING_ASKED.scaling,
    performance: isPart(performance) ? performance : NOTHING_ASKED.performance,
  } as WorkloadSpec;
  known.set(spec, read);
  return read;
}

function scalingOf({ targetMetrics, ...others }: Part): Part {
  return Array.isArray(targetMetrics) ? { ...others, targetMetrics: targetMetrics.filter(isPart) } : others;
}

/** Without what cannot be read, which is worked out anew; what only another version knows stays. */
export function legibleStatus(status: unknown): WorkloadStatus {
  return statusOf(status, workloadStatusSchema) as WorkloadStatus;
}

export function legibleModelStatus(status: unknown): ModelStatus {
  return statusOf(status, modelStatusSchema) as ModelStatus;
}

function statusOf(status: unknown, schema: typeof workloadStatusSchema | typeof modelStatusSchema): Part {
  if (!isPart(status)) return {};
  if (schema.safeParse(status).success) return status;
  const fields = schema.shape as Fields;
  return readable(status, (name) => fields[name]?.safeParse(status[name]).success !== false);
}

function readable(given: Part, isRead: (name: string) => boolean): Part {
  return Object.fromEntries(Object.entries(given).filter(([name]) => isRead(name)));
}

function isPart(given: unknown): given is Part {
  return typeof given === "object" && given !== null && !Array.isArray(given);
}
