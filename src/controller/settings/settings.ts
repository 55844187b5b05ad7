/** The controller's settings: its file, over it the second seed's environment, over that the flags. */
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { hashOf } from "../../config/api-keys.ts";
import { isLoopback } from "../../config/config.ts";
import { MAX_FILE_BYTES, NO_DOCUMENT, printPath, readDocument } from "../../config/document.ts";
import { ConfigError, type Origin, type Problem } from "../../config/problems.ts";
import { Refusal } from "../../config/settings.ts";
import type { ApiKey } from "../../http/exchange/auth.ts";
import type { Certificate } from "../../http/exchange/serving.ts";
import type { LogLevel } from "../../platform/logger.ts";
import { memoryOfProduct } from "../reconcile/gpu-memory.ts";
import type { QosClass, ReconcileSettings } from "../reconcile/settings.ts";
import type { PostgresSettings } from "../store/address.ts";
import { isPostgresUrl, postgresOf } from "./database.ts";
import { type DeploymentDefaults, defaultsOf } from "./defaults.ts";
import { inertIn } from "./inert.ts";
import { type ControllerFile, fileSchema } from "./schema.ts";
import {
  type GivenAccess,
  givenAccessIn,
  type PodSettings,
  podSettingsOf,
  tenantServiceIn,
} from "./seed-environment.ts";

export interface ControllerFlags {
  readonly config?: string;
  readonly backend?: string;
  /** The shape of simulated GPUs, such as `h100x8`. */
  readonly simulate?: string;
  readonly port?: string;
  readonly host?: string;
  readonly kubeconfig?: string;
  readonly context?: string;
  /** Of the Lease; the first seed's name for it. */
  readonly leaderElectionId?: string;
  /** As Go programs take it: alone, or with `=true` or `=false`. */
  readonly leaderElect?: boolean | string;
  /** The first seed's: `:8080`, or 0 for none. */
  readonly metricsBindAddress?: string;
  readonly healthProbeBindAddress?: string;
  /** Workloads of this namespace only. */
  readonly namespace?: string;
  readonly zapLogLevel?: string;
  /** A kubeconfig may skip the verification of TLS. */
  readonly allowInsecure?: boolean;
}

export interface Address {
  /** `null`: of whatever family this host has. */
  readonly host: string | null;
  readonly port: number;
}

export interface ControllerSettings {
  readonly backend: "host" | "kubernetes";
  readonly simulate: string | null;
  readonly api: { readonly host: string; readonly port: number };
  /** The API speaks HTTPS with it; `null`: it does not. */
  readonly certificate: Certificate | null;
  /** Where probes and scrapes are answered beside the API, without a key. */
  readonly open: readonly Address[];
  readonly auth: {
    readonly enabled: boolean;
    readonly headerName: string;
    readonly keys: readonly ApiKey[];
    /** By principal; one that is not here may see all. */
    readonly tenants: ReadonlyMap<string, readonly string[]>;
  };
  readonly daemon: {
    readonly url: string | null;
    readonly key: string | null;
    readonly executor: string;
    /** Where callers' tokens are kept; `null`: nowhere. */
    readonly secrets: string | null;
  };
  readonly kubernetes: {
    readonly kubeconfig: string | null;
    readonly context: string | null;
    /** Instead of a kubeconfig; `null`: there is one, or a pod's account. */
    readonly given: GivenAccess | null;
    readonly pods: PodSettings;
    readonly allowInsecure: boolean;
    /** Whose workloads are seen; `null`: those of all namespaces. */
    readonly watched: string | null;
    /** Where this controller itself runs; the file's namespace only places the Lease. */
    readonly namespace: string;
    /** Whose routes lead to workloads; `null`: none is told of them. */
    readonly gateway: { readonly namespace: string; readonly name: string } | null;
    /** That says how busy GPUs are; `null`: none is asked. */
    readonly prometheus: string | null;
    /** Where the Lease is, and its name; `null`: there is only one controller. */
    readonly lease: { readonly namespace: string; readonly name: string } | null;
  };
  /** The file of SQLite, where there is no {@link postgres}; simulated daemons have theirs beside it. */
  readonly database: string;
  readonly postgres: PostgresSettings | null;
  /** The tables are held against what is there so often. */
  readonly trackEveryMs: number;
  /** Who knows which tenants there are; `null`: nobody is asked. */
  readonly tenantService: string | null;
  /** Where objects that name no namespace go. */
  readonly namespace: string;
  readonly logLevel: LogLevel;
  readonly reconcile: ReconcileSettings;
  readonly defaults: DeploymentDefaults;
  /** Keys that were given and have no effect. */
  readonly inert: readonly string[];
}

