/**
 * The two CRDs, made of the schemas that the controller itself checks by. A server that has the first seed's takes them
 * over it: names, types and enums are the same, and what is new is optional.
 *
 * With `cel` the rules stand in the CRD too. A server before 1.25 refuses such a CRD under server-side apply, and is given
 * one without: the controller checks them again in any case.
 */
import { z } from "zod";
import { GROUP, VERSION } from "../objects/meta.ts";
import { modelSpecSchema, modelStatusSchema } from "../objects/model.ts";
import { workloadSpecSchema, workloadStatusSchema } from "../objects/workload.ts";

type Json = Readonly<Record<string, unknown>>;

/** JSON Schema has these, and a structural schema of Kubernetes does not. */
const FOREIGN: ReadonlySet<string> = new Set(["$schema", "propertyNames", "id", "~standard"]);
const CEL = "x-kubernetes-validations";
/** What zod writes for any whole number, which says nothing. */
const ANY_INTEGER: ReadonlySet<unknown> = new Set([Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER]);

function structural(schema: z.ZodType, cel: boolean): Json {
  return cleaned(z.toJSONSchema(schema, { io: "input" }) as Json, cel) as Json;
}

function cleaned(node: unknown, cel: boolean): unknown {
  if (Array.isArray(node)) return node.map((item) => cleaned(item, cel));
  if (typeof node !== "object" || node === null) return node;
  const schema = node as Json;
  const kept = Object.entries(schema).filter(([key, value]) => {
    if (FOREIGN.has(key) || (key === CEL && !cel)) return false;
    if ((key === "maximum" || key === "minimum") && ANY_INTEGER.has(value)) return false;
    // A date's form is told by `format`; its pattern is longer than all else, and differs by zod's version.
    if (key === "pattern" && schema.format === "date-time") return false;
    // Unknown fields are pruned; a map of anything is said in Kubernetes' own words below.
    return key !== "additionalProperties" || (typeof value === "object" && Object.keys(value as object).length > 0);
  });
  const isOpen =
    typeof schema.additionalProperties === "object" && Object.keys(schema.additionalProperties as object).length === 0;
  const { properties, ...rest } = Object.fromEntries(kept) as Json & { properties?: Json };
  const inner = Object.fromEntries(
    Object.entries(rest).map(([key, value]) => [key, key === CEL ? value : cleaned(value, cel)]),
  );
  if (isOpen) return { ...inner, "x-kubernetes-preserve-unknown-fields": true };
  if (properties === undefined) return inner;
  const named = Object.entries(properties).map(([name, value]) => [name, cleaned(value, cel)]);
  return { ...inner, properties: Object.fromEntries(named) };
}

const column = (name: string, jsonPath: string, description: string, type = "string") => ({
  name,
  type,
  description,
  jsonPath,
});
const AGE = { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" };

function crd(kind: string, names: readonly [string, string], scope: string, version: Json): Json {
  const [plural, short] = names;
  const singular = kind.toLowerCase();
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: {
      name: `${plural}.${GROUP}`,
      labels: { "app.kubernetes.io/name": "llm-orchestrator", "app.kubernetes.io/component": "crd" },
    },
    spec: {
      group: GROUP,
      scope,
      names: { plural, singular, kind, listKind: `${kind}List`, shortNames: [short, singular] },
      versions: [{ name: VERSION, served: true, storage: true, ...version }],
    },
  };
}

export function workloadCrd(cel: boolean): Json {
  return crd("LLMWorkload", ["llmworkloads", "llmw"], "Namespaced", {
    schema: {
      openAPIV3Schema: {
        type: "object",
        properties: {
          spec: structural(workloadSpecSchema, cel),
          status: structural(workloadStatusSchema, cel),
        },
      },
    },
    subresources: {
      status: {},
      scale: {
        specReplicasPath: ".spec.replicas",
        statusReplicasPath: ".status.currentReplicas",
        labelSelectorPath: ".status.selector",
      },
    },
    additionalPrinterColumns: [
      column("Model", ".spec.modelName", "Model name"),
      column("Version", ".spec.modelVersion", "Model version"),
      column("Type", ".spec.modelType", "Model type"),
      column("Phase", ".status.phase", "Current phase"),
      column("Replicas", ".status.currentReplicas", "Current replicas"),
      column("Ready", ".status.readyReplicas", "Ready replicas", "integer"),
      AGE,
    ],
  });
}

export function modelCrd(cel: boolean): Json {
  return crd("LLMModel", ["llmmodels", "llmm"], "Cluster", {
    schema: {
      openAPIV3Schema: {
        type: "object",
        required: ["spec"],
        properties: { spec: structural(modelSpecSchema, cel), status: structural(modelStatusSchema, cel) },
      },
    },
    subresources: { status: {} },
    additionalPrinterColumns: [
      column("Version", ".spec.version", "Version"),
      column("Type", ".spec.type", "Type"),
      column("Framework", ".spec.framework", "Framework"),
      column("Size", ".spec.size.category", "Size"),
      column("Phase", ".status.phase", "Phase"),
      AGE,
    ],
  });
}

/** Both, as one YAML file of JSON documents would hold them. */
export function crds(cel: boolean): readonly Json[] {
  return [workloadCrd(cel), modelCrd(cel)];
}
