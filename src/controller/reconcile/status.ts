/** What a look says of a workload: its status, and each condition with its reason. Pure. */
import type { EpochMs } from "../../core/base/time.ts";
import { conditionOf, conditionsAfter, type Finding, finding } from "../objects/conditions.ts";
import { isolationOf } from "../objects/isolation.ts";
import { LABEL } from "../objects/meta.ts";
import type { Condition, State, Workload, WorkloadStatus } from "../objects/workload.ts";
import { awayIn } from "./fleet.ts";
import { measuredOf } from "./measured.ts";
import type { Plan } from "./plan.ts";
import type { RolloutStep } from "./rollout.ts";
import type { Scaled } from "./scaling.ts";
import { type ReplicaSeen, readyOf, type Seen } from "./seen.ts";

/** Fewer serve than are desired, and nothing has moved for so long: that is an error. */
const DEGRADED_MS = 600_000;
const DRIFT_TOLD_MS = 60_000;
/** A change of replicas that takes longer is stuck, unless what it waits for is still within its time to start. */
const SCALING_MS = 300_000;

export interface View {
  readonly workload: Workload;
  readonly seen: Seen;
  readonly plan: Plan;
  readonly revision: string;
  readonly scaled: Scaled;
  readonly step: RolloutStep;
  /** Of a lone replica whose node is emptied: its successor. */
  readonly extra: 0 | 1;
  readonly drift: { readonly at: EpochMs; readonly words: string } | null;
}

export function statusOf(view: View, idleMs: number, budgetMs: number): WorkloadStatus {
  const { workload, seen, plan, revision, scaled, step } = view;
  const { metadata, status } = workload;
  const replicas = seen.tracks.flatMap((track) => track.replicas);
  const ready = seen.tracks.reduce((sum, track) => sum + readyOf(track), 0);
  const current = seen.tracks.find((track) => track.revision === revision);
  const updated = current === undefined ? 0 : readyOf(current);
  const left = leftOf(view);
  const isReady = updated >= scaled.desired && left === 0;
  const change = changeOf(status);
  const scalingMs = change === null || !hasServed(status.state) ? 0 : seen.now - change.since;
  const stuck = isReady ? null : stuckOf(replicas, { idleMs, scalingMs }, budgetMs);
  const waiting = replicas.find(({ phase }) => phase === "waiting")?.waiting ?? null;
  const conditions = conditionsAfter(
    conditionsBefore(workload),
    findingsOf(view, { isReady, updated, stuck, waiting: waiting?.reason ?? null }),
    metadata.generation,
    seen.now,
  );
  const state = stateOf(status.state, { isReady, step, stuck, replicas, idleMs, isScaling: change?.isAsked === true });
  const urls = replicas.flatMap(({ phase, url }) => (phase === "ready" && url !== null ? [url] : []));
  const { queue: _, lastScaleTime, resourceUsage: __, performanceMetrics: ___, ...rest } = status;
  const external = seen.external === null ? [] : [seen.external];
  return {
    ...rest,
    phase: state === "failed" ? "Failed" : ready > 0 || isReady ? "Running" : "Pending",
    state,
    observedGeneration: metadata.generation,
    conditions,
    desiredReplicas: scaled.desired,
    currentReplicas: replicas.length,
    readyReplicas: ready,
    availableReplicas: ready,
    updatedReplicas: updated,
    selector: `${LABEL.workload}=${metadata.name}`,
    qosClass: plan.qosClass,
    endpoints: seen.service === null || urls.length === 0 ? urls.sort() : [seen.service, ...external],
    currentMetrics: { ...scaled.metrics },
    ...measuredOf(seen.load, status, seen.now),
    plan: {
      gpus: plan.gpus,
      flags: [...plan.flags],
      why: [...plan.why],
      ...(plan.product === null ? {} : { product: plan.product }),
      ...(plan.memoryMib === null ? {} : { memoryMiB: plan.memoryMib }),
    },
    revision: { stable: isReady ? revision : (status.revision?.stable ?? revision) },
    ...(lastScaleTime === undefined ? {} : { lastScaleTime }),
    ...(waiting === null
      ? {}
      : {
          queue: {
            reason: waiting.reason,
            ...(waiting.position === null ? {} : { position: waiting.position }),
            ...(waiting.eta === null ? {} : { eta: waiting.eta }),
          },
        }),
  };
}

/**
 * Replicas that are there beside those that are desired: of older revisions, and too many of this one. One that is
 * stopping on a node that is away serves nobody, and may stay so for as long as the node does.
 */
function leftOf({ seen, revision, scaled, extra }: View): number {
  const away = awayIn(seen.nodes);
  const counts = ({ phase, node }: ReplicaSeen) => phase !== "stopping" || node === null || !away.has(node);
  const of = (isCurrent: boolean) =>
    seen.tracks
      .filter((track) => (track.revision === revision) === isCurrent)
      .flatMap(({ replicas }) => replicas.filter(counts)).length;
  return of(false) + Math.max(0, of(true) - scaled.desired - extra);
}

interface Stuck {
  readonly reason: string;
  readonly message: string;
}

/** Since when fewer or more serve than are desired, and whether others are desired since; `null`: as many do. */
function changeOf({ conditions, lastScaleTime }: WorkloadStatus): { since: EpochMs; isAsked: boolean } | null {
  const ready = conditionOf(conditions, "Ready");
  if (ready === undefined || ready.status === "True") return null;
  const [unready, asked] = [Date.parse(ready.lastTransitionTime), Date.parse(lastScaleTime ?? "")];
  return asked >= unready ? { since: asked, isAsked: true } : { since: unready, isAsked: false };
}

