import type { Analysis, WorkloadAsk, WorkloadDefaults, WorkloadType } from "../model/workload.ts";
import { raise, readHints, type Sourced } from "./hints.ts";
import { modelNeed } from "./model-need.ts";
import { applyRules } from "./rules.ts";

/**
 * Says what a workload needs, and which rule or figure gave each number.
 *
 * Pure and total: any JSON object is accepted as workload data; what is nonsense in it is ignored, with a note. What
 * the caller states beats every rule; the rules and a named model only raise each other.
 */
export function analyze(ask: WorkloadAsk, defaults: { readonly [type in WorkloadType]: WorkloadDefaults }): Analysis {
  const type = ask.workloadType;
  const ofType = defaults[type];
  const hints = readHints(ask.workloadData);
  const rules = applyRules(type, hints, ofType);
  const model = modelNeed(type, hints, ask.requiredGpus);
  if (model !== null && ask.minMemoryMib !== null && ask.minMemoryMib < model.memoryMib) {
    hints.note(`min_memory_mb ${ask.minMemoryMib} is less than the model needs (${model.memorySource})`);
  }

  const byModel = (value: number | undefined, source: string | undefined, rule: Sourced): Sourced =>
    value === undefined || source === undefined ? rule : raise(rule, { value, source });
  const gpus = stated(ask.requiredGpus) ?? byModel(model?.gpus, model?.gpusSource, rules.gpus);
  const memory = stated(ask.minMemoryMib) ?? byModel(model?.memoryMib, model?.memorySource, rules.memoryMib);
  const priority = stated(ask.priority) ?? rules.priority;
  const utilization = stated(ask.maxUtilizationPercent) ?? {
    value: ofType.maxUtilizationPercent,
    source: `default of ${type}`,
  };
  return {
    requirement: {
      gpus: gpus.value,
      memoryMib: memory.value,
      priority: priority.value,
      maxUtilizationPercent: utilization.value,
      maxUtilizationExplicit: ask.maxUtilizationPercent !== null,
    },
    sources: {
      requiredGpus: gpus.source,
      minMemoryMib: memory.source,
      priority: priority.source,
      maxUtilization: utilization.source,
    },
    notes: hints.notes(),
  };
}

function stated(value: number | null): Sourced | null {
  return value === null ? null : { value, source: "asked for" };
}
