import type { EpochMs, GpuUuid } from "../core/model.ts";

/** One lease, as far as accounting needs it. */
export interface LeaseSpan {
  readonly serviceName: string;
  readonly principal: string;
  readonly gpus: readonly GpuUuid[];
  readonly grantedAt: EpochMs;
  /** `null` while it is held. */
  readonly endedAt: EpochMs | null;
}

export interface UsageRow {
  readonly name: string;
  /** GPU-milliseconds held: two GPUs for a second are 2,000. */
  readonly gpuMs: number;
  readonly leases: number;
}

export interface Usage {
  readonly from: EpochMs;
  readonly to: EpochMs;
  readonly services: readonly UsageRow[];
  readonly principals: readonly UsageRow[];
  readonly gpus: readonly UsageRow[];
  readonly totalGpuMs: number;
}

/**
 * What was held between `from` and `to`: of each lease the part that falls into the period, a running one up to `now`.
 *
 * Whole milliseconds throughout, so the sums over services, over principals and over GPUs are equal, exactly.
 */
export function usageOf(leases: Iterable<LeaseSpan>, from: EpochMs, to: EpochMs, now: EpochMs): Usage {
  const services = new Tally();
  const principals = new Tally();
  const gpus = new Tally();
  let totalGpuMs = 0;
  for (const lease of leases) {
    const heldMs = Math.min(lease.endedAt ?? now, to) - Math.max(lease.grantedAt, from);
    if (heldMs <= 0) continue;
    const gpuMs = heldMs * lease.gpus.length;
    totalGpuMs += gpuMs;
    services.add(lease.serviceName, gpuMs);
    principals.add(lease.principal, gpuMs);
    for (const uuid of lease.gpus) gpus.add(uuid, heldMs);
  }
  return { from, to, services: services.rows(), principals: principals.rows(), gpus: gpus.rows(), totalGpuMs };
}

class Tally {
  readonly #rows = new Map<string, { gpuMs: number; leases: number }>();

  add(name: string, gpuMs: number): void {
    const row = this.#rows.get(name) ?? { gpuMs: 0, leases: 0 };
    row.gpuMs += gpuMs;
    row.leases++;
    this.#rows.set(name, row);
  }

  /** The largest first. */
  rows(): UsageRow[] {
    return [...this.#rows]
      .map(([name, row]) => ({ name, ...row }))
      .sort((a, b) => b.gpuMs - a.gpuMs || (a.name < b.name ? -1 : 1));
  }
}
