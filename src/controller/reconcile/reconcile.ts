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
import { conditionOf, conditionsAfter, type Finding, finding } from "../objects/conditions.ts";
import { LABEL } from "../objects/meta.ts";
import { type Breach, notYet, readSpec } from "../objects/rules.ts";
import type { Condition, State, Workload, WorkloadStatus } from "../objects/workload.ts";
import { isPlan, type Plan, type PlanRefused, planOf } from "./plan.ts";
import { revisionOf } from "./revision.ts";
import { type RolloutStep, rolloutStep } from "./rollout.ts";
import { NO_MEMORY, type Scaled, type ScalingMemory, scale } from "./scaling.ts";
import { hasRoomFor, isOfProduct, isPlaced, type ReplicaSeen, readyOf, type Seen } from "./seen.ts";
import type { ReconcileSettings } from "./settings.ts";

/** Fewer serve than are desired, and nothing has moved for so long: that is an error. */
const DEGRADED_MS = 600_000;

/** What the loop keeps of a workload between two looks. Lost, its clocks start anew. */
export interface Memory {
  readonly scaling: ScalingMemory;
  /** What progress looked like, and since when it looks so. */
  readonly progress: { readonly mark: string; readonly since: EpochMs } | null;
  /** Replicas that had GPUs when the rollout that is under way began; `null`: none is. */
  readonly rolloutBase: number | null;
}

export const NO_MEMORIES: Memory = { scaling: NO_MEMORY, progress: null, rolloutBase: null };

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
}

const NOTHING: Wanted = {
  plan: null,
  revision: "",
  targets: new Map(),
  desired: 0,
  strategy: "rolling",
  surge: false,
  isBlocked: false,
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
  const refused = refusalOf(workload, seen, settings);
  if (refused !== null) return notAccepted(workload, seen, refused);
  const plan = planOf(workload.spec, seen.models, seen.nodes, settings) as Plan;
  const revision = revisionOf(workload.metadata, workload.spec);
  const scaled = scalingOf(workload, seen, plan, memory, settings);
  const strategy = workload.spec.deploymentStrategy?.type === "recreate" ? "recreate" : "rolling";
  const rolloutBase = rolloutBaseOf(seen, revision, memory, settings);
  const step = rolloutStep(
    {
      base: rolloutBase ?? 0,
      revision,
      desired: scaled.desired,
      strategy,
      allowDowntime: workload.spec.deploymentStrategy?.allowDowntime ?? plan.qosClass !== "premium",
      hasSpare: plan.gpus === 0 || hasRoomFor(seen.nodes, plan.gpus, plan.product),
    },
    seen.tracks,
  );
  const view: View = { workload, seen, plan, revision, scaled, step };
  const progress = progressOf(view, memory);
  const status = statusOf(view, seen.now - progress.since, settings);
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
    memory: { scaling: scaled.memory, progress, rolloutBase },
  };
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

interface View {
  readonly workload: Workload;
  readonly seen: Seen;
  readonly plan: Plan;
  readonly revision: string;
  readonly scaled: Scaled;
  readonly step: RolloutStep;
}

interface Refused {
  readonly reason: string;
  readonly message: string;
  readonly condition: "Accepted" | "Schedulable";
}

function refusalOf({ metadata, spec }: Workload, seen: Seen, settings: ReconcileSettings): Refused | null {
  const lines = (breaches: readonly Breach[]) => breaches.map(({ path, message }) => `${path}: ${message}`).join("\n");
  // Also its shape: a server with an older CRD lets everything through.
  const read = readSpec(spec);
  if ("breaches" in read) return { condition: "Accepted", reason: "Invalid", message: lines(read.breaches) };
  const later = notYet(spec);
  if (later.length > 0) return { condition: "Accepted", reason: "NotYet", message: lines(later) };
  const planned: Plan | PlanRefused = planOf(spec, seen.models, seen.nodes, settings);
  if (isPlan(planned)) return null;
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
  const findings = [finding("Ready", false, "Terminating", `${left} replicas are left`)];
  return {
    wanted: NOTHING,
    status: {
      ...status,
      observedGeneration: metadata.generation,
      state: left === 0 ? "terminated" : "terminating",
      currentReplicas: left,
      readyReplicas: seen.tracks.reduce((sum, track) => sum + readyOf(track), 0),
      conditions: conditionsAfter(status.conditions ?? [], findings, metadata.generation, seen.now),
    },
    gone: left === 0,
    scaled: null,
    memory: NO_MEMORIES,
  };
}

