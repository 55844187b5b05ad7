/**
 * What keys a document may have, and of what kind their values are. A document is read in two passes: this one names
 * everything that is wrong with it at once; the next may then take its values for what they should be.
 */

import { parseDuration } from "../../core/base/duration.ts";
import type { JsonObject, JsonValue } from "../../core/base/json.ts";
import type { DocumentProblem } from "../errors.ts";
import { parseCpuMillis, parseMemoryBytes } from "../quantities.ts";

/** Says what was expected; `null`: the value is of its kind. */
export interface Kind {
  (value: JsonValue): string | null;
  /** The same for the API's document, as JSON Schema has it, as far as it can be said there. */
  readonly schema?: JsonObject;
}
export interface Shape {
  readonly [key: string]: Kind | Shape;
}

export interface Findings {
  readonly problems: DocumentProblem[];
  readonly warnings: string[];
}

function is(expected: string, test: (value: JsonValue) => boolean, schema: JsonObject): Kind {
  const kind = (value: JsonValue) => (test(value) ? null : `expected ${expected}`);
  return Object.assign(kind, { schema: { ...schema, description: expected } });
}

export const anything: Kind = () => null;
export const flag = is("true or false", (value) => typeof value === "boolean", { type: "boolean" });
export const number = is("a number", (value) => typeof value === "number" && Number.isFinite(value), {
  type: "number",
});
export const words = (most: number): Kind =>
  is(`text of 1 to ${most} characters`, (value) => typeof value === "string" && value !== "" && value.length <= most, {
    type: "string",
    minLength: 1,
    maxLength: most,
  });
export const integer = (least: number, most: number): Kind =>
  is(
    `a whole number from ${least} to ${most}`,
    (value) => Number.isInteger(value) && least <= Number(value) && Number(value) <= most,
    { type: "integer", minimum: least, maximum: most },
  );
export const decimal = (least: number, most: number): Kind =>
  is(`a number from ${least} to ${most}`, (value) => typeof value === "number" && least <= value && value <= most, {
    type: "number",
    minimum: least,
    maximum: most,
  });
export const matching = (expected: string, form: RegExp): Kind =>
  is(expected, (value) => typeof value === "string" && form.test(value), { type: "string" });
export const oneOf = (...allowed: readonly string[]): Kind =>
  is(allowed.join(", "), (value) => typeof value === "string" && allowed.includes(value), {
    type: "string",
    enum: [...allowed],
  });
export const cpu = is('cores such as 8, "0.5" or 2000m', (value) => parseCpuMillis(value) !== null, {
  type: ["string", "number"],
});
export const memory = is("bytes such as 32Gi or 32G", (value) => parseMemoryBytes(value) !== null, {
  type: ["string", "number"],
});
export function mapOf(key: RegExp, kind: Kind): Kind {
  const map = (value: JsonValue) => {
    if (!isObject(value)) return "expected a map";
    if (Object.keys(value).length > MAX_ENTRIES) return `holds more than ${MAX_ENTRIES} entries`;
    for (const [name, item] of Object.entries(value)) {
      if (!key.test(name)) return `${JSON.stringify(name.slice(0, 64))} is no name for an entry`;
      const problem = kind(item);
      if (problem !== null) return `${name}: ${problem}`;
    }
    return null;
  };
  const values = kind.schema ?? { type: "string" };
  return Object.assign(map, { schema: { type: "object", maxProperties: MAX_ENTRIES, additionalProperties: values } });
}

const MAX_ENTRIES = 128;
/** Prompts of one task, above all. */
const MAX_ITEMS = 100_000;

export function listOf(kind: Kind, most = MAX_ITEMS): Kind {
  const list = (value: JsonValue) => {
    if (!Array.isArray(value)) return "expected a list";
    if (value.length > most) return `holds ${value.length} items, more than ${most}`;
    for (const [index, item] of value.entries()) {
      const problem = kind(item as JsonValue);
      if (problem !== null) return `item ${index}: ${problem}`;
    }
    return null;
  };
  return Object.assign(list, { schema: { type: "array", maxItems: most, items: kind.schema ?? {} } });
}

export const duration = (least: string, most: string): Kind => {
  const [from, to] = [parseDuration(least) as number, parseDuration(most) as number];
  return is(
    `a duration from ${least} to ${most}, such as 30s`,
    (value) => {
      const ms = durationMs(value);
      return ms !== null && from <= ms && ms <= to;
    },
    { type: ["string", "number"] },
  );
};

/** A duration, or a number of seconds. */
export function durationMs(value: JsonValue | undefined): number | null {
  if (typeof value === "number" && Number.isFinite(value) && value >= 0) return Math.round(value * 1_000);
  return typeof value === "string" ? parseDuration(value) : null;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Compares `value` with `shape`. An explicit `null` counts as absent, as in every other body.
 *
 * @param strict unknown keys are problems; otherwise warnings.
 */
export function examine(value: JsonObject, shape: Shape, path: string, strict: boolean, findings: Findings): void {
  for (const [key, item] of Object.entries(value)) {
    const at = path === "" ? key : `${path}.${key}`;
    const wanted = Object.hasOwn(shape, key) ? shape[key] : undefined;
    if (wanted === undefined) {
      const meant = nearestKey(key, Object.keys(shape));
      const message = `no such key${meant === null ? "" : `; did you mean ${meant}?`}`;
      if (strict) findings.problems.push({ path: at, message });
      else findings.warnings.push(`${at}: ${message}`);
    } else if (item === null) continue;
    else if (typeof wanted === "function") {
      const problem = wanted(item);
      if (problem !== null) findings.problems.push({ path: at, message: problem });
    } else if (isObject(item)) examine(item, wanted, at, strict, findings);
    else findings.problems.push({ path: at, message: "expected a map" });
  }
}

/** What the API's document says of it. Unknown keys are no matter of it: they are a warning, or a problem. */
export function schemaOf(shape: Shape): JsonObject {
  const properties = Object.entries(shape).map(([key, wanted]) => [
    key,
    typeof wanted === "function" ? (wanted.schema ?? {}) : schemaOf(wanted),
  ]);
  return { type: "object", properties: Object.fromEntries(properties) };
}

/** The key that was probably meant: the one that differs by no more than two letters. */
function nearestKey(given: string, known: readonly string[]): string | null {
  let best: { key: string; distance: number } | null = null;
  for (const key of known) {
    const distance = editDistance(given.slice(0, 64).toLowerCase(), key);
    if (distance <= 2 && distance < key.length && (best === null || distance < best.distance)) best = { key, distance };
  }
  return best?.key ?? null;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}

/** The value under a path of keys, `undefined` when it is not there or `null`. */
export function at(value: JsonObject, ...keys: readonly string[]): JsonValue | undefined {
  let found: JsonValue | undefined = value;
  for (const key of keys) {
    found = isObject(found) && Object.hasOwn(found, key) ? found[key] : undefined;
    if (found === null || found === undefined) return undefined;
  }
  return found;
}
