/**
 * Keys with `delegate: true`, of services that ask for others. What such a key asks for on somebody's behalf is that
 * principal's, quotas and all; about a lease it speaks as the owner does: its reads and renewals are signs of life.
 */
import type { Scheduler } from "../../scheduler/scheduler.ts";
import type { Call } from "../exchange/endpoint.ts";
import { HttpError } from "../exchange/problems.ts";

/** @throws HttpError 403 when the key is no delegate's. */
export function onBehalfOf(call: Call, principal: string | null | undefined): Call {
  if (principal === null || principal === undefined || principal === call.actor.principal) return call;
  if (!call.delegate) throw new HttpError("role-too-low", "on_behalf_of needs a key with delegate: true");
  return { ...call, actor: { ...call.actor, principal, admin: false } };
}

/** The call as the owner of the allocation, live or ended, makes it, where a delegate makes it. */
export function forOwner(call: Call, scheduler: Pick<Scheduler, "ownerOf">, id: string | null = call.id): Call {
  const owner = call.delegate && id !== null ? scheduler.ownerOf(id) : null;
  return owner === null ? call : { ...call, actor: { ...call.actor, principal: owner } };
}
