/**
 * From a spec and the admin's settings to an argument list.
 *
 *  1. No shell reads it, and nothing that a client sent stands where a flag is read: values follow their flag, and
 *     none begins with `-` (documents/keys.ts).
 *  2. What the host has not opened is refused, with the setting that would open it.
 */
import type { JsonObject } from "../core/base/json.ts";
import { at } from "./documents/shape.ts";
import { promptsOf } from "./documents/task.ts";
import { WorkError } from "./errors.ts";
import type { ExecutorSettings } from "./executor-settings.ts";
import type { WorkSpec } from "./model.ts";

/** Where a run is, as its command needs to know it. */
export interface Place {
  readonly run: string;
  readonly replica: number;
  readonly replicas: number;
  readonly host: string;
  readonly port: number;
  readonly taskFile: string;
  readonly outDir: string;
  readonly node: string;
  readonly gpuUuids: readonly string[];
  /** Our own programs: node, and what comes with the worker. */
  readonly nodeProgram: string;
  readonly standIn: string;
  readonly vllmTask: string;
  readonly pythonFolder: string;
  /** Of the engine, as `--version` says; `null`: not known. */
  readonly vllmVersion: readonly [number, number] | null;
  readonly user: { readonly uid: number; readonly gid: number } | null;
  readonly envFile: string;
  /** Of the model's settings. */
  readonly modelArgs: readonly string[];
}

export interface Command {
  readonly argv: readonly string[];
  readonly warnings: readonly string[];
}

/**
 * The command of one run.
 *
 * @throws WorkError `not-allowed`, `document-invalid`
 */
export function commandOf(kind: "task" | "service", spec: WorkSpec, settings: ExecutorSettings, place: Place): Command {
  switch (settings.type) {
    case "process":
      return plain([...allowedProgram(spec, settings), ...settings.args]);
    case "program":
      return plain([...ownCommand(spec.executor, settings), ...settings.args]);
    case "echo":
      return plain([place.nodeProgram, place.standIn, "echo"]);
    case "simulated":
      return plain([place.nodeProgram, place.standIn, kind === "service" ? "service" : "task"]);
    case "python":
      return plain(pythonCommand(spec, settings, place));
    case "ppo":
      return { argv: ppoCommand(spec, settings, place), warnings: droppedOf(spec, settings) };
    case "vllm":
      return vllmCommand(kind, spec, settings, place);
    case "container":
      return plain(containerCommand(spec, settings, place));
    case "mloc":
      if (kind !== "task" || spec.taskType !== "inference") throw onlyInference(spec);
      // Its worker has a way of its own.
      return plain([]);
    default:
      return settings.type satisfies never;
  }
}

function onlyInference({ executor }: WorkSpec): WorkError {
  const message = `the executor ${executor} is of MLOC's workers, which are given inference tasks only`;
  return new WorkError("document-invalid", `spec.taskType: ${message}`, [{ path: "spec.taskType", message }]);
}

function plain(argv: readonly string[]): Command {
  return { argv, warnings: [] };
}

export function notAllowed(setting: string, what: string): WorkError {
  return new WorkError("not-allowed", `${what}: ${setting} does not have it`);
}

/** Links in `programs` and in the command are resolved by the worker, which sees the files. */
function allowedProgram(spec: WorkSpec, settings: ExecutorSettings): readonly string[] {
  const [program, ...rest] = spec.command ?? [];
  if (program === undefined) throw needs("command", spec);
  if (!settings.programs.includes(program)) {
    throw notAllowed(`work.executors.${spec.executor}.programs`, `the program ${JSON.stringify(program)}`);
  }
  return [program, ...rest];
}

function ownCommand(name: string, settings: ExecutorSettings): readonly string[] {
  if (settings.command === null || settings.command.length === 0) {
    throw notAllowed(`work.executors.${name}.command`, `a command for the executor ${name}`);
  }
  return settings.command;
}

function needs(key: string, { executor }: WorkSpec): WorkError {
  const path = `spec.${key}`;
  const message = `is needed by the executor ${executor}`;
  return new WorkError("document-invalid", `${path}: ${message}`, [{ path, message }]);
}

function pythonCommand(spec: WorkSpec, settings: ExecutorSettings, place: Place): string[] {
  const { module, class: className } = settings;
  if (module === null || className === null) {
    throw notAllowed(`work.executors.${spec.executor}.module and class`, `a class for the executor ${spec.executor}`);
  }
  return [settings.python ?? "python3", "-u", `${place.pythonFolder}/run_executor.py`, module, className];
}