type Environment = Readonly<Record<string, string | undefined>>;

const LEVELS = ["debug", "info", "warn", "error"] as const satisfies readonly LogLevel[];
const LEASE = "llm-orchestrator-leader";
const DEFAULT_NAMESPACE = "default";
const DEFAULT_DATABASE = "data/controller.db";
const SIMULATED_DATABASE = "data/controller-simulated.db";
const VLLM_IMAGE = "vllm/vllm-openai:latest";
const LEAST_START_S = 600;
const VLLM_PORT = 8_000;
/** So often what is at rest is looked at in any case. */
const ANEW_S = 30;
/** The first seed's thresholds. */
const SCALE_UP = 0.8;
const SCALE_DOWN = 0.3;

/** @throws ConfigError with everything that is wrong. */
export function loadSettings(flags: ControllerFlags, given: Environment): ControllerSettings {
  const env = withoutEmpty(given);
  const { file, problems } = readFile(flags.config);
  const overlays = numbersOf(flags, env, problems);
  const backend = flags.backend ?? "kubernetes";
  if (backend !== "host" && backend !== "kubernetes") {
    const message = "expected host or kubernetes";
    problems.push({ origin: { kind: "flag", name: "--backend" }, path: "", message, hint: null });
  } else if (backend === "kubernetes" && flags.simulate !== undefined) {
    const message = "simulated GPUs are of the backend host";
    problems.push({ origin: { kind: "flag", name: "--simulate" }, path: "", message, hint: null });
  }
  const keys = keysOf(file, problems);
  const open = [
    addressOf("--metrics-bind-address", flags.metricsBindAddress, problems),
    addressOf("--health-probe-bind-address", flags.healthProbeBindAddress, problems),
  ];
  const logLevel = levelOf(flags, env, problems) ?? file.logging?.level ?? "info";
  const api = { host: flags.host ?? file.api?.host ?? "127.0.0.1", port: overlays.port ?? file.api?.port ?? 8_003 };
  const enabled = file.auth?.enabled === true;
  if (!enabled && !isLoopback(api.host)) {
    const message = "without auth.api_keys only loopback is listened on";
    problems.push({ origin: { kind: "default" }, path: "api.host", message, hint: null });
  }
  const { K8S_NAMESPACE: named } = env;
  const home = file.namespace ?? env.POD_NAMESPACE ?? "llm-orchestrator";
  if (flags.namespace !== undefined && named !== undefined && named !== flags.namespace) {
    // What the API made there would never be seen.
    const message = `is another than K8S_NAMESPACE, ${JSON.stringify(named)}`;
    problems.push({ origin: { kind: "flag", name: "--namespace" }, path: "", message, hint: null });
  }
  const postgres = postgresOf(file.database, env, problems);
  const ownFile = flags.simulate === undefined ? DEFAULT_DATABASE : SIMULATED_DATABASE;
  const certificate = certificateOf(file, problems);
  const pods = podSettingsOf(env, problems);
  const tenantService = tenantServiceIn(env, problems);
  const kubeconfig = flags.kubeconfig ?? (file.kubeConfig || null);
  const access = kubeconfig === null ? givenAccessIn(env, flags.allowInsecure === true, problems) : null;
  const defaults = defaultsOf(file, env, problems);
  const elects = electsOf(flags, problems) ?? file.leaderElection ?? true;
  if (problems.length > 0) throw new ConfigError(problems);
  return {
    backend: backend === "host" ? "host" : "kubernetes",
    kubernetes: {
      kubeconfig,
      given: access,
      pods,
      context: flags.context ?? env.K8S_CONTEXT ?? null,
      allowInsecure: flags.allowInsecure === true,
      watched: flags.namespace ?? null,
      namespace: env.POD_NAMESPACE ?? home,
      gateway: file.kubernetes?.gateway ?? null,
      prometheus: prometheusOf(file),
      lease: elects ? { namespace: home, name: flags.leaderElectionId ?? file.leaderLockName ?? LEASE } : null,
    },
    simulate: flags.simulate ?? null,
    api,
    certificate,
    open: open.filter((one) => one !== null),
    auth: { enabled, headerName: file.auth?.header_name ?? "X-API-Key", ...keys },
    daemon: {
      url: file.host?.url ?? env.GPU_ORCHESTRATOR_URL ?? null,
      key: file.host?.key_file === undefined ? (env.GPU_ORCHESTRATOR_API_KEY ?? null) : keyIn(file.host.key_file),
      executor: flags.simulate === undefined ? (file.host?.executor ?? "vllm") : "simulated",
      secrets: file.host?.secrets_dir ?? null,
    },
    database: isPostgresUrl(file.database) ? ownFile : (file.database ?? ownFile),
    postgres,
    tenantService,
    trackEveryMs: (overlays.trackInterval ?? 60) * 1_000,
    namespace: flags.namespace ?? named ?? file.operator?.defaultNamespace ?? DEFAULT_NAMESPACE,
    logLevel,
    reconcile: reconcileSettings(file, env, overlays),
    defaults,
    inert: inertIn(file),
  };
}

