/**
 * How many bytes a model needs on each GPU. Everything here is in bytes; MiB appear where a requirement is made.
 *
 * Held against published figures: docs/memory-model.md, and the tests beside `published.json`.
 */
import { type Architecture, type CacheLayers, tokensKept } from "./architecture.ts";
import { NF4, type WeightFormat } from "./formats.ts";
import { type ParameterCount, total } from "./parameters.ts";

export const MIB = 1024 ** 2;
export const GIB = 1024 ** 3;

/** What torch's caching allocator holds beyond the tensors: 33 to 48 MiB were seen. */
export const ALLOCATOR_BYTES = 48 * MIB;
/** A CUDA context with its loaded kernels, on a process that uses one GPU. */
const CUDA_CONTEXT_BYTES = 500 * MIB;
/** The same with NCCL's buffers: the largest seen beside torch's pool (vLLM's start-up log, pull request 10511). */
const CUDA_AND_NCCL_BYTES = 1.79 * GIB;
/** The top of what vLLM reports as its activation peak: 0.2 to 1.3 GiB. */
const ACTIVATION_PEAK_BYTES = 1.3 * GIB;
/** Embeddings, norms and routers stay in 16 bit whatever the linear layers are stored in. */
const OTHER_BYTES = 2;
/** A layer's rows that are alive at once in 16 bit: input, queries, keys, values, output and a sum. An estimate. */
const LIVE_ROWS = 6;
/** Tensors of a picture's full size that its decoder holds at once: input, output, norm and a sum. An estimate. */
const LIVE_PICTURES = 4;

export function weightBytes(parameters: ParameterCount, format: WeightFormat): number {
  const otherBytes = format.scope === "all" ? format.bytesPerWeight : OTHER_BYTES;
  return parameters.linear * format.bytesPerWeight + parameters.other * otherBytes;
}

/**
 * The KV cache on each of `gpus` GPUs for as many sequences of `tokens` tokens. A KV head lives whole on a GPU, so
 * beyond as many GPUs as KV heads the cache is replicated and shrinks no further.
 */
export function kvCacheBytes(
  cache: readonly CacheLayers[],
  bytesPerValue: number,
  tokens: number,
  sequences: number,
  gpus: number,
): number {
  return cache.reduce((bytes, kept) => {
    const values = kept.layers * kept.heads * kept.valuesPerHead * tokensKept(kept, tokens) * sequences;
    return bytes + values * (kept.bytesPerValue ?? bytesPerValue) * Math.max(1 / gpus, 1 / kept.heads);
  }, 0);
}

/** Keys and values of one token in all layers, as long as no window is full. */
export function kvBytesPerToken(cache: readonly CacheLayers[], bytesPerValue: number): number {
  return kvCacheBytes(cache, bytesPerValue, 1, 1, 1);
}

function contextBytes(gpus: number): number {
  return gpus === 1 ? CUDA_CONTEXT_BYTES : CUDA_AND_NCCL_BYTES;
}

export interface Serving {
  readonly model: Architecture;
  /** All of them, before they are divided. */
  readonly weights: number;
  readonly kvBytesPerValue: number;
  /** Prompt and generated tokens of one sequence. */
  readonly tokensPerSequence: number;
  readonly sequences: number;
}

/** What one GPU holds, by what for. */
export interface MemoryParts {
  readonly weights: number;
  readonly gradients: number;
  readonly optimizer: number;
  readonly kvCache: number;
  readonly activations: number;
  readonly overhead: number;
}

export function totalBytes(parts: MemoryParts): number {
  return parts.weights + parts.gradients + parts.optimizer + parts.kvCache + parts.activations + parts.overhead;
}

/** What each GPU holds when the model is served by `gpus` of them with tensor parallelism. */
export function servingParts(serving: Serving, gpus: number): MemoryParts {
  const { model, tokensPerSequence, sequences } = serving;
  return {
    weights: serving.weights / gpus,
    gradients: 0,
    optimizer: 0,
    kvCache: kvCacheBytes(model.cache, serving.kvBytesPerValue, tokensPerSequence, sequences, gpus),
    activations: servingActivationBytes(model, tokensPerSequence, sequences),
    overhead: ALLOCATOR_BYTES + contextBytes(gpus),
  };
}

function servingActivationBytes(model: Architecture, tokens: number, sequences: number): number {
  const rowBytes = (LIVE_ROWS * model.hiddenSize + 2 * model.widest) * OTHER_BYTES;
  switch (model.kind) {
    case "decoder":
      return ACTIVATION_PEAK_BYTES;
    case "encoder":
      return Math.min(tokens, model.positions) * sequences * rowBytes;
    case "speech":
      return model.positions * sequences * rowBytes;
    case "diffusion":
      return LIVE_PICTURES * model.widest * model.positions * sequences * OTHER_BYTES;
    default:
      return model.kind satisfies never;
  }
}

