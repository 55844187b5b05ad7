/**
 * The architectures of widely used open models.
 *
 * Source: the public `config.json` of each model, under the id given here on huggingface.co; the fields have the same
 * names there. Checked against the tables of Lightning-AI/litgpt (`litgpt/config.py`), and for `tie_word_embeddings`
 * against pytorch/torchtune (`torchtune/models`) and the configuration classes of huggingface/transformers. The tests
 * hold the parameter counts that follow against the published ones.
 */
import { parseModelName } from "./parse-name.ts";

export interface Architecture {
  readonly hiddenSize: number;
  readonly layers: number;
  /** Of one expert, when there are experts. */
  readonly intermediateSize: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly vocabSize: number;
  /** A field of its own: hidden / heads is wrong for Qwen3 and Gemma 2. */
  readonly headDim: number;
  /** The output projection is the embedding. */
  readonly tied: boolean;
  /** Experts per layer, all of them in memory; 0 for a dense model. */
  readonly experts: number;
  /** Biases on the query, key and value projections. */
  readonly qkvBias: boolean;
  /** A norm over each head's queries and one over its keys. */
  readonly qkNorm: boolean;
  /** Norms over the hidden state in each layer. */
  readonly normsPerLayer: number;
  /** Some layers keep only a window of the context, so a KV cache over all of it is an upper bound. */
  readonly slidingWindow: boolean;
}

export interface CatalogueEntry {
  readonly id: string;
  readonly architecture: Architecture;
  /** The FP8 checkpoint stores the output projection apart although the 16-bit one does not. */
  readonly untiedInFp8: boolean;
}

type Shape = readonly [
  hiddenSize: number,
  layers: number,
  intermediateSize: number,
  heads: number,
  kvHeads: number,
  vocabSize: number,
];

export function architecture(shape: Shape, further: Partial<Architecture> = {}): Architecture {
  const [hiddenSize, layers, intermediateSize, heads, kvHeads, vocabSize] = shape;
  return {
    ...{ hiddenSize, layers, intermediateSize, heads, kvHeads, vocabSize, headDim: hiddenSize / heads },
    ...{ tied: false, experts: 0, qkvBias: false, qkNorm: false, normsPerLayer: 2, slidingWindow: false },
    ...further,
  };
}

const LLAMA_3_8B = architecture([4096, 32, 14336, 32, 8, 128256]);
const LLAMA_3_70B = architecture([8192, 80, 28672, 64, 8, 128256]);
const MISTRAL_7B = architecture([4096, 32, 14336, 32, 8, 32000]);
const MISTRAL_7B_V03 = architecture([4096, 32, 14336, 32, 8, 32768]);

const QWEN25 = { qkvBias: true };
const QWEN25_7B = architecture([3584, 28, 18944, 28, 4, 152064], QWEN25);
const QWEN25_32B = architecture([5120, 64, 27648, 40, 8, 152064], QWEN25);

const QWEN3 = { qkNorm: true, headDim: 128 };
const GEMMA2 = { tied: true, normsPerLayer: 4, slidingWindow: true };

