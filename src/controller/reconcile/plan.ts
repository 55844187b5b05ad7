/**
 * What one replica of a workload needs: its model, its GPUs, and how its engine is started. Pure.
 *
 * Which model is loaded, in this order: `engine.model`, since whoever states it means it; an `LLMModel` of this name and
 * version; the catalogue's model of the name with its version (`llama2`/`7b`), then of the name alone; a `modelName`
 * with a slash, as an id of the hub.
 */
import { findModel } from "../../core/analyzer/catalogue.ts";
import { Hints } from "../../core/analyzer/hints.ts";
import { NOTHING_KNOWN } from "../../core/analyzer/known.ts";
import { type ModelNeed, modelNeed } from "../../core/analyzer/model-need.ts";
import { parseModelName } from "../../core/analyzer/parse-name.ts";
import type { JsonObject } from "../../core/base/json.ts";
import { parseCpuMillis, parseMemoryBytes } from "../../work/quantities.ts";
import { memoryPartOf, modelLengthOf } from "../objects/engine-config.ts";
import type { Model } from "../objects/model.ts";
import { modelOfWorkload } from "../objects/model-rules.ts";
import type { WorkloadSpec } from "../objects/workload.ts";
import { cardsIn, mostIn, partsIn, WHOLE } from "./fleet.ts";
import { memoryOfProduct } from "./gpu-memory.ts";
import type { Groups, NodeSeen } from "./seen.ts";
import type { QosClass, ReconcileSettings } from "./settings.ts";

export interface Plan {
  readonly engine: "vllm" | "custom";
  /** What the engine loads. */
  readonly model: string;
  readonly image: string;
  /** Whole GPUs of each replica; 0: it runs without. */
  readonly gpus: number;
  /** A replica is as many pods, each with an equal part of its GPUs: more than one where no node has them all. */
  readonly nodes: number;
  /** The extended resource that they are asked for by. */
  readonly resource: string;
  /** Part of the product's name; `null`: any. */
  readonly product: string | null;
  /** At least, of each GPU; `null`: nobody knows. */
  readonly memoryMib: number | null;
  readonly flags: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly qosClass: QosClass;
  /** Where it serves in its container. */
  readonly port: number;
  /** It is given so long to come up. */
  readonly startSeconds: number;
  readonly why: readonly string[];
}

export interface PlanRefused {
  readonly reason: "ModelNotFound" | "OverLimit" | "NeverFits" | "UnknownProfile" | "NeedsLeaderWorkerSet";
  readonly message: string;
}

/** vLLM's own default since 0.23; what a plan leaves for the engine to take of each card. */
const DEFAULT_UTILIZATION = 0.92;
const LEAST_MODEL_LEN = 256;
/** Weights load at 15 s a GB, and 105 s go into everything else; three tenths are added, since nodes differ. */
const START_S_PER_GB = 15;
const START_S = 105;
const START_SPARE = 1.3;
/** Where the first seed's own server listens. */
const CUSTOM_PORT = 8_080;

export function planOf(
  spec: WorkloadSpec,
  models: readonly Model[],
  nodes: readonly NodeSeen[],
  settings: ReconcileSettings,
  groups: Groups = "never",
): Plan | PlanRefused {
  const kind = engineOf(spec, settings);
  const model = modelOf(spec, models, kind);
  if (model === null) {
    return {
      reason: "ModelNotFound",
      message: `no LLMModel, catalogue entry or engine.model for ${spec.modelName} ${spec.modelVersion}`,
    };
  }
  const profile = spec.resourceProfile === undefined ? null : (settings.profiles[spec.resourceProfile] ?? undefined);
  if (profile === undefined) {
    return { reason: "UnknownProfile", message: `resourceProfiles has no ${spec.resourceProfile}` };
  }
  const product = productOf(spec);
  const resource = resourceOf(spec);
  const cards = resource === WHOLE ? cardsIn(nodes, product, settings.gpuMemoryMib) : instancesOf(resource, spec);
  const stated = spec.resources.gpu ?? (profile === null ? undefined : String(profile.gpu));
  const need = needOf(spec, model, stated === undefined ? null : Number(stated), cards);
  const gpus = stated === undefined ? (need?.gpus ?? 1) : Number(stated);
  const over = overLimit(spec, gpus, settings);
  if (over !== null) return over;
  const span = resource === WHOLE ? spanOf(gpus, product, nodes, kind === "vllm" ? groups : "never") : 1;
  if (typeof span !== "number") return span;
  const flags = gpus === 0 || kind === "custom" ? null : flagsOf(spec, model, { gpus, span }, cards);
  if (flags !== null && "reason" in flags) return flags;
  const memoryMib = flags?.memoryMib ?? need?.memoryMib ?? null;
  const weightsMib = need?.memory.weightsMib ?? null;
  return {
    engine: kind,
    model,
    image: spec.engine?.image ?? settings.image,
    gpus,
    nodes: span,
    resource,
    product,
    memoryMib,
    flags: [...(flags?.flags ?? []), ...(spec.engine?.args ?? [])],
    env: spec.engine?.env ?? {},
    cpuMillis: parseCpuMillis(spec.resources.cpu) ?? 0,
    memoryBytes: parseMemoryBytes(spec.resources.memory) ?? 0,
    qosClass: qosClassOf(spec, settings),
    port: kind === "vllm" ? settings.vllmPort : CUSTOM_PORT,
    startSeconds: startupSeconds(weightsMib, settings.leastStartMs / 1_000),
    why: [
      `model ${model}`,
      stated === undefined ? (need?.gpusSource ?? "1 GPU: nothing says more") : `${gpus} GPUs: as asked for`,
      ...(need === null ? [] : [need.memorySource]),
      ...(span === 1 ? [] : [`${span} nodes: none has ${gpus} GPUs`]),
    ],
  };
}