function ppoCommand(spec: WorkSpec, settings: ExecutorSettings, place: Place): string[] {
  const python = settings.python ?? "python3";
  const program = [`${place.pythonFolder}/ppo.py`, "--task", place.taskFile, "--out", place.outDir];
  const remote = wantsRemoteCode(spec) && settings.allowRemoteCode ? ["--trust-remote-code"] : [];
  const count = spec.resources.gpu?.count ?? 0;
  if (count <= 1) return [python, "-u", ...program, ...remote, ...settings.args];
  return [
    python,
    "-m",
    "torch.distributed.run",
    "--standalone",
    `--nproc-per-node=${count}`,
    ...program,
    ...remote,
    ...settings.args,
  ];
}

function wantsRemoteCode({ document }: WorkSpec): boolean {
  const spec = specIn(document);
  return (
    at(spec, "model", "source", "trust_remote_code") === true || at(spec, "model", "vllm", "trust_remote_code") === true
  );
}

/** What a document says below `spec`; a workload's flat JSON is its own. */
export function specIn(document: JsonObject): JsonObject {
  return (at(document, "spec") as JsonObject | undefined) ?? document;
}

/** What vLLM reads the key from that its callers must have. */
export const VLLM_KEY = "VLLM_API_KEY";

/** `--shutdown-timeout` came with 0.19; the rest is as old as the executor cares for. */
const DRAINS_FROM: readonly [number, number] = [0, 19];
/** Before it, vLLM reads CUDA_VISIBLE_DEVICES as numbers. */
export const UUIDS_FROM: readonly [number, number] = [0, 24];
/** What is left of the grace for the engine's end after its drain. */
const DRAIN_RESERVE_S = 5;

export function isAtLeast(
  version: readonly [number, number] | null,
  [major, minor]: readonly [number, number],
): boolean {
  return version !== null && (version[0] > major || (version[0] === major && version[1] >= minor));
}

/** What callers of a service call its model: as its workload does, or by what is loaded; `null`: it has no name. */
export function modelNameOf({ document, identifier }: WorkSpec): string | null {
  const named = at(specIn(document), "modelName");
  return typeof named === "string" && named !== "" ? named : identifier;
}

/**
 * `vllm serve ...`, as a service and as the engine of a task.
 *
 * @param servedName what its callers send as `model`; it answers 404 to any other.
 */
function vllmServeArgv(spec: WorkSpec, settings: ExecutorSettings, place: Place, servedName: string | null): Command {
  const { identifier, resources, document, stop } = spec;
  if (identifier === null) throw needs("model.source.identifier", spec);
  const given = specIn(document);
  const option = (flag: string, ...path: string[]) => {
    const value = at(given, "model", ...path);
    return value === undefined ? [] : [flag, String(value)];
  };
  const parallel = at(given, "model", "vllm", "tensor_parallel_size") ?? Math.max(1, resources.gpu?.count ?? 1);
  const drainS = Math.floor(stop.graceMs / 1_000) - DRAIN_RESERVE_S;
  const argv = [
    ...(settings.command ?? ["vllm"]),
    "serve",
    identifier,
    ...["--host", place.host],
    ...["--port", String(place.port)],
    ...["--served-model-name", servedName ?? identifier],
    ...["--tensor-parallel-size", String(parallel)],
    ...["--gpu-memory-utilization", String(at(given, "model", "vllm", "gpu_memory_utilization") ?? 0.9)],
    ...option("--revision", "source", "revision"),
    ...option("--max-model-len", "vllm", "max_model_len"),
    ...option("--dtype", "vllm", "dtype"),
    ...(wantsRemoteCode(spec) && settings.allowRemoteCode ? ["--trust-remote-code"] : []),
    ...(isAtLeast(place.vllmVersion, DRAINS_FROM) && drainS > 0 ? ["--shutdown-timeout", String(drainS)] : []),
    ...settings.args,
    ...place.modelArgs,
  ];
  return { argv, warnings: droppedOf(spec, settings) };
}

function droppedOf(spec: WorkSpec, settings: ExecutorSettings): readonly string[] {
  if (!wantsRemoteCode(spec) || settings.allowRemoteCode) return [];
  return [`trust_remote_code is dropped: work.executors.${spec.executor}.allow_remote_code is false`];
}

