import type { ParameterCount } from "./parameters.ts";

/** Layers that keep the same amount of a sequence. */
export interface CacheLayers {
  readonly layers: number;
  /** KV heads. A head lives whole on a GPU. Latent attention (MLA) keeps one vector for all heads: 1. */
  readonly heads: number;
  /** Values that one head keeps of one token: keys and values together. */
  readonly valuesPerHead: number;
  /** Only the last tokens are kept, this many; `null`: all of them. */
  readonly window: number | null;
  /**
   * Tokens that are kept whatever the sequence's length, as of a speech encoder's output; `null`: it depends on it. The
   * state of a recurrent layer counts as one.
   */
  readonly fixed: number | null;
  /** Of a value, whatever the KV cache's type; `null`: as that says. */
  readonly bytesPerValue: number | null;
}

/** What a model's memory follows from. All of it comes from the fields of a `config.json`, see read-config.ts. */
export interface Architecture {
  readonly kind: "decoder" | "encoder" | "speech" | "diffusion";
  readonly parameters: ParameterCount;
  /** Parameters of the output projection when it is the embedding and takes no room of its own; else 0. */
  readonly tiedParameters: number;
  /** Parameters that the checkpoint has and a server does not load: layers that predict further tokens (MTP). */
  readonly unloadedParameters: number;
  readonly cache: readonly CacheLayers[];
  /** A tensor-parallel degree must divide it; 1 where the model cannot be split so. */
  readonly heads: number;
  readonly hiddenSize: number;
  /** The widest row inside a layer: of its feed-forward, or of a decoder's pixels. */
  readonly widest: number;
  readonly layers: number;
  readonly vocabSize: number;
  /** Positions that one input takes when nothing is said about it, for models that read no text of any length. */
  readonly positions: number;
}

/** Tokens of a sequence that these layers keep. */
export function tokensKept({ window, fixed }: CacheLayers, tokens: number): number {
  return fixed ?? Math.min(tokens, window ?? Number.POSITIVE_INFINITY);
}
