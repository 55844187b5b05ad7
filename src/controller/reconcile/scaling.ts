/**
 * How many replicas a workload is to have.
 *
 *  1. `spec.replicas` rules where it is set: a hand, an HPA or KEDA set it, and two that scale would fight.
 *  2. Otherwise the HPA's formula: per metric, replicas x measured / target, within 10 % of the target nothing; the
 *     largest metric wins, within minReplicas and maxReplicas.
 *  3. A replica that is not ready, or says nothing, blocks nothing: it counts as idle for up, and as at its target for
 *     down. When all are silent, nothing moves.
 *  4. No more pending replicas than could get GPUs; when demand falls they go first.
 *  5. Who names no metric is scaled by CPU, between two thresholds of the settings: between them nothing moves.
 *  6. Cool-downs, and the stabilisation windows and paces of `scalingBehavior`. What asks for fewer must do so for the
 *     whole window.
 */
import type { EpochMs } from "../../core/base/time.ts";
import type { MetricName, WorkloadSpec } from "../objects/workload.ts";
import type { LoadSeen } from "./seen.ts";
import type { ReconcileSettings } from "./settings.ts";

const TOLERANCE = 0.1;
const DEFAULT_DOWN_WINDOW_MS = 300_000;

/** What earlier looks found: kept by the loop between two of them. */
export interface ScalingMemory {
  readonly wanted: readonly { readonly at: EpochMs; readonly replicas: number }[];
}

export const NO_MEMORY: ScalingMemory = { wanted: [] };

export interface ScalingAsk {
  readonly spec: WorkloadSpec;
  /** As many were desired at the last look; `null`: this is the first. */
  readonly before: number | null;
  /** Ready ones, by name. */
  readonly ready: readonly string[];
  /** Not ready: waiting or starting. */
  readonly unready: number;
  readonly load: readonly LoadSeen[];
  /** As many more could get their GPUs now. */
  readonly room: number;
  readonly lastScaledAt: EpochMs | null;
  readonly upCooldownMs: number;
  readonly downCooldownMs: number;
  readonly cpuBand: ReconcileSettings["cpuBand"];
  readonly now: EpochMs;
}

export interface Scaled {
  readonly desired: number;
  readonly active: { readonly holds: boolean; readonly reason: string; readonly message: string };
  /** Averages over the replicas that say. */
  readonly metrics: Readonly<Record<string, number>>;
  readonly memory: ScalingMemory;
}

export function scale(ask: ScalingAsk, memory: ScalingMemory): Scaled {
  const { spec, before, load } = ask;
  const metrics = averages(load);
  const { minReplicas, maxReplicas } = spec.scaling;
  const targetMetrics: readonly Target[] = spec.scaling.targetMetrics ?? [
    { type: "cpu", target: ask.cpuBand.above, below: ask.cpuBand.below },
  ];
  const resting = (desired: number, reason: string, message: string): Scaled => ({
    desired,
    active: { holds: false, reason, message },
    metrics,
    memory: NO_MEMORY,
  });
  if (spec.replicas !== undefined) return resting(spec.replicas, "ScaledByHand", "spec.replicas is set, and rules");
  const current = clamp(before ?? minReplicas, minReplicas, maxReplicas);
  if (targetMetrics.length === 0) return resting(current, "NoTargets", "spec.scaling names no targetMetrics");
  const found = targetMetrics.flatMap((target) => {
    const replicas = byMetric(ask, target, current);
    return replicas === null ? [] : [{ type: target.type, replicas }];
  });
  if (found.length === 0) {
    const names = targetMetrics.map(({ type }) => type).join(", ");
    return resting(current, "NoMetrics", `no ready replica says its ${names}, so nothing moves`);
  }
  const wanted = clamp(Math.max(...found.map(({ replicas }) => replicas)), minReplicas, maxReplicas);
  const kept = [...recent(memory, ask), { at: ask.now, replicas: wanted }];
  const paced = paceOf(ask, current, wanted, kept);
  const desired = paced > current ? Math.min(paced, Math.max(current, pendingBound(ask))) : paced;
  const told = found.map(({ type, replicas }) => `${type} asks for ${replicas}`).join(", ");
  return { desired, active: { holds: true, reason: "Measured", message: told }, metrics, memory: { wanted: kept } };
}