/** Optimizers by the bytes of their moments, beside the fp32 copy of the weights. */
export const OPTIMIZER_BYTES: Readonly<Record<string, number>> = {
  adam: 8,
  adamw: 8,
  /** bitsandbytes: two moments of a byte each (arXiv 2110.02861). */
  adamw_8bit: 2,
  lion: 4,
  sgd_momentum: 4,
  sgd: 0,
  /** Its moments are factored: two vectors for a matrix (arXiv 1804.04235). */
  adafactor: 0,
};

/** How optimizer and gradients are kept, in bytes a parameter beside the weights. */
export interface TrainingPrecision {
  readonly name: string;
  readonly gradientBytes: number;
  /** The fp32 copy of the weights, where there is one. */
  readonly masterBytes: number;
  /** By how much the moments are smaller than in fp32. */
  readonly momentScale: number;
}

/** With Adam 18 bytes a parameter, the 2 of the weights included. */
export const MIXED: TrainingPrecision = { name: "mixed precision", gradientBytes: 4, masterBytes: 4, momentScale: 1 };
/** 16 bytes a parameter. */
export const MIXED_BF16_GRADIENTS: TrainingPrecision = {
  ...MIXED,
  name: "mixed precision, bf16 gradients",
  gradientBytes: 2,
};
/** 8 bytes a parameter. */
export const PURE_BF16: TrainingPrecision = {
  name: "pure bf16",
  gradientBytes: 2,
  masterBytes: 0,
  momentScale: 0.5,
};

export type TrainingMethod = "full" | "lora" | "qlora";

export interface Training {
  readonly parameters: ParameterCount;
  readonly method: TrainingMethod;
  readonly precision: TrainingPrecision;
  /** Bytes of the optimizer's moments: {@link OPTIMIZER_BYTES}. */
  readonly momentBytes: number;
  /** Parameters of the adapters; full fine-tuning has none. */
  readonly adapters: number;
  /** The format of the frozen weights under LoRA; QLoRA's is always NF4. */
  readonly frozen: WeightFormat;
  /** ZeRO 1 divides the optimizer among the GPUs, 2 the gradients too, 3 (and FSDP) also the weights. */
  readonly zeroStage: number;
  readonly activations: number;
}

/** What each of `gpus` GPUs holds in a training step. Full fine-tuning trains all parameters in 16 bit. */
export function trainingParts(training: Training, gpus: number): MemoryParts {
  const { parameters, method, precision, zeroStage } = training;
  const trained = method === "full" ? total(parameters) : training.adapters;
  const base = method === "full" ? 0 : weightBytes(parameters, method === "qlora" ? NF4 : training.frozen);
  const share = (stage: number) => (zeroStage >= stage ? gpus : 1);
  return {
    weights: (base + trained * OTHER_BYTES) / share(3),
    gradients: (trained * precision.gradientBytes) / share(2),
    optimizer: (trained * (precision.masterBytes + training.momentBytes * precision.momentScale)) / share(1),
    kvCache: 0,
    activations: training.activations,
    overhead: ALLOCATOR_BYTES + contextBytes(gpus),
  };
}

/** LoRA on every linear layer outside experts and vision towers: rank x (inputs + outputs) each. */
export function adapterParameters({ parameters }: Architecture, rank: number): number {
  return parameters.adaptable * rank;
}

/**
 * What a training step keeps for `tokens` tokens with activation checkpointing: the input of every layer in bf16, and
 * the logits in bf16, in fp32 and as an fp32 gradient.
 *
 * @param lossChunks in how many parts the trainer computes the loss, one after the other; 1: all logits at once.
 */
export function trainingActivationBytes(model: Architecture, tokens: number, lossChunks = 1): number {
  return tokens * (2 * model.layers * model.hiddenSize + ((2 + 4 + 4) * model.vocabSize) / lossChunks);
}

/** GPUStack's estimate for a model of unknown architecture: a fifth on top of what is stored, and 2 GiB. */
export function ruleOfThumbParts(stored: Omit<MemoryParts, "overhead">): MemoryParts {
  return { ...stored, overhead: totalBytes({ ...stored, overhead: 0 }) * 0.2 + 2 * GIB };
}

/**
 * The numbers of GPUs that tensor parallelism can use, in the order to try them: divisors of the heads, powers of two
 * first.
 */
export function tensorParallelSizes(heads: number): number[] {
  const divisors = Array.from({ length: Math.min(heads, 1_024) }, (_, index) => index + 1).filter(
    (size) => heads % size === 0,
  );
  const isPowerOfTwo = (size: number) => Number.isInteger(Math.log2(size));
  return [...divisors.filter(isPowerOfTwo), ...divisors.filter((size) => !isPowerOfTwo(size))];
}

export function mibOf(bytes: number): number {
  return Math.ceil(bytes / MIB);
}