const ARCHITECTURES: { readonly [id: string]: Architecture } = {
  "meta-llama/Llama-2-7b-hf": architecture([4096, 32, 11008, 32, 32, 32000]),
  "meta-llama/Llama-2-13b-hf": architecture([5120, 40, 13824, 40, 40, 32000]),
  "meta-llama/Llama-2-70b-hf": architecture([8192, 80, 28672, 64, 8, 32000]),
  "meta-llama/Meta-Llama-3-8B": LLAMA_3_8B,
  "meta-llama/Meta-Llama-3-70B": LLAMA_3_70B,
  "meta-llama/Llama-3.1-8B": LLAMA_3_8B,
  "meta-llama/Llama-3.1-70B": LLAMA_3_70B,
  "meta-llama/Llama-3.1-405B": architecture([16384, 126, 53248, 128, 8, 128256]),
  "meta-llama/Llama-3.2-1B": architecture([2048, 16, 8192, 32, 8, 128256], { tied: true }),
  "meta-llama/Llama-3.2-3B": architecture([3072, 28, 8192, 24, 8, 128256], { tied: true }),
  "meta-llama/Llama-3.3-70B-Instruct": LLAMA_3_70B,
  "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": LLAMA_3_8B,
  "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": LLAMA_3_70B,
  "Qwen/Qwen2.5-0.5B": architecture([896, 24, 4864, 14, 2, 151936], { ...QWEN25, tied: true }),
  "Qwen/Qwen2.5-1.5B": architecture([1536, 28, 8960, 12, 2, 151936], { ...QWEN25, tied: true }),
  "Qwen/Qwen2.5-3B": architecture([2048, 36, 11008, 16, 2, 151936], { ...QWEN25, tied: true }),
  "Qwen/Qwen2.5-7B": QWEN25_7B,
  "Qwen/Qwen2.5-14B": architecture([5120, 48, 13824, 40, 8, 152064], QWEN25),
  "Qwen/Qwen2.5-32B": QWEN25_32B,
  "Qwen/Qwen2.5-72B": architecture([8192, 80, 29568, 64, 8, 152064], QWEN25),
  "Qwen/Qwen2.5-Coder-7B": QWEN25_7B,
  "Qwen/Qwen2.5-Coder-32B": QWEN25_32B,
  "Qwen/QwQ-32B": QWEN25_32B,
  "Qwen/Qwen3-0.6B": architecture([1024, 28, 3072, 16, 8, 151936], { ...QWEN3, tied: true }),
  "Qwen/Qwen3-1.7B": architecture([2048, 28, 6144, 16, 8, 151936], { ...QWEN3, tied: true }),
  "Qwen/Qwen3-4B": architecture([2560, 36, 9728, 32, 8, 151936], { ...QWEN3, tied: true }),
  "Qwen/Qwen3-8B": architecture([4096, 36, 12288, 32, 8, 151936], QWEN3),
  "Qwen/Qwen3-14B": architecture([5120, 40, 17408, 40, 8, 151936], QWEN3),
  "Qwen/Qwen3-32B": architecture([5120, 64, 25600, 64, 8, 151936], QWEN3),
  "Qwen/Qwen3-30B-A3B": architecture([2048, 48, 768, 32, 4, 151936], { ...QWEN3, experts: 128 }),
  "Qwen/Qwen3-235B-A22B": architecture([4096, 94, 1536, 64, 4, 151936], { ...QWEN3, experts: 128 }),
  "mistralai/Mistral-7B-v0.1": { ...MISTRAL_7B, slidingWindow: true },
  "mistralai/Mistral-7B-Instruct-v0.2": MISTRAL_7B,
  "mistralai/Mistral-7B-v0.3": MISTRAL_7B_V03,
  "mistralai/Mixtral-8x7B-v0.1": architecture([4096, 32, 14336, 32, 8, 32000], { experts: 8 }),
  "mistralai/Mixtral-8x22B-v0.1": architecture([6144, 56, 16384, 48, 8, 32768], { experts: 8 }),
  "google/gemma-2-2b": architecture([2304, 26, 9216, 8, 4, 256000], { ...GEMMA2, headDim: 256 }),
  "google/gemma-2-9b": architecture([3584, 42, 14336, 16, 8, 256000], { ...GEMMA2, headDim: 256 }),
  "google/gemma-2-27b": architecture([4608, 46, 36864, 32, 16, 256000], { ...GEMMA2, headDim: 128 }),
  "microsoft/phi-4": architecture([5120, 40, 17920, 40, 10, 100352]),
};

/** Names without a version or with part of the size, as registries other than the Hugging Face hub use them. */
const ALIASES: { readonly [canonical: string]: string } = {
  "mistral-7b": "mistralai/Mistral-7B-v0.3",
  "mixtral-8x7b": "mistralai/Mixtral-8x7B-v0.1",
  "mixtral-8x22b": "mistralai/Mixtral-8x22B-v0.1",
  "qwen-3-30b": "Qwen/Qwen3-30B-A3B",
  "qwen-3-235b": "Qwen/Qwen3-235B-A22B",
  "phi-4-14b": "microsoft/phi-4",
};

/** By the config.json of the FP8 checkpoint; those of the other tied models were not read. */
const UNTIED_IN_FP8: ReadonlySet<string> = new Set(["Qwen/Qwen3-0.6B"]);

function entryOf(id: string, ofModel: Architecture): CatalogueEntry {
  return { id, architecture: ofModel, untiedInFp8: UNTIED_IN_FP8.has(id) };
}

/** Every entry, in the order above. */
export const CATALOGUE: readonly CatalogueEntry[] = Object.entries(ARCHITECTURES).map(([id, known]) =>
  entryOf(id, known),
);

const BY_NAME: ReadonlyMap<string, CatalogueEntry> = new Map([
  ...CATALOGUE.map((entry) => [parseModelName(entry.id).canonical, entry] as const),
  ...Object.entries(ALIASES).flatMap(([name, id]) =>
    CATALOGUE.filter((entry) => entry.id === id).map((entry) => [name, entry] as const),
  ),
]);

/**
 * Finds the model that a canonical name stands for. The whole name must agree: a vision or draft variant of a known
 * family is another architecture.
 *
 * @returns `null` when the model is not in the catalogue.
 */
export function findModel(canonical: string): CatalogueEntry | null {
  return BY_NAME.get(canonical) ?? null;
}
