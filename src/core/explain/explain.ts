/** Why a request waits: one sentence, and a reason for each GPU. */

import { futureCandidates, type PassReason } from "../allocator/candidates.ts";
import { passedOver, together, usable } from "../allocator/fit.ts";
import type { EpochMs } from "../base/time.ts";
import { candidates } from "../host/candidates.ts";
import { type Block, blockOf } from "../host/condition.ts";
import { askOf, shapeOf } from "../host/demand.ts";
import type { Candidate } from "../host/free-gpus.ts";
import { compareKeys, queueKey } from "../host/line.ts";
import { type HostState, holderOf } from "../host/state.ts";
import type { QueuedAllocation, Request } from "../model/allocation.ts";
import { holdersOf } from "../model/holds.ts";
import { ANONYMOUS, type GpuUuid } from "../model/ids.ts";
import { budgetsOf } from "../queue/budgets.ts";
import { holdsFrom, patienceEndsAt } from "../queue/patience.ts";
import { schedule } from "../queue/schedule.ts";
import { keptByWindows, roughly } from "./windows.ts";

/** Why a request is not served at an instant. */
export interface Explanation {
  /** In one sentence. */
  readonly reason: string;
  /** The same for those who may not know whose the request is, and what its owner may have and has. */
  readonly publicReason: string;
  /** Per GPU, why not; `null` for one that suits and is free. */
  readonly gpus: ReadonlyMap<GpuUuid, PassReason | null>;
}

const WORDS: Record<Block | PassReason, string> = {
  held: "leased",
  reclaiming: "being reclaimed",
  quarantined: "quarantined",
  cordoned: "cordoned",
  lost: "lost",
  unhealthy: "unhealthy",
  unknown: "without a current reading",
  recovering: "recovering",
  degraded: "degraded",
  mig: "split by MIG",
  occupied: "used by a process of no lease",
  memory: "with too little memory",
  kind: "not of the kind asked for",
  model: "of another model",
  named: "not among those asked for",
  utilization: "too busy or of unknown utilisation",
  isolated: "unable to work together with others",
  reserved: "reserved for an earlier request",
  quota: "kept from it by its quota",
  settling: "waiting for another lease's memory to settle",
  crowded: "shared by as many leases as may be",
  window: "reserved window",
};

const OVER_QUOTA = "waiting for its quota";
const PREEMPTING = "; leases are taken back for it";

/** Says why a request, which waits, has not been granted as the host stands at `now`. */
export function explain(request: Request, state: HostState, now: EpochMs): Explanation {
  return explainer(state, now).explanationOf(request);
}

/** Explanations for many requests of one state: what they have in common is found out once. */
export interface Explainer {
  readonly explanationOf: (request: Request) => Explanation;
  /** Requests for which it is the same, apart from the GPUs and the memory that they ask for, have the same one. */
  readonly kindOf: (request: Request) => string;
}

export function explainer(state: HostState, now: EpochMs): Explainer {
  const free = candidates(state, now);
  const freeByUuid = new Map(free.map((candidate) => [candidate.gpu.uuid, candidate]));
  const later = futureCandidates(state, free, now);
  const held = schedule(state, now, null).reservations;
  const budgets = budgetsOf(state, held, now, () => later);
  const isHead = ({ id }: Request) => held.some(({ head }) => head === id);
  const occupanciesBefore = ({ id }: Request) => {
    const own = held.findIndex(({ head }) => head === id);
    return (own < 0 ? held : held.slice(0, own)).map(({ occupancy }) => occupancy);
  };
  const isPreempting = (request: Request) => {
    const allocation = state.allocations.get(request.id);
    return allocation?.status === "queued" && allocation.preemptingSince !== null;
  };
  const explanationOf = (request: Request): Explanation => {
    const gpus = passedOverBy(request, state, freeByUuid, now);
    const overQuota = budgets.objection(request);
    if (overQuota !== null) {
      for (const [uuid, reason] of gpus) if (reason === null) gpus.set(uuid, "quota");
      return { reason: `${OVER_QUOTA}: ${overQuota}`, publicReason: OVER_QUOTA, gpus };
    }
    const suiting = free.filter(({ gpu }) => gpus.get(gpu.uuid) === null);
    const windows = keptByWindows(request, suiting, later, occupanciesBefore(request), state, now);
    for (const uuid of windows.gpus) gpus.set(uuid, "window");
    const { durationMs } = askOf(request);
    for (const { head, gpus: kept, longestMs } of held) {
      if (head === request.id || durationMs <= longestMs) continue;
      for (const uuid of kept) if (gpus.get(uuid) === null) gpus.set(uuid, "reserved");
    }
    const possible = usable(request, later, state.gpus.models()).length;
    const why = `${sentence(request, gpus, possible, isHead(request), state)}${drainWords(state)}`;
    const patience = isHead(request) || possible < request.requirement.gpus ? "" : patienceWords(request, state, now);
    const reason = `${why}${patience}${isPreempting(request) ? PREEMPTING : ""}${windows.words}`;
    return { reason, publicReason: reason, gpus };
  };
  const isPatient = ({ id }: Request) => {
    const allocation = state.allocations.get(id);
    return allocation?.status === "queued" && allocation.headSince !== null;
  };
  const isSpecial = (request: Request) => isHead(request) || isPreempting(request) || isPatient(request);
  const kindOf = (request: Request) =>
    `${request.migProfile ?? ""}|${askOf(request).durationMs}|${isSpecial(request) ? request.id : ""}|${budgets.objection(request) ?? ""}`;
  return { explanationOf, kindOf };
}

