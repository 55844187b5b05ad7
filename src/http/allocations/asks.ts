/** From a checked body to what the core takes. */

import { type Known, NOTHING_KNOWN } from "../../core/analyzer/known.ts";
import type { JsonObject } from "../../core/base/json.ts";
import type { AllocateAsk, AnalyzerAsk } from "../../core/decisions/commands.ts";
import type { Sharing } from "../../core/model/allocation.ts";
import { WORKLOAD_TYPES, type WorkloadAsk, type WorkloadType } from "../../core/model/workload.ts";
import type { Knowledge } from "../../ports/knowledge.ts";
import { PidNotVisibleError, type Processes } from "../../ports/processes.ts";
import type { AllocateBody, WorkloadBody } from "../../wire/allocations/asks.ts";
import { lifetimeOf } from "../../wire/asking.ts";
import { isOfThisHost } from "../exchange/client-address.ts";
import type { Call } from "../exchange/endpoint.ts";
import { invalid } from "../exchange/problems.ts";
import type { EndpointParts } from "../parts.ts";

export function allocateAsk(body: AllocateBody): AllocateAsk {
  const data = body.workload_data ?? {};
  return {
    ...workloadAsk(body),
    serviceName: body.service_name,
    webhookUrl: body.webhook_url ?? null,
    ...exactGpusOf(body),
    preferredGpus: (body.preferred_gpus ?? data.preferred_gpus ?? []).map(String),
    gpuModel: kindAsked(body).gpuModel,
    ttlMs: lifetimeOf(body.ttl ?? data.ttl),
    maxDurationMs: lifetimeOf(body.max_duration ?? data.max_duration),
    preemptible: body.preemptible ?? data.preemptible ?? false,
    queue: body.queue ?? data.queue ?? true,
    queueTimeoutMs: lifetimeOf(body.queue_timeout ?? data.queue_timeout),
    migProfile: kindAsked(body).migProfile,
    sharing: kindAsked(body).sharing,
  };
}

/** What the analyzer sees: the same for a request and for a question about one. */
export function workloadAsk(body: WorkloadBody): WorkloadAsk {
  const data = body.workload_data ?? {};
  return {
    workloadType: normalizeWorkloadType(body.workload_type ?? null),
    // What was parsed as JSON is JSON; the schema only says that nobody knows its keys.
    workloadData: data as JsonObject,
    requiredGpus: body.required_gpus ?? data.required_gpus ?? (body.gpus ?? data.gpus)?.length ?? null,
    minMemoryMib: body.min_memory_mb ?? data.min_memory_mb ?? null,
    maxUtilizationPercent: body.max_utilization ?? data.max_utilization ?? null,
    priority: body.priority ?? data.priority ?? null,
  };
}

/** @throws HttpError 422 when another number of GPUs is asked for beside it. */
function exactGpusOf({ gpus, required_gpus, workload_data: data }: AllocateBody): { exactGpus?: readonly string[] } {
  const named = gpus ?? data?.gpus ?? null;
  if (named === null) return {};
  const count = required_gpus ?? data?.required_gpus ?? named.length;
  if (count !== named.length) {
    const message = `gpus names ${named.length}, and required_gpus says ${count}: leave it out`;
    throw invalid([{ path: "required_gpus", message }]);
  }
  return { exactGpus: named.map(String) };
}

/** Which devices will do, `null`: any; and whether a part of each will. */
export function kindAsked({ gpu_model, mig_profile, sharing, workload_data: data }: WorkloadBody) {
  const wanted: Sharing = sharing ?? data?.sharing ?? "exclusive";
  return {
    gpuModel: gpu_model ?? data?.gpu_model ?? null,
    migProfile: mig_profile ?? data?.mig_profile ?? null,
    sharing: wanted,
  };
}

/**
 * Reads a workload type as clients write it: any case, kebab-case too.
 *
 * @returns `generic` for an unknown type and for none, as the reference service does.
 */
export function normalizeWorkloadType(text: string | null): WorkloadType {
  const name = text?.trim().toLowerCase().replaceAll("-", "_");
  return WORKLOAD_TYPES.find((type) => type === name) ?? "generic";
}

/** An ask with what is known of it; as it is when nothing is. */
export function informed<Ask extends AnalyzerAsk>(
  ask: Ask,
  serviceName: string | null,
  knowledge: Knowledge,
  waitMs: number,
): Ask | Promise<Ask> {
  const found = knowledge.of({ ...ask, serviceName }, waitMs);
  return found instanceof Promise ? found.then((known) => withKnown(ask, known)) : withKnown(ask, found);
}

function withKnown<Ask extends AnalyzerAsk>(ask: Ask, known: Known): Ask {
  return known === NOTHING_KNOWN ? ask : { ...ask, known };
}

/**
 * The process that a request is to be bound to; none when it is not.
 *
 * A client in a container has numbers of its own, and another process here may have the one that it names: the tick in
 * which that began tells them apart, where the client says it.
 *
 * @throws HttpError 422 when it names none, PidNotVisibleError when it is not seen.
 */
export function boundProcess(
  body: AllocateBody,
  processes: Processes,
  { uid, actor: { origin } }: Pick<Call, "uid" | "actor">,
): Pick<AllocateAsk, "boundTo"> {
  const data = body.workload_data ?? {};
  if ((body.bind_pid ?? data.bind_pid ?? false) === false) return {};
  const { pid, pid_start_ticks: ticks } = data;
  if (typeof pid !== "number" || !Number.isSafeInteger(pid) || pid < 2) {
    throw invalid([{ path: "workload_data.pid", message: "bind_pid needs the number of a process here" }]);
  }
  // Elsewhere the number is of another process.
  const boundTo = isOfThisHost(origin?.address ?? "") ? processes.find(pid, uid) : null;
  if (boundTo === null || (ticks ?? boundTo.startTicks) !== boundTo.startTicks) throw new PidNotVisibleError(pid);
  return { boundTo };
}

/** @throws HttpError 422 when its webhook may not be sent. */
export function checkedAsk(body: AllocateBody, checkWebhookUrl: EndpointParts["checkWebhookUrl"]): AllocateAsk {
  const ask = allocateAsk(body);
  const objection = ask.webhookUrl === null ? null : checkWebhookUrl(ask.webhookUrl);
  if (objection !== null) throw invalid([{ path: "webhook_url", message: objection }]);
  return ask;
}
