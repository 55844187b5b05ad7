/** `analyzer.models`: models that users add to the catalogue, by name, with the fields of their `config.json`. */
import { parseModelName } from "../core/analyzer/parse-name.ts";
import { isReadable, readConfig } from "../core/analyzer/read-config.ts";
import type { JsonObject } from "../core/base/json.ts";
import type { OwnModel, OwnModels } from "../core/model/workload.ts";
import { type Read, Refusal } from "./settings.ts";

const MAX_MODELS = 1_000;

export const ownModels: Read<OwnModels> = (value) => {
  if (!isObject(value)) return new Refusal("expected models by name, each with the fields of its config.json below it");
  const entries = Object.entries(value);
  if (entries.length > MAX_MODELS) return new Refusal(`expected at most ${MAX_MODELS} models`);
  const models = new Map<string, OwnModel>();
  for (const [id, config] of entries) {
    if (!isObject(config)) return new Refusal("expected the fields of a config.json", null, [id]);
    const read = readConfig(config);
    if (!isReadable(read)) return new Refusal(read.problem, null, [id]);
    const name = parseModelName(id).canonical;
    const same = models.get(name);
    if (name === "") return new Refusal("a model's name needs a letter or a digit", null, [id]);
    if (same !== undefined) return new Refusal(`is the same name as ${JSON.stringify(same.id)}`, null, [id]);
    models.set(name, { id, config });
  }
  return Object.fromEntries(models);
};

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
