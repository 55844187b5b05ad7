import { neverFits } from "../../core/allocator/never-fits.ts";
import type { Observed } from "../../core/analyzer/known.ts";
import type { AllocateAsk, AnalyzerAsk } from "../../core/decisions/commands.ts";
import { type Asker, analysisFor } from "../../core/decisions/submit.ts";
import type { Plan } from "../../core/explain/plan.ts";
import type { HostState } from "../../core/host/state.ts";
import type { Actor } from "../../core/model/ids.ts";
import { printable } from "../../platform/printable.ts";
import type { PlanAnswer, WorkloadAnswer } from "../../wire/planning/answers.ts";
import { text } from "../../wire/values.ts";
import { reasonsView } from "../allocations/outlook.ts";
import { etaView } from "../allocations/views.ts";
import { analysisView } from "./analysis.ts";

/**
 * What the analyzer would ask for, and whether this host could ever hold it.
 *
 * @param asker whose quotas bound the priority.
 */
export function workloadView(
  ask: AnalyzerAsk,
  asker: Asker,
  state: HostState,
  workflow: WorkloadAnswer["workflow"],
): WorkloadAnswer {
  const analysis = analysisFor(ask, asker, state);
  const { requirement, sources } = analysis;
  const missing = neverFits({ ...ask, requirement }, state);
  return {
    workload_type: ask.workloadType,
    required_gpus: requirement.gpus,
    min_memory_mb: requirement.memoryMib,
    priority: requirement.priority,
    max_utilization: requirement.maxUtilizationPercent,
    sources: {
      required_gpus: sources.requiredGpus,
      min_memory_mb: sources.minMemoryMib,
      priority: sources.priority,
      max_utilization: sources.maxUtilization,
    },
    ...analysisView(analysis),
    suggested: suggestedView(ask.known?.observed ?? null),
    workflow,
    fits: missing === null,
    missing: text(missing),
  };
}

function suggestedView(observed: Observed | null): WorkloadAnswer["suggested"] {
  return observed === null ? null : { min_memory_mb: observed.memoryMib, runs: observed.runs };
}

/** What would come of a request, and of each GPU why not. */
export function planView(ask: AllocateAsk, { principal }: Actor, plan: Plan, state: HostState): PlanAnswer {
  const { requirement } = analysisFor(ask, { principal, serviceName: ask.serviceName }, state);
  const granted = plan.outcome === "granted" ? plan.gpus : null;
  const reasons = plan.outcome === "queued" ? plan.explanation.gpus : plan.outcome === "refused" ? plan.gpus : null;
  return {
    outcome: plan.outcome,
    code: plan.outcome === "refused" ? plan.code : null,
    reason: plan.outcome === "granted" ? null : printable(reasonOf(plan)),
    required_gpus: requirement.gpus,
    min_memory_mb: requirement.memoryMib,
    priority: requirement.priority,
    gpu_ids: granted === null ? null : granted.map(({ index }) => index),
    gpu_uuids: granted === null ? null : granted.map(({ uuid }) => uuid),
    position: plan.outcome === "queued" ? plan.position : null,
    eta: plan.outcome === "queued" ? etaView(plan.eta) : null,
    gpus: reasonsView(reasons ?? new Map(), state),
  };
}

export function reasonOf(plan: Exclude<Plan, { outcome: "granted" }>): string {
  return plan.outcome === "queued" ? plan.explanation.reason : plan.reason;
}
