/** What a model needs as a function of the number of GPUs that share it. */
import type { OwnModels, WorkloadType } from "../model/workload.ts";
import type { Architecture } from "./architecture.ts";
import { type CatalogueEntry, findModel } from "./catalogue.ts";
import { BF16, DEFAULT_KV_BYTES, findWeightFormat, KV_BYTES, type WeightFormat } from "./formats.ts";
import { type Hints, type NumberBounds, quote } from "./hints.ts";
import type { Known } from "./known.ts";
import {
  type MemoryParts,
  mibOf,
  ruleOfThumbParts,
  servingParts,
  tensorParallelSizes,
  trainingParts,
  weightBytes,
} from "./memory.ts";
import { other, type ParameterCount, sum } from "./parameters.ts";
import { type ParsedName, parseModelName } from "./parse-name.ts";
import { isReadable, readConfig } from "./read-config.ts";
import { readTraining, trainingOf } from "./training.ts";

export interface Demand {
  /** As the caller or the catalogue calls it. */
  readonly name: string;
  /** The model and how it is used, for the sources. */
  readonly label: string;
  readonly isServed: boolean;
  readonly confidence: "high" | "medium" | "low";
  /** Numbers of GPUs to try, in this order. */
  readonly splits: readonly number[];
  /** Of one GPU, in bytes. */
  parts(gpus: number): MemoryParts;
  /** The parts of that figure, in words. */
  explain(gpus: number): string;
}

/** A model whose architecture is known, however it was named. */
interface KnownModel {
  readonly name: string;
  readonly architecture: Architecture;
  readonly untiedInFp8: boolean;
  /** Its weights as they lie in files; `null`: they follow from the parameters. */
  readonly storedBytes: number | null;
}

/** Tried in this order where no number of heads binds: data-parallel training, and models known by size only. */
const UNBOUND_SPLITS = [1, 2, 4, 8, 16, 32, 64];
const DEFAULT_PROMPT_TOKENS = 2_048;
const DEFAULT_GENERATED_TOKENS = 2_048;
const TOKENS: NumberBounds = { min: 1, max: 10_000_000, integer: true };
const SEQUENCES: NumberBounds = { min: 0, max: 100_000, integer: false };

/** @returns `null` when no model is named, or nothing says how large it is; then a note says so. */
export function demandOf(type: WorkloadType, hints: Hints, models: OwnModels, file: Known["file"]): Demand | null {
  const named = hints.text("model") ?? hints.text("model_name");
  const parsed = named === null ? null : parseModelName(named);
  const format = formatOf(hints, parsed?.format ?? null);

  const fromFile = file === null ? null : fileModel(file, hints);
  if (fromFile !== null && "splits" in fromFile) return fromFile;
  const model = fromFile ?? configModel(hints) ?? (parsed === null ? null : catalogueModel(parsed, models));
  if (model !== null) {
    return type === "training" ? trainingDemand(model, format, hints) : servingDemand(model, format, hints);
  }
  if (named === null || parsed === null) return null;
  if (parsed.parameters === null) {
    hints.note(`model ${quote(named)} is not in the catalogue and its name gives no size: it changes no figure`);
    return null;
  }
  if (parsed.isUpperBound) {
    hints.note(`experts of ${quote(named)} are counted whole, an upper bound: they share layers`);
  }
  return unknownDemand(named, parsed.parameters, type, format, hints);
}

function catalogueModel({ canonical }: ParsedName, models: OwnModels): KnownModel | null {
  const entry: CatalogueEntry | null = findModel(canonical, models);
  return entry === null ? null : { ...entry, name: entry.id, storedBytes: null };
}

function configModel(hints: Hints): KnownModel | null {
  const config = hints.object("model_config");
  if (config === null) return null;
  const architecture = readConfig(config);
  if (isReadable(architecture)) return { name: "model_config", architecture, untiedInFp8: false, storedBytes: null };
  hints.note(`model_config ignored: ${architecture.problem}`);
  return null;
}

/** A demand at once when the files tell their size and not what they are. */
function fileModel(file: NonNullable<Known["file"]>, hints: Hints): KnownModel | Demand | null {
  if ("problem" in file) {
    hints.note(`model_path ignored: ${file.problem}`);
    return null;
  }
  const { name, architecture, weightBytes: storedBytes } = file;
  // A stated format is what the weights will be loaded in, whatever they are stored in.
  const asStored = hints.text("quantization") === null && hints.text("dtype") === null ? storedBytes : null;
  if (architecture !== null) return { name, architecture, untiedInFp8: false, storedBytes: asStored };
  if (storedBytes === null) {
    hints.note(`model_path ignored: ${quote(name)} says nothing about its size`);
    return null;
  }
  return ruleOfThumbDemand(name, `${quote(name)}, a file of ${mibOf(storedBytes)} MiB`, hints, "weights", (gpus) => ({
    ...NOTHING,
    weights: storedBytes / gpus,
  }));
}

const NOTHING = { weights: 0, gradients: 0, optimizer: 0, kvCache: 0, activations: 0 };

