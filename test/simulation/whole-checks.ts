/** Checks of the whole, whatever happened: what is stored, what is in memory and what the journal folds to are one. */

import { canonicalJson } from "../../src/core/base/json.ts";
import type { EpochMs } from "../../src/core/base/time.ts";
import { decide } from "../../src/core/decisions/decide.ts";
import { candidatesOf } from "../../src/core/host/candidates.ts";
import { emptyHost, withAllocation, withBookings, withGpus } from "../../src/core/host/changes.ts";
import type { Event } from "../../src/core/host/events.ts";
import { evolve } from "../../src/core/host/evolve.ts";
import { type Candidates, keyOf } from "../../src/core/host/free-gpus.ts";
import type { HostState } from "../../src/core/host/state.ts";
import type { LiveAllocation } from "../../src/core/model/allocation.ts";
import type { Cordon, Gpu, GpuHold } from "../../src/core/model/gpu.ts";
import { holdersOf } from "../../src/core/model/holds.ts";
import type { Policy } from "../../src/core/model/policy.ts";
import type { GpuUse } from "../../src/core/model/use.ts";
import type { TurnReader } from "../../src/core/replay/recall.ts";
import type { StoredState } from "../../src/ports/store.ts";
import { decodeEvents, TurnTexts } from "../../src/store/records.ts";
import { type Books, movedLease } from "./books.ts";
import type { DurableView, JournalTurn } from "./durable-view.ts";
import { TICK_MS } from "./simulated-daemon.ts";
import { breach } from "./violation.ts";

/** 8: what the state keeps of its GPUs is what a full look gives. */
export function checkCandidates(state: HostState): void {
  const [kept, anew] = [standing(state.candidates, state), standing(candidatesOf(state), state)];
  if (kept !== anew) breach(8, `of the GPUs the state keeps\n${kept}\nand a full look gives\n${anew}`);
}

/** Who stands in which bucket, and whether as it is now. */
function standing({ free, areSomeCut }: Candidates, { gpus }: HostState): string {
  const lines = free.buckets.map(({ first, members }) => {
    const key = keyOf(first);
    if (first !== members[0]) return `${key}: ${first.gpu.uuid} is not the first`;
    const names = members.map(({ gpu, baselineMib }) => {
      return `${gpu.uuid} (${gpu === gpus.get(gpu.uuid) ? "now" : "before"}, ${baselineMib} MiB)`;
    });
    return `${key}: ${names.join(", ")}`;
  });
  return [`cut: ${areSomeCut}`, ...lines.sort()].join("\n");
}

/** Values never change, so each is written out once. */
const texts = new WeakMap<object, string>();

function textOf(value: LiveAllocation | Gpu): string {
  let text = texts.get(value);
  if (text === undefined) {
    // When a client was last seen is not durable.
    text = canonicalJson("seenAt" in value ? { ...value, seenAt: 0 } : value);
    texts.set(value, text);
  }
  return text;
}

/** What of a state is durable, as text: the same for the same state. */
export function durableText(state: HostState | StoredState): string {
  const allocations = [...state.allocations.values()].map((allocation) => ({
    id: allocation.request.id,
    text: textOf(allocation),
  }));
  const gpus = [...state.gpus.values()];
  allocations.sort((a, b) => (a.id < b.id ? -1 : 1));
  gpus.sort((a, b) => (a.uuid < b.uuid ? -1 : 1));
  const lines = [...allocations.map(({ text }) => text), ...gpus.map(textOf)];
  lines.push(`cordon ${canonicalJson(state.cordon)}`, `bookings ${canonicalJson(state.bookings)}`);
  lines.push(`token ${state.nextFencingToken} boot ${state.bootId}`);
  return lines.join("\n");
}