export function isPlan(planned: Plan | PlanRefused): planned is Plan {
  return !("reason" in planned);
}

/** The first seed's rule: an explicit class, else by the promised availability and latency. */
function qosClassOf({ qosClass, performance }: WorkloadSpec, { qos }: ReconcileSettings): QosClass {
  if (qosClass !== undefined) return qosClass;
  const { availability = 0, responseTimeP95: p95 = Number.POSITIVE_INFINITY } = performance.slaRequirements ?? {};
  if (availability >= 99.9 && p95 <= qos.premium.maxLatencyMs) return "premium";
  return availability >= 99.5 && p95 <= qos.standard.maxLatencyMs ? "standard" : "basic";
}

function modelOf(
  { modelName, modelVersion, engine }: WorkloadSpec,
  models: readonly Model[],
  kind: Plan["engine"],
): string | null {
  if (engine?.model !== undefined) return engine.model;
  const own = modelOfWorkload({ modelName, modelVersion }, models)?.spec;
  if (own?.source?.type === "hub") return own.source.uri;
  const known =
    findModel(parseModelName(`${modelName}-${modelVersion}`).canonical) ??
    findModel(parseModelName(modelName).canonical);
  if (known !== null) return known.id;
  // A custom engine's image brings its model along.
  return modelName.includes("/") || kind === "custom" ? modelName : null;
}

/** An image that is not vLLM's is the first seed's own server: it takes no flags of vLLM, and serves at another port. */
function engineOf({ engine }: WorkloadSpec, { image }: ReconcileSettings): Plan["engine"] {
  return engine?.type ?? ((engine?.image ?? image).includes("vllm") ? "vllm" : "custom");
}

function productOf({ resources: { gpuType } }: WorkloadSpec): string | null {
  return gpuType === undefined || gpuType.includes("/") ? null : gpuType;
}

function resourceOf({ resources: { gpuType } }: WorkloadSpec): string {
  return gpuType?.includes("/") === true ? gpuType : WHOLE;
}

/** Memory of as many instances as are asked for, by the resource's name, such as `nvidia.com/mig-1g.10gb`. */
function instancesOf(resource: string, { resources: { gpu = "1" } }: WorkloadSpec): readonly number[] {
  const each = memoryOfProduct(resource);
  return each === null ? [] : Array.from({ length: Math.max(1, Number(gpu)) }, () => each);
}

function needOf(
  { engine, modelType }: WorkloadSpec,
  model: string,
  statedGpus: number | null,
  cards: readonly number[],
  maxModelLen?: number,
): ModelNeed | null {
  const config = (engine?.config ?? {}) as JsonObject;
  const length = maxModelLen ?? modelLengthOf(config);
  const hints = new Hints({ model_name: model, ...config, ...(length === null ? {} : { max_model_len: length }) });
  const type = modelType === "embedding" ? "embedding" : "inference";
  return modelNeed(type, hints, { statedGpus, cards: () => cards, models: {}, known: NOTHING_KNOWN });
}

function overLimit(spec: WorkloadSpec, gpus: number, settings: ReconcileSettings): PlanRefused | null {
  const over = (what: string) => ({ reason: "OverLimit" as const, message: `more ${what} than one workload may have` });
  if ((parseCpuMillis(spec.resources.cpu) ?? 0) > settings.maxCpuMillis) return over("CPU");
  if ((parseMemoryBytes(spec.resources.memory) ?? 0) > settings.maxMemoryBytes) return over("memory");
  return gpus > settings.maxGpus ? over("GPUs") : null;
}

