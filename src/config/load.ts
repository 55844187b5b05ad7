/**
 * Reads the settings: the file, over it the environment, over that the flags. Whatever is wrong with any of them is
 * reported at once, each where it stands.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { isSameWord, nearest } from "../core/base/suggest.ts";
import { hashOf, keyWarnings } from "./api-keys.ts";
import { type Config, toConfig } from "./config.ts";
import {
  type ConfigDocument,
  MAX_FILE_BYTES,
  NO_DOCUMENT,
  type Path,
  printKey,
  printPath,
  readDocument,
  type Tree,
  unreadableFile,
} from "./document.ts";
import { ConfigError, type Origin, type Problem } from "./problems.ts";
import { contradictions, type Rule, warnings } from "./rules.ts";
import { type FileConfig, fileSchema, keysAt, settingPaths } from "./schema.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** What stood on the command line, as text; absent means not given. */
export interface Flags {
  readonly port?: string | undefined;
  readonly host?: string | undefined;
  /** The shape of a simulated host, such as `h100x8`. Chooses the simulated source too. */
  readonly simulate?: string | undefined;
  /** As MLOC's own orchestrator has it, where the settings say nothing. */
  readonly mloc?: boolean | undefined;
}

export interface ConfigSource {
  /** `null`: no file, only defaults. */
  readonly path: string | null;
  /** Somebody named the file, so it must exist. */
  readonly explicit: boolean;
  readonly env: Environment;
  readonly flags: Flags;
  /** What only other rooms can judge, such as which hosts can be simulated. */
  readonly rules?: readonly Rule[];
}

export interface LoadedConfig {
  readonly config: Config;
  /** Allowed, but somebody should know. */
  readonly warnings: readonly Problem[];
  /** The file that was read; `null` when there was none. */
  readonly file: string | null;
  /** Whether the file has any setting; an empty one, or one with comments only, has none. */
  readonly hasSettings: boolean;
}

const DEFAULT_FILE = "./config.yaml";
const KNOWN_PATHS = settingPaths();

/** The file to read: the named one, that of `CONFIG_PATH`, or `./config.yaml` if it exists. */
export function chooseConfigFile(named: string | undefined, env: Environment): { path: string; explicit: boolean } {
  const path = named ?? (env.CONFIG_PATH || undefined);
  return { path: path ?? DEFAULT_FILE, explicit: path !== undefined };
}

/** @throws {ConfigError} with every problem; nothing else. */
export function loadConfig({ path, explicit, env, flags, rules = [] }: ConfigSource): LoadedConfig {
  const document = path === null ? NO_DOCUMENT : readFile(path, explicit);
  const overlays = [...environmentOverlays(env), ...tokenOverlays(document.tree, env), ...flagOverlays(flags)];
  const merged = overlay(flags.mloc === true ? asMloc(document.tree, env) : document.tree, overlays);
  const originOf = (at: Path): Origin | null => overlays.findLast((one) => isSame(one.path, at))?.origin ?? null;

  const inFile = problemsOf(document.tree, (at, part) => document.locate(at, part));
  // What an overlay replaced is still judged where it stands, and what it brings is judged as its own.
  const inOverlays = problemsOf(merged, (at) => originOf(at) ?? FROM_FILE).filter((one) => one.origin !== FROM_FILE);
  const found = [...inFile, ...inOverlays];
  const isStated = ([section = "", key = ""]: Path) => Object.hasOwn(sectionOf(merged, String(section)), key);
  const config = toConfig(repaired(merged, found), isStated);
  const locate = (at: Path): Origin => originOf(at) ?? document.locate(at, "value");

  const isWrong = (at: Path) => !document.readable || found.some((one) => overlaps(one.meant ?? one.at, at));
  const contradicting = contradictions(config, rules, isWrong).map((one) => toProblem(locate(one.path), one));
  const problems = [...document.problems, ...found.map(withoutTrace), ...contradicting];
  if (problems.length > 0) throw new ConfigError(problems.toSorted(byPlace));

  const warned = [...warnings(config), ...keyWarnings(apiKeysIn(merged))].map((one) =>
    toProblem(locate(one.path), one),
  );
  const hasSettings = Object.keys(document.tree).length > 0;
  return { config, warnings: warned, file: document === NO_DOCUMENT ? null : path, hasSettings };
}

