/** `work`: whether this host runs what it leases GPUs to, and what it lets be run. */
import { isAbsolute } from "node:path";
import type { z } from "zod";
import { PRINCIPAL } from "./api-keys.ts";
import { sectionsByName } from "./by-name.ts";
import {
  duration,
  flag,
  host,
  integer,
  listOf,
  nullable,
  oneOf,
  type Read,
  Refusal,
  section,
  setting,
  show,
  text,
} from "./settings.ts";

export const EXECUTOR_TYPES = [
  "process",
  "echo",
  "simulated",
  "program",
  "python",
  "vllm",
  "container",
  "ppo",
  "mloc",
] as const;
const CAGES = ["auto", "systemd", "cgroup", "pidns", "session"] as const;

const MAX_NAMES = 1_000;
const LINE = /^[^\p{Cc}]+$/u;
const NAME = text(
  "a name of 1 to 128 of A-Z a-z 0-9 . _ -, not beginning with - or .",
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/,
);
const VARIABLE = text("the name of an environment variable", /^[A-Za-z_][A-Za-z0-9_]{0,127}$/);
const USER = text("the name of a user", /^[a-z_][a-z0-9_-]{0,31}$/);
const words = text("text in one line", LINE);
const path = text("the path of a file", LINE);

const absolutePath: Read<string> = (value) => {
  const result = path(value);
  return result instanceof Refusal || isAbsolute(result)
    ? result
    : new Refusal(`expected an absolute path, got ${show(value)}`);
};

/** Names chosen by the user, and what stands below each. */
function mapOf<T>(name: Read<string>, read: Read<T>): Read<Readonly<Record<string, T>>> {
  return (value) => {
    if (value === null) return {};
    if (typeof value !== "object" || Array.isArray(value))
      return new Refusal(`expected a section of \`NAME: ...\` lines, got ${show(value)}`);
    const entries = Object.entries(value);
    if (entries.length > MAX_NAMES) return new Refusal(`holds ${entries.length} names, more than ${MAX_NAMES}`);
    const found: [string, T][] = [];
    for (const [key, item] of entries) {
      const named = name(key);
      if (named instanceof Refusal) return new Refusal(named.message, named.hint, [key]);
      const result = read(item);
      if (result instanceof Refusal) return new Refusal(result.message, result.hint, [key, ...result.at]);
      found.push([key, result]);
    }
    return Object.fromEntries(found);
  };
}

const NAMES = { lines: "NAME: ...", most: MAX_NAMES };

const MOST_GPUS = 64;
const CPU = text("cores such as 2 or 500m", /^\d+(?:\.\d+)?m?$/);
const cpu: Read<string> = (value) => CPU(typeof value === "number" ? String(value) : value);
const MEMORY = text("bytes such as 8Gi", /^\d+(?:\.\d+)?[KMGTP]i?$/);

export const executorItem = section({
  type: setting(oneOf(EXECUTOR_TYPES), null),
  command: setting(nullable(listOf(words)), null),
  python: setting(nullable(words), null),
  module: setting(nullable(text("the name of a Python module", /^[A-Za-z_][\w.]*$/)), null),
  class: setting(nullable(text("the name of a Python class", /^[A-Za-z_]\w*$/)), null),
  engine: setting(oneOf(["podman", "docker"]), "podman"),
  programs: setting(listOf(absolutePath), []),
  images: setting(listOf(words), []),
  args: setting(listOf(words), []),
  env: setting(mapOf(VARIABLE, words), {}),
  pass_env: setting(listOf(VARIABLE), []),
  user_env: setting(listOf(VARIABLE), []),
  mounts: setting(listOf(text("FROM:TO or FROM:TO:ro, both absolute", /^\/[^:\p{Cc}]*:\/[^:\p{Cc}]*(?::ro)?$/u)), []),
  network: setting(text("the name of a network", /^[a-z0-9][a-z0-9_.-]{0,63}$/), "none"),
  cdi: setting(flag, true),
  allow_remote_code: setting(flag, false),
});

