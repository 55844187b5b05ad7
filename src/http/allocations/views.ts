import type { EpochMs } from "../../core/base/time.ts";
import { owns } from "../../core/decisions/lifecycle.ts";
import type { Eta } from "../../core/explain/forecast.ts";
import { indexNow } from "../../core/host/indices.ts";
import { positionOf } from "../../core/host/line.ts";
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
import { Outlook } from "./outlook.ts";

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
    ...(request.webhookUrl === null ? { abandon_at: timestamp(allocation.seenAt + state.policy.abandonAfterMs) } : {}),
    ...waitView(request, outlookFor(allocation, state, now), state, true),
  };
}

/** @param isOwn whoever asks may know what is left of its owner's quota. */
function waitView(request: Request, outlook: Outlook, state: HostState, isOwn: boolean) {
  const position = positionOf(state.line, request, state.policy);
  const { reason, publicReason, gpus } = outlook.reasonOf(request);
  return { position, reason: isOwn ? reason : publicReason, eta: etaView(outlook.etaOf(request, position)), gpus };
}

/** When a request that waits ends by its own time limit. */
export function deadlineOf({ submittedAt, queueTimeoutMs }: Request): string | null {
  return queueTimeoutMs === null ? null : timestamp(submittedAt + queueTimeoutMs);
}

/** Records as far as `actor` may see them. Why those wait, and until when, is found out once for all of them. */
export function recordsView(allocations: readonly Allocation[], state: HostState, now: EpochMs, actor: Actor) {
  const outlook = new Outlook(state, now);
  return allocations.map((allocation) => viewOf(allocation, outlook, state, now, actor));
}

/** One record, as far as `actor` may see it. */
export function recordView(allocation: Allocation, state: HostState, now: EpochMs, actor: Actor) {
  return viewOf(allocation, outlookFor(allocation, state, now), state, now, actor);
}

/** No forecast is made for those behind it in the line. */
function outlookFor({ status, request }: Allocation, state: HostState, now: EpochMs): Outlook {
  return new Outlook(state, now, status === "queued" ? positionOf(state.line, request, state.policy) : 0);
}

/**
 * What a workload is made of, where its webhooks go, what is left of its quota, what its holder was asked, and the token that its lease is renewed
 * and released with is for its owner and for admins.
 */
function viewOf(allocation: Allocation, outlook: Outlook, state: HostState, now: EpochMs, actor: Actor) {
  const { request } = allocation;
  const isOwn = owns(actor, allocation);
  return {
    ...recordFor(actor, allocation, state),
    ...(allocation.status === "queued"
      ? { ...waitView(request, outlook, state, isOwn), deadline: deadlineOf(request) }
      : {}),
    ...healthOfLease(allocation, state, now),
    ...overMemory(allocation, state),
    ...(isOwn ? { workload_data: request.workloadData, webhook_url: request.webhookUrl } : {}),
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

export function recordFor(actor: Actor, allocation: Allocation, state: HostState) {
  // The record's types promise no changes; the answer's schema knows of no such promise.
  const body = allocationBody(allocation, indexNow(state)) as ListAnswer["allocations"][number];
  if (owns(actor, allocation)) return { ...body, principal: allocation.request.principal };
  const { fencing_token, nudge, ...open } = body;
  return open;
}