/** What a compose file passes on without a value is not stated; that no runtime class is wanted is said so. */
function withoutEmpty(given: Environment): Environment {
  return Object.fromEntries(
    Object.entries(given).filter(([name, value]) => value !== "" || name === "VLLM_RUNTIME_CLASS"),
  );
}

/** @returns null where the flag is not there. */
function electsOf({ leaderElect: given }: ControllerFlags, problems: Problem[]): boolean | null {
  if (given === undefined || typeof given === "boolean") return given ?? null;
  if (given === "true" || given === "false") return given === "true";
  const message = `expected true or false, got ${JSON.stringify(given)}`;
  problems.push({ origin: { kind: "flag", name: "--leader-elect" }, path: "", message, hint: null });
  return null;
}

function readFile(path: string | undefined): { readonly file: ControllerFile; readonly problems: Problem[] } {
  let document = NO_DOCUMENT;
  const whole: Origin = { kind: "file", file: path ?? "", line: null, column: 0 };
  if (path !== undefined) {
    try {
      const text = readFileSync(path);
      if (text.length > MAX_FILE_BYTES) throw new Error(`larger than ${MAX_FILE_BYTES / 1_024} KiB`);
      document = readDocument(text.toString("utf8"), path);
    } catch (error) {
      throw new ConfigError([{ origin: whole, path: "", message: (error as Error).message, hint: null }]);
    }
  }
  const problems = [...document.problems];
  const read = fileSchema.safeParse(document.tree);
  if (read.success) return { file: read.data, problems };
  for (const issue of read.error.issues) {
    const at = issue.path.map((part) => (typeof part === "number" ? part : String(part)));
    const paths = issue.code === "unrecognized_keys" ? issue.keys.map((key) => [...at, key]) : [at];
    for (const path of paths) {
      const message = issue.code === "unrecognized_keys" ? "there is no such setting" : issue.message;
      problems.push({ origin: document.locate(path, "key"), path: printPath(path), message, hint: null });
    }
  }
  return { file: fileSchema.parse({}), problems };
}