export const modelItem = section({
  executor: setting(NAME, null),
  identifier: setting(nullable(words), null),
  args: setting(listOf(words), []),
  gpu: setting(nullable(integer(0, MOST_GPUS)), null),
  readiness: section({
    http: setting(nullable(text("a path such as /health", /^\/[\x21-\x7e]{0,255}$/)), null),
    interval: setting(duration("100ms", "1h"), "5s"),
  }),
});

export const profileItem = section({
  cpu: setting(cpu, "1000m"),
  memory: setting(MEMORY, "2Gi"),
  gpu: setting(integer(0, MOST_GPUS), 0),
});

export const secretItem = section({
  file: setting(absolutePath, null),
  principals: setting(listOf(PRINCIPAL), []),
});

const runAs: Read<string | null | Readonly<Record<string, string>>> = (value) =>
  typeof value === "object" && value !== null ? mapOf(PRINCIPAL, USER)(value) : nullable(USER)(value);

const ports: Read<{ readonly from: number; readonly to: number }> = (value) => {
  const match = typeof value === "string" ? /^(\d{1,5})-(\d{1,5})$/.exec(value) : null;
  const [from, to] = [Number(match?.[1]), Number(match?.[2])];
  const isRange = from >= 1_024 && to <= 65_535 && from <= to;
  return isRange
    ? { from, to }
    : new Refusal(`expected two ports from 1024 to 65535 such as 20000-29999, got ${show(value)}`);
};

const DEFAULT_WORK_DIR = "data/work";
const SIMULATED_WORK_DIR = "data/simulated-work";

const DEFAULT_TASK_TYPES = { inference: "vllm", ppo: "ppo", echo: "echo" };
/** One that the file names too is as the file has it. */
const DEFAULT_PROFILES = {
  small: { cpu: "500m", memory: "1Gi", gpu: 0 },
  medium: { cpu: "2000m", memory: "8Gi", gpu: 1 },
  large: { cpu: "8000m", memory: "32Gi", gpu: 4 },
};

export function work() {
  return section({
    enabled: setting(flag, false),
    allow_unauthenticated: setting(flag, false),
    worker: setting(oneOf(["embedded", "external"]), "embedded"),
    executors: sectionsByName(NAME, executorItem, NAMES),
    task_types: setting(nullable(mapOf(words, NAME)), null),
    models: sectionsByName(words, modelItem, NAMES),
    default_models: section({ vllm: setting(nullable(words), null), ppo: setting(nullable(words), null) }),
    profiles: sectionsByName(NAME, profileItem, NAMES),
    dir: setting(path, DEFAULT_WORK_DIR),
    results_dir: setting(path, "data/results"),
    node: setting(nullable(NAME), null),
    tags: setting(listOf(words), []),
    labels: setting(mapOf(words, words), {}),
    run_as: setting(runAs, null),
    allow_root: setting(flag, false),
    allow_same_user: setting(flag, false),
    cage: setting(oneOf(CAGES), "auto"),
    max_workloads: setting(integer(0, 10_000), 100),
    max_tasks: setting(integer(0, 1_000_000), 10_000),
    service_host: setting(host, "127.0.0.1"),
    ports: setting(ports, "20000-29999"),
    secrets: sectionsByName(NAME, secretItem, NAMES),
    secret_folders: setting(mapOf(PRINCIPAL, absolutePath), {}),
  });
}

/** The keys that may stand below a name that the user has chosen. */
export const WORK_NAMES: Readonly<Record<string, z.ZodType>> = {
  "work.executors": executorItem,
  "work.models": modelItem,
  "work.profiles": profileItem,
  "work.secrets": secretItem,
};

