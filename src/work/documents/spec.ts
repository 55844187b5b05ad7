/** From a document that has passed its examination to what is to be run. */
import type { JsonObject } from "../../core/base/json.ts";
import type { GpuNeed, Liveness, Readiness, Resources, RestartRule, RetryRule, StopRule, WorkSpec } from "../model.ts";
import { parseCpuMillis, parseMemoryBytes } from "../quantities.ts";
import { at, durationMs } from "./shape.ts";

export interface Profile {
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly gpus: number;
}

export const DEFAULT_STOP: StopRule = { signal: "TERM", graceMs: 30_000, to: "main" };
const DEFAULT_START_TIMEOUT_MS = 600_000;
/** They only read: running one twice does no harm. */
const REPEATABLE_TASK_TYPES: ReadonlySet<string> = new Set(["inference", "echo"]);
const REPEATABLE_LOSSES = 2;

/** "any" and nothing mean any GPU; otherwise each part between `-`, `_` and blanks must occur in the GPU's name. */
export function namePartsOf(type: string | undefined): readonly string[] {
  if (type === undefined || type.toLowerCase() === "any") return [];
  return type.split(/[-_ ]+/).filter((part) => part !== "");
}

/** Whether a GPU of this product name is of the type that was asked for. */
export function isOfType(productName: string, parts: readonly string[]): boolean {
  const found = productName.toLowerCase();
  return parts.every((part) => found.includes(part.toLowerCase()));
}

export function hardwareOf(spec: JsonObject, byDefault: Profile): Resources {
  const hardware = ["resources", "hardware"] as const;
  const asked = at(spec, ...hardware, "gpu");
  const count = asked === undefined ? 0 : ((at(spec, ...hardware, "gpu", "count") as number | undefined) ?? 1);
  const gpu: GpuNeed | null =
    count === 0
      ? null
      : {
          count,
          nameParts: namePartsOf(at(spec, ...hardware, "gpu", "type") as string | undefined),
          memoryMib: (at(spec, "gpu_memory_mb") as number | undefined) ?? null,
        };
  return {
    cpuMillis: parseCpuMillis(at(spec, ...hardware, "cpu")) ?? byDefault.cpuMillis,
    memoryBytes: parseMemoryBytes(at(spec, ...hardware, "memory")) ?? byDefault.memoryBytes,
    gpu,
  };
}

type RunPart = Omit<
  WorkSpec,
  "executor" | "taskType" | "identifier" | "resources" | "readiness" | "liveness" | "document"
>;

export function runPartOf(spec: JsonObject): RunPart {
  const texts = (key: string) => (at(spec, key) as readonly string[] | undefined) ?? [];
  const map = (key: string) => (at(spec, key) as Readonly<Record<string, string>> | undefined) ?? {};
  return {
    command: (at(spec, "command") as readonly string[] | undefined) ?? null,
    image: (at(spec, "image") as string | undefined) ?? null,
    env: map("env"),
    secrets: texts("secrets"),
    stop: stopOf(spec),
    startTimeoutMs: durationMs(at(spec, "start_timeout")) ?? DEFAULT_START_TIMEOUT_MS,
    timeoutMs: durationMs(at(spec, "timeout")),
    maxDurationMs: durationMs(at(spec, "max_duration")),
    priority: (at(spec, "priority") as number | undefined) ?? null,
    tags: texts("tags"),
    nodeSelector: map("node_selector"),
  };
}

function stopOf(spec: JsonObject): StopRule {
  return {
    signal: (at(spec, "stop", "signal") as StopRule["signal"] | undefined) ?? DEFAULT_STOP.signal,
    graceMs: durationMs(at(spec, "stop", "grace")) ?? DEFAULT_STOP.graceMs,
    to: (at(spec, "stop", "to") as StopRule["to"] | undefined) ?? DEFAULT_STOP.to,
  };
}

export function retryOf(spec: JsonObject, taskType: string): RetryRule {
  const lost = REPEATABLE_TASK_TYPES.has(taskType) ? REPEATABLE_LOSSES : 0;
  return {
    max: (at(spec, "retry", "max") as number | undefined) ?? 0,
    lost: (at(spec, "retry", "lost") as number | undefined) ?? lost,
    on: (at(spec, "retry", "on") as readonly number[] | undefined) ?? null,
    neverOn: (at(spec, "retry", "never_on") as readonly number[] | undefined) ?? [],
    backoffMs: durationMs(at(spec, "retry", "backoff")) ?? 10_000,
    maxBackoffMs: durationMs(at(spec, "retry", "max_backoff")) ?? 300_000,
  };
}

export function restartOf(spec: JsonObject): RestartRule {
  return {
    policy: (at(spec, "restart", "policy") as RestartRule["policy"] | undefined) ?? "on-failure",
    backoffMs: durationMs(at(spec, "restart", "backoff")) ?? 1_000,
    maxBackoffMs: durationMs(at(spec, "restart", "max_backoff")) ?? 300_000,
    giveUpAfter: (at(spec, "restart", "give_up_after") as number | undefined) ?? 5,
  };
}

/** @param byDefault of the model's settings, if they have any. */
export function readinessOf(spec: JsonObject, byDefault: Readiness | null): Readiness | null {
  const http = (at(spec, "readiness", "http") as string | undefined) ?? byDefault?.http;
  if (http === undefined) return null;
  return { http, intervalMs: durationMs(at(spec, "readiness", "interval")) ?? byDefault?.intervalMs ?? 5_000 };
}

export function livenessOf(spec: JsonObject): Liveness | null {
  if (at(spec, "liveness") === undefined) return null;
  return {
    completion: (at(spec, "liveness", "completion") as boolean | undefined) ?? true,
    intervalMs: durationMs(at(spec, "liveness", "interval")) ?? 60_000,
    timeoutMs: durationMs(at(spec, "liveness", "timeout")) ?? 30_000,
    failures: (at(spec, "liveness", "failures") as number | undefined) ?? 3,
  };
}
