/**
 * The rules of contract section 5. Each of them only raises:
 *
 * 1. `model_size` replaces the type's default as the base; there is nothing below the base.
 * 2. Every other rule is a lower bound: the highest wins, none adds to another.
 * 3. A threshold is crossed strictly above it: batch 64 is not above 64.
 */
import { MAX_PRIORITY, MIN_PRIORITY, type WorkloadDefaults, type WorkloadType } from "../model/workload.ts";
import { type Hints, quote, raise, type Sourced } from "./hints.ts";

/** What a workload needs by the rules, before a named model and before what the caller states. */
export interface RuleFigures {
  readonly gpus: Sourced;
  readonly memoryMib: Sourced;
  readonly priority: Sourced;
}

const MODEL_SIZES = ["small", "medium", "large", "xlarge"] as const;
type ModelSize = (typeof MODEL_SIZES)[number];

const TRAINING_BASE: { readonly [size in ModelSize]: { readonly gpus: number; readonly memoryMib: number } } = {
  small: { gpus: 1, memoryMib: 4_096 },
  medium: { gpus: 2, memoryMib: 8_192 },
  large: { gpus: 4, memoryMib: 16_384 },
  xlarge: { gpus: 8, memoryMib: 32_768 },
};
const INFERENCE_BASE_MIB: { readonly [size in ModelSize]: number } = {
  small: 2_048,
  medium: 4_096,
  large: 8_192,
  xlarge: 16_384,
};

const SIZE_KEY: { readonly [type in WorkloadType]: string } = {
  training: "batch_size",
  inference: "batch_size",
  embedding: "batch_size",
  ocr: "image_count",
  graph_processing: "node_count",
  generic: "batch_size",
};

const MULTI_GPU_GPUS = 2;
const DEDICATED_MIB = 8_192;
const DEDICATED_PRIORITY = 8;
/** Above large or high; above xlarge or very high. For graphs the same figures multiply the memory. */
const LARGE_GPUS = 2;
const XLARGE_GPUS = 4;

const COUNT = { min: 0, max: Number.MAX_VALUE, integer: false };

function rule(value: number, source: string): Sourced {
  return { value, source, kind: "rule" };
}

export function applyRules(type: WorkloadType, hints: Hints, defaults: WorkloadDefaults): RuleFigures {
  const base = baseOf(type, hints, defaults);
  let { gpus, memoryMib, priority } = base;

  if (ruleOf("training", type, hints, "multi_gpu")) {
    gpus = raise(gpus, rule(MULTI_GPU_GPUS, "multi_gpu: at least 2 GPUs"));
  }
  if (ruleOf("inference", type, hints, "dedicated")) {
    memoryMib = raise(memoryMib, rule(DEDICATED_MIB, "dedicated: at least 8192 MiB"));
    priority = raise(priority, rule(DEDICATED_PRIORITY, "dedicated: priority 8"));
  }
  for (const load of loadsOf(type, hints, defaults)) {
    if (type === "graph_processing") {
      const many = `${load.reason}: ${load.factor} times the memory`;
      memoryMib = raise(memoryMib, rule(base.memoryMib.value * load.factor, many));
    } else {
      gpus = raise(gpus, rule(load.factor, `${load.reason}: at least ${load.factor} GPUs`));
    }
  }
  return { gpus, memoryMib, priority: workflowPriority(hints) ?? priority };
}

function baseOf(type: WorkloadType, hints: Hints, defaults: WorkloadDefaults): RuleFigures {
  const source = `default of ${type}`;
  const base: RuleFigures = {
    gpus: rule(defaults.defaultGpus, source),
    memoryMib: rule(defaults.defaultMemoryMib, source),
    priority: rule(defaults.defaultPriority, source),
  };
  const text = hints.text("model_size");
  if (text === null) return base;
  const size = MODEL_SIZES.find((known) => known === text.toLowerCase());
  if (size === undefined) {
    hints.note(`model_size ${quote(text)} ignored: not one of ${MODEL_SIZES.join(", ")}`);
    return base;
  }
  if (type === "training") {
    const { gpus, memoryMib } = TRAINING_BASE[size];
    return {
      ...base,
      gpus: rule(gpus, `model_size ${size}: ${gpus} ${gpus === 1 ? "GPU" : "GPUs"}`),
      memoryMib: rule(memoryMib, `model_size ${size}: ${memoryMib} MiB`),
    };
  }
  if (type === "inference") {
    const memoryMib = INFERENCE_BASE_MIB[size];
    return { ...base, memoryMib: rule(memoryMib, `model_size ${size}: ${memoryMib} MiB`) };
  }
  hints.note(`model_size has no rule for ${type}`);
  return base;
}

/** Whether a flag is set that has a rule for this type; one that has none here is said so. */
function ruleOf(ruled: WorkloadType, type: WorkloadType, hints: Hints, key: string): boolean {
  if (!hints.flag(key)) return false;
  if (type !== ruled) hints.note(`${key} has no rule for ${type}`);
  return type === ruled;
}

interface Load {
  /** 2 above the lower threshold, 4 above the upper one. */
  readonly factor: number;
  readonly reason: string;
}

function loadsOf(type: WorkloadType, hints: Hints, defaults: WorkloadDefaults): Load[] {
  const sizeKey = SIZE_KEY[type];
  const size = hints.number(sizeKey, COUNT);
  const requests = hints.number("concurrent_requests", COUNT);
  const loads: Load[] = [];
  const { largeBatchSize, xlargeBatchSize, highConcurrency, veryHighConcurrency } = defaults;
  if (size !== null) addLoad(loads, sizeKey, size, ["large", largeBatchSize], ["xlarge", xlargeBatchSize]);
  if (requests !== null) {
    addLoad(loads, "concurrent_requests", requests, ["high", highConcurrency], ["very high", veryHighConcurrency]);
  }
  return loads;
}

type Threshold = readonly [name: string, limit: number];

function addLoad(loads: Load[], key: string, value: number, lower: Threshold, upper: Threshold): void {
  const isXlarge = value > upper[1];
  if (!isXlarge && !(value > lower[1])) return;
  const [name, limit] = isXlarge ? upper : lower;
  loads.push({ factor: isXlarge ? XLARGE_GPUS : LARGE_GPUS, reason: `${key} ${value} above ${name} (${limit})` });
}

/** The workflow's priority, which beats every rule and default; `null` when none is given or it is nonsense. */
function workflowPriority(hints: Hints): Sourced | null {
  const value = hints.number("workflow_priority", { min: MIN_PRIORITY, max: Number.MAX_VALUE, integer: true });
  if (value === null) return null;
  if (value > MAX_PRIORITY) {
    hints.note(`workflow_priority ${value} ignored: not a whole number from ${MIN_PRIORITY} to ${MAX_PRIORITY}`);
    return null;
  }
  return { value, source: "workflow_priority", kind: "explicit" };
}
