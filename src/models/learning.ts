/**
 * The most memory that leases of the same kind were seen to use.
 *
 * 1. A kind is a service, a workload type, a model and the settings that its memory depends on: `kindOf`.
 * 2. Of a lease counts the highest reading of any of its GPUs, once it has ended with {@link LEAST_READINGS} readings.
 * 3. A lease teaches nothing when it shares its GPUs, when its peak is {@link FULL_PART} of a card or more (it took what
 *    there was), or when an engine that takes a share of the card, such as vLLM, served it.
 * 4. What is learned is suggested from {@link LEAST_RUNS} leases on: a high quantile of their peaks, with head-room.
 * 5. It is kept in the store, a row per kind; what is not yet on disk is lost with the process, and nothing else.
 * 6. Of more than {@link MOST_KINDS} kinds, those that were seen longest ago are forgotten.
 */
import { findModel } from "../core/analyzer/catalogue.ts";
import type { Observed } from "../core/analyzer/known.ts";
import { parseModelName } from "../core/analyzer/parse-name.ts";
import { canonicalJson, type JsonObject, type JsonValue } from "../core/base/json.ts";
import type { EpochMs } from "../core/base/time.ts";
import type { HostState } from "../core/host/state.ts";
import type { LiveAllocation, Request } from "../core/model/allocation.ts";
import type { AllocationId } from "../core/model/ids.ts";
import type { Observation } from "../core/model/reading.ts";
import { doneBy, type Sender } from "../ports/audit.ts";
import type { KnowledgeAsk } from "../ports/knowledge.ts";
import type { Learned, LearnedKind, LearnedStore, Lessons } from "../ports/learned.ts";
import type { Committed, Observer } from "../ports/observer.ts";

const LEAST_READINGS = 12;
const LEAST_RUNS = 3;
const MOST_RUNS = 50;
const MOST_KINDS = 1_000;
const QUANTILE = 0.95;
const HEADROOM = 1.15;
const FULL_PART = 0.8;
/** Engines that take a set share of the card, by their names and those of their processes. */
const TAKES_A_SHARE = /vllm|sglang|tensorrt|trtllm|lmdeploy/i;

/** The settings of a workload that its memory depends on. */
const SETTINGS = [
  ...["quantization", "dtype", "kv_cache_dtype", "context_length", "max_model_len", "concurrent_requests"],
  ...["batch_size", "image_count", "node_count", "micro_batch_size", "method", "optimizer", "zero_stage", "lora_rank"],
  ...["tensor_parallel", "model_size", "input_tokens", "max_tokens"],
];
const MAX_SETTING = 64;

type Suggestion = Pick<Observed, "memoryMib" | "runs">;

interface Seen {
  readonly kind: Kind;
  peakMib: number;
  readings: number;
  /** False once it was seen that it teaches nothing. */
  teaches: boolean;
}

interface Kind {
  readonly key: string;
  readonly service: string;
  readonly workloadType: string;
  readonly model: string | null;
  readonly settings: JsonObject;
}

export class Learning implements Observer, Lessons {
  readonly #store: LearnedStore;
  readonly #kinds: Map<string, Learned>;
  readonly #seen = new Map<AllocationId, Seen>();
  /** `null`: to be made anew. */
  #known: ReadonlySet<string> | null = null;

  constructor(store: LearnedStore) {
    this.#store = store;
    const latest = store.loadLearned().slice(-MOST_KINDS);
    this.#kinds = new Map(latest.map((learned) => [learned.key, learned]));
  }

  observed(observation: Observation, state: HostState): void {
    // A failed probe leaves the readings of the one before where they are.
    if (!observation.ok) return;
    // From the GPUs, which are few, and not from all who wait.
    const holders = new Set<AllocationId>();
    for (const { hold } of state.gpus.values()) if (hold.kind === "leased") holders.add(hold.allocationId);
    for (const id of holders) {
      const allocation = state.allocations.get(id);
      if (allocation?.status === "leased") this.#look(allocation, observation.startedAt, state);
    }
  }