function stuckOf(
  replicas: readonly ReplicaSeen[],
  { idleMs, scalingMs }: { readonly idleMs: number; readonly scalingMs: number },
  budgetMs: number,
): Stuck | null {
  const troubled = replicas.find(({ trouble }) => trouble !== null);
  if (troubled?.trouble) {
    const { reason, message } = troubled.trouble;
    return { reason, message: `${troubled.name} on ${troubled.node ?? "no node"}: ${message}` };
  }
  // A wait for GPUs has no deadline: the queue's words say how long it is. Of one that serves already it is told.
  const waiting = replicas.find(({ phase }) => phase === "waiting");
  if (scalingMs >= SCALING_MS && waiting !== undefined) {
    const why = waiting.waiting?.reason ?? "no reason is known";
    const message = `it scales for ${Math.floor(SCALING_MS / 60_000)} minutes and more; ${waiting.name} has no node: ${why}`;
    return { reason: "Unschedulable", message };
  }
  const starting = replicas.filter(({ phase }) => phase === "starting" || phase === "unready");
  const [first] = starting;
  if (idleMs < budgetMs || first === undefined) return null;
  const where = `${first.name} on ${first.node ?? "no node"}`;
  const message = `nothing has moved for ${Math.floor(idleMs / 1_000)} s: ${where} is ${first.phase}`;
  return { reason: "NoProgress", message };
}

function findingsOf(
  { workload, scaled, step, seen, drift }: View,
  {
    isReady,
    updated,
    stuck,
    waiting,
  }: { isReady: boolean; updated: number; stuck: Stuck | null; waiting: string | null },
): Finding[] {
  const { desired } = scaled;
  const older = seen.tracks.reduce((sum, { replicas }) => sum + replicas.length, 0) - updated;
  const progress =
    workload.spec.paused === true
      ? "Paused"
      : (step.blocked ?? (isReady ? "Complete" : step.isRolling ? "Rolling" : "Scaling"));
  return [
    finding("Accepted", true, "Valid"),
    finding("Schedulable", waiting === null, waiting === null ? "Placed" : "Waiting", waiting ?? ""),
    finding(
      "Progressing",
      stuck === null && step.blocked === null && workload.spec.paused !== true,
      progress,
      blockedWords(step),
    ),
    finding(
      "Ready",
      isReady,
      isReady ? "AllReady" : "NotAllReady",
      `${updated} of ${desired} replicas of this revision serve${isReady || older <= 0 ? "" : `; ${older} others are there`}`,
    ),
    finding("Stuck", stuck !== null, stuck?.reason ?? "Moving", stuck?.message ?? ""),
    finding("ScalingActive", scaled.active.holds, scaled.active.reason, scaled.active.message),
    driftOf(drift, seen.now),
    ...securityOf(workload, seen.isolates),
  ];
}

function blockedWords({ blocked }: RolloutStep): string {
  if (blocked === null) return "";
  return "the only replica would have to stop for its successor; set deploymentStrategy.allowDowntime, or free a GPU";
}

/** Where no security is asked for any more, none is spoken of. */
export function conditionsBefore({ spec, status: { conditions = [] } }: Workload): readonly Condition[] {
  return spec.security === undefined ? conditions.filter(({ type }) => type !== "SecurityApplied") : conditions;
}

/** Told for a while after it was put back, so that somebody sees it. */
function driftOf(drift: View["drift"], now: EpochMs): Finding {
  if (drift === null || now - drift.at >= DRIFT_TOLD_MS) return finding("Drifted", false, "AsWanted");
  return finding("Drifted", true, "PutBack", drift.words);
}

/** What is promised is told apart from what is done. */
function securityOf({ spec: { security } }: Workload, isolates: boolean): Finding[] {
  if (security === undefined) return [];
  const { unknown } = isolationOf(security);
  const asked = (name: "accessControl" | "networkPolicies") => (security[name] ?? []).length > 0 && !isolates;
  const open = [
    ...(security.encryption ? ["encryption"] : []),
    ...(asked("accessControl") ? ["accessControl"] : []),
    ...(asked("networkPolicies") ? ["networkPolicies"] : []),
    ...(isolates ? unknown.map((entry) => JSON.stringify(entry)) : []),
  ];
  const message = open.length === 0 ? "" : `not enforced by this version: ${open.join(", ")}`;
  return [finding("SecurityApplied", open.length === 0, open.length === 0 ? "Applied" : "NotEnforced", message)];
}

function stateOf(
  before: State | undefined,
  look: {
    readonly isReady: boolean;
    readonly step: RolloutStep;
    readonly stuck: Stuck | null;
    readonly replicas: readonly ReplicaSeen[];
    readonly idleMs: number;
    /** Others are desired than before, and are not all there yet. */
    readonly isScaling: boolean;
  },
): State {
  const { isReady, step, stuck, replicas } = look;
  if (isReady) return "running";
  // What has never served is not updated when its spec changes: it would be taken for one that did, and never fail.
  if (!hasServed(before)) {
    if (stuck !== null) return "failed";
    return replicas.some(({ phase }) => phase !== "waiting") ? "creating" : "pending";
  }
  if (step.isRolling) return "updating";
  return look.idleMs >= DEGRADED_MS && !look.isScaling ? "error" : "scaling";
}

function hasServed(state: State | undefined): boolean {
  return state === "running" || state === "scaling" || state === "updating" || state === "error";
}