function vllmCommand(kind: "task" | "service", spec: WorkSpec, settings: ExecutorSettings, place: Place): Command {
  if (kind === "service") return vllmServeArgv(spec, settings, place, modelNameOf(spec));
  const isGiven = promptsOf(spec.document).length > 0;
  if (!isGiven && at(specIn(spec.document), "data", "type") !== "dataset") throw needs("inference.prompts", spec);
  const python = settings.python ?? "python3";
  const dataset = isGiven ? [] : ["--dataset", python, `${place.pythonFolder}/dataset.py`, place.taskFile];
  // One that uses a service starts no engine of its own.
  const engine = spec.service === undefined ? vllmServeArgv(spec, settings, place, null) : plain([]);
  return { argv: [place.nodeProgram, place.vllmTask, ...dataset, "--", ...engine.argv], warnings: engine.warnings };
}

const MAX_PIDS = 4_096;

/** Ends and removes the container of a run, if there is one. */
export function removalOf(run: string, { engine }: ExecutorSettings): string[] {
  return [engine, "rm", "--force", "--volumes", `go-${run}`];
}

function containerCommand(spec: WorkSpec, settings: ExecutorSettings, place: Place): string[] {
  const { image, command, resources } = spec;
  if (image === null) throw needs("image", spec);
  if (!settings.images.includes(image)) {
    throw notAllowed(`work.executors.${spec.executor}.images`, `the image ${JSON.stringify(image)}`);
  }
  const devices = place.gpuUuids;
  const gpus =
    devices.length === 0
      ? []
      : settings.cdi
        ? devices.flatMap((uuid) => ["--device", `nvidia.com/gpu=${uuid}`])
        : // The engine reads this value as CSV: the quotes keep the commas in one field.
          ["--gpus", `"device=${devices.join(",")}"`];
  return [
    settings.engine,
    "run",
    ...["--name", `go-${place.run}`],
    ...["--label", `gpu-orchestrator.run=${place.run}`],
    "--rm",
    "--init",
    ...["--pull", "never"],
    ...["--cap-drop", "all"],
    ...["--security-opt", "no-new-privileges"],
    ...(place.user === null ? [] : ["--user", `${place.user.uid}:${place.user.gid}`]),
    ...["--memory", String(resources.memoryBytes)],
    ...["--cpus", String(resources.cpuMillis / 1_000)],
    ...["--pids-limit", String(MAX_PIDS)],
    ...["--network", settings.network],
    ...["--env-file", place.envFile],
    ...["--volume", `${place.outDir}:/results`],
    ...settings.mounts.flatMap((mount) => ["--volume", mount]),
    ...gpus,
    ...settings.args,
    image,
    ...(command ?? []),
  ];
}

/** Variables that change what a program is, and not what it does. */
const NEVER_GIVEN =
  /^(?:LD_|PYTHON|CUDA_|NVIDIA_|GPU_ORCHESTRATOR_|DYLD_|NODE_)|^(?:PATH|HOME|SHELL|IFS|BASH_ENV|ENV)$/;

export interface Surroundings {
  readonly home: string;
  /** The worker's own environment, of which `pass_env` names what goes on. */
  readonly own: Readonly<Record<string, string | undefined>>;
  readonly lease: Readonly<Record<string, string>>;
  readonly gpuIndices: readonly number[];
  readonly secrets: Readonly<Record<string, string>>;
  readonly fencingToken: number | null;
  readonly job: string;
  /** One that runs already, and answers it. */
  readonly service?: { readonly port: number; readonly model: string };
}

/** All that a run finds in its environment. */
export function environmentOf(
  kind: "task" | "service",
  spec: WorkSpec,
  settings: ExecutorSettings,
  place: Place,
  around: Surroundings,
): Record<string, string> {
  const own = (names: readonly string[]) =>
    Object.fromEntries(
      names.flatMap((name) => (around.own[name] === undefined ? [] : [[name, around.own[name] as string]])),
    );
  const asked = Object.entries(spec.env).filter(([name]) => settings.userEnv.includes(name) && !NEVER_GIVEN.test(name));
  return {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: around.home,
    LANG: "C.UTF-8",
    ...Object.fromEntries(asked),
    ...own(settings.passEnv),
    ...settings.env,
    ...around.secrets,
    ...visibleDevices(settings, place, around),
    TASK_FILE: place.taskFile,
    OUT_DIR: place.outDir,
    ...(kind === "service" || settings.type === "vllm"
      ? { PORT: String(around.service?.port ?? place.port), GPU_ORCHESTRATOR_HOST: place.host }
      : {}),
    GPU_ORCHESTRATOR_RUN: place.run,
    GPU_ORCHESTRATOR_TASK: around.job,
    GPU_ORCHESTRATOR_NODE: place.node,
    GPU_ORCHESTRATOR_REPLICA: String(place.replica),
    GPU_ORCHESTRATOR_REPLICAS: String(place.replicas),
    ...(around.fencingToken === null ? {} : { GPU_ORCHESTRATOR_FENCING_TOKEN: String(around.fencingToken) }),
    ...(settings.type === "python" ? { PYTHONPATH: place.pythonFolder } : {}),
    // Under MLOC's names: what the document names, or the host's default.
    ...(settings.type === "vllm" ? modelName("VLLM_MODEL", around.service?.model ?? spec.identifier) : {}),
    ...(settings.type === "ppo" ? modelName("PPO_MODEL", spec.identifier) : {}),
  };
}