/** How many nodes a replica spans: the fewest that have an equal part each. Nodes that are away or cordoned count: they may come back. */
function spanOf(
  gpus: number,
  product: string | null,
  nodes: readonly NodeSeen[],
  groups: Groups,
): number | PlanRefused {
  const most = mostIn(nodes, product);
  if (nodes.length === 0 || gpus <= most) return 1;
  const of = product === null ? "" : ` of ${product}`;
  const asked = `asked for ${gpus} GPUs${of} of one node; the most that one has is ${most}`;
  if (groups === "never") return { reason: "NeverFits", message: asked };
  const span = partsIn(nodes, gpus, product);
  if (span === null) {
    return { reason: "NeverFits", message: `${asked}, and no number of nodes has equal parts of them` };
  }
  if (groups === "there") return span;
  const message = `${asked}; ${span} nodes could, with the CRD and the controller of LeaderWorkerSets`;
  return { reason: "NeedsLeaderWorkerSet", message };
}

interface Flags {
  readonly flags: readonly string[];
  readonly memoryMib: number | null;
}

/** vLLM's own, but on large cards: where as many have room it chooses by itself. */
const DEFAULT_SEQUENCES = 256;

/** vLLM's command line. What `config` states goes as it stands; the rest is left to the engine. */
function flagsOf(
  spec: WorkloadSpec,
  model: string,
  { gpus, span }: { readonly gpus: number; readonly span: number },
  cards: readonly number[],
): Flags | PlanRefused {
  const config = { ...(spec.engine?.config ?? {}) } as Record<string, unknown>;
  const utilization = memoryPartOf(config) ?? DEFAULT_UTILIZATION;
  const asked = modelLengthOf(config);
  const fitting = asked === null ? null : longestThatFits(spec, model, gpus, cards, utilization, asked);
  if (fitting !== null && "reason" in fitting) return fitting;
  delete config.tensor_parallel_size;
  if (span > 1) {
    delete config.pipeline_parallel_size;
    delete config.distributed_executor_backend;
  }
  delete config.gpu_memory_utilization;
  if (asked !== null) delete config.max_model_len;
  return {
    memoryMib: fitting?.memoryMib ?? null,
    flags: [
      `--tensor-parallel-size=${gpus / span}`,
      ...(span === 1 ? [] : [`--pipeline-parallel-size=${span}`, "--distributed-executor-backend=ray"]),
      `--gpu-memory-utilization=${utilization}`,
      ...(fitting === null ? [] : [`--max-model-len=${fitting.length}`]),
      ...(fitting?.sequences == null || config.max_num_seqs !== undefined
        ? []
        : [`--max-num-seqs=${fitting.sequences}`]),
      `--served-model-name=${spec.modelName}`,
      ...Object.entries(config)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .flatMap(([key, value]) => flagOf(key, value)),
    ],
  };
}

interface Fitting {
  readonly length: number;
  readonly memoryMib: number | null;
  /** So many of that length have room at a time; `null`: as many as the engine takes by itself, or nobody knows. */
  readonly sequences: number | null;
}

/** @param room is what the engine may take of each GPU, in MiB. */
function sequencesIn({ memoryMib, memory: { kvCacheMib } }: ModelNeed, gpus: number, room: number): number | null {
  const each = kvCacheMib / gpus;
  if (each <= 0) return null;
  const most = Math.floor((room - memoryMib + each) / each);
  return most >= DEFAULT_SEQUENCES ? null : Math.max(1, most);
}

/** At most as many tokens as asked for, halved until the cache fits beside the weights. */
function longestThatFits(
  spec: WorkloadSpec,
  model: string,
  gpus: number,
  cards: readonly number[],
  utilization: number,
  asked: number,
): Fitting | PlanRefused {
  const card = cards[gpus - 1];
  for (let length = asked; ; length = Math.floor(length / 2)) {
    const need = needOf(spec, model, gpus, cards, length);
    if (need === null || card === undefined) {
      return { length: asked, memoryMib: need?.memoryMib ?? null, sequences: null };
    }
    if (need.memoryMib <= card * utilization) {
      return { length, memoryMib: need.memoryMib, sequences: sequencesIn(need, gpus, card * utilization) };
    }
    if (length / 2 < LEAST_MODEL_LEN) {
      const message = `${model} needs ${need.memoryMib} MiB of each of ${gpus} GPUs, which have ${card}`;
      return { reason: "NeverFits", message };
    }
  }
}

function flagOf(key: string, value: unknown): string[] {
  const name = `--${key.replaceAll("_", "-")}`;
  if (value === true) return [name];
  if (value === false || value === null) return [];
  return [`${name}=${typeof value === "object" ? JSON.stringify(value) : String(value)}`];
}

/**
 * As long as loading the weights may take, and no less than `least`.
 *
 * @param weightsMib is of all GPUs together; `null`: nobody knows
 */
export function startupSeconds(weightsMib: number | null, least: number): number {
  const gigabytes = ((weightsMib ?? 0) * 2 ** 20) / 1_000 ** 3;
  return Math.max(least, Math.ceil((gigabytes * START_S_PER_GB + START_S) * START_SPARE));
}
