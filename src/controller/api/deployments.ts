/** The second seed's calls for deployments, under its three prefixes. */
import { type Answer, json } from "../../http/exchange/answers.ts";
import type { Role } from "../../http/exchange/auth.ts";
import { checker } from "../../http/exchange/checks.ts";
import { type Call, type Endpoint, endpoint } from "../../http/exchange/endpoint.ts";
import { invalid } from "../../http/exchange/problems.ts";
import { ControllerError } from "../objects/errors.ts";
import { hubTokensIn, withoutHubTokens } from "../objects/hub-tokens.ts";
import { tenantOf } from "../objects/meta.ts";
import type { Model } from "../objects/model.ts";
import { modelIdOf } from "../objects/model-id.ts";
import { modelOfWorkload, modelRefusal, readModel } from "../objects/model-rules.ts";
import type { Created, WorkloadDraft } from "../objects/store.ts";
import { gpuMaximumOf, gpusOfTenant } from "../objects/tenants.ts";
import type { Workload } from "../objects/workload.ts";
import { hasRoomFor, isOfWholeGpus } from "../reconcile/fleet.ts";
import { isPlan, planOf } from "../reconcile/plan.ts";
import { type CreateAsk, createSchema, scaleSchema, type UpdateAsk, updateSchema, withoutNulls } from "./asks.ts";
import { changeable, changedDraft, deploymentId, draftOf, restartDraft, scaledDraft } from "./drafts.ts";
import {
  type ApiParts,
  changing,
  demandTenant,
  deploymentNamed,
  numberIn,
  onlyTenant,
  parametersOf,
  visible,
} from "./parts.ts";
import { deploymentView, externalOf, statusView } from "./views.ts";

const MAX_LISTED = 1_000;
const readCreate = checker(createSchema);
const readUpdate = checker(updateSchema);
const readScale = checker(scaleSchema);

export function deploymentEndpoints(parts: ApiParts): readonly Endpoint[] {
  const role = changing(parts);
  const looking = { role: "allocate", body: "ignored" } as const;
  const of = (prefix: string, createdAs: 200 | 202, least: Role): Endpoint[] => {
    const change = prefix.startsWith("/admin") ? "admin" : role;
    const look = { ...looking, role: least };
    return [
      endpoint(`${prefix}/:id/status`, "key", { GET: { ...look, answer: (call) => status(parts, call) } }),
      endpoint(`${prefix}/:id/restart`, "key", {
        POST: { role: change, body: "ignored", answer: (call) => restart(parts, call) },
      }),
      endpoint(`${prefix}/:id`, "key", {
        GET: { ...look, answer: (call) => json(200, deploymentView(deploymentNamed(parts, call, call.id))) },
        PUT: { role: change, body: "needed", answer: (call) => update(parts, call) },
        DELETE: { role: change, body: "ignored", answer: (call) => remove(parts, call) },
      }),
      endpoint(prefix, "key", {
        GET: { ...look, takesQuery: true, answer: (call) => list(parts, call, prefix.startsWith("/admin")) },
        ...(prefix.startsWith("/internal")
          ? {}
          : {
              POST: {
                role: change,
                body: "needed",
                takesQuery: true,
                answer: (call) => create(parts, call, createdAs),
              },
            }),
      }),
    ];
  };
  return [
    endpoint("/internal/deployments/create", "key", {
      POST: { role, body: "needed", takesQuery: true, answer: (call) => create(parts, call, 200) },
    }),
    endpoint("/internal/deployments/status", "key", {
      GET: { ...looking, takesQuery: true, answer: (call) => modelStatus(parts, call) },
    }),
    endpoint("/internal/models/:id/endpoint", "key", { GET: { ...looking, answer: (call) => modelUrl(parts, call) } }),
    ...of("/internal/deployments", 200, "allocate"),
    ...of("/admin/v1/deployments", 202, "admin"),
    ...of("/api/v1/deployments", 202, "allocate"),
    endpoint("/admin/v1/models/:id/scale", "key", {
      POST: { role: "admin", body: "needed", answer: (call) => scaleModel(parts, call) },
    }),
  ];
}

