/** What the loop counts of itself. */
import { Count, Durations, type Family } from "../watching/figures.ts";

const SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 30];

export class LoopFigures {
  readonly passes = new Count(
    "passes_total",
    "Passes over a workload: done, refused by the backend, or failed",
    ["done", "refused", "failed"].map((result) => ({ result })),
  );
  readonly took = new Durations("look_seconds", "A look and the passes that follow from it", SECONDS);
  readonly drifts = new Count("drifts_total", "Things that somebody else had changed, and that were put back", [{}]);
  readonly removals = new Count("removals_total", "Replicas that were stopped so that they start anew", [{}]);
  readonly scalings = new Count(
    "scalings_total",
    "Changes of the number of replicas, by a hand or by the load",
    ["manual", "auto"].map((type) => ({ type })),
  );

  families(): readonly Family[] {
    return [this.passes, this.took, this.drifts, this.removals, this.scalings].map((one) => one.family());
  }
}