/**
 * The settings for a reload.
 *
 * @throws {ConfigError} also when the file has become empty, or has gone: that is an editor at work or a disk that was
 *   full, and taking it at its word would take away every key and quota.
 */
export function reloaded(before: LoadedConfig, load: () => LoadedConfig): LoadedConfig {
  const loaded = load();
  if (loaded.hasSettings || !before.hasSettings) return loaded;
  const origin: Origin = before.file === null ? FROM_FILE : { kind: "file", file: before.file, line: null, column: 0 };
  throw new ConfigError([{ origin, path: "", message: "holds no settings any more, and did before", hint: null }]);
}

// --- the file ---

/** A file that is not there is one without settings, unless somebody named it. */
function readFile(path: string, explicit: boolean): ConfigDocument {
  let descriptor: number | null = null;
  try {
    descriptor = openSync(path, "r");
    // One byte more than allowed shows that there is more, whatever the size of the file is said to be.
    const bytes = new Uint8Array(MAX_FILE_BYTES + 1);
    let length = 0;
    while (length < bytes.length) {
      const count = readSync(descriptor, bytes, length, bytes.length - length, null);
      if (count === 0) return decode(bytes.subarray(0, length), path);
      length += count;
    }
    return unreadableFile(path, `larger than ${MAX_FILE_BYTES / 1024} KiB`);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT") return explicit ? unreadableFile(path, "there is no such file") : NO_DOCUMENT;
    return unreadableFile(
      path,
      `cannot be read: ${code === "EISDIR" ? "it is a directory" : (code ?? "unknown reason")}`,
    );
  } finally {
    if (descriptor !== null) closeSync(descriptor);
  }
}

function decode(bytes: Uint8Array, path: string): ConfigDocument {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return unreadableFile(path, "is not text in UTF-8");
  }
  return readDocument(text, path);
}

// --- environment and flags ---

/** What MLOC's orchestrator does by itself: its port, its folder, its topics. Its workers are programs of their own. */
const MLOC: Readonly<Record<string, Tree>> = {
  server: { port: 8_000 },
  work: { enabled: true, worker: "external", results_dir: "./results" },
};
const MLOC_OVER_REDIS: Readonly<Record<string, Tree>> = {
  work: {
    ...MLOC.work,
    executors: { mloc: { type: "mloc" }, ppo: { type: "ppo" } },
    task_types: { inference: "mloc", ppo: "ppo" },
  },
  cluster: { mloc: true },
};
/** Without a broker its workers have nothing to hear from, and ours does the same work. */
const MLOC_ALONE: Readonly<Record<string, Tree>> = {
  work: {
    ...MLOC.work,
    executors: { vllm: { type: "vllm" }, ppo: { type: "ppo" } },
    task_types: { inference: "vllm", ppo: "ppo" },
  },
};

function asMloc(tree: Tree, { REDIS_URL: url }: Environment): Tree {
  const { redis_url: inFile } = sectionOf(tree, "cluster");
  const hasBroker = (url !== undefined && url !== "") || (inFile !== undefined && inFile !== null);
  const defaults = { ...MLOC, ...(hasBroker ? MLOC_OVER_REDIS : MLOC_ALONE) };
  const sections = Object.entries(defaults).map(([name, given]) => [name, { ...given, ...sectionOf(tree, name) }]);
  return { ...tree, ...Object.fromEntries(sections) };
}

interface Overlay {
  readonly origin: Origin;
  readonly path: readonly string[];
  readonly value: unknown;
}

