/**
 * From a workload and what is seen of the world to what is to be there, and what its status says. Pure: the same look
 * gives the same answer, so a look that changes nothing writes nothing.
 *
 *  1. A spec that breaks a rule, or asks for what is not there yet, is not accepted: nothing is made, changed or removed.
 *  2. `Ready` speaks of this generation: all desired replicas of the current revision serve, and no older one is left.
 *  3. A figure that nobody measured is absent from the status.
 *  4. A workload that is being deleted creates nothing; its replicas go, and then it does.
 */
import type { EpochMs } from "../../core/base/time.ts";
import type { Breach } from "../objects/breach.ts";
import { conditionOf, conditionsAfter, type Finding, finding } from "../objects/conditions.ts";
import { modelRefusal } from "../objects/model-rules.ts";
import { revisionOf } from "../objects/revision.ts";
import { nameBreaches, notYet, readSpec } from "../objects/rules.ts";
import type { ConditionType, Workload, WorkloadStatus } from "../objects/workload.ts";
import { evacuationOf, rollingEvacuation } from "./evacuation.ts";
import { hasRoomFor, isOfWholeGpus, roomFor } from "./fleet.ts";
import { isPlan, type Plan, type PlanRefused, planOf } from "./plan.ts";
import { NO_RECOVERY, type RecoveryMemory, type Removal, recover } from "./recovery.ts";
import { rolloutStep } from "./rollout.ts";
import { NO_MEMORY, type Scaled, type ScalingMemory, scale } from "./scaling.ts";
import { isPlaced, readyOf, type Seen } from "./seen.ts";
import type { ReconcileSettings } from "./settings.ts";
import { NO_STARTS, observedStartSeconds, type Starts, startsAfter } from "./starts.ts";
import { conditionsBefore, statusOf, type View } from "./status.ts";

/** What the loop keeps of a workload between two looks. Lost, its clocks start anew. */
export interface Memory {
  readonly scaling: ScalingMemory;
  /** What progress looked like, and since when it looks so. */
  readonly progress: { readonly mark: string; readonly since: EpochMs } | null;
  /** Replicas that had GPUs when the rollout that is under way began; `null`: none is. */
  readonly rolloutBase: number | null;
  readonly recovery: RecoveryMemory;
  /** What somebody else had changed last, and when that was put back; `null`: nothing. */
  readonly drift: { readonly at: EpochMs; readonly words: string } | null;
  /** How long its replicas took to start. */
  readonly starts: Starts;
}

export const NO_MEMORIES: Memory = {
  scaling: NO_MEMORY,
  progress: null,
  rolloutBase: null,
  recovery: NO_RECOVERY,
  drift: null,
  starts: NO_STARTS,
};

/** How many replicas each revision is to have; one that is not named, none. */
export interface Wanted {
  /** `null`: none is made. */
  readonly plan: Plan | null;
  readonly revision: string;
  readonly targets: ReadonlyMap<string, number>;
  readonly desired: number;
  /** Of a backend that rolls by itself: how, and whether it may begin. */
  readonly strategy: "rolling" | "recreate";
  readonly surge: boolean;
  readonly isBlocked: boolean;
  /** One more than desired, until a successor serves on another node. */
  readonly extra: 0 | 1;
  /** Replicas that go before others. */
  readonly leaving: readonly string[];
  /** Replicas that no drain touches yet: their successors come up. */
  readonly spared: readonly string[];
  /** Replicas that are stopped, so that they start anew. */
  readonly removed: readonly Removal[];
}

const NOTHING: Wanted = {
  plan: null,
  revision: "",
  targets: new Map(),
  desired: 0,
  strategy: "rolling",
  surge: false,
  isBlocked: false,
  extra: 0,
  leaving: [],
  spared: [],
  removed: [],
};

export interface Outcome {
  /** `null`: nothing may be made or changed. */
  readonly wanted: Wanted | null;
  readonly status: WorkloadStatus;
  /** It is being deleted, and nothing of it is left. */
  readonly gone: boolean;
  readonly scaled: {
    readonly from: number;
    readonly to: number;
    readonly type: "manual" | "auto";
    readonly why: string;
  } | null;
  readonly memory: Memory;
}