/** What one is told that has been the head while nobody could say when it would start, or was passed; "" of any other. */
function patienceWords({ id }: Request, state: HostState, now: EpochMs): string {
  const allocation = state.allocations.get(id);
  if (allocation?.status !== "queued") return "";
  const end = patienceEndsAt(allocation, state.policy);
  const holds = holdsFrom(allocation, state);
  if (end === null || holds === null) return "";
  if (now >= holds)
    return "; its patience is over: GPUs are held for it once it waits only for those that went before it";
  if (now >= end)
    return `; its patience is over: no wider request goes before it, and from ${clock(holds, now)} on GPUs are held for it once it waits only for those that went before it`;
  if (wasPassed(allocation, state)) {
    return `; a wider request went first; it goes before wider ones from ${clock(end, now)} on at the latest`;
  }
  return `; nobody can say when the leases end that it waits for, so others that fit go before it for ${roughly(holds - now)} more at most`;
}

/** Whether a wider one of those behind it holds a lease that it was granted since this one's patience runs. */
function wasPassed({ request, headSince }: QueuedAllocation, state: HostState): boolean {
  const key = queueKey(request, state.policy);
  return state.gpus.values().some(({ hold }) =>
    holdersOf(hold).some(({ allocationId }) => {
      const { request: other, lease } = holderOf(allocationId, state);
      const isWider = other.requirement.gpus > request.requirement.gpus;
      return (
        isWider && lease.grantedAt >= (headSince ?? Infinity) && compareKeys(queueKey(other, state.policy), key) > 0
      );
    }),
  );
}

const MINUTE_MS = 60_000;
const MINUTES_A_DAY = 1_440;

/** A time of the day, and how long that is from now: the day need not be said then. */
function clock(at: EpochMs, now: EpochMs): string {
  const minute = Math.ceil(at / MINUTE_MS) % MINUTES_A_DAY;
  const two = (value: number) => String(value).padStart(2, "0");
  return `${two(Math.floor(minute / 60))}:${two(minute % 60)} UTC (in ${roughly(at - now)})`;
}

/** Per GPU, what speaks against giving it to a request now, whoever else waits; `null`: nothing. */
function passedOverBy(
  request: Request,
  state: HostState,
  free: ReadonlyMap<GpuUuid, Candidate>,
  now: EpochMs,
): Map<GpuUuid, PassReason | null> {
  const shape = shapeOf(request, state.gpus.models());
  const gpus = new Map<GpuUuid, PassReason | null>();
  for (const gpu of state.gpus.values()) {
    const candidate = free.get(gpu.uuid);
    const stands = candidate === undefined ? blockOf(gpu, state, now)?.block : passedOver(request, shape, candidate);
    // What else is wrong with a GPU that it did not ask for does not matter.
    const reason = shape.only?.has(gpu.uuid) === false ? "named" : stands;
    gpus.set(gpu.uuid, reason ?? null);
  }
  const suited = [...gpus].flatMap(([uuid, reason]) => (reason === null ? (free.get(uuid) ?? []) : []));
  const fitting = new Set(together(suited, request.requirement.memoryMib).map(({ gpu }) => gpu.uuid));
  for (const { gpu } of suited) if (!fitting.has(gpu.uuid)) gpus.set(gpu.uuid, "memory");
  return gpus;
}

function sentence(
  { requirement, migProfile }: Request,
  gpus: Explanation["gpus"],
  possible: number,
  isHead: boolean,
  { cordon }: HostState,
): string {
  const tally = new Map<string, number>();
  let suit = 0;
  for (const reason of gpus.values()) {
    if (reason === null) suit++;
    else tally.set(WORDS[reason], (tally.get(WORDS[reason]) ?? 0) + 1);
  }
  const why = [...tally].map(([words, n]) => `${n} ${words}`).join(", ");
  const device = migProfile === null ? "GPU" : "MIG instance";
  const kind = migProfile === null ? "" : ` ${migProfile}`;
  const asked = `${count(requirement.gpus, device)}${kind} with ${requirement.memoryMib} MiB`;
  const now = `waiting for ${asked}: ${suit} of ${gpus.size} can be had now${why === "" ? "" : ` (${why})`}`;
  // Of a host that is drained that is true of every GPU, and the drain is what must end.
  if (possible < requirement.gpus && cordon === null) {
    return `${now}; the ends of leases alone will not do: ${count(requirement.gpus - possible, `more ${device}`)} must become usable`;
  }
  return isHead ? `${now}; what it can use is held for it until it has enough` : now;
}

/** What every request waits for while the host, or the queue, is stopped; "" else. */
export function drainWords({ cordon }: HostState): string {
  if (cordon === null) return "";
  return `; nothing is granted, as the host is drained${cordon.by === ANONYMOUS ? "" : ` by ${cordon.by}`}: ${cordon.reason}`;
}

function count(n: number, noun: string): string {
  return `${n} ${n === 1 ? noun : `${noun}s`}`;
}
