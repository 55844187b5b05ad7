import type { EpochMs } from "../../core/base/time.ts";
import type { Event } from "../../core/host/events.ts";
import { type IndexOf, indexNow } from "../../core/host/indices.ts";
import type { HostState } from "../../core/host/state.ts";
import type { Allocation, EndReason } from "../../core/model/allocation.ts";
import { printable } from "../../platform/printable.ts";
import type { Notification, NotificationStatus } from "../../ports/webhooks.ts";
import { allocationBody, indicesBody, type LeaseBody, noticeBody, nudgeBody } from "../allocations/bodies.ts";
import { timestamp } from "../values.ts";

/** How an end is told to the webhook; `null`: the client did it and needs no telling. */
const STATUS_OF_END = {
  released: null,
  cancelled: "cancelled",
  expired: "expired",
  max_duration: "expired",
  timed_out: "expired",
  abandoned: "abandoned",
  unclaimed: "unclaimed",
  revoked: "revoked",
  preempted: "revoked",
  rebooted: "revoked",
  idle: "revoked",
  "process-gone": "expired",
} as const satisfies Record<EndReason, NotificationStatus | null>;

/**
 * The webhook that an event calls for, if any.
 *
 * @param allocation as it stands after the event.
 */
export function notificationOf(
  event: Event,
  allocation: Allocation,
  indexOf: IndexOf,
  deliveryId: () => string,
  now: EpochMs,
): Notification | null {
  const { request } = allocation;
  if (request.webhookUrl === null) return null;
  const status = statusOf(event);
  if (status === null) return null;
  return {
    deliveryId: deliveryId(),
    allocationId: request.id,
    status,
    url: request.webhookUrl,
    body: JSON.stringify(bodyOf(status, allocation, indexOf)),
    createdAt: now,
  };
}

/**
 * The webhook to the operator that an event calls for, if any.
 *
 * @param state after the event.
 */
export function operatorNotificationOf(
  event: Event,
  state: HostState,
  deliveryId: () => string,
  now: EpochMs,
): Notification | null {
  const url = state.policy.foreignUseWebhookUrl;
  if (url === null || (event.type !== "gpu-foreign-use" && event.type !== "gpu-foreign-use-over")) return null;
  const status = event.type === "gpu-foreign-use" ? "foreign_use" : "foreign_use_over";
  const gpu = state.gpus.get(event.uuid);
  const body = {
    status,
    gpu: { id: indexNow(state)(event.uuid), uuid: event.uuid, name: gpu === undefined ? null : printable(gpu.name) },
    at: timestamp(event.at),
    reason: printable(event.reason),
    ...(event.type === "gpu-foreign-use" ? { since: timestamp(event.since), pids: event.pids } : {}),
  };
  return { deliveryId: deliveryId(), allocationId: null, status, url, body: JSON.stringify(body), createdAt: now };
}

/** The webhook by which somebody tries a receiver. */
export function testBody(principal: string, now: EpochMs): string {
  const detail = "sent to see whether this receiver takes it; nothing has happened";
  return JSON.stringify({ status: "test" satisfies NotificationStatus, at: timestamp(now), by: principal, detail });
}

/** What of a stored body tells indices. */
interface Numbered {
  readonly gpu?: { readonly uuid: string };
  readonly allocation?: Partial<LeaseBody> & { readonly status: Allocation["status"] };
}

/**
 * A stored body as it is sent: with the indices that the driver counts now, since days may lie between the event and the
 * last attempt. An ended lease keeps those of its grant.
 */
export function bodyAsSent(stored: string, indexOf: IndexOf): string {
  const body = JSON.parse(stored) as Numbered;
  const { gpu, allocation } = body;
  if (gpu !== undefined) return JSON.stringify({ ...body, gpu: { ...gpu, id: indexOf(gpu.uuid) } });
  const { status, gpu_uuids: uuids, devices, env } = allocation ?? {};
  if (status === "ended" || uuids === undefined || devices === undefined || env === undefined) return stored;
  const { lost_gpus: _, ...held } = allocation ?? {};
  return JSON.stringify({ ...body, allocation: { ...held, ...indicesBody(uuids, devices, env, indexOf) } });
}

function statusOf(event: Event): NotificationStatus | null {
  if (event.type === "ended") return STATUS_OF_END[event.outcome.reason];
  // A grant at once was answered at once; only one from the queue, or one not heard of, needs telling.
  if (event.type === "reoffered") return "allocated";
  if (event.type === "went-idle") return "idle";
  if (event.type === "preempting" || event.type === "draining") return "preempting";
  if (event.type === "went-over-memory") return "over_memory";
  if (event.type === "nudged") return "nudged";
  return event.type === "granted" && event.claimBy !== null ? "allocated" : null;
}

/** The reference service's body; what it does not have stands beside its fields. */
function bodyOf(status: NotificationStatus, allocation: Allocation, indexOf: IndexOf) {
  const { request } = allocation;
  const lease = "lease" in allocation ? allocation.lease : null;
  return {
    status,
    request_id: request.id,
    ...(allocation.status === "ended" ? { reason: allocation.outcome.reason } : {}),
    ...(status === "preempting" && "notice" in allocation && allocation.notice !== null
      ? noticeBody(allocation.notice)
      : {}),
    ...(status === "nudged" && lease?.nudge !== undefined ? nudgeBody(lease.nudge) : {}),
    allocation: allocationBody(allocation, indexOf),
    submitted_at: timestamp(request.submittedAt),
    ...(lease === null
      ? {}
      : {
          allocated_at: timestamp(lease.grantedAt),
          wait_time_seconds: (lease.grantedAt - request.submittedAt) / 1_000,
        }),
  };
}