async function create(parts: ApiParts, call: Call, createdAs: 200 | 202): Promise<Answer> {
  const ask = withToken(readCreate(withoutNulls(call.body)));
  const tenant = ask.tenant_id ?? onlyTenant(parts, call);
  if (tenant === null) throw invalid([{ path: "tenant_id", message: "is needed: the key is for several tenants" }]);
  demandTenant(parts, call, tenant);
  await parts.tenants?.demand(tenant);
  const draft = draftOf(ask, tenant, deploymentId(ask.model_id, randomOf(parts, call)), parts.settings);
  const { queue = "true" } = parametersOf(call, ["queue"]);
  return parts.idempotency.answer("create-deployment", call, {
    async first(key) {
      demandFit(parts, draft, queue === "false");
      const made = await parts.objects.create(draft, key);
      await keepToken(parts, made, ask.huggingface_token);
      return json(createdAs, deploymentView(made.workload));
    },
    async again([id = ""]) {
      const workload = deploymentNamed(parts, call, id);
      await keepToken(parts, { workload, isNew: false }, ask.huggingface_token);
      return json(createdAs, deploymentView(workload));
    },
  });
}

/**
 * A hub token is one wherever it is brought: in the environment or in vLLM's settings it would stand in the object, and in the
 * database. Where there is no folder for tokens it is refused like one that is brought by its own name.
 */
function withToken(ask: CreateAsk): CreateAsk {
  const engine = { env: ask.environment_vars, config: ask.vllm_config };
  const token = ask.huggingface_token ?? hubTokensIn(engine)[0]?.token;
  if (token === undefined) return ask;
  const { env, config } = withoutHubTokens(engine);
  return { ...ask, huggingface_token: token, environment_vars: env, vllm_config: config };
}

/** Its Secret is made once: the rights of a controller are to make Secrets, not to read or change them. */
function demandNoToken({ environment_vars: env, vllm_config: config }: UpdateAsk): void {
  const places = hubTokensIn({ env, config });
  if (places.length === 0) return;
  const message = "a hub token is given when a deployment is created, as huggingface_token; this one keeps what it has";
  throw invalid(
    places.map(({ path }) => ({
      path: path.replace(/^env/, "environment_vars").replace(/^config/, "vllm_config"),
      message,
    })),
  );
}

/**
 * After the workload, which owns it: its pods wait for it. A request that is sent again makes up for a token that could
 * not be kept; where it is refused that would not help, and what the request has made goes.
 */
async function keepToken(
  { objects, backend }: ApiParts,
  { workload, isNew }: Created,
  token: string | undefined,
): Promise<void> {
  if (token === undefined) return;
  try {
    await backend.keepToken(workload, token);
  } catch (error) {
    const isRefused = error instanceof ControllerError && error.code === "backend-refused";
    // Whether or not that works, the caller is told of the token.
    if (isNew && isRefused) await objects.remove(workload).catch(() => undefined);
    throw error;
  }
}

/**
 * What an id is told apart by. In a cluster it comes of the key, so that the same request gives the same name, whichever
 * controller takes it. On one host keys are forgotten after a day, and a name must not come again.
 */
function randomOf({ backend, newId }: ApiParts, { actor, idempotencyKey: key }: Call): string {
  return backend.kind === "host" || key === undefined ? newId() : `${actor.principal}\0${key}`;
}

/** @throws ControllerError `never-fits`, `no-gpu-free`, `model-not-found`, `model-refused`, `tenant-foreign`, `tenant-maximum` */
export function demandFit({ loop, objects, settings }: ApiParts, draft: WorkloadDraft, now: boolean): void {
  const { spec } = draft;
  const nodes = loop.seen?.nodes ?? [];
  const barred = modelRefusal(draft, spec, objects.models(), settings.reconcile.trustedKeys);
  if (barred !== null) {
    throw new ControllerError(barred.reason === "ModelForbidden" ? "tenant-foreign" : "model-refused", barred.message);
  }
  const planned = planOf(spec, objects.models(), nodes, settings.reconcile, loop.seen?.groups);
  if (!isPlan(planned)) {
    throw new ControllerError(planned.reason === "ModelNotFound" ? "model-not-found" : "never-fits", planned.message);
  }
  const tenant = tenantOf(draft);
  const most = gpuMaximumOf(settings.reconcile.tenantGpus, tenant);
  const own = objects.workloads().find(({ metadata }) => metadata.name === draft.name);
  const others = gpusOfTenant(objects.workloads(), tenant, own?.metadata.uid ?? "");
  const asked = planned.gpus * (spec.replicas ?? spec.scaling.minReplicas);
  if (most !== null && asked > 0 && others + asked > most) {
    const words = `${tenant} may have ${most} GPUs: ${others} are its already, and this asks for ${asked}`;
    throw new ControllerError("tenant-maximum", words);
  }
  if (!now || planned.gpus === 0) return;
  if (isOfWholeGpus(planned) && !hasRoomFor(nodes, planned)) {
    throw new ControllerError("no-gpu-free", `no node has ${planned.gpus} GPUs free now`);
  }
}

