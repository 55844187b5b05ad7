/**
 * The settings file of the LLM Orchestrator Simple, as settings of ours: simulated replicas, on GPUs of this host or,
 * with `development.simulateMetrics`, simulated ones. Keys that mean nothing here are told.
 */
import { parseDuration } from "../core/base/duration.ts";
import { type ConfigDocument, type Path, printPath, readDocument, type Tree } from "./document.ts";
import { ConfigError, type Problem } from "./problems.ts";

/** Of that system; `server.host` and keys are not among its settings. */
const PORT = 8_080;
const LEVELS = ["debug", "info", "warn", "error"];
/** Where everything is kept that it has no settings for. */
const FOLDER = "data/llm-orchestrator-simple";

export interface SimpleSettings {
  /** In the form of our own file. */
  readonly settings: Tree;
  readonly warnings: readonly Problem[];
}

/**
 * @param host where it is to listen; left out: on loopback.
 * @throws {ConfigError} with everything that is wrong.
 */
export function simpleSettings(text: string, file: string, host?: string): SimpleSettings {
  const document = readDocument(text, file);
  const reader = new Reader(document);
  const settings = translated(reader, host);
  const problems = [...document.problems, ...reader.problems];
  if (problems.length > 0) throw new ConfigError(problems);
  return { settings, warnings: reader.unread() };
}

function translated(reader: Reader, host: string | undefined): Tree {
  const port = reader.number(["port"]) ?? PORT;
  const [level, levelBelow] = [reader.word(["logLevel"], LEVELS), reader.word(["logging", "level"], LEVELS)];
  const file = reader.text(["logging", "file"]);
  const timeout = reader.duration(["performance", "requestTimeout"]);
  const [interval, intervalBelow] = [
    reader.duration(["metricsInterval"]),
    reader.duration(["monitoring", "metricsInterval"]),
  ];
  const refresh = intervalBelow ?? interval;
  const check = reader.duration(["performance", "healthCheckInterval"]) ?? "10s";
  const isSimulated = reader.flag(["development", "simulateMetrics"]) === true;
  const most = reader.number(["performance", "maxConcurrentRequests"]);
  const workloads = reader.number(["maxWorkloads"]);
  const model = { executor: "simulated", readiness: { http: "/health", interval: check } };
  const models = reader.names(["modelConfigs"]).map((name) => [name, model] as const);
  return {
    server: {
      port,
      metrics: "json",
      // With simulated GPUs and simulated replicas there is nothing for anybody to take: its image listens everywhere.
      ...(host !== undefined && isSimulated ? { allow_unauthenticated: true } : {}),
      ...(timeout === null ? {} : { read_timeout: timeout, write_timeout: timeout }),
      ...(most === null ? {} : { max_requests: most }),
    },
    monitoring: {
      source: isSimulated ? "simulated" : "nvidia-smi",
      ...(refresh === null ? {} : { refresh_interval: refresh }),
    },
    storage: { path: `${FOLDER}/gpu-orchestrator.db` },
    work: {
      enabled: true,
      // What it starts is a stand-in of ours and nothing that a client names: it needs no user of its own.
      allow_unauthenticated: true,
      allow_same_user: true,
      allow_root: true,
      executors: { simulated: { type: "simulated" } },
      task_types: {},
      models: { "*": model, ...Object.fromEntries(models) },
      profiles: profilesOf(reader),
      dir: `${FOLDER}/work`,
      results_dir: `${FOLDER}/results`,
      ...(workloads === null ? {} : { max_workloads: workloads }),
    },
    logging: { level: levelBelow ?? level ?? "info", ...(file === null || file === "" ? {} : { file }) },
  };
}

function profilesOf(reader: Reader): Tree {
  const named = reader.names(["resourceProfiles"]).map((name) => {
    const at = (key: string) => ["resourceProfiles", name, key];
    reader.skip(at("description"));
    return [name, profile(reader.text(at("cpu")), reader.text(at("memory")), reader.number(at("gpu")))];
  });
  const own = profile(reader.text(["defaultCPU"]), reader.text(["defaultMemory"]), reader.number(["defaultGPU"]));
  return { ...Object.fromEntries(named), default: own };
}

function profile(cpu: string | null, memory: string | null, gpu: number | null): Tree {
  return {
    ...(cpu === null ? {} : { cpu }),
    ...(memory === null ? {} : { memory }),
    ...(gpu === null ? {} : { gpu }),
  };
}

/** Reads values where they stand, and remembers which were read. */
class Reader {
  readonly problems: Problem[] = [];
  readonly #document: ConfigDocument;
  readonly #read = new Set<string>();

  constructor(document: ConfigDocument) {
    this.#document = document;
  }

  #at(path: Path): unknown {
    let value: unknown = this.#document.tree;
    for (const key of path) {
      value = typeof value === "object" && value !== null ? (value as Tree)[String(key)] : undefined;
    }
    this.#read.add(printPath(path));
    return value ?? null;
  }

  #taken<T>(path: Path, expected: string, read: (value: unknown) => T | undefined): T | null {
    const value = this.#at(path);
    if (value === null) return null;
    const result = read(value);
    if (result !== undefined) return result;
    const origin = this.#document.locate(path, "value");
    this.problems.push({ origin, path: printPath(path), message: `expected ${expected}`, hint: null });
    return null;
  }

  number(path: Path): number | null {
    return this.#taken(path, "a whole number from 0", (value) =>
      typeof value === "number" && Number.isInteger(value) && value >= 0 ? value : undefined,
    );
  }

  text(path: Path): string | null {
    return this.#taken(path, "text", (value) => (typeof value === "string" ? value : undefined));
  }

  flag(path: Path): boolean | null {
    return this.#taken(path, "true or false", (value) => (typeof value === "boolean" ? value : undefined));
  }

  duration(path: Path): string | null {
    return this.#taken(path, "a duration such as 30s", (value) =>
      typeof value === "string" && parseDuration(value) !== null ? value : undefined,
    );
  }

  word(path: Path, words: readonly string[]): string | null {
    return this.#taken(path, `one of ${words.join(", ")}`, (value) => words.find((word) => word === value));
  }

  names(path: Path): string[] {
    const value = this.#at(path);
    if (typeof value !== "object" || value === null || Array.isArray(value)) return [];
    return Object.keys(value);
  }

  /** It only explains itself. */
  skip(path: Path): void {
    this.#at(path);
  }

  /** What stands in the file and was not asked for, at its highest key. */
  unread(): Problem[] {
    const found: Problem[] = [];
    const walk = (tree: Tree, path: Path): void => {
      for (const [key, value] of Object.entries(tree)) {
        const at = [...path, key];
        const name = printPath(at);
        if (this.#read.has(name) && path.length === 0 && typeof value === "object") {
          if (NAMED.has(name)) continue;
        } else if (this.#read.has(name)) continue;
        const isAbove = [...this.#read].some((read) => read.startsWith(`${name}.`));
        if (isAbove && typeof value === "object" && value !== null) walk(value as Tree, at);
        else found.push(this.#without(at));
      }
    };
    walk(this.#document.tree, []);
    return found;
  }

  #without(path: Path): Problem {
    const origin = this.#document.locate(path, "key");
    return { origin, path: printPath(path), message: "has no meaning here", hint: null };
  }
}

/** Their names are the user's, and what stands below describes a model or is read with them. */
const NAMED: ReadonlySet<string> = new Set(["modelConfigs", "resourceProfiles"]);
