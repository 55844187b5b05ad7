/**
 * What is taken, and may not be meant. A warning changes nothing: in `workload_data` clients send facts of their own, so a
 * key that is not known is no mistake, but one that is nearly the name of one that is read may be.
 */
import { editDistance } from "../../core/base/suggest.ts";
import { WORKLOAD_TYPES } from "../../core/model/workload.ts";
import { printable } from "../../platform/printable.ts";
import { asked } from "./asks.ts";

const MAX_WARNINGS = 8;
/** Keys that are looked at, and the longest that can be near a known one. */
const MAX_KEYS = 256;
const MAX_KEY_LENGTH = 64;
/** Up to so many letters one edit is near, beyond them two. */
const SHORT_KEY = 5;

/** What is read of `workload_data`: what may also stand at the top level, and the facts that the analyzer knows. */
const READ_KEYS: readonly string[] = [
  ...Object.keys(asked),
  "estimated_duration",
  "pid",
  "pid_start_ticks",
  "model",
  "model_name",
  "model_size",
  "batch_size",
  "concurrent_requests",
  "image_count",
  "node_count",
  "multi_gpu",
  "dedicated",
  "workflow_priority",
  "workflow_id",
  "gpu_memory_mb",
  "context_length",
  "max_model_len",
  "input_tokens",
  "max_tokens",
  "dtype",
  "kv_cache_dtype",
  "quantization",
  "tensor_parallel",
  "tensor_parallel_size",
  "micro_batch_size",
  "optimizer",
  "zero_stage",
  "lora_rank",
  "loss_chunks",
  "model_config",
];

export function warningsOf(body: {
  readonly workload_type?: string | null | undefined;
  readonly workload_data?: object | null | undefined;
}): readonly string[] {
  const warnings = [...typeWarnings(body.workload_type ?? null), ...keyWarnings(body.workload_data ?? {})];
  return warnings.slice(0, MAX_WARNINGS);
}

/** As a part of an answer: left out when there is none. */
export function warningsPart(warnings: readonly string[]): { warnings?: string[] } {
  return warnings.length === 0 ? {} : { warnings: [...warnings] };
}

function typeWarnings(text: string | null): readonly string[] {
  const name = text?.trim().toLowerCase().replaceAll("-", "_") ?? "generic";
  if (name === "" || WORKLOAD_TYPES.some((type) => type === name)) return [];
  return [`workload_type ${printable(JSON.stringify(text))} is not known and counts as generic`];
}

function keyWarnings(data: object): readonly string[] {
  const warnings: string[] = [];
  for (const key of Object.keys(data).slice(0, MAX_KEYS)) {
    const meant = meantBy(key);
    if (meant !== null) warnings.push(`workload_data.${printable(key)} is not read; did you mean ${meant}?`);
  }
  return warnings;
}

/** What {@link nearestTo} found: a service sends the same keys with each request, and comparing costs more than the rest. */
const found = new Map<string, string | null>();
/** All are forgotten when more come up. */
const MAX_FOUND = 1_024;

/** `null`: nothing that is read, or what is read itself. */
function meantBy(key: string): string | null {
  if (key.length > MAX_KEY_LENGTH) return null;
  let meant = found.get(key);
  if (meant === undefined) {
    meant = nearestTo(key);
    if (found.size >= MAX_FOUND) found.clear();
    found.set(key, meant);
  }
  return meant;
}

function nearestTo(key: string): string | null {
  return READ_KEYS.includes(key) ? null : (READ_KEYS.find((known) => isNear(key, known)) ?? null);
}

function isNear(key: string, known: string): boolean {
  const most = known.length <= SHORT_KEY ? 1 : 2;
  return Math.abs(key.length - known.length) <= most && editDistance(key, known) <= most;
}
