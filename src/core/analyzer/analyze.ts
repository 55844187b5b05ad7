import {
  type Analysis,
  MAX_PRIORITY,
  type OwnModels,
  type SourceKind,
  type WorkloadAsk,
  type WorkloadDefaults,
  type WorkloadType,
} from "../model/workload.ts";
import { Hints, raise, type Sourced } from "./hints.ts";
import { type Known, NOTHING_KNOWN } from "./known.ts";
import { type ModelNeed, modelNeed } from "./model-need.ts";
import { applyRules, type RuleFigures } from "./rules.ts";

/** What the settings and the host add to an ask. */
export interface Setting {
  readonly defaults: { readonly [type in WorkloadType]: WorkloadDefaults };
  /** Models that the settings add to the catalogue, by canonical name. */
  readonly models: OwnModels;
  /**
   * Memory of each GPU of this host that could serve the ask, in MiB, whoever has it now, largest first; empty: none was
   * ever seen. Asked for only when a figure depends on it.
   */
  cards(): readonly number[];
}

/**
 * Says what a workload needs, and which rule or figure gave each number.
 *
 * Pure and total: any JSON object is accepted as workload data; what is nonsense in it is ignored, with a note. In
 * order, what goes first for the GPUs and the memory of each:
 *
 * 1. What the caller states.
 * 2. For the memory, what was seen under earlier leases, where learning is on.
 * 3. The figures of a named model, and the rules: they only raise each other.
 * 4. Where no model is known, an advisor's recommendation goes before the rules.
 *
 * 2 and 4 are bounded by what this host has, so they make no request impossible that was possible before.
 */
export function analyze(ask: WorkloadAsk, setting: Setting, known: Known = NOTHING_KNOWN): Analysis {
  const type = ask.workloadType;
  const ofType = setting.defaults[type];
  const hints = new Hints(ask.workloadData);
  const { cards, models } = setting;
  const model = modelNeed(type, hints, { statedGpus: ask.requiredGpus, cards, models, known });
  const rules = advised(applyRules(type, hints, ofType), known, model, ask, setting);
  if (model !== null && ask.minMemoryMib !== null && ask.minMemoryMib < model.memoryMib) {
    hints.note(`min_memory_mb ${ask.minMemoryMib} is less than the model needs (${model.memorySource})`);
  }

  const gpus = stated(ask.requiredGpus) ?? byModel(rules.gpus, model?.gpus, model?.gpusSource);
  const computed = byModel(rules.memoryMib, model?.memoryMib, model?.memorySource);
  const memory = stated(ask.minMemoryMib) ?? observed(known, gpus.value, setting) ?? computed;
  const priority = stated(ask.priority) ?? rules.priority;
  const utilization =
    stated(ask.maxUtilizationPercent) ?? sourced(ofType.maxUtilizationPercent, `default of ${type}`, "rule");
  return {
    requirement: {
      gpus: gpus.value,
      memoryMib: memory.value,
      priority: priority.value,
      maxUtilizationPercent: utilization.value,
      maxUtilizationExplicit: ask.maxUtilizationPercent !== null,
    },
    sources: {
      requiredGpus: gpus.source,
      minMemoryMib: memory.source,
      priority: priority.source,
      maxUtilization: utilization.source,
    },
    source: {
      requiredGpus: gpus.kind,
      minMemoryMib: memory.kind,
      priority: priority.kind,
      maxUtilization: utilization.kind,
    },
    memory: model?.memory ?? null,
    tensorParallel: model?.tensorParallel ?? null,
    confidence: confidenceOf(memory, model),
    notes: hints.notes(),
  };
}

function sourced(value: number, source: string, kind: SourceKind): Sourced {
  return { value, source, kind };
}

function stated(value: number | null): Sourced | null {
  return value === null ? null : sourced(value, "asked for", "explicit");
}

function byModel(rule: Sourced, value: number | undefined, source: string | undefined): Sourced {
  return value === undefined || source === undefined ? rule : raise(rule, sourced(value, source, "model"));
}

/** Bounded by the smallest of as many cards as are needed, largest first: more would make the request impossible. */
function observed({ observed: seen }: Known, gpus: number, setting: Setting): Sourced | null {
  if (seen === null || !seen.counts) return null;
  const mostMib = setting.cards()[gpus - 1];
  if (mostMib === undefined) return null;
  const source = `seen under ${seen.runs} earlier leases, with head-room`;
  return sourced(Math.min(seen.memoryMib, mostMib), source, "observed");
}

/**
 * The rules, with an advisor's numbers instead where no model is known. A number beyond what this host has counts as not
 * said: bounded to it, a silly one would take the whole host.
 */
function advised(
  rules: RuleFigures,
  { advice }: Known,
  model: ModelNeed | null,
  ask: WorkloadAsk,
  setting: Setting,
): RuleFigures {
  if (advice === null) return rules;
  const said = (value: number | null, most: number, rule: Sourced): Sourced =>
    value === null || value < 1 || value > most ? rule : sourced(value, `recommended by ${advice.from}`, "advisor");
  const priority =
    rules.priority.kind === "explicit" ? rules.priority : said(advice.priority, MAX_PRIORITY, rules.priority);
  if (model !== null) return { ...rules, priority };
  const cards = setting.cards();
  const leastMib = ask.minMemoryMib ?? rules.memoryMib.value;
  const gpus = said(advice.gpus, cards.filter((mib) => mib >= leastMib).length, rules.gpus);
  const mostMib = cards[(ask.requiredGpus ?? gpus.value) - 1] ?? 0;
  return { gpus, memoryMib: said(advice.memoryMib, mostMib, rules.memoryMib), priority };
}

function confidenceOf(memory: Sourced, model: ModelNeed | null): Analysis["confidence"] {
  if (memory.kind === "explicit" || memory.kind === "observed") return "high";
  return memory.kind === "model" && model !== null ? model.confidence : "low";
}