/** 8: from the latest snapshot on, the journal folds to `folded`, the fold of all events one by one. */
export function checkFold(view: DurableView, folded: HostState): void {
  const snapshot = view.snapshot();
  let state = snapshot === null ? emptyHost(folded.policy) : stateOf(snapshot.state, folded.policy);
  let seq = snapshot?.seq ?? 0;
  for (const turn of view.turnsAfter(seq)) {
    if (turn.seq !== seq + turn.events.length) breach(8, `the journal has a gap before ${turn.seq}`);
    state = turn.events.reduce(evolve, state);
    seq = turn.seq;
  }
  const [anew, oneByOne] = [durableText(state), durableText(folded)];
  if (anew !== oneByOne) breach(8, `folded from ${snapshot?.seq ?? 0}:\n${anew}\nfolded one by one:\n${oneByOne}`);
}

/** 8: of what a turn found and was asked, as it is kept, the same events come again. @returns where the next begins. */
export function checkReplay(
  { seq, at, events: told, inputs }: JournalTurn,
  folded: HostState,
  past: TurnReader,
): HostState {
  if (inputs === null) breach(8, `nobody knows what led to the turn of ${seq}`);
  const { passed, state, commands } = past.recall(inputs, folded);
  const events: Event[] = [];
  let before = state;
  for (const command of commands) {
    const decision = decide(before, command, at);
    events.push(...decision.events);
    before = decision.state;
  }
  const text = canonicalJson(told);
  const again = canonicalJson(decodeEvents(new TurnTexts().events(events)));
  if (again !== text) breach(8, `the turn of ${seq} was\n${text}\nand again is\n${again}\nof ${inputs}`);
  return passed;
}

function stateOf(stored: StoredState, policy: Policy): HostState {
  let state = withGpus(withBookings(emptyHost(policy), stored.bookings), stored.gpus);
  for (const allocation of stored.allocations) state = withAllocation(state, allocation);
  return { ...state, nextFencingToken: stored.nextFencingToken, bootId: stored.bootId, cordon: stored.cordon };
}

/** `folded` as it stands on a clock that has been set by `ms`: what lives has moved with it. */
export function movedState(folded: HostState, ms: number): HostState {
  const gpus = folded.gpus.values().map((gpu) => ({
    ...gpu,
    hold: movedHold(gpu.hold, ms),
    cordon: movedCordon(gpu.cordon, ms),
    lostSince: gpu.lostSince === null ? null : gpu.lostSince + ms,
    foreignSince: gpu.foreignSince === null ? null : gpu.foreignSince + ms,
  }));
  const allocations = [...folded.allocations.values()].map((allocation): LiveAllocation => {
    const { status, request: before } = allocation;
    const request = { ...before, submittedAt: before.submittedAt + ms };
    if (status === "queued") {
      const { preemptingSince, headSince } = allocation;
      const move = (at: EpochMs | null) => (at === null ? null : at + ms);
      return { status, request, preemptingSince: move(preemptingSince), headSince: move(headSince), seenAt: 0 };
    }
    const told = allocation.notice;
    const notice = told === null ? null : { ...told, at: told.at + ms, until: told.until + ms };
    const lease = movedLease(allocation.lease, ms);
    return status === "leased"
      ? { status, request, lease, idleSince: allocation.idleSince === null ? null : allocation.idleSince + ms, notice }
      : { status, request, lease, claimBy: allocation.claimBy + ms, notice };
  });
  const cordon = movedCordon(folded.cordon, ms);
  return stateOf({ ...folded, gpus, allocations, cordon, lastTurnAt: null, lastSeq: 0 }, folded.policy);
}

function movedCordon(cordon: Cordon | null, ms: number): Cordon | null {
  if (cordon === null) return null;
  return { ...cordon, at: cordon.at + ms, drainBy: cordon.drainBy === null ? null : cordon.drainBy + ms };
}

