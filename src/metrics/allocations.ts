import { Histogram, type Registry } from "prom-client";
import type { AllocationId } from "../core/model/ids.ts";
import type { Committed } from "../ports/observer.ts";
import { BoundedLabel, Tally } from "./tally.ts";

/** Services that get series of their own, in order of appearance since the start; the rest share one. */
export const MAX_SERVICES = 100;
/** The reference's. */
const WAIT_BUCKETS_S = [1, 5, 10, 30, 60, 120, 300, 600];

/**
 * Counts what becomes of requests. `gpu_orchestrator_allocations_total` counts each step of a request's life:
 * `queued`, `allocated`, and the reason of its end, such as `released` or `expired`.
 */
export class AllocationCounts {
  readonly #services = new BoundedLabel(MAX_SERVICES);
  readonly #steps: Tally<"service" | "status">;
  readonly #scheduled: Tally<"status">;
  readonly #waits: Histogram;

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
  }

  /** A turn may see one request submitted, granted and ended: whatever a step needs to know may be in an event only. */
  committed({ events, before }: Committed): void {
    const submitted = new Map<AllocationId, { readonly serviceName: string; readonly submittedAt: number }>();
    const find = (id: AllocationId) => submitted.get(id) ?? before.allocations.get(id)?.request;
    const waiting = new Set<AllocationId>();
    for (const event of events) {
      if (event.type === "submitted") {
        submitted.set(event.request.id, event.request);
        waiting.add(event.request.id);
      } else if (event.type === "granted") {
        const request = find(event.id);
        if (request === undefined) continue;
        this.#steps.count(this.#services.of(request.serviceName), "allocated");
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
