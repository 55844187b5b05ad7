import type { JsonObject, JsonValue } from "../base/json.ts";

/** A size, a count or a width in a `config.json`. The largest known vocabulary has 262,208 words. */
const MAX_FIELD = 16_777_216;
const MAX_LIST = 1_024;

/** Thrown inside this folder only: {@link readConfig} turns it into an answer. */
export class UnreadableConfig extends Error {}

/** Reads the fields of a `config.json`, of which nothing is known but that it is JSON. */
export class Fields {
  readonly #config: JsonObject;
  /** Where the fields stand, for messages: empty, or `text_config.`. */
  readonly #prefix: string;

  constructor(config: JsonObject, prefix = "") {
    this.#config = config;
    this.#prefix = prefix;
  }

  #value(key: string): JsonValue {
    return Object.hasOwn(this.#config, key) ? (this.#config[key] ?? null) : null;
  }

  /**
   * The first of `keys` that is there.
   *
   * @throws UnreadableConfig when it is no whole number from 0 to a bound that no model reaches.
   */
  maybe(...keys: readonly string[]): number | null {
    for (const key of keys) {
      const value = this.#value(key);
      if (value === null) continue;
      if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= MAX_FIELD) return value;
      throw new UnreadableConfig(`${this.#prefix}${key} is not a whole number from 0 to ${MAX_FIELD}`);
    }
    return null;
  }

  /** @throws UnreadableConfig when none of `keys` is there, or it is 0. */
  count(...keys: readonly string[]): number {
    const value = this.maybe(...keys);
    if (value === null || value === 0) throw new UnreadableConfig(`${this.#prefix}${keys[0]} is missing`);
    return value;
  }

  flag(key: string): boolean {
    return this.#value(key) === true;
  }

  /** True unless the field says `false`. */
  flagOr(key: string, otherwise: boolean): boolean {
    const value = this.#value(key);
    return typeof value === "boolean" ? value : otherwise;
  }

  text(key: string): string {
    const value = this.#value(key);
    return typeof value === "string" ? value : "";
  }

  /** @throws UnreadableConfig when the list is longer than any model's. */
  list(key: string): readonly JsonValue[] {
    const value = this.#value(key);
    if (!Array.isArray(value)) return [];
    if (value.length > MAX_LIST) throw new UnreadableConfig(`${this.#prefix}${key} has more than ${MAX_LIST} entries`);
    return value;
  }

  numbers(key: string): readonly number[] {
    return this.list(key).map((value) => {
      if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= MAX_FIELD) return value;
      throw new UnreadableConfig(`${this.#prefix}${key} is not a list of whole numbers`);
    });
  }

  has(key: string): boolean {
    return this.#value(key) !== null;
  }

  /** The fields of a part; `null` when there is no such part. */
  part(key: string): Fields | null {
    const value = this.#value(key);
    if (value === null || typeof value !== "object" || Array.isArray(value)) return null;
    return new Fields(value as JsonObject, `${this.#prefix}${key}.`);
  }
}
