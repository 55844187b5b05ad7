/** Values of the model as JSON and back, and differences between such. */
import type { JsonObject, JsonValue } from "../base/json.ts";

export type Plain = JsonValue;

/** Keys with which an object stands for something else; one of our own that begins so stands as `$object`. */
const MARK = "$";
/** JavaScript puts such keys of an object before all others, whatever their order was. */
const REORDERED = /^\d+$/;

/**
 * `value` as JSON: itself, as far as it is that already, since values are never changed. Maps, sets, and numbers that
 * JSON does not have are marked; what is `undefined` is left out.
 *
 * @throws Error for what is none of these, such as an instance of a class: it could not be had back.
 */
export function toPlain(value: unknown): Plain {
  return isPlain(value) ? value : madePlain(value);
}

/** Whether `value` is JSON already, as most are: told without making anything. */
function isPlain(value: unknown): value is Plain {
  if (value === null || typeof value === "string" || typeof value === "boolean") return true;
  if (typeof value === "number") return Number.isFinite(value);
  if (typeof value !== "object") return false;
  if (Array.isArray(value)) return value.every(isPlain);
  if (!isSimple(value)) return false;
  for (const key of Object.keys(value)) if (key.startsWith(MARK) || !isPlain(value[key])) return false;
  return true;
}

function madePlain(value: unknown): Plain {
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number") return Number.isFinite(value) ? value : { $number: String(value) };
  if (Array.isArray(value)) return value.map(toPlain);
  if (value instanceof Map) {
    const entries = [...value].map(([key, item]): [unknown, Plain] => [key, toPlain(item)]);
    const keepsOrder = entries.every(([key]) => typeof key === "string" && !REORDERED.test(key));
    // As an object, so that a difference can be of one of its values.
    if (keepsOrder) return { $dictionary: Object.fromEntries(entries as [string, Plain][]) };
    return { $map: entries.map(([key, item]) => [toPlain(key), item]) };
  }
  if (value instanceof Set) return { $members: [...value].map(toPlain) };
  if (typeof value === "object" && isSimple(value)) return plainObject(value);
  throw new Error(`a ${typeof value === "object" ? value.constructor.name : typeof value} cannot be captured`);
}

function isSimple(value: object): value is Readonly<Record<string, unknown>> {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function plainObject(value: Readonly<Record<string, unknown>>): Plain {
  const plain: [string, Plain][] = [];
  let isMarked = false;
  for (const key of Object.keys(value)) {
    const item = value[key];
    if (item === undefined) continue;
    if (key.startsWith(MARK)) isMarked = true;
    plain.push([key, toPlain(item)]);
  }
  return isMarked ? { $object: plain } : Object.fromEntries(plain);
}

/** What {@link toPlain} was given. */
export function fromPlain(plain: Plain): unknown {
  if (plain === null || typeof plain !== "object") return plain;
  if (isList(plain)) return plain.map(fromPlain);
  const [mark, content] = Object.entries(plain)[0] ?? [];
  switch (mark) {
    case "$number":
      return Number(content);
    case "$dictionary":
      return new Map(Object.entries(content as JsonObject).map(([key, item]) => [key, fromPlain(item)]));
    case "$map":
      return new Map((content as [Plain, Plain][]).map(([key, item]) => [fromPlain(key), fromPlain(item)]));
    case "$members":
      return new Set((content as Plain[]).map(fromPlain));
    case "$object":
      return Object.fromEntries((content as [string, Plain][]).map(([key, item]) => [key, fromPlain(item)]));
    default:
      return Object.fromEntries(Object.entries(plain).map(([key, item]) => [key, fromPlain(item)]));
  }
}

/** The mark of a difference that replaces a value whole. */
const REPLACED = "$replaced";

/** What makes `before` into `after`; `undefined`: they are the same. Objects with the same keys differ key by key. */
export function differenceOf(before: Plain | undefined, after: Plain): Plain | undefined {
  if (before === after) return undefined;
  if (after === null || typeof after !== "object") return after;
  if (isRecord(before) && isRecord(after) && haveSameKeys(before, after)) {
    const changed: [string, Plain][] = [];
    for (const [key, value] of Object.entries(after)) {
      const difference = differenceOf(before[key], value);
      if (difference !== undefined) changed.push([key, difference]);
    }
    return changed.length === 0 ? undefined : Object.fromEntries(changed);
  }
  return JSON.stringify(before) === JSON.stringify(after) ? undefined : { [REPLACED]: after };
}

/** What `before` is with a difference that {@link differenceOf} found. */
export function withDifference(before: Plain | undefined, difference: Plain | undefined): Plain {
  if (difference === undefined) return before as Plain;
  if (!isRecord(difference)) return difference;
  if (REPLACED in difference) return difference[REPLACED] as Plain;
  const changed = Object.entries(difference).map(([key, value]): [string, Plain] => [
    key,
    withDifference((before as JsonObject)[key], value),
  ]);
  return { ...(before as JsonObject), ...Object.fromEntries(changed) };
}

function isList(plain: Plain): plain is readonly Plain[] {
  return Array.isArray(plain);
}

function isRecord(plain: Plain | undefined): plain is JsonObject {
  return plain !== null && typeof plain === "object" && !isList(plain);
}

/** In the same order too: it is the order of a map. */
function haveSameKeys(a: JsonObject, b: JsonObject): boolean {
  const keys = Object.keys(b);
  return Object.keys(a).length === keys.length && Object.keys(a).every((key, place) => key === keys[place]);
}
