/**
 * Published measurements of GPU memory beside what the analyzer's memory model says: read by the test that holds its
 * bounds and by the script that writes the table of docs/memory-model.md.
 *
 * Those of figures.json come with the project. Those of `published.json` lie beside it in development only.
 */
import { existsSync, readFileSync } from "node:fs";
import type { Architecture } from "../../src/core/analyzer/architecture.ts";
import { findModel } from "../../src/core/analyzer/catalogue.ts";
import { BF16, findWeightFormat, KV_BYTES, type WeightFormat } from "../../src/core/analyzer/formats.ts";
import {
  ALLOCATOR_BYTES,
  adapterParameters,
  GIB,
  kvCacheBytes,
  MIB,
  MIXED,
  OPTIMIZER_BYTES,
  type TrainingMethod,
  totalBytes,
  trainingActivationBytes,
  trainingParts,
  weightBytes,
} from "../../src/core/analyzer/memory.ts";
import { other, sum } from "../../src/core/analyzer/parameters.ts";
import { parseModelName } from "../../src/core/analyzer/parse-name.ts";
import { isReadable, readConfig } from "../../src/core/analyzer/read-config.ts";
import type { JsonObject } from "../../src/core/base/json.ts";

/** What a bound holds for. */
export type Group =
  | "BF16 total"
  | "FP8 total"
  | "AWQ total"
  | "16-bit weights"
  | "4-bit weights"
  | "KV cache"
  | "training";

export interface Figure {
  readonly group: Group;
  readonly model: string;
  readonly what: string;
  readonly publishedBytes: number;
  readonly predictedBytes: number;
  /** Where it is published. */
  readonly address: string;
  /** True for those of figures.json. */
  readonly isOwn: boolean;
}

export function errorOf({ predictedBytes, publishedBytes }: Figure): number {
  return predictedBytes / publishedBytes - 1;
}

type Unit = "GiB" | "MiB" | "GB" | "MB";
const UNITS: Readonly<Record<Unit, number>> = { GiB: GIB, MiB: MIB, GB: 1e9, MB: 1e6 };

interface OwnFigure {
  readonly what: "weights" | "KV cache";
  readonly model: string;
  readonly config?: JsonObject;
  readonly format: string;
  readonly gpus: number;
  readonly tokens?: number;
  readonly published: readonly [number, Unit];
  readonly from: string;
  readonly address: string;
}

const OWN = new URL("figures.json", import.meta.url);
const PUBLISHED = new URL("../../../shared/fixtures/models/published.json", import.meta.url);

/** Whether `published.json` is there. */
export const hasPublished = existsSync(PUBLISHED);

function architectureOf(name: string, config?: JsonObject): Architecture {
  if (config !== undefined) {
    const read = readConfig(config);
    if (isReadable(read)) return read;
    throw new Error(read.problem);
  }
  const entry = findModel(parseModelName(name).canonical);
  if (entry === null) throw new Error(`${name} is not in the catalogue`);
  return entry.architecture;
}

function formatOf(name: string): WeightFormat {
  const format = findWeightFormat(name);
  if (format === null) throw new Error(`${name} is no format`);
  return format;
}

export function ownFigures(): Figure[] {
  const figures = JSON.parse(readFileSync(OWN, "utf8")) as readonly OwnFigure[];
  return figures.map(({ what, model, config, format, gpus, tokens = 0, published, from, address }) => {
    const architecture = architectureOf(model, config);
    const isWeights = what === "weights";
    const split = gpus === 1 ? "" : `, on each of ${gpus} GPUs`;
    const kvBytes = KV_BYTES.get(format) ?? 0;
    return {
      group: isWeights ? (formatOf(format).bytesPerWeight < 1 ? "4-bit weights" : "16-bit weights") : "KV cache",
      model,
      what: `${what} in ${format}${tokens === 0 ? "" : `, ${tokens} tokens`}${split}: ${from}`,
      publishedBytes: published[0] * UNITS[published[1]],
      predictedBytes: isWeights
        ? weightBytes(architecture.parameters, formatOf(format)) / gpus
        : kvCacheBytes(architecture.cache, kvBytes, tokens, 1, gpus),
      address,
      isOwn: true,
    };
  });
}

interface Published {
  readonly inference_total: {
    readonly input_tokens: readonly number[];
    readonly generated_tokens: number;
    readonly mib: { readonly [id: string]: { readonly [format: string]: readonly number[] } };
  };
  readonly other: readonly {
    readonly what: string;
    readonly gib?: unknown;
    readonly gb?: unknown;
    readonly mib?: unknown;
    readonly source: string;
  }[];
}

const GROUPS: Readonly<Record<string, Group>> = {
  bf16: "BF16 total",
  fp8: "FP8 total",
  "awq-int4": "AWQ total",
};
const QWEN3_BENCHMARK = "https://qwen.readthedocs.io/zh-cn/stable/_sources/getting_started/speed_benchmark.md.txt";

