/** What is asked for, by flags: the same for `run`, `allocate` and `plan`. */
import { basename } from "node:path";
import { parseMemoryMib } from "../client/memory.ts";
import type { AllocateBody } from "../client/types.ts";
import { parseDuration } from "../core/base/duration.ts";
import { UsageError } from "./exits.ts";

/** The API's own bounds. */
const MAX_PRIORITY = 10;
const MAX_LISTED = 1_000;

export interface AskOptions {
  readonly gpus?: string;
  /** Which ones; taken apart by `exactGpus`. */
  readonly gpu?: string;
  readonly mem?: string;
  readonly gpuModel?: string;
  readonly mig?: string;
  readonly priority?: string;
  readonly ttl?: string;
  readonly maxDuration?: string;
  readonly shared?: boolean;
  readonly preemptible?: boolean;
  readonly name?: string;
  readonly type?: string;
  readonly data?: readonly string[];
}

/** @param command names the service where nothing else does. */
export function askOf(options: AskOptions, command: readonly string[] = []): AllocateBody {
  const memory = options.mem === undefined ? undefined : memoryOf(options.mem);
  return {
    service_name: options.name ?? defaultName(command),
    ...defined({
      required_gpus: options.gpus === undefined ? undefined : wholeOf("--gpus", options.gpus, 1),
      min_memory_mb: memory,
      gpu_model: options.gpuModel,
      mig_profile: options.mig,
      priority: options.priority === undefined ? undefined : wholeOf("--priority", options.priority, 1, MAX_PRIORITY),
      ttl: options.ttl === undefined ? undefined : durationOf("--ttl", options.ttl).text,
      max_duration:
        options.maxDuration === undefined ? undefined : durationOf("--max-duration", options.maxDuration).text,
      sharing: options.shared === true ? ("shared" as const) : undefined,
      preemptible: options.preemptible === true ? true : undefined,
      workload_type: options.type,
    }),
    ...(options.data === undefined || options.data.length === 0 ? {} : { workload_data: dataOf(options.data) }),
  };
}

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

function defined<T extends object>(fields: T): Defined<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Defined<T>;
}

function memoryOf(text: string): number {
  const mib = parseMemoryMib(text);
  if (mib === null)
    throw new UsageError(`--mem ${text}: expected memory such as 20G (GiB), 20GB (10^9 bytes) or 20480 (MiB)`);
  return mib;
}

export function wholeOf(flag: string, text: string, least: number, most = 999_999_999): number {
  const number = Number(text);
  if (!/^\d{1,9}$/.test(text) || number < least || number > most) {
    const to = most === 999_999_999 ? "" : ` to ${most}`;
    throw new UsageError(`${flag} ${text}: expected a whole number from ${least}${to}`);
  }
  return number;
}

/** As many as one call lists. */
export function limitOf(text: string): number {
  return wholeOf("--limit", text, 1, MAX_LISTED);
}

/** A bare number is seconds, as in the API. */
export function durationOf(flag: string, text: string): { readonly text: string; readonly ms: number } {
  const given = /^\d+$/.test(text) ? `${text}s` : text;
  const ms = parseDuration(given);
  if (ms === null || ms === 0) throw new UsageError(`${flag} ${text}: expected a duration such as 30s, 90m or 1h30m`);
  return { text: given, ms };
}

function dataOf(pairs: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf("=");
      if (at < 1) throw new UsageError(`--data ${pair}: expected key=value`);
      return [pair.slice(0, at), plainValue(pair.slice(at + 1))];
    }),
  );
}

/** Numbers, true and false are themselves; all else is text. */
function plainValue(text: string): unknown {
  if (text === "true" || text === "false") return text === "true";
  return /^-?\d+(?:\.\d+)?$/.test(text) ? Number(text) : text;
}

/** Whose it is and what it runs, in the characters that a service's name may have. */
function defaultName(command: readonly string[]): string {
  const user = process.env.USER ?? process.env.LOGNAME ?? "";
  const name = [user, basename(command[0] ?? "")].filter((part) => part !== "").join("-");
  return (
    name
      .replace(/[^A-Za-z0-9._-]+/g, "-")
      .replace(/^-+|-+$/g, "")
      .slice(0, 128) || "gpuo"
  );
}