  #look(
    { request, lease }: Extract<LiveAllocation, { status: "leased" }>,
    startedAt: EpochMs,
    { sight }: HostState,
  ): void {
    // What was in use before the grant may be another's.
    if (startedAt < lease.grantedAt) return;
    const seen = this.#seen.get(request.id) ?? { kind: kindOf(request), peakMib: 0, readings: 0, teaches: true };
    this.#seen.set(request.id, seen);
    let isRead = false;
    for (const { uuid } of lease.gpus) {
      const gpu = sight.gpus.get(uuid);
      // A GPU that was not read keeps the reading that was counted before.
      if (gpu === undefined || gpu.startedAt !== startedAt) continue;
      const { reading } = gpu;
      if (reading.memoryUsedMib === null || reading.memoryTotalMib === null) continue;
      isRead = true;
      seen.peakMib = Math.max(seen.peakMib, reading.memoryUsedMib);
      const isFull = reading.memoryUsedMib >= FULL_PART * reading.memoryTotalMib;
      if (isFull || reading.processes.some(({ name }) => name !== null && TAKES_A_SHARE.test(name)))
        seen.teaches = false;
    }
    if (isRead) seen.readings++;
  }

  committed({ events, at }: Committed): void {
    for (const event of events) {
      if (event.type !== "ended") continue;
      const seen = this.#seen.get(event.id);
      this.#seen.delete(event.id);
      if (seen === undefined || !seen.teaches || seen.readings < LEAST_READINGS || seen.peakMib === 0) continue;
      this.#learn(seen, at);
    }
  }

  #learn({ kind, peakMib, readings }: Seen, at: number): void {
    const before = this.#kinds.get(kind.key);
    const learned: Learned = {
      ...kind,
      peaksMib: [...(before?.peaksMib ?? []), peakMib].slice(-MOST_RUNS),
      readings: (before?.readings ?? 0) + readings,
      lastAt: at,
    };
    this.#known = null;
    this.#kinds.delete(kind.key);
    this.#kinds.set(kind.key, learned);
    for (const oldest of this.#kinds.keys()) {
      if (this.#kinds.size <= MOST_KINDS) break;
      this.#kinds.delete(oldest);
      // What stays on a disk that takes no change is left out at the next start.
      this.#store.forgetLearned(oldest).catch(() => undefined);
    }
    // It is learned again when the disk has no room for it now.
    this.#store.saveLearned(learned).catch(() => undefined);
  }

  /** What was learned, the latest first, with what is suggested. */
  list(): readonly LearnedKind[] {
    return [...this.#kinds.values()]
      .map((learned) => ({ ...learned, suggestedMib: suggestionOf(learned)?.memoryMib ?? null }))
      .toReversed();
  }

  async forget(key: string | null, sender: Sender, at: EpochMs): Promise<number> {
    const keys = key === null ? [...this.#kinds.keys()] : this.#kinds.has(key) ? [key] : [];
    if (keys.length === 0) return 0;
    await this.#store.forgetLearned(key, doneBy(sender, at, { otherwise: "forget", object: key, reason: null }));
    for (const one of keys) this.#kinds.delete(one);
    this.#known = null;
    return keys.length;
  }

  /** Of which something was learned: a request of any other need not be looked at. */
  #services(): ReadonlySet<string> {
    this.#known ??= new Set([...this.#kinds.values()].map(({ service }) => service));
    return this.#known;
  }

  /** What is suggested for a workload; `null`: too little was seen of its kind. */
  suggestionFor(ask: KnowledgeAsk): Suggestion | null {
    if (ask.serviceName === null || !this.#services().has(ask.serviceName)) return null;
    const kind = kindOf({ ...ask, serviceName: ask.serviceName });
    const learned = this.#kinds.get(kind.key);
    return learned === undefined ? null : suggestionOf(learned);
  }
}

function suggestionOf({ peaksMib, readings }: Learned): Suggestion | null {
  if (peaksMib.length < LEAST_RUNS || readings < LEAST_READINGS) return null;
  const sorted = peaksMib.toSorted((a, b) => a - b);
  const peak = sorted[Math.min(sorted.length - 1, Math.ceil(QUANTILE * sorted.length) - 1)] ?? 0;
  return { memoryMib: Math.ceil(peak * HEADROOM), runs: peaksMib.length };
}

function kindOf(request: Pick<Request, "serviceName" | "workloadType" | "workloadData">): Kind {
  const { workloadData } = request;
  const given = (key: string): JsonValue => (Object.hasOwn(workloadData, key) ? (workloadData[key] ?? null) : null);
  const settings: Record<string, JsonValue> = {};
  for (const key of SETTINGS) {
    const value = given(key);
    if (typeof value === "number" || typeof value === "boolean") settings[key] = value;
    if (typeof value === "string") settings[key] = value.slice(0, MAX_SETTING).toLowerCase();
  }
  const model = modelOf(given("model_path") ?? given("model") ?? given("model_name"));
  const facts = { service: request.serviceName, workloadType: request.workloadType, model, settings };
  return { key: canonicalJson(facts), ...facts };
}

function modelOf(name: JsonValue): string | null {
  if (typeof name !== "string" || name.trim() === "") return null;
  const { canonical, format } = parseModelName(name);
  const known = findModel(canonical)?.id ?? canonical;
  return format === null ? known : `${known} ${format.name}`;
}
