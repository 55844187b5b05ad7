/** Figures as Prometheus takes them: families of samples, counted where things happen. */
export type Labels = Readonly<Record<string, string>>;

export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: "gauge" | "counter" | "histogram";
  readonly samples: readonly Sample[];
}

export interface Sample {
  /** After the family's name: `_sum`, `_bucket`; mostly nothing. */
  readonly suffix?: string;
  readonly labels: Labels;
  readonly value: number;
}

export function family(
  name: string,
  help: string,
  type: "gauge" | "counter",
  samples: readonly (readonly [Labels, number])[],
): Family {
  return { name, help, type, samples: samples.map(([labels, value]) => ({ labels, value })) };
}

/** How often something has happened, by labels of which there are few. */
export class Count {
  readonly #name: string;
  readonly #help: string;
  readonly #counts = new Map<string, { readonly labels: Labels; value: number }>();

  /** @param known are there from the first look on, at 0: a rate needs what went before. */
  constructor(name: string, help: string, known: readonly Labels[] = []) {
    this.#name = name;
    this.#help = help;
    for (const labels of known) this.#counts.set(JSON.stringify(labels), { labels, value: 0 });
  }

  add(labels: Labels = {}, by = 1): void {
    const key = JSON.stringify(labels);
    const known = this.#counts.get(key);
    if (known === undefined) this.#counts.set(key, { labels, value: by });
    else known.value += by;
  }

  family(): Family {
    return { name: this.#name, help: this.#help, type: "counter", samples: [...this.#counts.values()] };
  }
}

/** How long something took, in seconds. */
export class Durations {
  readonly #name: string;
  readonly #help: string;
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;
  #count = 0;

  /** @param bounds of the buckets, in seconds, growing. */
  constructor(name: string, help: string, bounds: readonly number[]) {
    this.#name = name;
    this.#help = help;
    this.#bounds = bounds;
    this.#counts = bounds.map(() => 0);
  }

  observe(seconds: number): void {
    this.#sum += seconds;
    this.#count++;
    for (const [index, bound] of this.#bounds.entries()) {
      if (seconds <= bound) this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    }
  }

  family(): Family {
    const buckets = this.#bounds.map((bound, index) => [String(bound), this.#counts[index] ?? 0] as const);
    const samples = [...buckets, ["+Inf", this.#count] as const].map(([le, value]) => ({
      suffix: "_bucket",
      labels: { le },
      value,
    }));
    return {
      name: this.#name,
      help: this.#help,
      type: "histogram",
      samples: [
        ...samples,
        { suffix: "_sum", labels: {}, value: this.#sum },
        { suffix: "_count", labels: {}, value: this.#count },
      ],
    };
  }
}

/** The text format of Prometheus. */
export function pageOf(families: readonly Family[]): string {
  return families
    .map(({ name, help, type, samples }) => {
      const full = `llm_orchestrator_${name}`;
      const lines = samples.map(({ suffix = "", labels, value }) => `${full}${suffix}${braced(labels)} ${value}`);
      return [`# HELP ${full} ${help}`, `# TYPE ${full} ${type}`, ...lines, ""].join("\n");
    })
    .join("");
}

function braced(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
