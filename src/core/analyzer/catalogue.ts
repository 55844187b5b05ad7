/**
 * Widely used open models: models.json. Each entry has the fields of the model's public `config.json` that its memory
 * follows from, where they were read and when, and the published number of parameters with its source. A test holds
 * the number that follows from the fields against the published one.
 */
import type { JsonObject } from "../base/json.ts";
import type { OwnModels } from "../model/workload.ts";
import type { Architecture } from "./architecture.ts";
import MODELS from "./models.json" with { type: "json" };
import { parseModelName } from "./parse-name.ts";
import { isReadable, readConfig } from "./read-config.ts";

export interface CatalogueEntry {
  readonly id: string;
  readonly architecture: Architecture;
  /** The FP8 checkpoint stores the output projection apart although the 16-bit one does not. */
  readonly untiedInFp8: boolean;
}

/** An entry of models.json. */
export interface ModelRecord {
  readonly id: string;
  readonly kind: "language" | "embedding" | "vision-language" | "ocr" | "speech" | "diffusion";
  /** Canonical names beside that of the id, as registries other than the Hugging Face hub use them. */
  readonly aliases?: readonly string[];
  readonly untied_in_fp8?: boolean;
  /** As published. Some checkpoints store a buffer or two beside their parameters, and count them. */
  readonly parameters: number;
  readonly config: JsonObject;
  /** Where `config` was read. */
  readonly source: string;
  readonly parameters_source: string;
  /** The day of reading. */
  readonly read: string;
}

export const MODEL_RECORDS = MODELS as unknown as readonly ModelRecord[];

/** Every entry, in the order of the file. Made when one is first asked for: the start does not wait for it. */
export function catalogue(): readonly CatalogueEntry[] {
  entries ??= MODEL_RECORDS.map(({ id, config, untied_in_fp8 }) => {
    const architecture = readConfig(config);
    if (!isReadable(architecture)) throw new Error(`models.json: ${id}: ${architecture.problem}`);
    return { id, architecture, untiedInFp8: untied_in_fp8 === true };
  });
  return entries;
}

let entries: readonly CatalogueEntry[] | null = null;

/** By canonical name (parse-name.ts). */
function entriesByName(): ReadonlyMap<string, CatalogueEntry> {
  byName ??= new Map(
    catalogue().flatMap((entry, index) => {
      const names = [parseModelName(entry.id).canonical, ...(MODEL_RECORDS[index]?.aliases ?? [])];
      return names.map((name) => [name, entry] as const);
    }),
  );
  return byName;
}

let byName: ReadonlyMap<string, CatalogueEntry> | null = null;

/**
 * Finds the model that a canonical name stands for. The whole name must agree: a vision or draft variant of a known
 * family is another architecture.
 *
 * @param own models that the settings add; they go before those of the file.
 * @returns `null` when nobody knows the model.
 */
export function findModel(canonical: string, own: OwnModels = {}): CatalogueEntry | null {
  const added = Object.hasOwn(own, canonical) ? own[canonical] : undefined;
  const architecture = added === undefined ? null : readConfig(added.config);
  if (added !== undefined && architecture !== null && isReadable(architecture)) {
    return { id: added.id, architecture, untiedInFp8: false };
  }
  return entriesByName().get(canonical) ?? null;
}
