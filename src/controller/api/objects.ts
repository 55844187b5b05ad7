/**
 * The objects themselves, at the paths that Kubernetes has for them: a manifest is put where its name says. For both
 * kinds, and for `scale` as an HPA would call it.
 */
import { type Answer, json } from "../../http/exchange/answers.ts";
import { type Call, type Endpoint, endpoint } from "../../http/exchange/endpoint.ts";
import { invalid } from "../../http/exchange/problems.ts";
import { ControllerError } from "../objects/errors.ts";
import { hubTokensIn } from "../objects/hub-tokens.ts";
import { API_VERSION, LABEL, type Metadata, metadataSchema, tenantOf } from "../objects/meta.ts";
import { type Model, modelSpecSchema } from "../objects/model.ts";
import { mayUse, readModel } from "../objects/model-rules.ts";
import { readSpec } from "../objects/rules.ts";
import type { Workload } from "../objects/workload.ts";
import { annotationsAfter, scaledDraft } from "./drafts.ts";
import { type ApiParts, changing, demandAllTenants, demandTenant, tenantsOf, visible } from "./parts.ts";
import { objectView } from "./views.ts";

const BASE = `/apis/${API_VERSION}`;

export function objectEndpoints(parts: ApiParts): readonly Endpoint[] {
  const role = changing(parts);
  return [
    endpoint(`${BASE}/*rest`, "key", {
      GET: { role: "read", body: "ignored", answer: (call) => look(parts, call) },
      PUT: { role, body: "needed", answer: (call) => put(parts, call) },
      DELETE: { role, body: "ignored", answer: (call) => remove(parts, call) },
    }),
  ];
}

interface Place {
  readonly kind: "llmworkloads" | "llmmodels";
  readonly namespace: string | null;
  readonly name: string | null;
  readonly part: "scale" | null;
}

function placeOf({ rest }: Call): Place {
  const words = rest.split("/");
  const namespace = words[0] === "namespaces" ? (words[1] ?? null) : null;
  const [kind, name = null, part = null, ...more] = namespace === null ? words : words.slice(2);
  const isKnown = kind === "llmworkloads" || (kind === "llmmodels" && namespace === null);
  if (!isKnown || more.length > 0 || (part !== null && part !== "scale")) {
    throw new ControllerError("workload-not-found", `there is nothing at ${BASE}/${rest}`);
  }
  return { kind, namespace, name, part };
}

function look(parts: ApiParts, call: Call): Answer {
  const place = placeOf(call);
  if (place.kind === "llmmodels") {
    const shown = (model: Model) => modelView(model, tenantsOf(parts, call));
    if (place.name === null) return json(200, listOf("LLMModelList", usable(parts, call).map(shown)));
    return json(200, shown(modelNamed(usable(parts, call), place.name)));
  }
  if (place.name === null) {
    const found = visible(parts, call).filter(
      ({ metadata }) => place.namespace === null || metadata.namespace === place.namespace,
    );
    return json(200, listOf("LLMWorkloadList", found.map(objectView)));
  }
  const workload = workloadAt(parts, call, place);
  return json(200, place.part === "scale" ? scaleView(workload) : objectView(workload));
}

function listOf(kind: string, items: readonly object[]) {
  return { apiVersion: API_VERSION, kind, metadata: {}, items };
}

/** Those that a tenant of the caller may use. */
function usable(parts: ApiParts, call: Call): readonly Model[] {
  const tenants = tenantsOf(parts, call);
  return parts.objects.models().filter(({ spec: given }) => {
    if (tenants === null) return true;
    const read = readModel(given);
    return "spec" in read && tenants.some((tenant) => mayUse(read.spec, tenant));
  });
}

/** @param tenants are those of the caller, who sees who uses it, and who may, as far as it is one of them. */
function modelView({ metadata, spec, status }: Model, tenants: readonly string[] | null) {
  const view = { apiVersion: API_VERSION, kind: "LLMModel", metadata, spec, status };
  if (tenants === null) return view;
  const { deployments = [], usageStats: _, ...rest } = status;
  const own = deployments.filter(({ tenant }) => tenants.includes(String(tenant)));
  const { access } = spec;
  const within = access?.tenants?.filter((tenant) => tenants.includes(tenant));
  return {
    ...view,
    spec: within === undefined ? spec : { ...spec, access: { ...access, tenants: within } },
    status: { ...rest, deployments: own },
  };
}

function scaleView({ metadata: { name, namespace, resourceVersion }, spec, status }: Workload) {
  return {
    apiVersion: "autoscaling/v1",
    kind: "Scale",
    metadata: { name, namespace, resourceVersion },
    spec: { replicas: spec.replicas ?? status.desiredReplicas ?? 0 },
    status: { replicas: status.currentReplicas ?? 0, selector: status.selector ?? "" },
  };
}

