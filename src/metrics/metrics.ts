/**
 * The daemon's figures for Prometheus.
 *
 *  1. Events are counted as they come. Everything that is a state is looked up at the scrape, so it cannot drift and
 *     costs nothing in between.
 *  2. Every label is bounded: services, endpoints and methods from outside fall into `other` beyond their limits.
 *  3. A figure that is not known is left out, never 0.
 *  4. Names: the reference service's stay as they are; four of them breach Prometheus' conventions
 *     (`gpu_allocator_gpus_allocated_total` and `gpu_orchestrator_gpus_total` are gauges; the two in `_mb` are not in bytes).
 */
import type { HostState } from "../core/host/state.ts";
import type { Clock } from "../platform/clock.ts";
import type { GpuSource } from "../ports/gpu-source.ts";
import type { Committed, Observer } from "../ports/observer.ts";
import type { DeliverySettlement } from "../ports/webhooks.ts";
import { AllocationCounts } from "./allocations.ts";
import { Exposer, type Exposition } from "./exposition.ts";
import { registerHost } from "./host.ts";
import { Operation } from "./operation.ts";
import { registerProcess } from "./process.ts";
import { registerQuotas } from "./quotas.ts";
import { type ObservedRequest, RequestTimes } from "./requests.ts";

export interface MetricsParts {
  readonly version: string;
  readonly clock: Clock;
  /** Looked at when metrics are scraped. */
  readonly scheduler: {
    readonly state: HostState;
    readonly storageHealthy: boolean;
    readonly events: { readonly readers: number };
  };
  readonly source: SourceFigures;
  /** Whether principals are told apart. The page asks for no key, so it shows nothing of theirs then. */
  readonly hasKeys?: boolean;
}

/** What can be told of the source of readings beside the readings. */
export type SourceFigures = Pick<GpuSource, "abandonedTotal" | "stuck">;

export interface Metrics extends Required<Observer> {
  /** All metrics, in the format that the `Accept` header prefers. */
  render(accept: string | undefined): Promise<Exposition>;
  observeRequest(request: ObservedRequest): void;
  /** One attempt to deliver a webhook is over. */
  webhookSettled(settlement: Pick<DeliverySettlement, "outcome">): void;
  configReload(ok: boolean): void;
  /** A request was refused because its client's share was used up. */
  limitReached(limit: string): void;
}

export function createMetrics({ version, clock, scheduler, source, hasKeys = false }: MetricsParts): Metrics {
  const exposer = new Exposer();
  const { registry } = exposer;
  const look = () => ({ state: scheduler.state, now: clock.now() });
  const allocations = new AllocationCounts(registry);
  registerHost(registry, look);
  registerQuotas(registry, look, !hasKeys);
  const requests = new RequestTimes(registry);
  const operation = new Operation(registry, {
    version,
    startedAt: clock.now(),
    look,
    storageHealthy: () => scheduler.storageHealthy,
    source,
    eventStreams: () => scheduler.events.readers,
  });
  registerProcess(registry);
  return {
    render: (accept) => exposer.render(accept),
    observeRequest: (request) => requests.observe(request),
    committed: (turn: Committed) => allocations.committed(turn),
    observed: (observation) => operation.observed(observation),
    storage: (healthy) => operation.storage(healthy),
    webhookSettled: (settlement) => operation.webhookSettled(settlement),
    limitReached: (limit) => operation.limitReached(limit),
    configReload: (ok) => operation.configReload(ok, clock.now()),
  };
}
