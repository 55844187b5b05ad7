/**
 * The rules that a workload must keep beside its shape. A server with the CRD checks most of them by CEL; they are
 * checked here again, since an older server or CRD lets everything through.
 */
import { parseCpuMillis, parseMemoryBytes } from "../../work/quantities.ts";
import type { Breach } from "./breach.ts";
import { configBreaches } from "./engine-config.ts";
import { type Metadata, NAME_RULE, OBJECT_NAME } from "./meta.ts";
import { type WorkloadSpec, workloadSpecSchema } from "./workload.ts";

type Read = { readonly spec: WorkloadSpec } | { readonly breaches: readonly Breach[] };

/** A spec is read at each look for as long as it is there. */
const known = new WeakMap<object, Read>();

/** What is wrong with a spec as somebody sent it; the spec, defaults filled in, when nothing is. */
export function readSpec(given: unknown): Read {
  if (typeof given !== "object" || given === null) return reading(given);
  const before = known.get(given);
  if (before !== undefined) return before;
  const read = reading(given);
  known.set(given, read);
  return read;
}

/** An LLMWorkload may have a longer name, with dots: its Service, and the label of its pods, may not. */
export function nameBreaches({ name }: Pick<Metadata, "name">): Breach[] {
  return OBJECT_NAME.test(name) ? [] : [{ path: "metadata.name", message: NAME_RULE }];
}

function reading(given: unknown): Read {
  const read = workloadSpecSchema.safeParse(given);
  if (!read.success) {
    return {
      breaches: read.error.issues.map(({ path, message }) => ({ path: ["spec", ...path].join("."), message })),
    };
  }
  const breaches = breachesOf(read.data);
  return breaches.length === 0 ? { spec: read.data } : { breaches };
}

function breachesOf({ scaling, resources, engine }: WorkloadSpec): Breach[] {
  const found: Breach[] = configBreaches(engine?.config ?? {});
  if (scaling.minReplicas > scaling.maxReplicas) {
    found.push({ path: "spec.scaling", message: "minReplicas must not be above maxReplicas" });
  }
  if (parseCpuMillis(resources.cpu) === null) {
    found.push({ path: "spec.resources.cpu", message: "expected more than 0 cores" });
  }
  if (parseMemoryBytes(resources.memory) === null) {
    found.push({ path: "spec.resources.memory", message: "expected more than 0 bytes" });
  }
  for (const [index, { target }] of (scaling.targetMetrics ?? []).entries()) {
    if (target > 0) continue;
    found.push({ path: `spec.scaling.targetMetrics.${index}.target`, message: "expected more than 0" });
  }
  return found;
}

/** What the fields of a spec ask for that this version does not do yet, each with its path. */
export function notYet({ deploymentStrategy, placement, scaling }: WorkloadSpec): Breach[] {
  const found: Breach[] = [];
  const strategy = deploymentStrategy?.type;
  if (strategy === "canary" || strategy === "blueGreen") {
    found.push({
      path: "spec.deploymentStrategy.type",
      message: `${strategy} is not there yet; use rolling or recreate`,
    });
  }
  if (placement?.clusters !== undefined) {
    found.push({ path: "spec.placement.clusters", message: "several clusters are not there yet" });
  }
  if (placement?.strategy !== undefined) {
    found.push({ path: "spec.placement.strategy", message: "strategies of placement are not there yet" });
  }
  if (scaling.strategy !== "horizontal") {
    found.push({ path: "spec.scaling.strategy", message: `${scaling.strategy} is not there yet; use horizontal` });
  }
  return found;
}