async function put(parts: ApiParts, call: Call): Promise<Answer> {
  const place = placeOf(call);
  const body = call.body as Record<string, unknown> | null;
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw invalid([{ path: "", message: "expected an object" }]);
  }
  if (place.name === null) throw invalid([{ path: "", message: "the path names no object" }]);
  if (place.part === "scale") return scaled(parts, call, place, body);
  const metadata = metadataOf(body, place);
  if (place.kind === "llmmodels") {
    demandAllTenants(parts, call);
    const read = modelSpecSchema.safeParse(body.spec);
    if (!read.success)
      throw invalid(read.error.issues.map((one) => ({ path: ["spec", ...one.path].join("."), message: one.message })));
    return json(200, modelView(await parts.objects.putModel(place.name, metadata.labels ?? {}, read.data), null));
  }
  const read = readSpec(body.spec);
  if ("breaches" in read) throw invalid(read.breaches);
  // It would give its pods whatever secret of the namespace it names.
  if ((read.spec.security?.secretRefs ?? []).length > 0) {
    throw invalid([{ path: "spec.security.secretRefs", message: "cannot be set by this API" }]);
  }
  const tokens = hubTokensIn(read.spec.engine ?? {});
  if (tokens.length > 0) {
    const message = "a hub token would stand in the object; a deployment's huggingface_token has a Secret of its own";
    throw invalid(tokens.map(({ path }) => ({ path: `spec.engine.${path}`, message })));
  }
  const namespace = place.namespace ?? metadata.namespace ?? parts.settings.namespace;
  const old = parts.objects.workloads().find(({ metadata: had }) => had.name === place.name);
  // The name is the deployment's id, which says no namespace.
  if (old !== undefined && old.metadata.namespace !== namespace) {
    throw new ControllerError("object-exists", `${place.name} is in the namespace ${old.metadata.namespace}`);
  }
  if (old !== undefined && old.spec.modelName !== read.spec.modelName) {
    throw invalid([{ path: "spec.modelName", message: "cannot change; make a new workload" }]);
  }
  const labels = {
    ...(metadata.labels ?? {}),
    ...(read.spec.tenant === undefined ? {} : { [LABEL.tenant]: read.spec.tenant }),
  };
  const tenant = tenantOf({ labels, namespace });
  const before = old === undefined ? null : tenantOf(old.metadata);
  for (const one of [tenant, ...(before === null ? [] : [before])]) demandTenant(parts, call, one);
  // A label says whose it is, but a namespace has things of its tenant that pods there can use.
  if (old === undefined && namespace !== parts.settings.namespace) demandTenant(parts, call, namespace);
  // Also of what is there already, when it is to be another's from now on.
  if (tenant !== before) await parts.tenants?.demand(tenant);
  const annotations = annotationsAfter(old?.metadata ?? {}, metadata.annotations);
  const draft = { namespace, name: place.name, labels, annotations, spec: read.spec };
  const made = await parts.objects.put(draft);
  return json(old === undefined ? 201 : 200, objectView(made));
}

function metadataOf(body: Record<string, unknown>, { name, namespace, kind }: Place) {
  const read = metadataSchema.safeParse(body.metadata);
  if (!read.success) {
    throw invalid(
      read.error.issues.map((one) => ({ path: ["metadata", ...one.path].join("."), message: one.message })),
    );
  }
  const wanted = kind === "llmmodels" ? "LLMModel" : "LLMWorkload";
  const wrong = [
    ...(body.apiVersion === API_VERSION ? [] : [{ path: "apiVersion", message: `expected ${API_VERSION}` }]),
    ...(body.kind === wanted ? [] : [{ path: "kind", message: `expected ${wanted}` }]),
    ...(read.data.name === name ? [] : [{ path: "metadata.name", message: "is another than the path's" }]),
    ...(namespace === null || (read.data.namespace ?? namespace) === namespace
      ? []
      : [{ path: "metadata.namespace", message: "is another than the path's" }]),
  ];
  if (wrong.length > 0) throw invalid(wrong);
  return read.data as Pick<Metadata, "name"> & Partial<Metadata>;
}

async function scaled(parts: ApiParts, call: Call, place: Place, body: Record<string, unknown>): Promise<Answer> {
  const replicas = (body.spec as { replicas?: unknown } | undefined)?.replicas;
  if (!Number.isInteger(replicas) || (replicas as number) < 0 || (replicas as number) > 10_000) {
    throw invalid([{ path: "spec.replicas", message: "expected a whole number from 0 to 10000" }]);
  }
  const workload = workloadAt(parts, call, place);
  return json(200, scaleView(await parts.objects.put(scaledDraft(workload, replicas as number))));
}

async function remove(parts: ApiParts, call: Call): Promise<Answer> {
  const place = placeOf(call);
  if (place.name === null) throw invalid([{ path: "", message: "the path names no object" }]);
  if (place.kind === "llmmodels") {
    demandAllTenants(parts, call);
    await parts.objects.removeModel(modelNamed(parts.objects.models(), place.name));
    return json(200, { kind: "Status", apiVersion: "v1", status: "Success" });
  }
  const workload = workloadAt(parts, call, place);
  await parts.objects.remove(workload);
  return json(200, objectView(workload));
}

function workloadAt(parts: ApiParts, call: Call, { namespace, name }: Place): Workload {
  const found = visible(parts, call).find(
    ({ metadata }) => metadata.name === name && (namespace === null || metadata.namespace === namespace),
  );
  if (found === undefined) throw new ControllerError("workload-not-found", `there is no LLMWorkload ${name}`);
  return found;
}

function modelNamed(models: readonly Model[], name: string): Model {
  const found = models.find(({ metadata }) => metadata.name === name);
  if (found === undefined) throw new ControllerError("model-not-found", `there is no LLMModel ${name}`);
  return found;
}
