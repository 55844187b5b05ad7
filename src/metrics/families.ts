/** Metrics whose values are looked up when they are asked for. Nothing is kept up to date between two scrapes. */
import { Counter, Gauge, type Registry } from "prom-client";
import { visible } from "../platform/printable.ts";

export interface Sample<Label extends string> {
  readonly labels: Readonly<Record<Label, string>>;
  /** `null`: there is no such figure now, and the series is left out. Never 0 in its stead. */
  readonly value: number | null;
}

export interface Family<Label extends string> {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly Label[];
  readonly read: () => Iterable<Sample<Label>>;
}

export function gaugeFamily<Label extends string>(registry: Registry, family: Family<Label>): void {
  const { name, help, labelNames, read } = family;
  new Gauge({
    name,
    help,
    labelNames,
    registers: [registry],
    collect() {
      this.reset();
      for (const { labels, value } of read()) if (value !== null) this.set(shown(labels), value);
    },
  });
}

/** A driver chooses the names of GPUs: the format escapes line ends and quotes, and nothing else. */
function shown<Label extends string>(labels: Readonly<Record<Label, string>>): Record<Label, string> {
  const entries = Object.entries<string>(labels).map(([name, value]) => [name, visible(value)]);
  return Object.fromEntries(entries) as Record<Label, string>;
}

/** One figure of the whole daemon. */
export function gauge(registry: Registry, name: string, help: string, read: () => number | null): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      const value = read();
      if (value === null) this.remove();
      else this.set(value);
    },
  });
}

export function counterFamily<Label extends string>(registry: Registry, family: Family<Label>): void {
  const { name, help, labelNames, read } = family;
  new Counter({
    name,
    help,
    labelNames,
    registers: [registry],
    collect() {
      this.reset();
      for (const { labels, value } of read()) if (value !== null) this.inc(shown(labels), value);
    },
  });
}

export function counter(registry: Registry, name: string, help: string, read: () => number): void {
  counterFamily(registry, { name, help, labelNames: [], read: () => [{ labels: {}, value: read() }] });
}
