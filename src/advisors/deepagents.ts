/**
 * What is sent to DeepAgents, and what of its answer counts.
 *
 * It is a language model with tools of its own, this daemon's calls among them. So nothing that a caller wrote freely
 * is sent: only names of a fixed form, words of fixed lists and bounded numbers. Its answer is taken for what it is,
 * three numbers by somebody who may be wrong.
 */
import { findModel } from "../core/analyzer/catalogue.ts";
import { findWeightFormat } from "../core/analyzer/formats.ts";
import type { Advice } from "../core/analyzer/known.ts";
import { parseModelName } from "../core/analyzer/parse-name.ts";
import type { JsonValue } from "../core/base/json.ts";
import { MAX_PRIORITY, MIN_PRIORITY } from "../core/model/workload.ts";
import type { KnowledgeAsk } from "../ports/knowledge.ts";

const NUMBERS = [
  ...["batch_size", "image_count", "node_count", "concurrent_requests", "context_length", "max_model_len"],
  ...["input_tokens", "max_tokens", "micro_batch_size", "tensor_parallel", "zero_stage", "lora_rank"],
];
const FLAGS = ["multi_gpu", "dedicated"];
const WORDS: Readonly<Record<string, readonly string[]>> = {
  model_size: ["small", "medium", "large", "xlarge"],
  method: ["full", "lora", "qlora"],
};
const MAX_NUMBER = 1_000_000_000;
const MAX_GPUS = 1_024;
const MAX_MEMORY_MIB = 2 ** 31;

/** The facts of a workload that are sent, in an order that depends on nothing. */
export function factsOf({ workloadType, workloadData, serviceName }: KnowledgeAsk): Record<string, JsonValue> {
  const facts: Record<string, JsonValue> = { workload_type: workloadType };
  if (serviceName !== null) facts.service_name = serviceName;
  const given = (key: string): JsonValue => (Object.hasOwn(workloadData, key) ? (workloadData[key] ?? null) : null);
  for (const key of NUMBERS) {
    const value = given(key);
    if (typeof value === "number" && value >= 0) facts[key] = Math.min(value, MAX_NUMBER);
  }
  for (const key of FLAGS) if (given(key) === true) facts[key] = true;
  for (const [key, words] of Object.entries(WORDS)) {
    const word = words.find((one) => one === given(key));
    if (word !== undefined) facts[key] = word;
  }
  for (const key of ["quantization", "dtype"]) {
    const text = given(key);
    const format = typeof text === "string" ? findWeightFormat(text) : null;
    if (format !== null) facts[key] = format.name;
  }
  const name = given("model") ?? given("model_name");
  if (typeof name !== "string") return facts;
  const parsed = parseModelName(name);
  const known = findModel(parsed.canonical);
  if (known !== null) facts.model = known.id;
  else if (parsed.parameters !== null) facts.parameters = parsed.parameters;
  return facts;
}

export function questionOf(facts: Record<string, JsonValue>): object {
  const content = `Recommend GPUs for this workload: how many, MiB of memory on each, and its priority. ${JSON.stringify(facts)}`;
  return {
    messages: [{ role: "user", content }],
    response_format: {
      type: "json_schema",
      json_schema: {
        type: "object",
        properties: {
          required_gpus: { type: "integer", minimum: 0 },
          min_memory_mb: { type: "integer", minimum: 0 },
          priority: { type: "integer", minimum: MIN_PRIORITY, maximum: MAX_PRIORITY },
          reasoning: { type: "string" },
        },
        required: ["required_gpus", "min_memory_mb", "priority"],
      },
    },
  };
}

/** The usable numbers of an answer; `null` when there is none. A number out of its bounds counts as not said. */
export function adviceIn(answer: unknown): Advice | null {
  const output = fieldOf(answer, "structured_output");
  const whole = (key: string, least: number, most: number): number | null => {
    const value = fieldOf(output, key);
    return typeof value === "number" && Number.isInteger(value) && value >= least && value <= most ? value : null;
  };
  const advice = {
    from: "DeepAgents",
    gpus: whole("required_gpus", 1, MAX_GPUS),
    memoryMib: whole("min_memory_mb", 1, MAX_MEMORY_MIB),
    priority: whole("priority", MIN_PRIORITY, MAX_PRIORITY),
  };
  return advice.gpus === null && advice.memoryMib === null && advice.priority === null ? null : advice;
}

function fieldOf(value: unknown, key: string): unknown {
  const isObject = typeof value === "object" && value !== null && Object.hasOwn(value, key);
  return isObject ? (value as Readonly<Record<string, unknown>>)[key] : undefined;
}
