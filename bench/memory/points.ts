/**
 * Measures what the memory model predicts on a real GPU: `npm run memory-points [-- --python PATH]`. It needs a card
 * that nothing else uses, nvidia-smi, and a Python with PyTorch and transformers; models are made of random weights, so
 * nothing is downloaded. Prints a table of predicted beside measured memory.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { analyze } from "../../src/core/analyzer/analyze.ts";
import { WORKLOAD_DEFAULTS } from "../../src/core/analyzer/defaults.ts";
import type { JsonObject } from "../../src/core/base/json.ts";

export interface Point {
  readonly name: string;
  readonly what: "serve" | "train";
  readonly config: JsonObject;
  /** Of each sequence, generated ones included. */
  readonly tokens: number;
  readonly sequences: number;
}

const LLAMA: JsonObject = {
  ...{ model_type: "llama", hidden_size: 2048, num_hidden_layers: 16, num_attention_heads: 32, num_key_value_heads: 8 },
  ...{ head_dim: 64, intermediate_size: 8192, vocab_size: 128_256, tie_word_embeddings: true },
};
const QWEN: JsonObject = {
  ...{ model_type: "qwen3", hidden_size: 1024, num_hidden_layers: 28, num_attention_heads: 16, num_key_value_heads: 8 },
  ...{ head_dim: 128, intermediate_size: 3072, vocab_size: 151_936, tie_word_embeddings: true },
};
const MIXTRAL: JsonObject = {
  ...{ model_type: "mixtral", hidden_size: 1024, num_hidden_layers: 12, num_attention_heads: 16 },
  ...{ num_key_value_heads: 8, intermediate_size: 3584, num_local_experts: 8, num_experts_per_tok: 2 },
  ...{ vocab_size: 32_000, tie_word_embeddings: false },
};

export const POINTS: readonly Point[] = (
  [
    ["Llama 1.2B", LLAMA],
    ["Qwen3 0.6B", QWEN],
    ["Mixtral 1.1B", MIXTRAL],
  ] as const
).flatMap(([name, config]): Point[] => [
  { name, what: "serve", config, tokens: 2_048, sequences: 1 },
  { name, what: "serve", config, tokens: 8_192, sequences: 4 },
  { name, what: "train", config, tokens: 2_048, sequences: 1 },
]);

/** MiB on one GPU; of a model that is served without the activations, which are those of another engine. */
export function predictedMib({ what, config, tokens, sequences }: Point): number {
  const data: JsonObject =
    what === "serve"
      ? { model_config: config, context_length: tokens, concurrent_requests: sequences }
      : { model_config: config, context_length: tokens, micro_batch_size: sequences, optimizer_precision: "bf16" };
  const { memory } = analyze(
    {
      ...{ workloadType: what === "serve" ? "inference" : "training", workloadData: data, requiredGpus: 1 },
      ...{ minMemoryMib: null, maxUtilizationPercent: null, priority: null },
    },
    { defaults: WORKLOAD_DEFAULTS, models: {}, cards: () => [] },
  );
  if (memory === null) throw new Error("the memory model cannot read a point's configuration");
  return what === "serve" ? memory.totalMib - memory.activationsMib : memory.totalMib;
}

interface Measured {
  readonly peak_mib: number;
  readonly torch_mib: number;
}

/** @throws Error with what Python said. */
export function measure(point: Point, python: string): Measured {
  const script = fileURLToPath(new URL("measure.py", import.meta.url));
  const { status, stdout, stderr, error } = spawnSync(python, [script], {
    input: JSON.stringify(point),
    encoding: "utf8",
  });
  if (status === 0) return JSON.parse(stdout) as Measured;
  throw new Error(error?.message ?? stderr.trim().split("\n").at(-1) ?? `${python} ended with ${status}`);
}

export function rowOf(point: Point, { peak_mib: peak, torch_mib: torch }: Measured): string {
  const predicted = predictedMib(point);
  const off = (100 * (predicted / peak - 1)).toFixed(2);
  const what = `${point.what}, ${point.sequences} x ${point.tokens} tokens`;
  return `| ${point.name} | ${what} | ${predicted} | ${peak} | ${torch} | ${off.startsWith("-") ? "" : "+"}${off} % |`;
}

function main(): void {
  const { values } = parseArgs({ options: { python: { type: "string", default: "python3" } } });
  console.log("| Model | What | Predicted MiB | nvidia-smi MiB | torch MiB | Difference |");
  console.log("|---|---|---|---|---|---|");
  for (const point of POINTS) console.log(rowOf(point, measure(point, values.python)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    main();
  } catch (error) {
    console.error(`no point could be measured: ${(error as Error).message}`);
    process.exitCode = 1;
  }
}