const ENVIRONMENT = [
  { name: "PORT", path: ["server", "port"], emptyIsValue: false },
  { name: "GPU_ORCHESTRATOR_HOST", path: ["server", "host"], emptyIsValue: false },
  // The empty string switches a service off.
  { name: "DEEPAGENTS_URL", path: ["services", "deepagents_url"], emptyIsValue: true },
  { name: "GRAPH_SERVICE_URL", path: ["services", "graph_service_url"], emptyIsValue: true },
  // As MLOC has them.
  { name: "REDIS_URL", path: ["cluster", "redis_url"], emptyIsValue: false },
  { name: "HEARTBEAT_TTL_SEC", path: ["cluster", "heartbeat_ttl"], emptyIsValue: false },
  { name: "HEARTBEAT_INTERVAL_SEC", path: ["cluster", "heartbeat_interval"], emptyIsValue: false },
  { name: "RESULTS_DIR", path: ["work", "results_dir"], emptyIsValue: false },
  { name: "VLLM_MODEL", path: ["work", "default_models", "vllm"], emptyIsValue: false },
  { name: "PPO_MODEL", path: ["work", "default_models", "ppo"], emptyIsValue: false },
  { name: "WORKER_ID", path: ["work", "node"], emptyIsValue: false },
  { name: "LOG_LEVEL", path: ["logging", "level"], emptyIsValue: false },
] as const;

/** Python's names of levels, which MLOC's users write, as ours. */
const LEVELS: Readonly<Record<string, string>> = { warning: "warn", critical: "fatal" };

function environmentOverlays(env: Environment): Overlay[] {
  return ENVIRONMENT.flatMap(({ name, path, emptyIsValue }) => {
    const value = env[name];
    if (value === undefined || (value === "" && !emptyIsValue)) return [];
    const word = value.toLowerCase();
    const said = name === "LOG_LEVEL" ? (LEVELS[word] ?? word) : value;
    return [{ origin: { kind: "environment", name } as const, path, value: said }];
  });
}

/** `ORCHESTRATOR_TOKEN` switches keys on, and is one that may run work. What the file says of the same key stays. */
function tokenOverlays(tree: Tree, { ORCHESTRATOR_TOKEN: token }: Environment): Overlay[] {
  if (token === undefined || token === "") return [];
  const origin = { kind: "environment", name: "ORCHESTRATOR_TOKEN" } as const;
  const given = Object.keys(sectionOf(sectionOf(tree, "auth"), "api_keys"));
  const sha256 = hashOf(token);
  const isInFile = typeof sha256 === "string" && given.some((key) => hashOf(key) === sha256);
  const key = { origin, path: ["auth", "api_keys", token], value: { principal: "orchestrator", role: "run" } };
  return [{ origin, path: ["auth", "enabled"], value: true }, ...(isInFile ? [] : [key])];
}

function flagOverlays({ port, host, simulate }: Flags): Overlay[] {
  const given = (name: string, path: readonly string[], value: string | undefined): Overlay[] =>
    value === undefined ? [] : [{ origin: { kind: "flag", name }, path, value }];
  return [
    ...given("--port", ["server", "port"], port),
    ...given("--host", ["server", "host"], host),
    ...given("--simulate", ["simulation", "host"], simulate),
    ...given("--simulate", ["monitoring", "source"], simulate === undefined ? undefined : "simulated"),
  ];
}

function sectionOf(tree: Tree, name: string): Tree {
  const section = tree[name];
  return isTree(section) ? section : {};
}

function overlay(tree: Tree, overlays: readonly Overlay[]): Tree {
  return overlays.reduce((merged, { path, value }) => withSetting(merged, path, value), tree);
}

function withSetting(tree: Tree, [key = "", ...rest]: readonly string[], value: unknown): Tree {
  return { ...tree, [key]: rest.length === 0 ? value : withSetting(sectionOf(tree, key), rest, value) };
}