function servingDemand(known: KnownModel, format: WeightFormat, hints: Hints): Demand {
  const model = known.architecture;
  const { tokens: tokensPerSequence, isStated } = tokensOf(model, hints);
  const sequences = sequencesOf(hints, isStated || model.kind !== "decoder");
  const apart = known.untiedInFp8 && format.name === "fp8" ? model.tiedParameters : 0;
  const computed = sum(model.parameters, other(apart));
  const serving = {
    ...{ model, tokensPerSequence, sequences, kvBytesPerValue: kvBytesOf(hints) },
    weights: known.storedBytes ?? weightBytes(computed, format),
  };
  if (model.cache.some(({ window }) => window !== null && window < tokensPerSequence)) {
    hints.note("layers with a sliding window keep no more than it: an engine that keeps all tokens takes more");
  }
  if (model.kind !== "decoder") hints.note("activations are an estimate: they depend on the engine");
  return {
    name: known.name,
    label: `${known.name} ${known.storedBytes === null ? `in ${format.name}` : "as stored"}`,
    isServed: true,
    confidence: model.kind === "decoder" ? "high" : "medium",
    splits: tensorParallelSizes(model.heads),
    parts: (gpus) => servingParts(serving, gpus),
    explain(gpus) {
      const { weights, kvCache, activations, overhead } = servingParts(serving, gpus);
      const cache = `KV cache ${mibOf(kvCache)} MiB (${tokensPerSequence} tokens x ${sequences} at once)`;
      const rest = `activations ${mibOf(activations)} MiB, overhead ${mibOf(overhead)} MiB`;
      return `weights ${mibOf(weights)} MiB, ${model.cache.length === 0 ? "" : `${cache}, `}${rest}`;
    },
  };
}

function tokensOf(model: Architecture, hints: Hints): { readonly tokens: number; readonly isStated: boolean } {
  const stated = hints.number("max_model_len", TOKENS) ?? hints.number("context_length", TOKENS);
  const prompt = hints.number("input_tokens", TOKENS);
  const generated = hints.number("max_tokens", TOKENS);
  if (stated !== null) return { tokens: stated, isStated: true };
  if (model.kind !== "decoder") return { tokens: model.positions, isStated: false };
  const tokens = (prompt ?? DEFAULT_PROMPT_TOKENS) + (generated ?? DEFAULT_GENERATED_TOKENS);
  const isStated = prompt !== null && generated !== null;
  if (!isStated) hints.note(`${tokens} tokens a sequence are assumed: context_length is not given`);
  return { tokens, isStated };
}

/**
 * Those that arrive together, or those that are put together.
 *
 * @param withBatch false leaves `batch_size` to the rules: times an assumed length it would ask for too much.
 */
function sequencesOf(hints: Hints, withBatch: boolean): number {
  const concurrent = hints.number("concurrent_requests", SEQUENCES) ?? 1;
  const batch = withBatch ? (hints.number("batch_size", SEQUENCES) ?? 1) : 1;
  return Math.max(1, Math.ceil(concurrent), Math.ceil(batch));
}

function trainingDemand({ name, architecture }: KnownModel, format: WeightFormat, hints: Hints): Demand {
  const settings = readTraining(hints);
  const step = (gpus: number) => trainingOf(architecture, settings, format, gpus);
  if (settings.context === null || settings.microBatch === null) {
    hints.note(
      `${step(1).tokens} tokens a step are assumed on one GPU: context_length or micro_batch_size is not given`,
    );
  }
  hints.note("training figures are an estimate, within 15 % of what is published");
  return {
    name,
    label: `${name}, ${settings.label}`,
    isServed: false,
    confidence: "medium",
    splits: UNBOUND_SPLITS,
    parts: (gpus) => trainingParts(step(gpus), gpus),
    explain(gpus) {
      const { tokens } = step(gpus);
      const { weights, gradients, optimizer, activations, overhead } = trainingParts(step(gpus), gpus);
      const zero = gpus === 1 ? "" : ` (ZeRO ${settings.zeroStage})`;
      const state = `weights, gradients and optimizer ${mibOf(weights + gradients + optimizer)} MiB${zero}`;
      return `${state}, activations ${mibOf(activations)} MiB (${tokens} tokens), overhead ${mibOf(overhead)} MiB`;
    },
  };
}

/** A model known by its size alone. */
function unknownDemand(named: string, size: number, type: WorkloadType, format: WeightFormat, hints: Hints): Demand {
  const parameters: ParameterCount = { linear: size, other: 0, adaptable: 0 };
  const billions = `${quote(named)}, ${size / 1e9} billion parameters by its name`;
  if (type !== "training") {
    return ruleOfThumbDemand(named, `${billions}, in ${format.name}`, hints, "weights", (gpus) => ({
      ...NOTHING,
      weights: weightBytes(parameters, format) / gpus,
    }));
  }
  const settings = readTraining(hints);
  const step = { ...settings, parameters, adapters: 0, frozen: format, activations: 0 };
  const what = "weights, gradients and optimizer";
  return {
    ...ruleOfThumbDemand(named, `${billions}, ${settings.label}`, hints, what, (gpus) => trainingParts(step, gpus)),
    isServed: false,
  };
}

function ruleOfThumbDemand(
  name: string,
  label: string,
  hints: Hints,
  what: string,
  stored: (gpus: number) => Omit<MemoryParts, "overhead">,
): Demand {
  hints.note(`the architecture of ${quote(name)} is not known: ${what} x 1.2 + 2 GiB is a rule of thumb`);
  const mib = (gpus: number) => {
    const { weights, gradients, optimizer } = stored(gpus);
    return mibOf(weights + gradients + optimizer);
  };
  return {
    name,
    label,
    isServed: true,
    confidence: "low",
    splits: UNBOUND_SPLITS,
    parts: (gpus) => ruleOfThumbParts(stored(gpus)),
    explain: (gpus) => `rule of thumb, ${what} ${mib(gpus)} MiB x 1.2 + 2 GiB`,
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
