/**
 * What the model that a workload names needs: its GPUs, and the memory of each. Hints of `workload_data` that count:
 *
 * - which model: `model`, else `model_name`;
 * - stored how: `quantization`, else a quantisation in the name, else `dtype`, else a dtype in the name, else bf16
 *   (engines take `dtype` as the precision to compute in, so it undoes no quantisation);
 * - served how: `max_model_len`, else `context_length`, else `input_tokens` + `max_tokens`; `concurrent_requests`;
 *   `kv_cache_dtype`; `tensor_parallel_size`;
 * - trained how: `method`, else `finetune_method`; `optimizer_precision`, `gradient_precision`, `lora_rank`,
 *   `micro_batch_size`, `zero_stage`;
 * - on what: `gpu_memory_mb` (MiB, like every "MB" of the API).
 */
import type { WorkloadType } from "../model/workload.ts";
import { type CatalogueEntry, findModel } from "./catalogue.ts";
import { BF16, DEFAULT_KV_BYTES, findWeightFormat, KV_BYTES, type WeightFormat } from "./formats.ts";
import { type Hints, type NumberBounds, quote } from "./hints.ts";
import {
  adapterParameters,
  MIB,
  MIXED,
  MIXED_BF16_GRADIENTS,
  mibOf,
  type ParameterCount,
  PURE_BF16,
  parameterCount,
  ruleOfThumbBytes,
  servingBytesPerGpu,
  shardedBytes,
  type TrainingMethod,
  type TrainingPrecision,
  tensorParallelSizes,
  trainingActivationBytes,
  trainingOverheadBytes,
  trainingState,
  weightBytes,
} from "./memory.ts";
import { parseModelName } from "./parse-name.ts";

/** What the named model needs. The sources say how it came about. */
export interface ModelNeed {
  readonly gpus: number;
  readonly gpusSource: string;
  readonly memoryMib: number;
  readonly memorySource: string;
}

/**
 * The analyzer does not know the host: a model is split until each GPU needs at most this much. Cards sold with 80 GB
 * report 81,559 MiB (H100) or 81,920 MiB (A100); this is a little less than either.
 */
const REFERENCE_GPU_MIB = 81_000;
/** Tried in this order where no number of heads binds: data-parallel training, and models known by size only. */
const UNBOUND_SPLITS = [1, 2, 4, 8, 16, 32, 64];

const DEFAULT_PROMPT_TOKENS = 2_048;
const DEFAULT_GENERATED_TOKENS = 2_048;
const DEFAULT_TRAINING_TOKENS = 2_048;
/** What QLoRA's authors and Qwen's recipes use; a lower rank needs less. */
const DEFAULT_LORA_RANK = 64;
/** FSDP's full sharding, which is what trainers use to fit a model over several GPUs. */
const DEFAULT_ZERO_STAGE = 3;

const TOKENS: NumberBounds = { min: 1, max: 10_000_000, integer: true };
const SEQUENCES: NumberBounds = { min: 0, max: 100_000, integer: false };
const MICRO_BATCH: NumberBounds = { min: 1, max: 10_000, integer: true };
const LORA_RANK: NumberBounds = { min: 1, max: 4_096, integer: true };
const ZERO_STAGE: NumberBounds = { min: 0, max: 3, integer: true };
const SPLIT: NumberBounds = { min: 1, max: 1_024, integer: true };
const GPU_MIB: NumberBounds = { min: 1_024, max: 1_048_576, integer: false };

/** A model's need as a function of the number of GPUs that share it. */
interface Demand {
  /** The model and how it is used, for the sources. */
  readonly label: string;
  /** Numbers of GPUs to try, in this order. */
  readonly splits: readonly number[];
  bytesPerGpu(gpus: number): number;
  /** The parts of that figure, in words. */
  explain(gpus: number): string;
}

/**
 * @param statedGpus the GPUs that the caller asks for; the model is divided by them. `null`: as many as it takes.
 * @returns `null` when no model is named, or its name says nothing about its size; then a note says so.
 */
export function modelNeed(type: WorkloadType, hints: Hints, statedGpus: number | null): ModelNeed | null {
  const named = hints.text("model") ?? hints.text("model_name");
  if (named === null) return null;
  const demand = demandOf(named, type, hints);
  if (demand === null) return null;

  const { gpus, reason } = splitOf(demand, hints, statedGpus);
  const split = gpus === 1 ? "1 GPU" : `${gpus} GPUs`;
  const need = mibOf(demand.bytesPerGpu(gpus));
  if (type !== "training") {
    hints.note(
      `${need} MiB per GPU is what ${quote(named)} needs at least; an engine such as vLLM will take a set share of the card (gpu_memory_utilization), whatever the need`,
    );
  }
  return {
    gpus,
    gpusSource: `${demand.label}: ${split}, ${reason}`,
    memoryMib: need,
    memorySource: `${demand.label} on ${split}: ${demand.explain(gpus)}`,
  };
}

