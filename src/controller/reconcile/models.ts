/**
 * What the status of each `LLMModel` says. Pure: the same look gives the same status, so that nothing is written when nothing
 * has changed.
 *
 *  1. A figure that nobody measured is absent, and a condition of what this version does not do is `Unknown`, never `True`.
 *  2. Of two models of one name and version the older one counts; the other says so.
 */
import type { EpochMs } from "../../core/base/time.ts";
import { conditionsAfter, type Finding, finding } from "../objects/conditions.ts";
import { keyOf, tenantOf } from "../objects/meta.ts";
import type { Model, ModelSpec, ModelStatus } from "../objects/model.ts";
import {
  checksumOf,
  modelOfWorkload,
  readModel,
  type Signed,
  signedBy,
  sourceNotYet,
  type TrustedKeys,
} from "../objects/model-rules.ts";
import type { Workload } from "../objects/workload.ts";

/** An object has a size that it may have: of more workloads only the first are listed. */
const MAX_LISTED = 100;

type ModelCondition = "Accepted" | "Verified" | "Signed" | "Benchmarked" | "Available";

export function modelStatus(
  model: Model,
  models: readonly Model[],
  workloads: readonly Workload[],
  trusted: TrustedKeys,
  now: EpochMs,
): ModelStatus {
  const { metadata, status } = model;
  const read = readModel(model.spec);
  const conditions = (findings: readonly Finding<ModelCondition>[]) =>
    conditionsAfter(status.conditions ?? [], findings, metadata.generation, now);
  if ("breaches" in read) {
    const lines = read.breaches.map(({ path, message }) => `${path}: ${message}`).join("\n");
    const findings = [
      finding<ModelCondition>("Accepted", false, "Invalid", lines),
      finding<ModelCondition>("Available", false, "Invalid"),
    ];
    return { phase: "Failed", observedGeneration: metadata.generation, conditions: conditions(findings) };
  }
  const { spec } = read;
  const rival = modelOfWorkload({ modelName: spec.name, modelVersion: spec.version }, models);
  const signed = signedBy(spec, trusted);
  const isFirst = rival === null || rival.metadata.uid === metadata.uid;
  const accepted = acceptedOf(spec, isFirst ? null : rival.metadata.name);
  const isAvailable = accepted.status === "True" && signed !== "false";
  const using = isFirst ? usingIt(spec, workloads) : [];
  const size = sizeOf(spec);
  const checksum = checksumOf(spec);
  return {
    phase: isAvailable ? "Available" : "Failed",
    observedGeneration: metadata.generation,
    conditions: conditions([
      accepted,
      verifiedOf(spec),
      SIGNED[signed](spec),
      finding("Benchmarked", null, "NotYet", "this version makes no benchmarks"),
      finding("Available", isAvailable, isAvailable ? "Usable" : "Refused", isAvailable ? sourceWords(spec) : ""),
    ]),
    ...(size === null ? {} : { totalSize: size }),
    ...(checksum === null ? {} : { checksum }),
    deployments: using.slice(0, MAX_LISTED).map(({ metadata, status: of }) => ({
      namespace: metadata.namespace,
      name: metadata.name,
      tenant: tenantOf(metadata),
      desiredReplicas: of.desiredReplicas ?? 0,
      readyReplicas: of.readyReplicas ?? 0,
    })),
    usageStats: {
      deployments: using.length,
      readyReplicas: using.reduce((sum, one) => sum + (one.status.readyReplicas ?? 0), 0),
    },
  };
}

function usingIt({ name, version }: ModelSpec, workloads: readonly Workload[]): readonly Workload[] {
  return workloads
    .filter(({ spec: { modelName, modelVersion, engine } }) => {
      return modelName === name && modelVersion === version && engine?.model === undefined;
    })
    .sort((a, b) => (keyOf(a.metadata) < keyOf(b.metadata) ? -1 : 1));
}

function acceptedOf(spec: ModelSpec, rival: string | null): Finding<ModelCondition> {
  if (rival !== null) {
    return finding("Accepted", false, "Duplicate", `${rival} has this name and version, and is older`);
  }
  const later = sourceNotYet(spec);
  if (later !== null) return finding("Accepted", false, "NotYet", `spec.source: ${later}`);
  return finding("Accepted", true, "Valid");
}

function verifiedOf({ source }: ModelSpec): Finding<ModelCondition> {
  const who = source?.type === "hub" ? "the engine fetches its files from the hub" : "it names no source of files";
  return finding("Verified", null, "NotYet", `${who}, and this version does not compare them with spec.files`);
}

const SIGNED: Readonly<Record<Signed, (spec: ModelSpec) => Finding<ModelCondition>>> = {
  none: () => finding("Signed", false, "Unsigned"),
  incomplete: () => {
    return finding("Signed", false, "Incomplete", "spec.files lacks a path, a size or a checksum: nothing was signed");
  },
  "unknown-key": ({ signature }) => {
    const message = `modelRegistry.trustedKeys has no ${signature?.keyId}`;
    return finding("Signed", null, "UnknownKey", message);
  },
  false: () => finding("Signed", false, "WrongSignature", "the signature is not that of these files"),
  true: ({ signature }) => finding("Signed", true, "Signed", `by ${signature?.keyId}, over what spec.files lists`),
};

function sourceWords({ source }: ModelSpec): string {
  return source === undefined ? "by the catalogue, or by its name on the hub" : `${source.type} ${source.uri}`;
}

/** Of all files, in bytes; `null`: nobody says. */
function sizeOf({ files = [], size }: ModelSpec): number | null {
  const sizes = files.map((file) => file.size);
  if (sizes.length > 0 && sizes.every((one) => one !== undefined)) return sizes.reduce((sum, one) => sum + one, 0);
  return size?.sizeBytes ?? null;
}