/** @param isNewestFirst as the second seed's own pages show them; else by name. */
function list(parts: ApiParts, call: Call, isNewestFirst: boolean): Answer {
  const query = parametersOf(call, ["tenant_id", "model_id", "status", "limit", "offset"]);
  const limit = numberIn("limit", query.limit, 100, MAX_LISTED);
  const offset = numberIn("offset", query.offset, 0, Number.MAX_SAFE_INTEGER);
  const found = visible(parts, call).filter(
    (workload) =>
      (query.tenant_id === undefined || tenantOf(workload.metadata) === query.tenant_id) &&
      (query.model_id === undefined || modelIdOf(workload) === query.model_id) &&
      (query.status === undefined || (workload.status.state ?? "pending") === query.status),
  );
  const age = ({ metadata }: Workload) => Date.parse(metadata.creationTimestamp);
  const ordered = isNewestFirst ? found.toSorted((a, b) => age(b) - age(a)) : found;
  return json(200, ordered.slice(offset, offset + limit).map(deploymentView));
}

function status(parts: ApiParts, call: Call): Answer {
  const workload = deploymentNamed(parts, call, call.id);
  return json(200, statusView(workload, parts.loop.seen?.tracksOf(workload) ?? []));
}

async function update(parts: ApiParts, call: Call): Promise<Answer> {
  const workload = changeable(deploymentNamed(parts, call, call.id));
  const ask = readUpdate(withoutNulls(call.body));
  demandNoToken(ask);
  const draft = changedDraft(workload, ask);
  demandFit(parts, draft, false);
  return json(200, deploymentView(await parts.objects.put(draft)));
}

async function remove(parts: ApiParts, call: Call): Promise<Answer> {
  const isGone = parts.objects.workloads().every(({ metadata }) => metadata.name !== call.id);
  if (!isGone || !(await wasTheirs(parts, call))) {
    const workload = deploymentNamed(parts, call, call.id);
    const { name } = workload.metadata;
    parts.history.noteDeployment(name, tenantOf(workload.metadata), new Date(parts.now()).toISOString());
    await parts.objects.remove(workload);
  }
  return json(200, { success: true, message: `deployment ${call.id} is deleted`, data: { deployment_id: call.id } });
}

/**
 * Of one that is gone its history tells: to delete it again is no mistake.
 *
 * @throws ControllerError `tenant-foreign`
 */
async function wasTheirs(parts: ApiParts, call: Call): Promise<boolean> {
  const tenant = await parts.history.tenantOf(call.id);
  if (tenant !== null) demandTenant(parts, call, tenant);
  return tenant !== null;
}

async function restart(parts: ApiParts, call: Call): Promise<Answer> {
  const workload = deploymentNamed(parts, call, call.id);
  if (workload.metadata.deletionTimestamp !== null) {
    throw new ControllerError("not-restartable", `${workload.metadata.name} is terminating`);
  }
  await parts.objects.put(restartDraft(workload, new Date(parts.now()).toISOString()));
  return json(200, {
    success: true,
    message: "its replicas are replaced one after the other",
    data: { deployment_id: call.id },
  });
}

function deploymentsOf(parts: ApiParts, call: Call, modelId: string): readonly Workload[] {
  return visible(parts, call).filter(
    (workload) => modelIdOf(workload) === modelId || workload.spec.modelName === modelId,
  );
}

