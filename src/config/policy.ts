import type { Policy, Quotas } from "../core/model/policy.ts";
import type { Config } from "./config.ts";

/** The settings that decisions depend on. */
export function policyOf(config: Config): Policy {
  const { scheduler, allocator, monitoring } = config;
  return {
    workloadDefaults: config.workloadDefaults,
    models: config.analyzer.models,
    maxQueueSize: scheduler.maxQueueSize,
    agingIntervalMs: scheduler.agingIntervalMs,
    reserveAfterMs: scheduler.reserveAfterMs,
    patienceMs: scheduler.patienceMs,
    endlessAfterMs: scheduler.endlessAfterMs,
    preferWide: scheduler.preferWide,
    holdLate: scheduler.holdLate,
    queueTimeoutMs: scheduler.queueTimeoutMs,
    abandonAfterMs: scheduler.abandonAfterMs,
    claimTimeoutMs: scheduler.claimTimeoutMs,
    defaultTtlMs: allocator.defaultTtlMs,
    defaultMaxDurationMs: allocator.defaultMaxDurationMs,
    defaultTtlMultiplier: scheduler.defaultTtlMultiplier,
    verifyRelease: allocator.verifyRelease,
    degradedGpus: allocator.degradedGpus,
    memoryMib: allocator.memoryMib,
    idleMemoryMib: allocator.idleMemoryMib,
    foreignUse: allocator.foreignUse,
    foreignUseReadings: allocator.foreignUseReadings,
    foreignUseWebhookUrl: allocator.foreignUseWebhookUrl,
    reclaimTimeoutMs: allocator.reclaimTimeoutMs,
    idleAfterMs: allocator.idleAfterMs,
    reclaimIdleAfterMs: allocator.reclaimIdleAfterMs,
    preemption: preemptionOf(config.preemption),
    refreshIntervalMs: monitoring.refreshIntervalMs,
    staleAfterMs: monitoring.staleAfterMs,
    windows: config.windows.reserved,
    quotas: quotasOf(config),
    sharing: config.sharing,
    fairShare: scheduler.fairShare,
  };
}

function preemptionOf({ enabled, minPriorityGap, graceMs, minRuntimeMs }: Config["preemption"]): Policy["preemption"] {
  return enabled ? { minPriorityGap, graceMs, minRuntimeMs } : null;
}

/** A key may bring the quotas of its principal. */
function quotasOf({ auth, quotas, scheduler }: Config): Quotas {
  const principals = new Set(auth.keys.map(({ principal }) => principal));
  const { defaultPrincipal } = quotas;
  // Where several share the queue, one of them does not get all of its places.
  const maxQueued =
    defaultPrincipal.maxQueued ??
    (auth.enabled && principals.size > 1 ? Math.max(1, Math.floor(scheduler.maxQueueSize / 2)) : null);
  const byKey = auth.keys.flatMap(({ principal, quotas: own }) => (own === null ? [] : [[principal, own] as const]));
  return {
    ...quotas,
    defaultPrincipal: { ...defaultPrincipal, maxQueued },
    principals: { ...Object.fromEntries(byKey), ...quotas.principals },
  };
}