function scalingOf(
  { spec, status }: Workload,
  { tracks, nodes, load, now }: Seen,
  { gpus, product }: Plan,
  memory: Memory,
  settings: ReconcileSettings,
): Scaled {
  const replicas = tracks.flatMap((track) => track.replicas).filter(({ phase }) => phase !== "stopping");
  const ready = replicas.filter(({ phase }) => phase === "ready").map(({ name }) => name);
  const free = nodes
    .filter((node) => node.ready && node.schedulable && isOfProduct(node, product))
    .map((node) => Math.floor((node.gpus - node.usedGpus) / Math.max(1, gpus)));
  return scale(
    {
      spec,
      before: status.desiredReplicas ?? null,
      ready,
      unready: replicas.length - ready.length,
      load,
      room: gpus === 0 ? Number.POSITIVE_INFINITY : free.reduce((sum, count) => sum + count, 0),
      lastScaledAt: status.lastScaleTime === undefined ? null : Date.parse(status.lastScaleTime),
      upCooldownMs: settings.scaleUpCooldownMs,
      downCooldownMs: settings.scaleDownCooldownMs,
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

function statusOf(view: View, idleMs: number, settings: ReconcileSettings): WorkloadStatus {
  const { workload, seen, plan, revision, scaled, step } = view;
  const { metadata, status } = workload;
  const replicas = seen.tracks.flatMap((track) => track.replicas);
  const ready = seen.tracks.reduce((sum, track) => sum + readyOf(track), 0);
  const current = seen.tracks.find((track) => track.revision === revision);
  const updated = current === undefined ? 0 : readyOf(current);
  const isReady = updated >= scaled.desired && replicas.length === scaled.desired;
  const stuck = isReady ? null : stuckOf(replicas, idleMs, settings);
  const waiting = replicas.find(({ phase }) => phase === "waiting")?.waiting ?? null;
  const conditions = conditionsAfter(
    conditionsBefore(workload),
    findingsOf(view, { isReady, updated, stuck, waiting: waiting?.reason ?? null }),
    metadata.generation,
    seen.now,
  );
  const state = stateOf(status.state, { isReady, step, stuck, replicas, desired: scaled.desired, idleMs });
  const urls = replicas.flatMap(({ phase, url }) => (phase === "ready" && url !== null ? [url] : []));
  const { queue: _, lastScaleTime, ...rest } = status;
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
    endpoints: seen.service === null || urls.length === 0 ? urls.sort() : [seen.service],
    currentMetrics: { ...scaled.metrics },
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

interface Stuck {
  readonly reason: string;
  readonly message: string;
}

function stuckOf(replicas: readonly ReplicaSeen[], idleMs: number, settings: ReconcileSettings): Stuck | null {
  const troubled = replicas.find(({ trouble }) => trouble !== null);
  if (troubled?.trouble) {
    const { reason, message } = troubled.trouble;
    return { reason, message: `${troubled.name} on ${troubled.node ?? "no node"}: ${message}` };
  }
  // A wait for GPUs has no deadline: the queue's words say how long it is.
  const starting = replicas.filter(({ phase }) => phase === "starting" || phase === "unready");
  const [first] = starting;
  if (idleMs < settings.progressDeadlineMs || first === undefined) return null;
  const message = `nothing has moved for ${Math.floor(idleMs / 1_000)} s: ${first.name} is ${first.phase}`;
  return { reason: "NoProgress", message };
}

function findingsOf(
  { workload, scaled, step, seen }: View,
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
    ...securityOf(workload),
  ];
}

function blockedWords({ blocked }: RolloutStep): string {
  if (blocked === null) return "";
  return "the only replica would have to stop for its successor; set deploymentStrategy.allowDowntime, or free a GPU";
}

/** Where no security is asked for any more, none is spoken of. */
function conditionsBefore({ spec, status: { conditions = [] } }: Workload): readonly Condition[] {
  return spec.security === undefined ? conditions.filter(({ type }) => type !== "SecurityApplied") : conditions;
}

/** What is promised is told apart from what is done. */
function securityOf({ spec: { security } }: Workload): Finding[] {
  if (security === undefined) return [];
  const open = [
    ...(security.encryption ? ["encryption"] : []),
    ...((security.accessControl ?? []).length > 0 ? ["accessControl"] : []),
    ...((security.networkPolicies ?? []).length > 0 ? ["networkPolicies"] : []),
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
    readonly desired: number;
    readonly idleMs: number;
  },
): State {
  const { isReady, step, stuck, replicas } = look;
  const hasServed = before === "running" || before === "scaling" || before === "updating" || before === "error";
  if (isReady) return "running";
  if (step.isRolling) return "updating";
  if (!hasServed) {
    if (stuck !== null) return "failed";
    return replicas.some(({ phase }) => phase !== "waiting") ? "creating" : "pending";
  }
  return look.idleMs >= DEGRADED_MS ? "error" : "scaling";
}
