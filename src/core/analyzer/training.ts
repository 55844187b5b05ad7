/** How a model is trained, as far as a workload says so. */
import type { Architecture } from "./architecture.ts";
import { findWeightFormat, type WeightFormat } from "./formats.ts";
import { type Hints, type NumberBounds, quote } from "./hints.ts";
import {
  adapterParameters,
  MIXED,
  MIXED_BF16_GRADIENTS,
  OPTIMIZER_BYTES,
  PURE_BF16,
  type Training,
  type TrainingMethod,
  type TrainingPrecision,
  trainingActivationBytes,
} from "./memory.ts";

export interface TrainingSettings {
  readonly method: TrainingMethod;
  readonly precision: TrainingPrecision;
  readonly momentBytes: number;
  readonly zeroStage: number;
  readonly rank: number;
  /** Tokens of one sequence; `null`: not stated. */
  readonly context: number | null;
  /** Sequences that one GPU works on at once; `null`: not stated. */
  readonly microBatch: number | null;
  /** Sequences that all GPUs work on before the weights change; `null`: not stated. */
  readonly batch: number | null;
  /** In how many parts the loss is computed. */
  readonly lossChunks: number;
  /** In words, for the sources. */
  readonly label: string;
}

const DEFAULT_CONTEXT = 2_048;
/** What QLoRA's authors and Qwen's recipes use; a lower rank needs less. */
const DEFAULT_LORA_RANK = 64;
/** FSDP's full sharding, which is what trainers use to fit a model over several GPUs. */
const DEFAULT_ZERO_STAGE = 3;
/** A larger batch is taken to be worked off in turns, with accumulated gradients, as trainers do. */
const MOST_AT_ONCE = 8;

const TOKENS: NumberBounds = { min: 1, max: 10_000_000, integer: true };
const BATCH: NumberBounds = { min: 1, max: 10_000, integer: true };
const LOSS_CHUNKS: NumberBounds = { min: 1, max: 1_024, integer: true };
const LORA_RANK: NumberBounds = { min: 1, max: 4_096, integer: true };
const ZERO_STAGE: NumberBounds = { min: 0, max: 3, integer: true };

export function readTraining(hints: Hints): TrainingSettings {
  const method = methodOf(hints);
  const precision = precisionOf(hints);
  const optimizer = optimizerOf(hints);
  const full = `full fine-tuning, ${precision.name}${optimizer.name === "adamw" ? "" : `, ${optimizer.name}`}`;
  return {
    method,
    precision,
    momentBytes: optimizer.bytes,
    zeroStage: hints.number("zero_stage", ZERO_STAGE) ?? DEFAULT_ZERO_STAGE,
    rank: hints.number("lora_rank", LORA_RANK) ?? DEFAULT_LORA_RANK,
    context: hints.number("max_model_len", TOKENS) ?? hints.number("context_length", TOKENS),
    microBatch: hints.number("micro_batch_size", BATCH),
    batch: hints.number("batch_size", BATCH),
    lossChunks: hints.number("loss_chunks", LOSS_CHUNKS) ?? 1,
    label: method === "full" ? full : method === "lora" ? "LoRA" : "QLoRA",
  };
}

/** A step on each of `gpus` GPUs, and the tokens that it works on. */
export function trainingOf(
  model: Architecture,
  settings: TrainingSettings,
  frozen: WeightFormat,
  gpus: number,
): Training & { readonly tokens: number } {
  const share = Math.ceil((settings.batch ?? 1) / gpus);
  const tokens = (settings.context ?? DEFAULT_CONTEXT) * (settings.microBatch ?? Math.min(share, MOST_AT_ONCE));
  return {
    ...settings,
    parameters: model.parameters,
    adapters: settings.method === "full" ? 0 : adapterParameters(model, settings.rank),
    frozen,
    activations: trainingActivationBytes(model, tokens, settings.lossChunks),
    tokens,
  };
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

function optimizerOf(hints: Hints): { readonly name: string; readonly bytes: number } {
  const text = hints.text("optimizer");
  const name = text?.toLowerCase().replaceAll("-", "_") ?? "adamw";
  const bytes = Object.hasOwn(OPTIMIZER_BYTES, name) ? OPTIMIZER_BYTES[name] : undefined;
  if (bytes !== undefined) return { name: name === "adam" ? "adamw" : name, bytes };
  hints.note(`optimizer ${quote(text ?? "")} ignored: not one of ${Object.keys(OPTIMIZER_BYTES).join(", ")}`);
  return { name: "adamw", bytes: OPTIMIZER_BYTES.adamw ?? 0 };
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