function numbersOf({ port }: ControllerFlags, env: Environment, problems: Problem[]) {
  const number = (origin: Origin, given: string | undefined, most: number, least = 0): number | undefined => {
    if (given === undefined || given === "") return undefined;
    const value = Number(given);
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    problems.push({ origin, path: "", message: `expected a whole number from ${least} to ${most}`, hint: null });
    return undefined;
  };
  const variable = (name: string, most: number, least = 0) =>
    number({ kind: "environment", name }, env[name], most, least);
  return {
    port: number({ kind: "flag", name: "--port" }, port, 65_535) ?? variable("PORT", 65_535),
    deploymentTimeout: variable("DEPLOYMENT_TIMEOUT", 86_400),
    podStartup: variable("POD_STARTUP_TIMEOUT", 86_400, 1),
    vllmPort: variable("VLLM_DEFAULT_PORT", 65_535, 1),
    trackInterval: variable("RESOURCE_TRACK_INTERVAL", 86_400, 1),
    healthCheck: variable("HEALTH_CHECK_INTERVAL", 86_400, 1),
    gpuMemoryGb: variable("GPU_MEMORY_GB", 100_000) ?? variable("VLLM_DEFAULT_GPU_MEMORY", 100_000),
  };
}

/** As Go programs take it: `:8080` is any address of this host. @returns null for none. */
function addressOf(name: string, given: string | undefined, problems: Problem[]): Address | null {
  if (given === undefined || given === "0") return null;
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(given);
  const port = Number(match?.[3]);
  if (match !== null && port <= 65_535) return { host: (match[1] ?? match[2]) || null, port };
  const message = `expected an address such as :8080, or 0 for none, got ${JSON.stringify(given)}`;
  problems.push({ origin: { kind: "flag", name }, path: "", message, hint: null });
  return null;
}

/** `INFO` and `WARNING` are Python's words for it. */
function levelOf({ zapLogLevel }: ControllerFlags, env: Environment, problems: Problem[]): LogLevel | null {
  const given = zapLogLevel ?? (env.LOG_LEVEL || undefined);
  if (given === undefined) return null;
  const word = zapLogLevel ?? given.toLowerCase().replace("warning", "warn").replace("critical", "error");
  const level = LEVELS.find((one) => one === word);
  if (level !== undefined) return level;
  const message = `expected one of ${LEVELS.join(", ")}, got ${JSON.stringify(given)}`;
  const origin: Origin =
    zapLogLevel === undefined ? { kind: "environment", name: "LOG_LEVEL" } : { kind: "flag", name: "--zap-log-level" };
  problems.push({ origin, path: "", message, hint: null });
  return null;
}

function keysOf({ auth }: ControllerFile, problems: Problem[]) {
  const keys: ApiKey[] = [];
  const tenants = new Map<string, readonly string[]>();
  const seen = new Map<string, string>();
  for (const [key, holder] of Object.entries(auth?.api_keys ?? {})) {
    const sha256 = hashOf(key);
    if (sha256 instanceof Refusal) {
      problems.push({ origin: { kind: "default" }, path: "auth.api_keys", message: sha256.message, hint: null });
      continue;
    }
    keys.push({ sha256, principal: holder.principal, role: holder.role });
    const bound = JSON.stringify(holder.tenants ?? null);
    // A second key would otherwise widen what the first one may see.
    if ((seen.get(holder.principal) ?? bound) !== bound) {
      const message = `the keys of ${holder.principal} name different tenants`;
      problems.push({ origin: { kind: "default" }, path: "auth.api_keys", message, hint: null });
    }
    seen.set(holder.principal, bound);
    if (holder.tenants !== undefined) tenants.set(holder.principal, holder.tenants);
  }
  return { keys, tenants };
}

