/** Judges what the journal says of leases that are taken back, event by event, before the books take it over. */

import type { EpochMs } from "../../src/core/base/time.ts";
import type { Event } from "../../src/core/host/events.ts";
import type { PreemptionPolicy } from "../../src/core/model/policy.ts";
import type { Books, Causes, Followed, NoticeBook } from "./books.ts";
import { GRACE_MS, holding, type TurnSeen } from "./turn-seen.ts";
import { fault } from "./violation.ts";

/** The contract's, not the program's. */
const NUDGE_PAUSE_MS = 60_000;

type Of<T extends Event["type"]> = Extract<Event, { type: T }>;

/** Only by the rules that both sides have agreed to, and for somebody who waits. */
export function judgePreempting(books: Books, causes: Causes, turn: TurnSeen, event: Of<"preempting">): NoticeBook {
  const { id, at, until } = event;
  const it = holding(books, id);
  if (at !== turn.at) fault(`${id} was told at another time than its turn's`);
  if (it.notice?.kind === "drain") fault(`${id} is drained, and was preempted`);
  const waiting = books.live.get(event.for);
  if (waiting?.status !== "queued" || !waiting.preempting)
    fault(`${id} is preempted for ${event.for}, which is not so`);
  if (!causes.policies.some(({ preemption }) => isAllowed(it, waiting, preemption, turn.at))) {
    // Settings that have changed since do not concern whoever was told before.
    if (it.notice?.for !== event.for) fault(`${id} may not be preempted for ${event.for}`);
  }
  const graces = causes.policies.flatMap(({ preemption }) => (preemption === null ? [] : [at + preemption.graceMs]));
  const again = it.notice === null ? [] : [it.notice.until, at + it.notice.until - it.notice.at];
  const isRight = it.notice === null ? graces.includes(until) : again.includes(until);
  if (!isRight || (it.notice !== null && until < it.notice.until)) fault(`${id} is to leave by ${until}`);
  // Only for somebody else.
  const since = it.notice?.until === until ? it.notice.at : at;
  return { kind: "preempt", at: since, until, for: event.for };
}

function isAllowed(it: Followed, waiting: Followed, policy: PreemptionPolicy | null, at: EpochMs): boolean {
  if (policy === null || it.lease === null || !it.request.preemptible) return false;
  const gap = waiting.request.requirement.priority - it.request.requirement.priority;
  return gap >= policy.minPriorityGap && at - it.lease.grantedAt >= policy.minRuntimeMs;
}

/** When the first of the cordons on a lease's GPUs ends it; `null`: none does. */
function drainedBy(books: Books, it: Followed): EpochMs | null {
  const instants = [books.cordon?.drainBy ?? null];
  for (const { uuid } of it.lease?.gpus ?? []) {
    const gpu = books.gpus.get(uuid);
    const board = books.gpus.get(gpu?.mig?.parentUuid ?? "");
    instants.push(gpu?.drainBy ?? null, board?.drainBy ?? null);
  }
  const known = instants.filter((instant) => instant !== null);
  return known.length === 0 ? null : Math.min(...known);
}

export function judgeDraining(books: Books, turn: TurnSeen, event: Of<"draining">): NoticeBook {
  const it = holding(books, event.id);
  if (event.at !== turn.at) fault(`${event.id} was told at another time than its turn's`);
  if (event.until !== drainedBy(books, it)) fault(`${event.id} is to leave by ${event.until}`);
  return { kind: "drain", at: event.at, until: event.until, for: null };
}

export function judgeWithdrawal(books: Books, { id }: Of<"notice-withdrawn">): void {
  const it = holding(books, id);
  if (it.notice === null) fault(`${id} may stay, and was not to leave`);
  if (it.notice.kind === "drain" && drainedBy(books, it) !== null) fault(`${id} may stay, and is drained`);
}

/** Somebody had asked for it, and no holder is written to more than once a minute. */
export function judgeNudge(books: Books, causes: Causes, turn: TurnSeen, event: Of<"nudged">): void {
  const { lease } = holding(books, event.id);
  if (!causes.nudges.has(`${event.id} by ${event.by}`)) fault(`${event.id} was nudged and nobody had asked for it`);
  if (event.at !== turn.at) fault(`${event.id} was nudged at another time than its turn's`);
  const last = lease.nudge?.at ?? Number.NEGATIVE_INFINITY;
  if (turn.at - last < NUDGE_PAUSE_MS) fault(`${event.id} was nudged ${turn.at - last} ms after the last time`);
}

export function judgePreemptor(books: Books, event: Of<"preemption-begun" | "preemption-called-off">): void {
  const it = books.live.get(event.id);
  if (it?.status !== "queued") fault(`${event.type} of ${event.id}, which is ${it?.status ?? "not live"}`);
  if (it.preempting === (event.type === "preemption-begun")) fault(`${event.type} of ${event.id} was said twice`);
}

/** An admin's word, or one that is put off because the daemon was away. */
export function judgeHostWord(
  books: Books,
  causes: Causes,
  turn: TurnSeen,
  event: Of<"host-cordoned" | "host-uncordoned">,
) {
  const { cordon } = books;
  if (event.type === "host-uncordoned") {
    if (cordon === null || !causes.hostWords.has("undrain")) fault("the host is open again: no admin had said so");
    return;
  }
  if (causes.hostWords.has("drain")) return;
  if (!isPutOff(cordon?.drainBy ?? null, event.drainBy, turn)) fault("the host is drained: no admin had said so");
}

/** What fell due while the daemon was away leaves the grace of any lease. */
export function isPutOff(before: EpochMs | null, after: EpochMs | undefined, turn: TurnSeen): boolean {
  return turn.resumed && before !== null && before < turn.at + GRACE_MS && after === turn.at + GRACE_MS;
}

/** What speaks against an end for the sake of somebody else; `null`: nothing. */
export function doubtOfNotice(kind: NoticeBook["kind"], it: Followed, turn: TurnSeen): string | null {
  if (it.notice?.kind !== kind) return "nobody had told it so";
  return turn.at >= it.notice.until ? null : `${it.notice.until - turn.at} ms too early`;
}

/** At the end of a turn: whoever is to leave is so for somebody that waits for it. */
export function judgeStanding(books: Books): void {
  for (const [id, { notice }] of books.live) {
    if (notice?.kind !== "preempt") continue;
    const waiting = books.live.get(notice.for as string);
    if (waiting?.status !== "queued" || !waiting.preempting)
      fault(`${id} is to leave for ${notice.for}, which has gone`);
  }
}