/** How many GPUs share the model, and why as many. */
function splitOf(demand: Demand, hints: Hints, statedGpus: number | null): { gpus: number; reason: string } {
  if (statedGpus !== null) return { gpus: Math.max(1, statedGpus), reason: "as asked for" };
  const parallel = hints.number("tensor_parallel_size", SPLIT);
  if (parallel !== null) return { gpus: parallel, reason: "by tensor_parallel_size" };

  const statedMib = hints.number("gpu_memory_mb", GPU_MIB);
  const limitMib = statedMib ?? REFERENCE_GPU_MIB;
  const limit = `${limitMib} MiB ${statedMib === null ? "(a card of 80 GB)" : "(gpu_memory_mb)"}`;
  const fitting = demand.splits.find((gpus) => demand.bytesPerGpu(gpus) <= limitMib * MIB);
  if (fitting !== undefined) return { gpus: fitting, reason: `so that each needs at most ${limit}` };
  return { gpus: Math.max(1, ...demand.splits), reason: `the widest split, although each needs more than ${limit}` };
}

function demandOf(named: string, type: WorkloadType, hints: Hints): Demand | null {
  const parsed = parseModelName(named);
  const format = formatOf(hints, parsed.format);
  const known = findModel(parsed.canonical);
  if (known !== null) {
    return type === "training" ? trainingDemand(known, format, hints) : servingDemand(known, format, hints);
  }
  if (parsed.parameters === null) {
    hints.note(`model ${quote(named)} is not in the catalogue and its name gives no size: it changes no figure`);
    return null;
  }
  if (parsed.isUpperBound) {
    hints.note(`experts of ${quote(named)} are counted whole, an upper bound: they share layers`);
  }
  return unknownDemand(named, parsed.parameters, type, format, hints);
}

function servingDemand(entry: CatalogueEntry, format: WeightFormat, hints: Hints): Demand {
  const untied = entry.untiedInFp8 && format.name === "fp8";
  const model = untied ? { ...entry.architecture, tied: false } : entry.architecture;
  const statedContext = hints.number("max_model_len", TOKENS) ?? hints.number("context_length", TOKENS);
  const prompt = hints.number("input_tokens", TOKENS);
  const generated = hints.number("max_tokens", TOKENS);
  const tokensPerSequence =
    statedContext ?? (prompt ?? DEFAULT_PROMPT_TOKENS) + (generated ?? DEFAULT_GENERATED_TOKENS);
  if (statedContext === null && (prompt === null || generated === null)) {
    hints.note(`${tokensPerSequence} tokens a sequence are assumed: max_model_len is not given`);
  }
  const sequences = Math.max(1, Math.ceil(hints.number("concurrent_requests", SEQUENCES) ?? 1));
  if (model.slidingWindow) {
    hints.note(`the KV cache of ${entry.id} is an upper bound: some of its layers keep only a window of the context`);
  }
  const serving = { model, format, kvBytesPerValue: kvBytesOf(hints), tokensPerSequence, sequences };
  const label = `${entry.id} in ${format.name}`;
  return {
    label,
    splits: tensorParallelSizes(model.heads),
    bytesPerGpu: (gpus) => servingBytesPerGpu(serving, gpus).total,
    explain(gpus) {
      const { weights, kvCache, overhead } = servingBytesPerGpu(serving, gpus);
      const cache = `KV cache ${mibOf(kvCache)} MiB (${tokensPerSequence} tokens x ${sequences} at once)`;
      return `weights ${mibOf(weights)} MiB, ${cache}, overhead ${mibOf(overhead)} MiB`;
    },
  };
}

interface TrainingHints {
  readonly method: TrainingMethod;
  readonly precision: TrainingPrecision;
  readonly zeroStage: number;
  readonly label: string;
}

function readTraining(hints: Hints): TrainingHints {
  const method = methodOf(hints);
  const precision = precisionOf(hints);
  const zeroStage = hints.number("zero_stage", ZERO_STAGE) ?? DEFAULT_ZERO_STAGE;
  const label = method === "full" ? `full fine-tuning, ${precision.name}` : method === "lora" ? "LoRA" : "QLoRA";
  return { method, precision, zeroStage, label };
}