// --- problems ---

/** A problem with the path it is about, which its printed form may hide. */
interface Found extends Problem {
  readonly at: Path;
  /** The path that an unknown key was probably meant to be: it cannot be judged either. */
  readonly meant: Path | null;
}

const FROM_FILE: Origin = { kind: "default" };

/** Read once a start: code made for the purpose would cost more than it saves. */
const ONCE = { jitless: true };

function problemsOf(tree: Tree, locate: (at: Path, part: "key" | "value") => Origin): readonly Found[] {
  const issues = fileSchema.safeParse(tree, ONCE).error?.issues ?? [];
  return issues.flatMap((issue) => {
    const at = issue.path as Path;
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => unknownKey([...at, key], locate([...at, key], "key")));
    }
    const hint = issue.code === "custom" ? ((issue.params?.hint as string | null | undefined) ?? null) : null;
    return [{ origin: locate(at, "value"), path: printPath(at), message: issue.message, hint, at, meant: null }];
  });
}

function unknownKey(at: Path, origin: Origin): Found {
  const key = String(at.at(-1));
  const parent = at.slice(0, -1);
  const sibling = nearest(key, keysAt(parent));
  const meant =
    sibling === null ? KNOWN_PATHS.find((path) => isSameWord(String(path.at(-1)), key)) : [...parent, sibling];
  if (meant === undefined && parent[0] === "auth") {
    // A key of `api_keys` that lost its indentation comes here.
    const message = "unknown key, not shown since it may be an API key";
    return { origin, path: `${printPath(parent)}.(hidden)`, message, hint: null, at, meant: null };
  }
  const message = key === "<<" ? "unknown key: merge keys are not part of YAML 1.2" : "unknown key";
  const hint = sibling ?? (meant === undefined ? null : printPath(meant));
  return {
    origin,
    path: [printPath(parent), printKey(key)].filter(Boolean).join("."),
    message,
    hint,
    at,
    meant: meant ?? null,
  };
}

function toProblem(origin: Origin, { path, message }: { readonly path: Path; readonly message: string }): Problem {
  return { origin, path: printPath(path), message, hint: null };
}

function withoutTrace({ origin, path, message, hint }: Found): Problem {
  return { origin, path, message, hint };
}

/** By line and column; what stands in no file comes last. */
function byPlace(a: Problem, b: Problem): number {
  const rank = ({ origin }: Problem): [number, number] =>
    origin.kind === "file" ? [origin.line ?? 0, origin.column] : [Number.POSITIVE_INFINITY, 0];
  const [lineA, columnA] = rank(a);
  const [lineB, columnB] = rank(b);
  return lineA === lineB ? columnA - columnB : lineA - lineB;
}

/** `tree` with every wrong setting at its default, so that the right ones can be checked against each other. */
function repaired(tree: Tree, found: readonly Found[]): FileConfig {
  const copy = structuredClone(tree);
  for (const { at } of found) removeAt(copy, at);
  return fileSchema.parse(copy, ONCE);
}

/** Removes the setting that `path` names or leads into, or the unknown key. */
function removeAt(tree: Tree, path: Path): void {
  let parent = tree;
  for (const [index, key] of path.entries()) {
    const child = parent[key];
    const isSetting = keysAt(path.slice(0, index + 1)).length === 0;
    if (isSetting || index === path.length - 1 || !isTree(child)) {
      delete parent[key];
      return;
    }
    parent = child;
  }
}

function apiKeysIn(tree: Tree): unknown {
  return isTree(tree.auth) ? tree.auth.api_keys : undefined;
}

function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSame(a: Path, b: Path): boolean {
  return a.length === b.length && overlaps(a, b);
}

/** Whether one path leads to or through the other. */
function overlaps(a: Path, b: Path): boolean {
  return a.slice(0, b.length).every((key, index) => key === b[index]);
}
