/**
 * Its client moves a lease's end: another TTL, another `max_duration`, or both.
 *
 *  1. A later hard end must keep what others were promised: the quotas of its accounts, reserved windows, and the starts
 *     of the heads of the line where those are certain by the hard ends of leases. Otherwise it is refused, and nothing
 *     changes.
 *  2. An earlier end is its own client's to choose, as long as it is still to come: a client that did not ask for it goes
 *     on using the GPUs until the end it was told, and renews by the numbers it was told. An admin who wants them back
 *     revokes, which the client is told of.
 *  3. It is a renewal too, under the new numbers: a sign of life, which claims what was offered.
 */
import { allowanceFor, withinAllowance } from "../allocator/allowance.ts";
import { futureCandidates } from "../allocator/candidates.ts";
import type { EpochMs } from "../base/time.ts";
import { accountOf, limitedAccounts } from "../host/accounts.ts";
import { candidates } from "../host/candidates.ts";
import { withAllocation } from "../host/changes.ts";
import type { HostState } from "../host/state.ts";
import { memberOf } from "../host/window-plan.ts";
import type { HoldingAllocation } from "../model/allocation.ts";
import { ExtensionRefusedError } from "../model/errors.ts";
import { endOf, hardEndOf } from "../model/leases.ts";
import { chargedMs, neverAllowed } from "../queue/quotas.ts";
import { putOff } from "../queue/schedule.ts";
import { WindowAllowances } from "../queue/window-allowances.ts";
import type { Command } from "./commands.ts";
import type { Drafting } from "./drafting.ts";
import { demandOwner, demandToken, liveOf } from "./lifecycle.ts";

/** @throws AllocationNotFoundError, NotOwnerError, FencingTokenMismatchError, ExtensionRefusedError */
export function extend(draft: Drafting, command: Extract<Command, { type: "extend" }>, now: EpochMs): void {
  const { id, actor, fencingToken } = command;
  const before = liveOf(draft.state, id);
  demandOwner(actor, before);
  demandToken(before, fencingToken);
  if (before.status === "queued") {
    throw new ExtensionRefusedError(`${id} waits and holds nothing yet: cancel it, and ask for longer`);
  }
  const ttlMs = command.ttlMs ?? before.request.ttlMs;
  const maxDurationMs = command.maxDurationMs ?? before.request.maxDurationMs;
  const after: HoldingAllocation = { ...before, request: { ...before.request, ttlMs, maxDurationMs } };
  const expiresAt = endOf(after.request, after.lease.grantedAt, now);
  if (expiresAt !== null && expiresAt <= now) {
    throw new ExtensionRefusedError(`${id} would be over already: max_duration counts from its grant`);
  }
  const isCut =
    isLess(expiresAt, before.lease.expiresAt) ||
    isLess(ttlMs, before.request.ttlMs) ||
    isLess(maxDurationMs, before.request.maxDurationMs);
  if (isCut && actor.principal !== before.request.principal) {
    throw new ExtensionRefusedError(
      `${id} would end earlier than its client was told, now or when it renews: revoke it`,
    );
  }
  if (isLater(after, before)) {
    const objection = objectionTo(after, draft.state, now);
    if (objection !== null) throw new ExtensionRefusedError(`${id} cannot last longer: ${objection}`);
  }
  draft.write({ type: "end-moved", id, at: now, ttlMs, maxDurationMs, expiresAt });
}

/** Of ends, or of what ends are reckoned from. `null`: without end. */
function isLess(to: number | null, from: number | null): boolean {
  return to !== null && (from === null || to < from);
}

function isLater(after: HoldingAllocation, before: HoldingAllocation): boolean {
  const [from, to] = [before.request.maxDurationMs, after.request.maxDurationMs];
  return from !== null && to !== null && to > from;
}

/** Why a lease may not end as late as `after` does; `null`: it may. See 1. */
function objectionTo(after: HoldingAllocation, state: HostState, now: EpochMs): string | null {
  return overQuota(after, state, now) ?? keptByWindow(after, state, now) ?? headPutOff(after, state, now);
}

function overQuota(after: HoldingAllocation, state: HostState, now: EpochMs): string | null {
  const forbidden = neverAllowed(after.request, state.policy);
  if (forbidden !== null) return forbidden;
  const { accounts } = withAllocation(state, after);
  for (const { key, quota } of limitedAccounts(after.request, state.policy.quotas)) {
    if (quota.gpuTime === null) continue;
    if (!accounts.counted) return `the GPU-hours that ${key} has used are being counted`;
    const charged = chargedMs(accountOf(accounts, key, quota), quota.gpuTime, now);
    if (charged > quota.gpuTime.limitMs) return `${key} has too few GPU-hours left`;
  }
  return null;
}

function keptByWindow(after: HoldingAllocation, state: HostState, now: EpochMs): string | null {
  const { windows } = state;
  if (windows.length === 0) return null;
  const { request, lease } = after;
  const allowances = new WindowAllowances(state, () => futureCandidates(state, candidates(state, now), now), now);
  const others = allowances.occupancies(state, new Set([request.id]));
  const lasting = (hardEndOf(after) ?? Infinity) - now;
  const allowance = allowanceFor(allowances.beside(others)(memberOf(request, windows)), lasting);
  const held = lease.gpus.flatMap(({ uuid }) => state.gpus.get(uuid) ?? []).map((gpu) => ({ gpu }));
  if (withinAllowance(held, allowance, held.length, () => 0).length === held.length) return null;
  const names = allowance.cause?.windows.map(({ name }) => name).join(" and ") ?? "a reserved window";
  return `its GPUs are kept by ${names}`;
}

function headPutOff(after: HoldingAllocation, state: HostState, now: EpochMs): string | null {
  const id = putOff(state, withAllocation(state, after), now);
  return id === null ? null : `${id} waits for its GPUs, and was told when it starts`;
}