export function reconcile(workload: Workload, seen: Seen, memory: Memory, settings: ReconcileSettings): Outcome {
  if (workload.metadata.deletionTimestamp !== null) return deleting(workload, seen);
  const planned = acceptedPlan(workload, seen, settings);
  if ("condition" in planned) return notAccepted(workload, seen, planned);
  const starts = startsAfter(memory.starts, seen.tracks, seen.now);
  const plan = { ...planned, startSeconds: Math.max(planned.startSeconds, observedStartSeconds(starts)) };
  const revision = revisionOf(workload.metadata, workload.spec);
  const scaled = withinTenant(scalingOf(workload, seen, plan, memory, settings), plan, seen.tenantGpus);
  const strategy = workload.spec.deploymentStrategy?.type === "recreate" ? "recreate" : "rolling";
  const rolloutBase = rolloutBaseOf(seen, revision, memory, settings);
  const step = rolloutStep(
    {
      base: rolloutBase ?? 0,
      revision,
      desired: scaled.desired,
      strategy,
      allowDowntime: workload.spec.deploymentStrategy?.allowDowntime ?? plan.qosClass !== "premium",
      hasSpare: plan.gpus === 0 || hasRoomFor(seen.nodes, plan),
    },
    seen.tracks,
  );
  const leave = step.isRolling
    ? rollingEvacuation(scaled.desired, step.surge, seen)
    : evacuationOf(scaled.desired, plan, revision, seen);
  const budgetMs = budgetOf(plan, settings);
  const recovered = recover(seen, memory.recovery, budgetMs);
  const view: View = { workload, seen, plan, revision, scaled, step, extra: leave.extra, drift: memory.drift };
  const progress = progressOf(view, memory);
  const status = statusOf(view, seen.now - progress.since, budgetMs);
  const from = workload.status.desiredReplicas;
  const isScaled = from !== undefined && from !== scaled.desired;
  return {
    wanted:
      workload.spec.paused === true
        ? null
        : {
            plan,
            revision,
            targets: step.targets,
            desired: scaled.desired,
            strategy,
            surge: step.surge,
            isBlocked: step.blocked !== null,
            ...leave,
            removed: recovered.removed,
          },
    status: isScaled ? { ...status, lastScaleTime: new Date(seen.now).toISOString() } : status,
    gone: false,
    scaled: isScaled
      ? {
          from,
          to: scaled.desired,
          type: workload.spec.replicas === undefined ? "auto" : "manual",
          why: scaled.active.message,
        }
      : null,
    memory: { scaling: scaled.memory, progress, rolloutBase, recovery: recovered.memory, drift: memory.drift, starts },
  };
}

/** All is as it is to be: it stays so for as long as nothing that it was decided from changes. */
export function isAtRest({ wanted, status: { conditions }, gone }: Outcome): boolean {
  if (wanted === null || gone || wanted.isBlocked || wanted.extra > 0) return false;
  if (wanted.leaving.length + wanted.spared.length + wanted.removed.length > 0) return false;
  const holds = (type: ConditionType) => conditionOf(conditions, type)?.status;
  return holds("Ready") === "True" && holds("Progressing") === "True" && holds("Drifted") !== "True";
}

/** As long as a replica may take to come up: a large model loads for longer than any deadline that was set for all. */
function budgetOf(plan: Plan, { progressDeadlineMs }: ReconcileSettings): number {
  return Math.max(progressDeadlineMs, plan.startSeconds * 1_000);
}

/** Counted again when nothing has moved for too long: GPUs that a dead node had do not come back for being waited for. */
function rolloutBaseOf(
  { tracks, now }: Seen,
  revision: string,
  { progress, rolloutBase }: Memory,
  settings: ReconcileSettings,
): number | null {
  const isRolling = tracks.some((track) => track.revision !== revision && track.replicas.length > 0);
  if (!isRolling) return null;
  const isStalled = progress !== null && now - progress.since >= settings.progressDeadlineMs;
  if (rolloutBase !== null && !isStalled) return rolloutBase;
  return tracks.reduce((sum, { replicas }) => sum + replicas.filter(isPlaced).length, 0);
}

interface Refused {
  readonly reason: string;
  readonly message: string;
  readonly condition: "Accepted" | "Schedulable";
}

function acceptedPlan({ metadata, spec }: Workload, seen: Seen, settings: ReconcileSettings): Plan | Refused {
  const lines = (breaches: readonly Breach[]) => breaches.map(({ path, message }) => `${path}: ${message}`).join("\n");
  // Also its shape: a server with an older CRD lets everything through.
  const read = readSpec(spec);
  const breaches = [...nameBreaches(metadata), ...("breaches" in read ? read.breaches : [])];
  if (breaches.length > 0) return { condition: "Accepted", reason: "Invalid", message: lines(breaches) };
  const later = notYet(spec);
  if (later.length > 0) return { condition: "Accepted", reason: "NotYet", message: lines(later) };
  const barred = modelRefusal(metadata, spec, seen.models, settings.trustedKeys);
  if (barred !== null) return { condition: "Accepted", ...barred };
  const planned: Plan | PlanRefused = planOf(spec, seen.models, seen.nodes, settings, seen.groups);
  if (isPlan(planned)) return planned;
  const { reason, message } = planned;
  // What runs goes on when the node that it would fit on is away.
  const isHere = seen.tracks.some((track) => track.revision === revisionOf(metadata, spec));
  return { condition: reason === "NeverFits" || isHere ? "Schedulable" : "Accepted", reason, message };
}

