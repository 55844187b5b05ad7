/**
 * What the model that a workload names needs: its GPUs, and the memory of each. Hints of `workload_data` that count:
 *
 * - which model: `model_path`, else `model_config`, else `model`, else `model_name`;
 * - stored how: `quantization`, else a quantisation in the name, else `dtype`, else a dtype in the name, else bf16
 *   (engines take `dtype` as the precision to compute in, so it undoes no quantisation); files as they are stored;
 * - served how: `max_model_len`, else `context_length`, else `input_tokens` + `max_tokens`; `concurrent_requests` and
 *   `batch_size`, whichever is more; `kv_cache_dtype`; `tensor_parallel`, else `tensor_parallel_size`;
 * - trained how: `method`, else `finetune_method`; `optimizer`, `optimizer_precision`, `gradient_precision`,
 *   `lora_rank`, `micro_batch_size`, else `batch_size`; `loss_chunks`; `zero_stage`;
 * - on what: `gpu_memory_mb` (MiB, like every "MB" of the API), else the GPUs of this host.
 */
import type { JsonObject } from "../base/json.ts";
import type { MemoryEstimate, OwnModels, WorkloadType } from "../model/workload.ts";
import { type Demand, demandOf } from "./demand.ts";
import { type Hints, type NumberBounds, quote } from "./hints.ts";
import type { Known } from "./known.ts";
import { MIB, mibOf, totalBytes } from "./memory.ts";

/** What the named model needs. The sources say how it came about. */
export interface ModelNeed {
  readonly gpus: number;
  readonly gpusSource: string;
  readonly memoryMib: number;
  readonly memorySource: string;
  readonly memory: MemoryEstimate;
  readonly tensorParallel: number | null;
  readonly confidence: Demand["confidence"];
}

/**
 * Where the host has no GPU yet, and for what no split fits on it: cards sold with 80 GB report 81,559 MiB (H100) or
 * 81,920 MiB (A100); this is a little less than either.
 */
const REFERENCE_GPU_MIB = 81_000;
const SPLIT: NumberBounds = { min: 1, max: 1_024, integer: true };
const GPU_MIB: NumberBounds = { min: 1_024, max: 1_048_576, integer: false };

/** On what and from what a need is worked out. */
export interface Circumstances {
  /** The GPUs that the caller asks for; the model is divided by them. `null`: as many as it takes. */
  readonly statedGpus: number | null;
  /** Memory of each GPU of this host that could serve, in MiB, sick and busy ones included; largest first. */
  cards(): readonly number[];
  /** Models that the settings add. */
  readonly models: OwnModels;
  readonly known: Known;
}

const NAMING = ["model_path", "model_config", "model", "model_name"];

export function namesModel(data: JsonObject): boolean {
  return NAMING.some((key) => Object.hasOwn(data, key) && data[key] !== null);
}

/** @returns `null` when no model is named, or nothing says how large it is; then a note says so. */
export function modelNeed(type: WorkloadType, hints: Hints, circumstances: Circumstances): ModelNeed | null {
  const demand = demandOf(type, hints, circumstances.models, circumstances.known.file);
  if (demand === null) return null;

  const { gpus, reason } = splitOf(demand, hints, circumstances);
  const split = gpus === 1 ? "1 GPU" : `${gpus} GPUs`;
  const parts = demand.parts(gpus);
  const need = mibOf(totalBytes(parts));
  const mib = (bytes: number) => Math.round((bytes * gpus) / MIB);
  if (demand.isServed) {
    hints.note(
      `${need} MiB per GPU is what ${quote(demand.name)} needs at least; an engine such as vLLM will take a set share of the card (gpu_memory_utilization, 92 % unless set), whatever the need`,
    );
  }
  return {
    gpus,
    gpusSource: `${demand.label}: ${split}, ${reason}`,
    memoryMib: need,
    memorySource: `${demand.label} on ${split}: ${demand.explain(gpus)}`,
    memory: {
      weightsMib: mib(parts.weights),
      gradientsMib: mib(parts.gradients),
      optimizerMib: mib(parts.optimizer),
      kvCacheMib: mib(parts.kvCache),
      activationsMib: mib(parts.activations),
      overheadMib: mib(parts.overhead),
      totalMib: mibOf(totalBytes(parts) * gpus),
      perGpuMib: need,
    },
    tensorParallel: demand.isServed && demand.splits.includes(gpus) ? gpus : null,
    confidence: demand.confidence,
  };
}

/** How many GPUs share the model, and why as many. */
function splitOf(
  demand: Demand,
  hints: Hints,
  { statedGpus, cards: cardsHere }: Circumstances,
): { readonly gpus: number; readonly reason: string } {
  const stated = statedGpus === null ? null : Math.max(1, statedGpus);
  const parallel = hints.number("tensor_parallel", SPLIT) ?? hints.number("tensor_parallel_size", SPLIT);
  const given = stated ?? parallel;
  if (given !== null && demand.isServed && !demand.splits.includes(given)) {
    hints.note(`${given} GPUs do not divide the attention heads of ${quote(demand.name)}: engines refuse such a split`);
  }
  if (stated !== null) return { gpus: stated, reason: "as asked for" };
  if (parallel !== null) return { gpus: parallel, reason: "by tensor_parallel" };

  const need = (gpus: number) => totalBytes(demand.parts(gpus)) / MIB;
  const statedMib = hints.number("gpu_memory_mb", GPU_MIB);
  const cards = statedMib === null ? cardsHere() : [];
  if (cards.length > 0) {
    const fitting = demand.splits.find((gpus) => need(gpus) <= (cards[gpus - 1] ?? 0));
    if (fitting !== undefined) return { gpus: fitting, reason: "the fewest of this host on which it fits" };
    hints.note(`${quote(demand.name)} does not fit on the GPUs of this host, however it is split`);
  }
  const limitMib = statedMib ?? REFERENCE_GPU_MIB;
  const limit = `${limitMib} MiB ${statedMib === null ? "(a card of 80 GB)" : "(gpu_memory_mb)"}`;
  const fitting = demand.splits.find((gpus) => need(gpus) <= limitMib);
  if (fitting !== undefined) return { gpus: fitting, reason: `so that each needs at most ${limit}` };
  return { gpus: Math.max(1, ...demand.splits), reason: `the widest split, although each needs more than ${limit}` };
}
