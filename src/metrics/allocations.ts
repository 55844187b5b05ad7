import { Histogram, type Registry } from "prom-client";
import type { EpochMs } from "../core/base/time.ts";
import { compareKeys, queueKey } from "../core/host/line.ts";
import type { HostState } from "../core/host/state.ts";
import type { LiveAllocation, Request } from "../core/model/allocation.ts";
import type { AllocationId } from "../core/model/ids.ts";
import type { Committed } from "../ports/observer.ts";
import { BoundedLabel, Tally } from "./tally.ts";

/** Services that get series of their own, in order of appearance since the start; the rest share one. */
export const MAX_SERVICES = 100;
/** The reference's. */
const WAIT_BUCKETS_S = [1, 5, 10, 30, 60, 120, 300, 600];
/** From a minute to three days: heads wait for leases to end. */
const HEAD_BUCKETS_S = [60, 600, 3_600, 10_800, 21_600, 43_200, 86_400, 259_200];

/**
 * Counts what becomes of requests. `gpu_orchestrator_allocations_total` counts each step of a request's life:
 * `queued`, `allocated`, and the reason of its end, such as `released` or `expired`.
 */
export class AllocationCounts {
  readonly #services = new BoundedLabel(MAX_SERVICES);
  readonly #steps: Tally<"service" | "status">;
  readonly #scheduled: Tally<"status">;
  readonly #waits: Histogram;
  readonly #headWaits: Histogram;
  readonly #passes: Tally<never>;

  constructor(registry: Registry) {
    this.#steps = new Tally(
      registry,
      "gpu_orchestrator_allocations_total",
      "Requests that were queued, were allocated GPUs, or ended, by the reason of the end",
      ["service", "status"],
    );
    this.#scheduled = new Tally(registry, "gpu_scheduler_scheduled_total", "What the scheduler did with requests", [
      "status",
    ]);
    for (const status of ["immediate", "queued", "allocated_from_queue"]) this.#scheduled.prepare(status);
    this.#waits = new Histogram({
      name: "gpu_scheduler_queue_wait_seconds",
      help: "How long those who were granted GPUs from the queue had waited",
      buckets: WAIT_BUCKETS_S,
      registers: [registry],
    });
    this.#headWaits = new Histogram({
      name: "gpu_orchestrator_head_wait_seconds",
      help: "How long requests whose patience ran had it when they were granted GPUs: from when they were a head whose start nobody could tell, or first passed by a wider request",
      buckets: HEAD_BUCKETS_S,
      registers: [registry],
    });
    this.#passes = new Tally(
      registry,
      "gpu_orchestrator_head_passes_total",
      "Grants to requests that went before one whose patience ran: a head whose start nobody could tell, or one that a wider request had passed",
      [],
    );
    this.#passes.prepare();
  }

  /** A turn may see one request submitted, granted and ended: whatever a step needs to know may be in an event only. */
  committed({ events, before, state }: Committed): void {
    const submitted = new Map<AllocationId, Request>();
    const heads = new Map<AllocationId, EpochMs>();
    const find = (id: AllocationId) => submitted.get(id) ?? before.allocations.get(id)?.request;
    const waiting = new Set<AllocationId>();
    for (const event of events) {
      if (event.type === "submitted") {
        submitted.set(event.request.id, event.request);
        waiting.add(event.request.id);
      } else if (event.type === "became-head") {
        heads.set(event.id, event.at);
      } else if (event.type === "granted") {
        const request = find(event.id);
        if (request === undefined) continue;
        this.#steps.count(this.#services.of(request.serviceName), "allocated");
        const headSince = heads.get(event.id) ?? headSinceOf(before.allocations.get(event.id));
        if (headSince !== null) this.#headWaits.observe((event.lease.grantedAt - headSince) / 1_000);
        if (hasPassed(request, state)) this.#passes.count();
        // Granted at once, and never in the queue; any other grant is an offer first.
        if (event.claimBy === null) {
          waiting.delete(event.id);
          this.#scheduled.count("immediate");
        } else {
          this.#scheduled.count("allocated_from_queue");
          this.#waits.observe((event.lease.grantedAt - request.submittedAt) / 1_000);
        }
      } else if (event.type === "ended") {
        const request = find(event.id);
        if (request !== undefined) this.#steps.count(this.#services.of(request.serviceName), event.outcome.reason);
      }
    }
    for (const id of waiting) {
      const request = find(id);
      if (request === undefined) continue;
      this.#steps.count(this.#services.of(request.serviceName), "queued");
      this.#scheduled.count("queued");
    }
  }
}

function headSinceOf(allocation: LiveAllocation | undefined): EpochMs | null {
  return allocation?.status === "queued" ? allocation.headSince : null;
}

/** Whether one whose patience runs stood before it, and waits on. */
function hasPassed(request: Request, { line, policy }: HostState): boolean {
  const first = line.heads.first();
  return first !== undefined && compareKeys(first[0], queueKey(request, policy)) < 0;
}
