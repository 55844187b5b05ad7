import type { EpochMs } from "../../core/base/time.ts";
import { type Explanation, explain, explainer } from "../../core/explain/explain.ts";
import { type Eta, etaOf } from "../../core/explain/forecast.ts";
import { positionOf, type Waiting } from "../../core/host/line.ts";
import type { HostState } from "../../core/host/state.ts";
import type { Allocation, QueuedAllocation, Request } from "../../core/model/allocation.ts";
import type { Gpu, Share } from "../../core/model/gpu.ts";
import type { Actor } from "../../core/model/ids.ts";
import { printable } from "../../platform/printable.ts";
import type { QueuedAnswer } from "../../wire/allocations/answers.ts";
import { allocationBody } from "../../wire/allocations/bodies.ts";
import type { ListAnswer } from "../../wire/host/answers.ts";
import { timestamp } from "../../wire/values.ts";
import { ailmentView } from "../gpus/views.ts";

/** Requests that ask for the same have the same reason, unless GPUs are held for one; a long queue has few kinds. */
export function reasons(state: HostState, now: EpochMs, actor: Actor): (waiting: Waiting) => string {
  const { explanationOf, kindOf } = explainer(state, now);
  const known = new Map<string, string>();
  return ({ familyKey, allocation }) => {
    const { request } = allocation;
    const all = seesAll(actor, allocation);
    const key = `${all}|${familyKey}|${request.requirement.memoryMib}|${kindOf(request)}`;
    const reason = known.get(key) ?? reasonFor(explanationOf(request), all);
    known.set(key, reason);
    return reason;
  };
}

function reasonFor({ reason, publicReason }: Explanation, all: boolean): string {
  return printable(all ? reason : publicReason);
}

export function etaView(eta: Eta | null) {
  return eta === null ? null : { earliest: timestamp(eta.earliest), latest: timestamp(eta.latest) };
}

/** What the owner of a request is answered that has to wait. */
export function queuedView(allocation: QueuedAllocation, state: HostState, now: EpochMs): QueuedAnswer {
  const { request } = allocation;
  return {
    status: "queued",
    id: request.id,
    request_id: request.id,
    submitted_at: timestamp(request.submittedAt),
    priority: request.requirement.priority,
    ...standing(request, state, now, true),
  };
}

/** @param all whoever asks may know all about the request. */
function standing(request: Request, state: HostState, now: EpochMs, all: boolean) {
  const explanation = explain(request, state, now);
  const { gpus } = explanation;
  return {
    position: positionOf(state.line, request, state.policy),
    reason: reasonFor(explanation, all),
    eta: etaView(etaOf(request, state, now)),
    gpus: reasonsView(gpus, state),
  };
}

/** Of each GPU, why not; `null` for one that would do. */
export function reasonsView(gpus: Explanation["gpus"], state: HostState) {
  return [...gpus].map(([uuid, reason]) => ({
    id: state.gpus.get(uuid)?.index ?? null,
    uuid: printable(uuid),
    reason,
  }));
}

/** What a workload is made of, where its webhooks go, and what is left of its quota is for its owner and for admins. */
export function seesAll(actor: Actor, { request }: Allocation): boolean {
  return actor.admin || actor.principal === request.principal;
}

/** One record, as far as `actor` may see it. */
export function recordView(allocation: Allocation, state: HostState, now: EpochMs, actor: Actor) {
  const { request } = allocation;
  const all = seesAll(actor, allocation);
  return {
    ...recordOf(allocation),
    ...(allocation.status === "queued" ? standing(request, state, now, all) : {}),
    ...healthOfLease(allocation, state, now),
    ...overMemory(allocation, state),
    ...(all ? { workload_data: request.workloadData, webhook_url: request.webhookUrl } : {}),
  };
}

/** What is wrong with the GPUs that are held: whoever works there should save what can be saved. */
export function healthOfLease(allocation: Allocation, state: HostState, now: EpochMs) {
  if (allocation.status === "queued" || allocation.status === "ended") return {};
  const ailing_gpus = [];
  for (const { uuid } of allocation.lease.gpus) {
    const gpu = state.gpus.get(uuid);
    const ailment = gpu === undefined ? null : ailmentView(gpu, state, now);
    // A cordon is no news for those who are there already.
    if (ailment !== null && ailment.state !== "cordoned") ailing_gpus.push({ uuid: printable(uuid), ...ailment });
  }
  return { ailing_gpus };
}

/** Since when a shared lease has used more memory of any of its GPUs than is reserved for it. */
export function overMemory(allocation: Allocation, state: HostState): { over_memory_since?: string } {
  if (allocation.status === "queued" || allocation.status === "ended") return {};
  const { request, lease } = allocation;
  const since = lease.gpus
    .flatMap(({ uuid }) => sharesOf(state.gpus.get(uuid)))
    .filter(({ allocationId }) => allocationId === request.id)
    .map(({ overSince }) => overSince ?? Infinity)
    .reduce((earliest, at) => Math.min(earliest, at), Infinity);
  return since === Infinity ? {} : { over_memory_since: timestamp(since) };
}

function sharesOf(gpu: Gpu | undefined): readonly Share[] {
  return gpu?.hold.kind === "shared" ? gpu.hold.shares : [];
}

export function recordOf(allocation: Allocation) {
  const body = allocationBody(allocation);
  // The record's types promise no changes; the answer's schema knows of no such promise.
  return body as ListAnswer["allocations"][number];
}