export interface ExecutorSettings {
  readonly type: (typeof EXECUTOR_TYPES)[number];
  readonly command: readonly string[] | null;
  readonly python: string | null;
  readonly module: string | null;
  readonly class: string | null;
  readonly engine: "podman" | "docker";
  /** Absolute paths; links are resolved before they are compared. */
  readonly programs: readonly string[];
  readonly images: readonly string[];
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly passEnv: readonly string[];
  readonly userEnv: readonly string[];
  readonly mounts: readonly string[];
  readonly network: string;
  readonly cdi: boolean;
  readonly allowRemoteCode: boolean;
}

export interface ModelConfig {
  readonly executor: string;
  readonly identifier: string | null;
  readonly args: readonly string[];
  readonly gpu: number | null;
  readonly readiness: { readonly http: string; readonly intervalMs: number } | null;
}

export interface WorkConfig {
  readonly enabled: boolean;
  readonly allowUnauthenticated: boolean;
  readonly worker: "embedded" | "external";
  readonly executors: Readonly<Record<string, ExecutorSettings>>;
  readonly taskTypes: Readonly<Record<string, string>>;
  readonly models: Readonly<Record<string, ModelConfig>>;
  /** Of tasks that name none, by the type of their executor. */
  readonly defaultModels: { readonly vllm: string | null; readonly ppo: string | null };
  readonly profiles: Readonly<Record<string, { readonly cpu: string; readonly memory: string; readonly gpu: number }>>;
  readonly dir: string;
  readonly resultsDir: string;
  /** `null`: the host's name. */
  readonly node: string | null;
  readonly tags: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** The user of all runs, or of each principal's; `null`: the worker's own. */
  readonly runAs: string | null | Readonly<Record<string, string>>;
  readonly allowRoot: boolean;
  readonly allowSameUser: boolean;
  readonly cage: (typeof CAGES)[number];
  readonly maxWorkloads: number;
  readonly maxTasks: number;
  readonly serviceHost: string;
  readonly ports: { readonly from: number; readonly to: number };
  readonly secrets: Readonly<Record<string, { readonly file: string; readonly principals: readonly string[] }>>;
  /** By principal: below it each of its secrets is a folder, and each file in that a variable. */
  readonly secretFolders: Readonly<Record<string, string>>;
}

/** What is simulated must not meet what really runs: unless a folder is given, it has its own. */
export function toWork(file: z.output<ReturnType<typeof work>>, isSimulated: boolean): WorkConfig {
  return {
    enabled: file.enabled,
    allowUnauthenticated: file.allow_unauthenticated,
    worker: file.worker,
    executors: each(file.executors, toExecutor),
    taskTypes: file.task_types ?? DEFAULT_TASK_TYPES,
    models: each(file.models, ({ readiness: { http, interval }, ...model }) => ({
      ...model,
      readiness: http === null ? null : { http, intervalMs: interval },
    })),
    defaultModels: file.default_models,
    profiles: { ...DEFAULT_PROFILES, ...file.profiles },
    dir: isSimulated && file.dir === DEFAULT_WORK_DIR ? SIMULATED_WORK_DIR : file.dir,
    resultsDir: file.results_dir,
    node: file.node,
    tags: file.tags,
    labels: file.labels,
    runAs: file.run_as,
    allowRoot: file.allow_root,
    allowSameUser: file.allow_same_user,
    cage: file.cage,
    maxWorkloads: file.max_workloads,
    maxTasks: file.max_tasks,
    serviceHost: file.service_host,
    ports: file.ports,
    secrets: file.secrets,
    secretFolders: file.secret_folders,
  };
}

function toExecutor({
  pass_env,
  user_env,
  allow_remote_code,
  ...item
}: z.output<typeof executorItem>): ExecutorSettings {
  return { ...item, passEnv: pass_env, userEnv: user_env, allowRemoteCode: allow_remote_code };
}

function each<T, U>(map: Readonly<Record<string, T>>, change: (value: T) => U): Readonly<Record<string, U>> {
  return Object.fromEntries(Object.entries(map).map(([key, value]) => [key, change(value)]));
}