function trainingDemand(entry: CatalogueEntry, format: WeightFormat, hints: Hints): Demand {
  const { method, precision, zeroStage, label } = readTraining(hints);
  const model = entry.architecture;
  const adapters =
    method === "full" ? 0 : adapterParameters(model, hints.number("lora_rank", LORA_RANK) ?? DEFAULT_LORA_RANK);
  const state = trainingState(parameterCount(model), method, precision, adapters, format);
  const statedContext = hints.number("max_model_len", TOKENS) ?? hints.number("context_length", TOKENS);
  const microBatch = hints.number("micro_batch_size", MICRO_BATCH);
  const tokens = (statedContext ?? DEFAULT_TRAINING_TOKENS) * (microBatch ?? 1);
  if (statedContext === null || microBatch === null) {
    hints.note(`${tokens} tokens a step on each GPU are assumed: max_model_len or micro_batch_size is not given`);
  }
  const activations = trainingActivationBytes(model, tokens);
  return {
    label: `${entry.id}, ${label}`,
    splits: UNBOUND_SPLITS,
    bytesPerGpu: (gpus) => shardedBytes(state, zeroStage, gpus) + activations + trainingOverheadBytes(gpus),
    explain(gpus) {
      const sharded = mibOf(shardedBytes(state, zeroStage, gpus));
      const overhead = mibOf(trainingOverheadBytes(gpus));
      const zero = gpus === 1 ? "" : ` (ZeRO ${zeroStage})`;
      return `weights, gradients and optimizer ${sharded} MiB${zero}, activations ${mibOf(activations)} MiB (${tokens} tokens), overhead ${overhead} MiB`;
    },
  };
}

/** A model known by its size alone. */
function unknownDemand(
  named: string,
  parameters: number,
  type: WorkloadType,
  format: WeightFormat,
  hints: Hints,
): Demand {
  const count: ParameterCount = { linear: parameters, other: 0 };
  const training = type === "training" ? readTraining(hints) : null;
  const stored = (gpus: number): number => {
    if (training === null) return weightBytes(count, format) / gpus;
    const state = trainingState(count, training.method, training.precision, 0, format);
    return shardedBytes(state, training.zeroStage, gpus);
  };
  const what = training === null ? "weights" : "weights, gradients and optimizer";
  const how = training === null ? `in ${format.name}` : training.label;
  hints.note(`model ${quote(named)} is not in the catalogue: ${what} x 1.2 + 2 GiB is a rule of thumb`);
  return {
    label: `${quote(named)}, ${parameters / 1e9} billion parameters by its name, ${how}`,
    splits: UNBOUND_SPLITS,
    bytesPerGpu: (gpus) => ruleOfThumbBytes(stored(gpus)),
    explain: (gpus) => `rule of thumb, ${what} ${mibOf(stored(gpus))} MiB x 1.2 + 2 GiB`,
  };
}

function formatOf(hints: Hints, byName: WeightFormat | null): WeightFormat {
  const quantization = readFormat(hints, "quantization");
  const dtype = readFormat(hints, "dtype");
  const isQuantised = byName !== null && byName.bytesPerWeight < BF16.bytesPerWeight;
  return quantization ?? (isQuantised ? byName : null) ?? dtype ?? byName ?? BF16;
}

function readFormat(hints: Hints, key: string): WeightFormat | null {
  const text = hints.text(key);
  if (text === null || text.toLowerCase() === "auto" || text.toLowerCase() === "none") return null;
  const format = findWeightFormat(text);
  if (format === null) hints.note(`${key} ${quote(text)} ignored: not a known format`);
  return format;
}

function kvBytesOf(hints: Hints): number {
  const text = hints.text("kv_cache_dtype");
  if (text === null || text.toLowerCase() === "auto") return DEFAULT_KV_BYTES;
  const bytes = KV_BYTES.get(text.toLowerCase());
  if (bytes !== undefined) return bytes;
  hints.note(`kv_cache_dtype ${quote(text)} ignored: not a known format`);
  return DEFAULT_KV_BYTES;
}

function methodOf(hints: Hints): TrainingMethod {
  for (const key of ["method", "finetune_method"]) {
    const text = hints.text(key);
    if (text === null) continue;
    const method = (["full", "lora", "qlora"] as const).find((known) => known === text.toLowerCase());
    if (method !== undefined) return method;
    hints.note(`${key} ${quote(text)} ignored: not full, lora or qlora`);
  }
  return "full";
}

function precisionOf(hints: Hints): TrainingPrecision {
  const isBf16 = (key: string): boolean => {
    const text = hints.text(key);
    if (text === null) return false;
    const name = findWeightFormat(text)?.name;
    if (name !== "bf16" && name !== "fp32") hints.note(`${key} ${quote(text)} ignored: not bf16 or fp32`);
    return name === "bf16";
  };
  const gradients = isBf16("gradient_precision");
  if (isBf16("optimizer_precision")) return PURE_BF16;
  return gradients ? MIXED_BF16_GRADIENTS : MIXED;
}