function reconcileSettings(
  file: ControllerFile,
  env: Environment,
  overlays: ReturnType<typeof numbersOf>,
): ReconcileSettings {
  const { scheduler, resourceManager, operator, resourceProfiles = {} } = file;
  const qos = (name: QosClass, priority: number, resourceGuarantee: number, cpu: number, latency: number) => ({
    priority: scheduler?.qosClasses?.[name]?.priority ?? priority,
    resourceGuarantee: scheduler?.qosClasses?.[name]?.resourceGuarantee ?? resourceGuarantee,
    cpuMultiplier: resourceManager?.qosResourceAllocation?.[name]?.cpuMultiplier ?? cpu,
    isPreemptible:
      (scheduler?.qosClasses?.[name]?.preemptionPolicy ?? (name === "premium" ? "never" : "always")) !== "never",
    maxLatencyMs: scheduler?.qosClasses?.[name]?.maxLatency ?? latency,
  });
  return {
    qos: {
      premium: qos("premium", 100, 0.9, 2, 100),
      standard: qos("standard", 50, 0.7, 1, 500),
      basic: qos("basic", 10, 0.5, 0.5, Number.POSITIVE_INFINITY),
    },
    profiles: Object.fromEntries(
      Object.entries(resourceProfiles).map(([name, { gpu = 0, maxReplicas = null }]) => [name, { gpu, maxReplicas }]),
    ),
    maxCpuMillis: resourceManager?.maxCPUPerWorkload ?? Number.POSITIVE_INFINITY,
    maxMemoryBytes: resourceManager?.maxMemoryPerWorkload ?? Number.POSITIVE_INFINITY,
    maxGpus: resourceManager?.maxGPUPerWorkload ?? Number.POSITIVE_INFINITY,
    image: env.VLLM_IMAGE ?? operator?.defaultImage ?? VLLM_IMAGE,
    scaleUpCooldownMs: scheduler?.scaleUpCooldown ?? resourceManager?.scaleUpCooldown ?? 180_000,
    scaleDownCooldownMs: scheduler?.scaleDownCooldown ?? resourceManager?.scaleDownCooldown ?? 600_000,
    gpuMemoryMib:
      overlays.gpuMemoryGb === undefined ? memoryOfProduct(env.GPU_TYPE ?? "") : overlays.gpuMemoryGb * 1_024,
    anewMs: (overlays.healthCheck ?? ANEW_S) * 1_000,
    maxVersions: file.modelRegistry?.maxVersions ?? 10,
    progressDeadlineMs: Math.max(overlays.podStartup ?? LEAST_START_S, overlays.deploymentTimeout ?? 300) * 1_000,
    leastStartMs: (overlays.podStartup ?? LEAST_START_S) * 1_000,
    vllmPort: overlays.vllmPort ?? VLLM_PORT,
    tenantGpus: new Map(Object.entries(file.tenants ?? {}).map(([name, { max_gpus: most }]) => [name, most])),
    trustedKeys: new Map(Object.entries(file.modelRegistry?.trustedKeys ?? {})),
    cpuBand: {
      above: (resourceManager?.scaleUpThreshold ?? SCALE_UP) * 100,
      below: (resourceManager?.scaleDownThreshold ?? SCALE_DOWN) * 100,
    },
  };
}

/** The first seed's own file names one, which not every cluster has. */
function prometheusOf({ integrations }: ControllerFile): string | null {
  const { enabled = true, endpoint = "" } = integrations?.prometheus ?? {};
  if (!enabled || endpoint === "") return null;
  return (/^https?:\/\//.test(endpoint) ? endpoint : `http://${endpoint}`).replace(/\/+$/, "");
}

function keyIn(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    const origin: Origin = { kind: "file", file: path, line: null, column: 0 };
    throw new ConfigError([{ origin, path: "", message: (error as Error).message, hint: null }]);
  }
}

/** The first seed's keys for it. */
function certificateOf({ tlsEnabled, certFile, keyFile }: ControllerFile, problems: Problem[]): Certificate | null {
  if (tlsEnabled !== true) return null;
  const read = (path: "certFile" | "keyFile", file: string | undefined): Buffer => {
    try {
      if (file === undefined || file === "") throw new Error("is needed for tlsEnabled");
      return readFileSync(file);
    } catch (error) {
      problems.push({ origin: { kind: "default" }, path, message: (error as Error).message, hint: null });
      return Buffer.alloc(0);
    }
  };
  const certificate = { cert: read("certFile", certFile), key: read("keyFile", keyFile) };
  try {
    if (problems.length === 0) createSecureContext(certificate);
  } catch (error) {
    const message = `is no certificate with this key: ${(error as Error).message}`;
    problems.push({ origin: { kind: "default" }, path: "certFile", message, hint: null });
  }
  return certificate;
}
