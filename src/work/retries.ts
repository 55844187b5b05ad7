/** What follows when a run has ended: whether its replica gets another, and when. */
import type { EpochMs } from "../core/base/time.ts";
import type { SlotAfter } from "./events.ts";
import {
  type EndReason,
  type HeldLease,
  INFRASTRUCTURE,
  type RestartRule,
  type RetryRule,
  type Slot,
} from "./model.ts";

/** A task under which node or holder died so often is the likely cause. */
const POISON_DEATHS = 3;
const JITTER = 0.25;
/** A service that was ready for so long is taken for healthy again. */
const FORGIVEN_AFTER_MS = 600_000;
/** Within this the lease stays: asking anew would cost its place in the line. */
const LEASE_KEPT_MS = 60_000;
/** What a run that its node never started costs: nobody's failure. */
const UNSTARTED_BACKOFF_MS = 1_000;

const NOT_OK = "its responses.json says ok: false, or is no JSON";

export interface Ending {
  readonly reason: EndReason;
  readonly detail: string;
  readonly exitCode: number | null;
  /** `null`: it never started, as far as anybody has said. */
  readonly startedAt: EpochMs | null;
  /** Its node had been told of it, and is not there to say whether it has begun. */
  readonly mayHaveBegun?: boolean;
  readonly readyAt: EpochMs | null;
  readonly resultOk: boolean | null;
  readonly tail: readonly string[];
  /** Still in order after the run; `null`: there was none, or it is over. */
  readonly lease: HeldLease | null;
  readonly at: EpochMs;
  /** Spreads what is tried again at once; from 0 to 1. */
  readonly chance: number;
  /** Whoever gave it to this node decides what follows, or nobody knows how often it was tried. */
  readonly isOnce?: boolean;
}

/** Back-off before try number `failures` + 1, doubled each time, give or take a quarter. */
export function backoffMs(firstMs: number, mostMs: number, failures: number, chance: number): number {
  // 2^30 is beyond every maximum, and keeps the product exact.
  const doubled = Math.min(mostMs, firstMs * 2 ** Math.min(30, Math.max(0, failures - 1)));
  return Math.round(doubled * (1 - JITTER + 2 * JITTER * chance));
}

/** A number from 0 to 1, the same for the same text: FNV-1a, mixed as MurmurHash3 does at its end. */
export function chanceOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}

function unchanged({ replica: _r, tries: _t, live: _l, ...slot }: Slot): SlotAfter {
  return slot;
}

/** A task's replica after one of its runs. */
export function afterTaskRun(slot: Slot, retry: RetryRule, ending: Ending, endsSurely: boolean): SlotAfter {
  const { reason, exitCode, resultOk, detail, tail, at } = ending;
  const next = { ...unchanged(slot), kept: null, tail };
  if (reason === "exited" && resultOk !== false) return { ...next, outcome: { kind: "done", reason } };
  const failed = (why: string): SlotAfter => ({ ...next, outcome: { kind: "failed", reason: why } });
  const words = detail === "" ? reason : `${reason}: ${detail}`;
  if (ending.isOnce === true || reason === "outcome-unknown") return failed(resultOk === false ? NOT_OK : words);
  const hasNotBegun = ending.startedAt === null && ending.mayHaveBegun !== true;
  if (hasNotBegun && reason !== "executor-failed" && reason !== "start-timeout") {
    return { ...next, nextAt: at + UNSTARTED_BACKOFF_MS };
  }
  if (INFRASTRUCTURE.has(reason)) {
    const losses = slot.losses + 1;
    const hasDied = ending.startedAt !== null && (reason === "lost" || reason === "rebooted");
    const deaths = slot.deaths + (hasDied ? 1 : 0);
    if (deaths >= POISON_DEATHS)
      return { ...failed("poison: its node or holder died under it three times"), losses, deaths };
    // What cannot be ended for sure may still run: it is not started a second time.
    const allowed = endsSurely ? retry.lost : 0;
    if (losses > allowed) return { ...failed(words), losses, deaths };
    return {
      ...next,
      losses,
      deaths,
      nextAt: at + backoffMs(retry.backoffMs, retry.maxBackoffMs, losses, ending.chance),
    };
  }
  const failures = slot.failures + 1;
  const isWorthIt = exitCode === null || ((retry.on?.includes(exitCode) ?? true) && !retry.neverOn.includes(exitCode));
  if (failures > retry.max || !isWorthIt || reason === "executor-failed") {
    return { ...failed(resultOk === false ? NOT_OK : words), failures };
  }
  return { ...next, failures, nextAt: at + backoffMs(retry.backoffMs, retry.maxBackoffMs, failures, ending.chance) };
}

/** A service's replica after one of its runs. Its exit is a failure whatever its code: it was to go on. */
export function afterServiceRun(slot: Slot, restart: RestartRule, ending: Ending, isWanted: boolean): SlotAfter {
  const { reason, detail, startedAt, readyAt, at, tail, lease } = ending;
  const next = { ...unchanged(slot), kept: null, tail };
  if (!isWanted) return next;
  // Somebody asked for it: no failure, and no back-off.
  if (reason === "cancelled") return { ...next, kept: lease, nextAt: at, restarts: slot.restarts + 1 };
  if (restart.policy === "never") {
    const kind = reason === "exited" ? "done" : "failed";
    return { ...next, outcome: { kind, reason: detail === "" ? reason : `${reason}: ${detail}` } };
  }
  const isOwn = !INFRASTRUCTURE.has(reason) && reason !== "lease-ended" && startedAt !== null;
  const wasWell = readyAt !== null && at - readyAt >= FORGIVEN_AFTER_MS;
  const failures = (wasWell ? 0 : slot.failures) + (isOwn || reason === "executor-failed" ? 1 : 0);
  const inARow = readyAt === null ? failures : 0;
  if (inARow >= restart.giveUpAfter) {
    return { ...next, failures, outcome: { kind: "failed", reason: detail === "" ? reason : `${reason}: ${detail}` } };
  }
  const waitMs = backoffMs(restart.backoffMs, restart.maxBackoffMs, Math.max(1, failures), ending.chance);
  const kept = waitMs < LEASE_KEPT_MS ? lease : null;
  const losses = slot.losses + (isOwn ? 0 : 1);
  return { ...next, failures, losses, restarts: slot.restarts + 1, kept, nextAt: at + waitMs };
}
