/**
 * How many bytes a transformer needs on each GPU. Everything here is in bytes; MiB appear where a requirement is made.
 *
 * Measured against published figures without a fitted parameter: see the tests beside `published.json`.
 */
import type { Architecture } from "./catalogue.ts";
import { NF4, type WeightFormat } from "./formats.ts";

export const MIB = 1024 ** 2;
export const GIB = 1024 ** 3;

/** What torch's caching allocator holds beyond the tensors: 33 to 48 MiB were seen. */
const ALLOCATOR_BYTES = 48 * MIB;
/** A CUDA context with its loaded kernels, on a process that uses one GPU. */
const CUDA_CONTEXT_BYTES = 500 * MIB;
/** The same with NCCL's buffers: the largest seen beside torch's pool (vLLM's start-up log, pull request 10511). */
const CUDA_AND_NCCL_BYTES = 1.79 * GIB;
/** The top of what vLLM reports as its activation peak: 0.2 to 1.3 GiB. */
const ACTIVATION_PEAK_BYTES = 1.3 * GIB;

/** Embeddings, norms and routers stay in 16 bit whatever the linear layers are stored in. */
const OTHER_BYTES = 2;

export interface ParameterCount {
  /** In linear layers, which quantisation applies to. */
  readonly linear: number;
  /** Embeddings, output projection, norms, biases, routers. */
  readonly other: number;
}

export function parameterCount(model: Architecture): ParameterCount {
  const { hiddenSize, layers, heads, kvHeads, headDim } = model;
  const attention = 2 * hiddenSize * heads * headDim + 2 * hiddenSize * kvHeads * headDim;
  const feedForward = 3 * hiddenSize * model.intermediateSize * Math.max(1, model.experts);
  const norms = model.normsPerLayer * hiddenSize + (model.qkNorm ? 2 * headDim : 0);
  const biases = model.qkvBias ? (heads + 2 * kvHeads) * headDim : 0;
  const router = hiddenSize * model.experts;
  const embeddings = model.vocabSize * hiddenSize * (model.tied ? 1 : 2);
  return {
    linear: layers * (attention + feedForward),
    other: embeddings + layers * (norms + biases + router) + hiddenSize,
  };
}

export function weightBytes(parameters: ParameterCount, format: WeightFormat): number {
  const otherBytes = format.scope === "all" ? format.bytesPerWeight : OTHER_BYTES;
  return parameters.linear * format.bytesPerWeight + parameters.other * otherBytes;
}

/** Keys and values of one token in all layers. */
export function kvBytesPerToken(
  model: Pick<Architecture, "layers" | "kvHeads" | "headDim">,
  bytesPerValue: number,
): number {
  return 2 * model.layers * model.kvHeads * model.headDim * bytesPerValue;
}

/** Everything beside weights and KV cache on each of `gpus` GPUs that serve one model. */
function servingOverheadBytes(gpus: number): number {
  return ALLOCATOR_BYTES + contextBytes(gpus) + ACTIVATION_PEAK_BYTES;
}

function contextBytes(gpus: number): number {
  return gpus === 1 ? CUDA_CONTEXT_BYTES : CUDA_AND_NCCL_BYTES;
}

export interface Serving {
  readonly model: Architecture;
  readonly format: WeightFormat;
  readonly kvBytesPerValue: number;
  /** Prompt and generated tokens of one sequence. */
  readonly tokensPerSequence: number;
  readonly sequences: number;
}

export interface MemoryParts {
  readonly weights: number;
  readonly kvCache: number;
  readonly overhead: number;
  readonly total: number;
}

/**
 * What each GPU holds when the model is served by `gpus` of them with tensor parallelism. A KV head lives whole on a
 * GPU, so beyond as many GPUs as KV heads the cache is replicated and shrinks no further.
 */
export function servingBytesPerGpu(serving: Serving, gpus: number): MemoryParts {
  const { model, format } = serving;
  const cache = kvBytesPerToken(model, serving.kvBytesPerValue) * serving.tokensPerSequence * serving.sequences;
  const weights = weightBytes(parameterCount(model), format) / gpus;
  const kvCache = cache * Math.max(1 / gpus, 1 / model.kvHeads);
  const overhead = servingOverheadBytes(gpus);
  return { weights, kvCache, overhead, total: weights + kvCache + overhead };
}