function modelName(variable: string, name: string | null): Record<string, string> {
  return name === null ? {} : { [variable]: name };
}

/** Without a lease no GPU is seen, whatever the host has. */
function visibleDevices(settings: ExecutorSettings, { gpuUuids, vllmVersion }: Place, around: Surroundings) {
  if (gpuUuids.length === 0) return { CUDA_VISIBLE_DEVICES: "", NVIDIA_VISIBLE_DEVICES: "void" };
  const asIndices =
    settings.type === "vllm" && !isAtLeast(vllmVersion, UUIDS_FROM) && around.gpuIndices.length === gpuUuids.length;
  return {
    ...around.lease,
    CUDA_DEVICE_ORDER: "PCI_BUS_ID",
    CUDA_VISIBLE_DEVICES: asIndices ? around.gpuIndices.join(",") : gpuUuids.join(","),
    NVIDIA_VISIBLE_DEVICES: gpuUuids.join(","),
  };
}

/**
 * A service that others than this host reach answers whoever has its key: one of the admin's secrets.
 *
 * @param host where services listen. @returns `null`: it may serve there.
 */
export function openToOthers(
  kind: "task" | "service",
  { executor, secrets }: Pick<WorkSpec, "executor" | "secrets">,
  { type }: Pick<ExecutorSettings, "type">,
  host: { readonly name: string; readonly isLoopback: boolean },
): WorkError | null {
  // A stand-in has nothing to give away.
  if (kind === "task" || host.isLoopback || type === "simulated") return null;
  const hasKey = type === "vllm" ? secrets.includes(VLLM_KEY) : secrets.length > 0;
  if (hasKey) return null;
  const key = type === "vllm" ? `the secret ${VLLM_KEY}` : "a secret";
  return new WorkError(
    "not-allowed",
    `services listen on ${host.name} (work.service_host), which others reach: one of the executor ${executor} needs ${key} as its key`,
  );
}

/** What of a spec the host has not opened; `null`: nothing. So that a client hears of it when it sends it. */
export function refusalOf(
  kind: "task" | "service",
  spec: WorkSpec,
  executors: Readonly<Record<string, ExecutorSettings>>,
): WorkError | null {
  const settings = Object.hasOwn(executors, spec.executor) ? (executors[spec.executor] as ExecutorSettings) : null;
  if (settings === null) return notAllowed(`work.executors.${spec.executor}`, `the executor ${spec.executor}`);
  const [wrong] = Object.keys(spec.env).filter((name) => !settings.userEnv.includes(name) || NEVER_GIVEN.test(name));
  if (wrong !== undefined) return notAllowed(`work.executors.${spec.executor}.user_env`, `the variable ${wrong}`);
  try {
    commandOf(kind, spec, settings, NOWHERE);
    return null;
  } catch (error) {
    if (error instanceof WorkError) return error;
    throw error;
  }
}

/** What its command will leave out, of a spec that is not refused. */
export function warningsOf(kind: "task" | "service", spec: WorkSpec, settings: ExecutorSettings): readonly string[] {
  return commandOf(kind, spec, settings, NOWHERE).warnings;
}

export const NOWHERE: Place = {
  run: "RUN",
  replica: 0,
  replicas: 1,
  host: "127.0.0.1",
  port: 0,
  taskFile: "TASK_FILE",
  outDir: "OUT_DIR",
  node: "NODE",
  gpuUuids: [],
  nodeProgram: "node",
  standIn: "stand-in.js",
  vllmTask: "vllm-task.js",
  pythonFolder: "executors/python",
  vllmVersion: null,
  user: null,
  envFile: "ENV_FILE",
  modelArgs: [],
};