interface Target {
  readonly type: MetricName;
  readonly target: number;
  /** From there up to the target nothing moves; absent: only within the tolerance. */
  readonly below?: number;
}

/** Replicas as one metric would have them; `null`: no ready replica says it. */
function byMetric({ load, ready, unready }: ScalingAsk, { type, target, below = target }: Target, current: number) {
  const said = load.filter(({ replica, metrics }) => ready.includes(replica) && metrics[type] !== undefined);
  if (said.length === 0) return null;
  const sum = said.reduce((total, { metrics }) => total + (metrics[type] as number), 0);
  const silent = ready.length - said.length + unready;
  const average = sum / said.length;
  const ratio = average / target;
  if (Math.abs(ratio - 1) <= TOLERANCE || (average >= below && average <= target)) return current;
  // Idle for up, at their target for down: no missing figure makes the answer larger or smaller than those that are known.
  const assumed = ratio > 1 ? 0 : silent * target;
  const spread = (sum + assumed) / (said.length + silent) / target;
  if (Math.abs(spread - 1) <= TOLERANCE || spread > 1 !== ratio > 1) return current;
  return Math.ceil((said.length + silent) * spread - 1e-9);
}

function pendingBound({ ready, unready, room }: ScalingAsk): number {
  return ready.length + unready + room;
}

function recent({ wanted }: ScalingMemory, ask: ScalingAsk) {
  const longest = Math.max(windowMs(ask, "scaleUp"), windowMs(ask, "scaleDown"));
  return wanted.filter(({ at }) => ask.now - at < longest);
}

function windowMs({ spec }: ScalingAsk, way: "scaleUp" | "scaleDown"): number {
  const seconds = spec.scaling.scalingBehavior?.[way]?.stabilizationWindowSeconds;
  if (seconds !== undefined) return seconds * 1_000;
  return way === "scaleUp" ? 0 : DEFAULT_DOWN_WINDOW_MS;
}

/** Cool-downs, windows and paces: between `current` and `wanted`. */
function paceOf(ask: ScalingAsk, current: number, wanted: number, kept: ScalingMemory["wanted"]): number {
  const way = wanted > current ? "scaleUp" : "scaleDown";
  const window = windowMs(ask, way);
  const since = kept.filter(({ at }) => ask.now - at < Math.max(window, 1)).map(({ replicas }) => replicas);
  const steady = way === "scaleUp" ? Math.min(...since) : Math.max(...since);
  if (way === "scaleUp" ? steady <= current : steady >= current) return current;
  const cooldown = way === "scaleUp" ? ask.upCooldownMs : ask.downCooldownMs;
  const sinceMs = ask.lastScaledAt === null ? cooldown : ask.now - ask.lastScaledAt;
  // Of a change that is yet to come, a clock was set back: it says nothing.
  if (sinceMs >= 0 && sinceMs < cooldown) return current;
  const { maxChangePercent, maxChangePods } = ask.spec.scaling.scalingBehavior?.[way] ?? {};
  const byPercent = maxChangePercent === undefined ? Infinity : Math.ceil((current * maxChangePercent) / 100);
  const step = Math.min(Math.abs(steady - current), Math.max(1, Math.min(byPercent, maxChangePods ?? Infinity)));
  return way === "scaleUp" ? current + step : current - step;
}

function averages(load: readonly LoadSeen[]): Record<string, number> {
  const sums = new Map<string, { sum: number; count: number }>();
  for (const { metrics } of load) {
    for (const [name, value] of Object.entries(metrics)) {
      if (value === undefined) continue;
      const { sum, count } = sums.get(name) ?? { sum: 0, count: 0 };
      sums.set(name, { sum: sum + value, count: count + 1 });
    }
  }
  return Object.fromEntries([...sums].map(([name, { sum, count }]) => [name, sum / count]));
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}