/** Nobody looks at these while a workload is not accepted. */
const OF_ACCEPTED = ["Schedulable", "Progressing", "Stuck", "ScalingActive"] as const;

function notAccepted(workload: Workload, seen: Seen, refused: Refused): Outcome {
  const { metadata, status } = workload;
  const { condition, reason, message } = refused;
  const before = conditionsBefore(workload);
  const unknown = OF_ACCEPTED.filter((type) => conditionOf(before, type) !== undefined);
  const findings: Finding[] =
    condition === "Accepted"
      ? [finding("Accepted", false, reason, message), ...unknown.map((type) => finding(type, null, "NotAccepted"))]
      : [finding("Accepted", true, "Valid"), finding("Schedulable", false, reason, message)];
  findings.push(finding("Ready", false, reason, message));
  const conditions = conditionsAfter(before, findings, metadata.generation, seen.now);
  const hasReplicas = seen.tracks.some(({ replicas }) => replicas.length > 0);
  return {
    wanted: null,
    status: {
      ...status,
      observedGeneration: metadata.generation,
      conditions,
      ...(hasReplicas ? {} : { phase: "Pending", state: "pending" }),
    },
    gone: false,
    scaled: null,
    memory: NO_MEMORIES,
  };
}

function deleting({ metadata, status }: Workload, seen: Seen): Outcome {
  const left = seen.tracks.reduce((sum, { replicas }) => sum + replicas.length, 0);
  // Somebody else's finalizer may hold one: a cloud's load balancer, say.
  const others = seen.children ?? [];
  const words = [`${left} replicas are left`, ...others].join(", ");
  const isGone = left === 0 && others.length === 0;
  const findings = [finding("Ready", false, "Terminating", words)];
  return {
    wanted: NOTHING,
    status: {
      ...status,
      observedGeneration: metadata.generation,
      state: isGone ? "terminated" : "terminating",
      currentReplicas: left,
      readyReplicas: seen.tracks.reduce((sum, track) => sum + readyOf(track), 0),
      conditions: conditionsAfter(status.conditions ?? [], findings, metadata.generation, seen.now),
    },
    gone: isGone,
    scaled: null,
    memory: NO_MEMORIES,
  };
}

/** No more than its tenant may have, whoever asked for more: not every object comes through the API, which refuses it. */
function withinTenant(scaled: Scaled, { gpus }: Plan, most: number | null): Scaled {
  if (most === null || gpus === 0 || scaled.desired * gpus <= most) return scaled;
  const message = `${scaled.desired} replicas are asked for, and its tenant may have ${most} GPUs for it`;
  return {
    ...scaled,
    desired: Math.floor(most / gpus),
    active: { holds: false, reason: "TenantMaximum", message },
  };
}

function scalingOf(
  { spec, status }: Workload,
  { tracks, nodes, load, now }: Seen,
  plan: Plan,
  memory: Memory,
  settings: ReconcileSettings,
): Scaled {
  const replicas = tracks.flatMap((track) => track.replicas).filter(({ phase }) => phase !== "stopping");
  const ready = replicas.filter(({ phase }) => phase === "ready").map(({ name }) => name);
  return scale(
    {
      spec,
      before: status.desiredReplicas ?? null,
      ready,
      unready: replicas.length - ready.length,
      load,
      room: plan.gpus === 0 || !isOfWholeGpus(plan) ? Number.POSITIVE_INFINITY : roomFor(nodes, plan),
      lastScaledAt: status.lastScaleTime === undefined ? null : Date.parse(status.lastScaleTime),
      upCooldownMs: settings.scaleUpCooldownMs,
      downCooldownMs: settings.scaleDownCooldownMs,
      cpuBand: settings.cpuBand,
      now,
    },
    memory.scaling,
  );
}

function progressOf({ seen, revision, scaled }: View, { progress }: Memory) {
  const counts = seen.tracks.map((track) => [track.revision, track.replicas.length, readyOf(track)]);
  const mark = JSON.stringify([revision, scaled.desired, counts]);
  return progress?.mark === mark ? progress : { mark, since: seen.now };
}
