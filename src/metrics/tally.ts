import type { Registry } from "prom-client";
import { counterFamily, type Sample } from "./families.ts";

/**
 * A counter that costs one look-up in a map per event; prom-client, which checks and joins the labels each time and
 * takes ten times as long, hears of it when it is asked. Callers bound their label values.
 */
export class Tally<Label extends string> {
  readonly #labelNames: readonly Label[];
  readonly #series = new Map<string, Sample<Label> & { value: number }>();

  constructor(registry: Registry, name: string, help: string, labelNames: readonly Label[]) {
    this.#labelNames = labelNames;
    counterFamily(registry, { name, help, labelNames, read: () => this.#series.values() });
  }

  /** Makes a series visible before anything is counted, so that its first increase can be seen. */
  prepare(...values: readonly string[]): void {
    this.#at(values);
  }

  count(...values: readonly string[]): void {
    this.#at(values).value++;
  }

  #at(values: readonly string[]): { value: number } {
    const key = values.join("\n");
    const found = this.#series.get(key);
    if (found !== undefined) return found;
    const labels = Object.fromEntries(this.#labelNames.map((name, index) => [name, values[index]]));
    const series = { labels: labels as Record<Label, string>, value: 0 };
    this.#series.set(key, series);
    return series;
  }
}

/** What stands for all values beyond those that a label may have. */
export const OTHER = "other";

/** A label whose values come from outside: the first `limit` keep their names, all later ones are {@link OTHER}. */
export class BoundedLabel {
  readonly #limit: number;
  readonly #known = new Set<string>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  of(value: string): string {
    if (this.#known.has(value)) return value;
    if (this.#known.size >= this.#limit) return OTHER;
    this.#known.add(value);
    return value;
  }
}