function modelStatus(parts: ApiParts, call: Call): Answer {
  const { model_id: modelId, tenant_id: tenant } = parametersOf(call, ["model_id", "tenant_id"]);
  if (modelId === undefined) throw invalid([{ path: "model_id", message: "is needed" }]);
  const found = deploymentsOf(parts, call, modelId).filter(
    ({ metadata }) => tenant === undefined || tenantOf(metadata) === tenant,
  );
  const best = found.find((one) => (one.status.readyReplicas ?? 0) > 0) ?? found[0];
  if (best === undefined) return json(200, { status: "not_deployed", deployment_id: null, model_id: modelId });
  const view = deploymentView(best);
  return json(200, {
    ...view,
    status: view.ready_replicas > 0 ? "running" : "deploying",
    deployment_status: view.status,
    endpoint: view.internal_endpoint ?? view.external_endpoint,
    gpu_count: view.total_gpus,
  });
}

function modelUrl(parts: ApiParts, call: Call): Answer {
  const found = deploymentsOf(parts, call, call.id);
  const best = found.find(({ status: { endpoints = [] } }) => endpoints.length > 0);
  if (best === undefined) {
    throw new ControllerError("workload-not-found", `no replica of the model ${call.id} is ready`);
  }
  return json(200, {
    // As there: a gateway that stands outside of the cluster cannot call the Service's name.
    endpoint_url: externalOf(best) ?? best.status.endpoints?.[0],
    model_id: modelIdOf(best),
    model_name: best.spec.modelName,
    huggingface_id: best.spec.engine?.model ?? null,
    deployment_id: best.metadata.name,
    tenant_id: tenantOf(best.metadata),
    is_public: isPublic(modelOfWorkload(best.spec, parts.objects.models())),
    status: best.status.state ?? "pending",
  });
}

/** Where nobody says that it is for all, a gateway is not told so. */
function isPublic(model: Model | null): boolean {
  const read = model === null ? null : readModel(model.spec);
  return read !== null && "spec" in read && read.spec.access?.public === true;
}

async function scaleModel(parts: ApiParts, call: Call): Promise<Answer> {
  const { replicas, reason = "by hand", deployment_id: id } = readScale(call.body);
  const found = deploymentsOf(parts, call, call.id).filter(({ metadata }) => id === undefined || metadata.name === id);
  const [workload] = found;
  if (workload === undefined) throw new ControllerError("workload-not-found", `no deployment of the model ${call.id}`);
  if (found.length > 1) {
    const names = found.map(({ metadata }) => metadata.name).join(", ");
    throw new ControllerError("several-deployments", `say which, by deployment_id: ${names}`);
  }
  const draft = scaledDraft(changeable(workload), replicas);
  if (replicas !== null && replicas > (workload.status.desiredReplicas ?? 0)) demandFit(parts, draft, false);
  const before = workload.status.desiredReplicas ?? 0;
  const eventId = parts.newId();
  const initiatedAt = new Date(parts.now()).toISOString();
  await parts.objects.put(draft);
  if (replicas !== null && replicas !== before) {
    parts.history.beginScaling({
      eventId,
      deploymentId: workload.metadata.name,
      tenantId: tenantOf(workload.metadata),
      scalingType: "manual",
      fromReplicas: before,
      toReplicas: replicas,
      triggerReason: reason,
      triggerMetrics: {},
      initiatedAt,
    });
  }
  // Taken back before anything had come of it: no look would ever see its end.
  if (replicas === before) await cancelOther(parts, workload.metadata.name, replicas, initiatedAt);
  return json(202, {
    event_id: eventId,
    deployment_id: workload.metadata.name,
    from_replicas: before,
    to_replicas: replicas,
    // Where no other number is asked for, nothing is to come.
    status: replicas === null || replicas === before ? "success" : "in_progress",
  });
}

async function cancelOther({ history }: ApiParts, deploymentId: string, replicas: number, at: string): Promise<void> {
  const [last] = await history.scalings({ deploymentId, limit: 1 });
  if (last?.status === "in_progress" && last.toReplicas !== replicas) history.endScaling(deploymentId, "cancelled", at);
}