function movedHold(hold: GpuHold, ms: number): GpuHold {
  if (hold.kind === "free") return hold;
  const since = hold.since + ms;
  if (hold.kind === "leased") return { ...hold, since, use: movedUse(hold.use, ms) };
  if (hold.kind !== "shared") return { ...hold, since };
  const moved = (at: EpochMs | null) => (at === null ? null : at + ms);
  return {
    ...hold,
    since,
    shares: hold.shares.map((share) => ({
      ...share,
      since: share.since + ms,
      startedAt: moved(share.startedAt),
      settledAt: moved(share.settledAt),
      overSince: moved(share.overSince),
      use: movedUse(share.use, ms),
    })),
    remains: hold.remains.map((one) => ({ ...one, since: one.since + ms, submittedAt: one.submittedAt + ms })),
    overdueSince: moved(hold.overdueSince),
  };
}

function movedUse({ spans, since }: GpuUse, ms: number): GpuUse {
  return {
    spans: spans.map(([from, to, usedMs]) => [from + ms, to + ms, usedMs] as const),
    since: since === null ? null : since + ms,
  };
}

/** 1, 8: what is stored is what the journal folds to, and its guarding rows are those of its leases. */
export function checkStored(view: DurableView, folded: HostState): void {
  const stored = view.state();
  const [onDisk, expected] = [durableText(stored), durableText(folded)];
  if (onDisk !== expected) breach(8, `stored:\n${onDisk}\nfolded:\n${expected}`);
  const held = new Map<string, Map<string, number | null>>();
  let holds = 0;
  for (const allocation of stored.allocations) {
    if (allocation.status === "queued") continue;
    const { gpus, sharedMib } = allocation.lease;
    for (const { uuid } of gpus) {
      const here = held.get(uuid) ?? new Map<string, number | null>();
      held.set(uuid, here.set(allocation.request.id, sharedMib));
      holds++;
      const isAlone = here.size === 1 || [...here.values()].every((mib) => mib !== null);
      if (!isAlone) breach(1, `${uuid} is leased to ${[...here.keys()].join(" and ")}`);
    }
  }
  const guards = view.leases();
  for (const { gpu_uuid: uuid, allocation_id: id, shared_mib: mib } of guards) {
    if (held.get(uuid)?.get(id) !== mib) breach(1, `a row guards ${mib} MiB of ${uuid} for ${id}`);
  }
  if (guards.length !== holds) breach(1, "a lease is there without the row that guards it");
  for (const { uuid, hold } of stored.gpus) {
    const holders = holdersOf(hold).map(({ allocationId }) => allocationId);
    const leased = [...(held.get(uuid)?.keys() ?? [])];
    if (holders.toSorted().join() !== leased.toSorted().join()) {
      breach(1, `${uuid} is ${hold.kind} (${holders.join()}), and leased to ${leased.join()}`);
    }
  }
}

/** 3, 10: the books agree with what is stored and shown. */
export function checkBooks(books: Books, view: DurableView, shown: HostState): void {
  if (books.live.size !== shown.allocations.size) breach(3, "something lives that has not begun, or has ended");
  for (const [id, { status }] of books.live) {
    const there = shown.allocations.get(id);
    if (there?.status !== status) breach(3, `${id} is ${status}, and shown as ${there?.status}`);
  }
  const pending = view.pendingDeliveries();
  for (const { delivery_id: id } of pending) if (!books.pending.has(id)) breach(10, `${id} is pending again`);
  if (pending.length !== books.pending.size) breach(10, "an undelivered webhook is gone");
}

/**
 * 5: nothing is overdue for longer than the safety net's interval.
 *
 * @param wellSince the daemon has run since then, and its disk has been well.
 */
export function checkOverdue(books: Books, now: number, wellSince: number): void {
  for (const [id, { status, request, lease, claimBy }] of books.live) {
    const waitsUntil =
      status === "queued" && request.queueTimeoutMs !== null ? request.submittedAt + request.queueTimeoutMs : Infinity;
    const due = Math.min(waitsUntil, claimBy ?? Infinity, lease?.expiresAt ?? Infinity);
    if (now - Math.max(due, wellSince) > TICK_MS) breach(5, `${id}, ${status}, is overdue by ${now - due} ms`);
  }
}