/** How optimizer and gradients are kept: with Adam, in bytes a parameter beside the weights. */
export interface TrainingPrecision {
  readonly name: string;
  readonly gradientBytes: number;
  /** Both moments, and the fp32 copy of the weights where there is one. */
  readonly optimizerBytes: number;
}

/** 18 bytes a parameter with the 2 of the weights. */
export const MIXED: TrainingPrecision = { name: "mixed precision", gradientBytes: 4, optimizerBytes: 12 };
/** 16 bytes a parameter. */
export const MIXED_BF16_GRADIENTS: TrainingPrecision = {
  name: "mixed precision, bf16 gradients",
  gradientBytes: 2,
  optimizerBytes: 12,
};
/** 8 bytes a parameter. */
export const PURE_BF16: TrainingPrecision = { name: "pure bf16", gradientBytes: 2, optimizerBytes: 4 };

export type TrainingMethod = "full" | "lora" | "qlora";

/** What the weights being trained and the frozen ones take, before it is divided among GPUs. */
export interface TrainingState {
  readonly weights: number;
  readonly gradients: number;
  readonly optimizer: number;
}

/** LoRA on every linear layer: rank x (inputs + outputs) each. Experts are left alone, as trainers do by default. */
export function adapterParameters(model: Architecture, rank: number): number {
  const { hiddenSize, heads, kvHeads, headDim } = model;
  const attention = 2 * (hiddenSize + heads * headDim) + 2 * (hiddenSize + kvHeads * headDim);
  const feedForward = model.experts === 0 ? 3 * (hiddenSize + model.intermediateSize) : 0;
  return model.layers * rank * (attention + feedForward);
}

/**
 * @param trained parameters of the adapters; ignored for full fine-tuning, which trains all in 16 bit.
 * @param frozen the format of the frozen weights under LoRA; QLoRA's is always NF4.
 */
export function trainingState(
  parameters: ParameterCount,
  method: TrainingMethod,
  precision: TrainingPrecision,
  trained: number,
  frozen: WeightFormat,
): TrainingState {
  const all = parameters.linear + parameters.other;
  const trainable = method === "full" ? all : trained;
  const base = method === "full" ? 0 : weightBytes(parameters, method === "qlora" ? NF4 : frozen);
  return {
    weights: base + trainable * OTHER_BYTES,
    gradients: trainable * precision.gradientBytes,
    optimizer: trainable * precision.optimizerBytes,
  };
}

/** ZeRO 1 divides the optimizer among the GPUs, 2 the gradients too, 3 (and FSDP) also the weights. */
export function shardedBytes(state: TrainingState, zeroStage: number, gpus: number): number {
  return (
    state.weights / (zeroStage >= 3 ? gpus : 1) +
    state.gradients / (zeroStage >= 2 ? gpus : 1) +
    state.optimizer / (zeroStage >= 1 ? gpus : 1)
  );
}

/**
 * What a training step keeps for `tokens` tokens with activation checkpointing: the input of every layer in bf16, and
 * the logits in bf16, in fp32 and as an fp32 gradient. A trainer that computes the loss in chunks needs less.
 */
export function trainingActivationBytes(model: Architecture, tokens: number): number {
  return tokens * (2 * model.layers * model.hiddenSize + (2 + 4 + 4) * model.vocabSize);
}

export function trainingOverheadBytes(gpus: number): number {
  return ALLOCATOR_BYTES + contextBytes(gpus);
}

/** GPUStack's estimate for a model of unknown architecture: a fifth on top of what is stored, and 2 GiB. */
export function ruleOfThumbBytes(storedBytes: number): number {
  return storedBytes * 1.2 + 2 * GIB;
}

/**
 * The numbers of GPUs that tensor parallelism can use, in the order to try them: divisors of the heads, powers of two
 * first.
 */
export function tensorParallelSizes(heads: number): number[] {
  const divisors = Array.from({ length: heads }, (_, index) => index + 1).filter((size) => heads % size === 0);
  const isPowerOfTwo = (size: number) => Number.isInteger(Math.log2(size));
  return [...divisors.filter(isPowerOfTwo), ...divisors.filter((size) => !isPowerOfTwo(size))];
}

export function mibOf(bytes: number): number {
  return Math.ceil(bytes / MIB);
}