/** Those of `published.json`, of which {@link hasPublished} tells whether it is there. */
export function sharedFigures(): Figure[] {
  const published = JSON.parse(readFileSync(PUBLISHED, "utf8")) as Published;
  return [...totals(published), ...others(published)];
}

/** Weights, KV cache and what torch's allocator adds, whose column it is: no CUDA context. */
function totals({ inference_total: table }: Published): Figure[] {
  return Object.entries(table.mib).flatMap(([model, byFormat]) =>
    Object.entries(byFormat).flatMap(([format, column]) =>
      column.map((mib, index): Figure => {
        const architecture = architectureOf(model);
        const tokens = (table.input_tokens[index] ?? 0) + table.generated_tokens;
        // The one FP8 checkpoint that stores its output projection apart.
        const apart = format === "fp8" && model === "Qwen/Qwen3-0.6B" ? architecture.tiedParameters : 0;
        const weights = weightBytes(sum(architecture.parameters, other(apart)), formatOf(format));
        return {
          group: GROUPS[format] ?? "BF16 total",
          model,
          what: `all in ${format}, ${tokens} tokens`,
          publishedBytes: mib * MIB,
          predictedBytes: weights + kvCacheBytes(architecture.cache, 2, tokens, 1, 1) + ALLOCATOR_BYTES,
          address: QWEN3_BENCHMARK,
          isOwn: false,
        };
      }),
    ),
  );
}

/** The first Qwen-7B, whose training figures are published: 7.7213e9 parameters. */
const QWEN_7B: JsonObject = {
  model_type: "qwen2",
  hidden_size: 4096,
  num_hidden_layers: 32,
  intermediate_size: 11008,
  num_attention_heads: 32,
  vocab_size: 151936,
};
const MISTRAL_SMALL: JsonObject = {
  model_type: "mistral",
  hidden_size: 6144,
  num_hidden_layers: 56,
  num_attention_heads: 48,
  num_key_value_heads: 8,
  head_dim: 128,
  vocab_size: 32768,
};

interface Trained {
  readonly model: Architecture;
  readonly method: TrainingMethod;
  readonly rank?: number;
  readonly tokens: number;
  readonly lossChunks?: number;
  readonly gpus?: number;
}

function trainedBytes({ model, method, rank = 0, tokens, lossChunks = 1, gpus = 1 }: Trained): number {
  const training = {
    ...{ parameters: model.parameters, method, precision: MIXED, momentBytes: OPTIMIZER_BYTES.adamw ?? 0 },
    ...{ adapters: adapterParameters(model, rank), frozen: BF16, zeroStage: 3 },
    activations: trainingActivationBytes(model, tokens, lossChunks),
  };
  return gpus * totalBytes(trainingParts(training, gpus));
}

function others({ other: entries }: Published): Figure[] {
  const llama = architectureOf("meta-llama/Meta-Llama-3-8B");
  const qwen = architectureOf("", QWEN_7B);
  const llama31 = architectureOf("meta-llama/Llama-3.1-8B");
  const rows: readonly (readonly [string, Unit, Group, string, readonly number[]])[] = [
    ["weights on one GPU", "GiB", "16-bit weights", "Meta-Llama-3-8B", [weightBytes(llama.parameters, BF16)]],
    [
      ...(["KV cache at context 49152", "MiB", "KV cache", "Mistral-Small 22B"] as const),
      [kvCacheBytes(architectureOf("", MISTRAL_SMALL).cache, 34 / 32, 49_152, 1, 1)],
    ],
    [
      ...(["full fine-tuning", "GB", "training", "Qwen-7B"] as const),
      [trainedBytes({ model: qwen, method: "full", tokens: 256, gpus: 2 })],
    ],
    [
      ...(["LoRA, sequence", "GB", "training", "Qwen-7B"] as const),
      [256, 1024, 8192].map((tokens) => trainedBytes({ model: qwen, method: "lora", rank: 64, tokens })),
    ],
    [
      ...(["LoRA / QLoRA", "GiB", "training", "Llama-3.1-8B"] as const),
      (["lora", "qlora"] as const).map((method) =>
        trainedBytes({ model: llama31, method, rank: 8, tokens: 4096, lossChunks: 8 }),
      ),
    ],
  ];
  return rows.flatMap(([what, unit, group, model, predicted]) => {
    const entry = entries.find((one) => one.what.startsWith(what));
    if (entry === undefined) throw new Error(`no published figure: ${what}`);
    const key = unit.toLowerCase() as "gib" | "gb" | "mib";
    const values = [entry[key]].flat() as readonly number[];
    return values.map((value, index) => ({
      group,
      model,
      what: values.length === 1 ? entry.what : `${entry.what} (${index + 1} of ${values.length})`,
      publishedBytes: value * UNITS[unit],
      predictedBytes: predicted[index] ?? 0,
      address: entry.source,
      isOwn: false,
    }));
  });
}
