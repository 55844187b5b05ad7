/** What the analyzer says of a workload, as answers show it. */
import { namesModel } from "../../core/analyzer/model-need.ts";
import type { AllocateAsk } from "../../core/decisions/commands.ts";
import { analysisFor } from "../../core/decisions/submit.ts";
import type { HostState } from "../../core/host/state.ts";
import type { Allocation } from "../../core/model/allocation.ts";
import type { Analysis, MemoryEstimate } from "../../core/model/workload.ts";
import type { AnalysisAnswer } from "../../wire/allocations/analysis.ts";

export function analysisView({ source, memory, tensorParallel, confidence, notes }: Analysis): AnalysisAnswer {
  return {
    source: {
      required_gpus: source.requiredGpus,
      min_memory_mb: source.minMemoryMib,
      priority: source.priority,
      max_utilization: source.maxUtilization,
    },
    memory: memory === null ? null : memoryView(memory),
    tensor_parallel: tensorParallel,
    confidence,
    notes: [...notes],
  };
}

function memoryView(memory: MemoryEstimate): NonNullable<AnalysisAnswer["memory"]> {
  return {
    weights_mb: memory.weightsMib,
    gradients_mb: memory.gradientsMib,
    optimizer_mb: memory.optimizerMib,
    kv_cache_mb: memory.kvCacheMib,
    activations_mb: memory.activationsMib,
    overhead_mb: memory.overheadMib,
    total_mb: memory.totalMib,
    per_gpu_mb: memory.perGpuMib,
  };
}

/**
 * The part of an allocate's answer for one that names a model; nothing for others, who need not pay for it. Nothing either
 * when the host has changed so much since the request was made that the figures would be others.
 */
export function analysisPart(ask: AllocateAsk, { request }: Allocation, state: HostState): Partial<AnalysisAnswer> {
  if (!namesModel(ask.workloadData)) return {};
  const analysis = analysisFor(ask, request, state);
  const { gpus, memoryMib } = request.requirement;
  const isWhatWasAsked = analysis.requirement.gpus === gpus && analysis.requirement.memoryMib === memoryMib;
  return isWhatWasAsked ? analysisView(analysis) : {};
}
