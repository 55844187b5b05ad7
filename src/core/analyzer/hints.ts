import type { JsonObject, JsonValue } from "../base/json.ts";
import type { SourceKind } from "../model/workload.ts";

/** A number, who gave it, and the rule or figure it comes from in words. */
export interface Sourced {
  readonly value: number;
  readonly source: string;
  readonly kind: SourceKind;
}

/** Keeps the higher of both; at a tie the one that was there first, so a source names what really raised it. */
export function raise(current: Sourced, candidate: Sourced): Sourced {
  return candidate.value > current.value ? candidate : current;
}

export interface NumberBounds {
  /** Anything lower is ignored. */
  readonly min: number;
  /** Anything higher counts as this much: ignoring it would make a larger ask get less. */
  readonly max: number;
  readonly integer: boolean;
}

/** Longest piece of a caller's text that a note repeats. */
const QUOTED_LENGTH = 60;

/** A caller's text as a note shows it: shortened, control characters escaped. */
export function quote(text: string): string {
  return JSON.stringify(text.length > QUOTED_LENGTH ? `${text.slice(0, QUOTED_LENGTH)}...` : text);
}

/** Names a value without walking into it: JSON.stringify would throw on one nested some 20,000 levels deep. */
function describe(value: JsonValue): string {
  if (typeof value === "string") return quote(value);
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "a list" : "an object";
  return String(value);
}

/**
 * Reads hints out of free-form workload data. A hint never refuses a request: what is absent or `null` is `null`, and
 * what is nonsense is `null` with a note that says so.
 */
export class Hints {
  readonly #data: JsonObject;
  #notes: Set<string> | null = null;

  constructor(data: JsonObject) {
    this.#data = data;
  }

  number(key: string, { min, max, integer }: NumberBounds): number | null {
    const value = this.#given(key);
    if (value === null) return null;
    const wanted = `${integer ? "a whole number" : "a number"} from ${min}`;
    if (typeof value !== "number" || !Number.isFinite(value) || value < min) return this.#ignore(key, value, wanted);
    if (integer && !Number.isInteger(value)) return this.#ignore(key, value, wanted);
    if (value > max) {
      this.note(`${key} ${value} counts as ${max}, the highest that is considered`);
      return max;
    }
    return value;
  }

  flag(key: string): boolean {
    const value = this.#given(key);
    if (value === null || typeof value === "boolean") return value === true;
    this.#ignore(key, value, "true or false");
    return false;
  }

  /** Trimmed; blank text counts as absent. */
  text(key: string): string | null {
    const value = this.#given(key);
    if (value === null) return null;
    if (typeof value !== "string") return this.#ignore(key, value, "text");
    return value.trim() === "" ? null : value.trim();
  }

  object(key: string): JsonObject | null {
    const value = this.#given(key);
    if (value === null) return null;
    return typeof value === "object" && !Array.isArray(value)
      ? (value as JsonObject)
      : this.#ignore(key, value, "an object");
  }

  note(text: string): void {
    this.#notes ??= new Set();
    this.#notes.add(text);
  }

  /** What was ignored or assumed so far, each once. */
  notes(): readonly string[] {
    return this.#notes === null ? [] : [...this.#notes];
  }

  #given(key: string): JsonValue {
    return Object.hasOwn(this.#data, key) ? (this.#data[key] ?? null) : null;
  }

  #ignore(key: string, value: JsonValue, wanted: string): null {
    this.note(`${key} ${describe(value)} ignored: not ${wanted}`);
    return null;
  }
}
